"""Lay out where a model errs: tables and figures of `failure_analysis` for the page."""

from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.evaluation.failure_analysis import FIGURES, FailureAnalysis, smallest_groups
from mura_skorch.metrics.tables import FEW_PATIENTS
from mura_skorch.plots import DecisionCurveDisplay, PrevalenceDisplay
from mura_skorch.utils.text import difference_text, interval_text, number_text

__all__ = ["failure_figures", "failure_page", "failure_tables"]

HEADERS = {
    "error_rate": "error rate",
    "fn_rate": "FN rate",
    "fp_rate": "FP rate",
    "kappa": "kappa",
    "auroc": "AUROC",
}
MEASURES = {
    "slope": "calibration slope",
    "intercept": "intercept of that line",
    "intercept_at_slope_1": "calibration intercept (slope 1)",
    "observed_expected": "observed / expected",
}
FEW = "\u00a7"  # mark of a gap between few patients; the scores of a row have a dagger
# Thresholds of the printed table of the decision curve; the CSV file has all.
SHOWN = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def failure_tables(found: FailureAnalysis) -> dict[str, pd.DataFrame]:
    """Return the tables by file name."""
    return {
        "failures": found.groups,
        "calibration": found.calibration,
        "predictive_values": found.predictive_values,
        "decision_curve": found.decision_curve,
    }


def failure_figures(found: FailureAnalysis, *, name: str, note: str | None) -> dict[str, Any]:
    """Return the figures by file name; none without studies of both classes.

    Parameters
    ----------
    found : FailureAnalysis
        The tables.
    name : str
        Name of the model in the legend.
    note : str or None
        Caveat of the data.
    """
    if not len(found.predictive_values) or found.predictive_values["ppv"].isna().all():
        return {}
    marked = found.predictive_values["prevalence"].tolist()
    curve = PrevalenceDisplay(found.prevalence_curve, marked=marked, note=note)
    benefit = DecisionCurveDisplay(found.decision_curve, name=name, note=note)
    return {"prevalence": curve.plot().figure_, "net_benefit": benefit.plot().figure_}


def failure_page(found: FailureAnalysis) -> dict[str, Any] | None:
    """Return what the template shows; None without scored studies."""
    groups = found.groups
    if not len(groups):
        return None
    small = smallest_groups(groups)
    curve = found.decision_curve
    is_shown = np.isclose(curve["threshold"].to_numpy()[:, None], SHOWN).any(axis=1)
    return {
        "groups": {by: _group_table(by, own) for by, own in groups.groupby("by", sort=False)},
        "smallest": small.rename(
            columns={
                "by": "groups by",
                "value": "smallest group",
                "n": "studies",
                "n_patients": "patients",
                "n_abnormal": "abnormal",
                "n_groups": "groups",
                "n_small": f"of fewer than {FEW_PATIENTS} patients",
            }
        ),
        "n_intervals": int(groups[[f"{name}_gap_low" for name in FIGURES]].notna().sum().sum()),
        "caution": next((text for text in groups["caution"] if text), ""),
        "undefined": _undefined(groups),
        "calibration": _calibration_table(found.calibration),
        "calibration_undefined": [
            f"{MEASURES[row['measure']]}: {row['undefined']}"
            for row in found.calibration.to_dict("records")
            if row["undefined"]
        ],
        "predictive_values": _predictive_table(found.predictive_values),
        "has_chosen": bool((found.predictive_values["of"] == "chosen").any()),
        "net_benefit": _benefit_table(curve[is_shown]),
        "useful": _ranges(curve["threshold"].to_numpy(), (curve["gain_low"] > 0).to_numpy()),
    }


def _ranges(values, is_in):
    """Return the ranges of sorted values that are in a set, as a text."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_in, [False]]).astype(int)))
    texts = []
    for first, last in edges.reshape(-1, 2):
        low, high = f"{values[first]:.2f}", f"{values[last - 1]:.2f}"
        texts.append(low if low == high else f"{low} to {high}")
    return ", ".join(texts)


def _group_table(by, groups):
    """Format the groups of one column: each figure above its gap to the rest."""
    table = pd.DataFrame({by: groups["value"].astype(str)})
    names = {
        "n": "studies",
        "n_patients": "patients",
        "n_abnormal": "abnormal",
        "fn": "FN",
        "fp": "FP",
    }
    for name, header in names.items():
        table[header] = groups[name].astype(int)
    for name in FIGURES if by != "score" else ("error_rate",):
        table[HEADERS[name]] = [_cell(row, name) for row in groups.to_dict("records")]
    return table


def _cell(row, name):
    """Return a figure, and its gap with interval in a second line."""
    text = number_text(row[name])
    ends = [row[f"{name}_gap{end}"] for end in ("", "_low", "_high")]
    if np.isnan(ends[0]):
        return text
    return f"{text}\n{difference_text(*ends)}{FEW if row['caution'] else ''}"


def _undefined(groups):
    """Return the groups with undefined figures, and why."""
    table = groups.loc[groups["undefined"] != "", ["by", "value", "undefined"]]
    return table.rename(columns={"by": "groups by", "value": "group", "undefined": "not defined"})


def _calibration_table(calibration):
    """Format the measures of calibration."""
    ends = calibration[["value", "low", "high"]].itertuples(index=False)
    return pd.DataFrame(
        {
            "measure": calibration["measure"].map(MEASURES),
            "value (95 % CI)": [interval_text(*row) for row in ends],
            "calibrated": calibration["ideal"].map("{:g}".format),
        }
    )


def _predictive_table(values):
    """Format PPV and NPV by prevalence."""
    table = pd.DataFrame({"share abnormal": values["prevalence"].map(number_text)})
    table["which"] = values["of"].to_numpy()
    for name in ("ppv", "npv"):
        ends = values[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
        table[f"{name.upper()} (95 % CI)"] = [interval_text(*row) for row in ends]
    return table


def _benefit_table(curve):
    """Format the net benefit at some thresholds."""
    table = pd.DataFrame({"threshold": curve["threshold"].map("{:.2f}".format)})
    for name, header in (("net_benefit", "model (95 % CI)"), ("gain", "gain (95 % CI)")):
        ends = curve[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
        table[header] = [interval_text(*row) for row in ends]
    table.insert(2, "treat all", curve["treat_all"].map(number_text))
    return table
