"""Lay out the external validation of a model for the page and the files of a report."""

from dataclasses import fields
from typing import Any

import pandas as pd

from mura_skorch.calibration import enough_studies
from mura_skorch.evaluation.external import TRAIN_SPLIT, TRAINING, ExternalValidation
from mura_skorch.plots import RecalibrationDisplay
from mura_skorch.utils.text import number_text

__all__ = ["external_figures", "external_page", "external_tables", "take_external"]

PREFIX = "external_"  # of the files
# What a column of the case mix holds.
COLUMNS = {
    TRAINING: "those that the model was trained on, without those that chose its epoch",
    TRAIN_SPLIT: "the train split of its folder. It is not known which of them the model was "
    "trained on",
}


def external_tables(external: ExternalValidation | None) -> dict[str, pd.DataFrame | None]:
    """Return the tables of an external validation by name of the file; none without one."""
    if external is None:
        return {}
    return {f"{PREFIX}{item.name}": getattr(external, item.name) for item in fields(external)}


def take_external(tables: dict[str, Any]) -> ExternalValidation | None:
    """Remove the tables of an external validation from those of a report, and return it."""
    names = [name for name in tables if name.startswith(PREFIX)]
    found = {name.removeprefix(PREFIX): _as_written(tables.pop(name)) for name in names}
    return ExternalValidation(**found) if found else None


def _as_written(table):
    """Return a table that was read from a file as it was before it was written."""
    if table is None:
        return None
    table = table.drop(columns="note", errors="ignore")  # of the data, on every row of every file
    texts = table.select_dtypes(exclude="number").columns
    return table.assign(**{name: table[name].fillna("") for name in texts})


def external_figures(external: ExternalValidation | None, *, note: str | None) -> dict[str, Any]:
    """Return the figures by file name."""
    if external is None or external.recalibration is None:
        return {}
    curve = external.recalibration
    display = RecalibrationDisplay(curve, n_enough=enough_studies(curve), note=note)
    return {f"{PREFIX}recalibration": display.plot().figure_}


def external_page(external: ExternalValidation | None) -> dict[str, Any] | None:
    """Return what the page shows; None without an external validation."""
    if external is None:
        return None
    curve = external.recalibration
    return {
        "case_mix": external.case_mix,
        "trained_on": _trained_on(external.case_mix),
        "change": None if external.change is None else _change_table(external.change),
        "caution": external.change is not None and external.change["caution"].ne("").any(),
        "undefined": _undefined(external.change),
        "curve": None if curve is None else _curve_table(curve),
        "n_enough": None if curve is None else enough_studies(curve),
        "largest": None if curve is None else int(curve["n_studies"].max()),
    }


def _trained_on(mix):
    """Return what the column of the own hospital is, "" if there is none."""
    if mix is None:
        return ""
    return next((words for name, words in COLUMNS.items() if name in mix), "")


def _change_table(change):
    """Return the change in performance as texts."""
    table = pd.DataFrame({"study type": change["study_type"]})
    table["studies, own"] = change["n_reference"]
    table["studies, here"] = change["n_external"]
    for name, title in (("kappa", "kappa"), ("auroc", "AUROC")):
        table[f"{title}, own"] = change[f"{name}_reference"].map(number_text)
        table[f"{title}, here"] = change[f"{name}_external"].map(number_text)
        ends = change[[f"{name}_change{end}" for end in ("", "_low", "_high")]].to_numpy(float)
        table[f"{title}, change (95 % CI)"] = [_signed(*row) for row in ends]
    return table


def _signed(value, low, high):
    """Return a difference and its interval, with signs."""
    if pd.isna(value):
        return "n/a"
    if pd.isna(low):
        ends = "n/a"
    else:  # all resamples give the same, which is no certainty
        ends = "zero width" if low == high else f"{_sign(low)}, {_sign(high)}"
    return f"{_sign(value)} ({ends})"


def _sign(value):
    return ("+" if value > 0 else "") + number_text(value)


def _undefined(change):
    """Return the reasons for figures that are not defined."""
    if change is None:
        return None
    rows = change[change["undefined"] != ""]
    names = {"study_type": "study type", "undefined": "not defined"}
    return rows[list(names)].rename(columns=names) if len(rows) else None


def _curve_table(curve):
    """Return the curve as texts."""

    def band(name):
        ends = curve[[name, f"{name}_low", f"{name}_high"]].to_numpy(float)
        return ["-" if pd.isna(row[0]) else "{} ({}, {})".format(*map(number_text, row))
                for row in ends]  # fmt: skip

    return pd.DataFrame(
        {
            "local studies": curve["n_studies"],
            "slope": band("slope"),
            "intercept": band("intercept"),
            "log loss": band("log_loss"),
            "change of the log loss": band("log_loss_change"),
            "error of the mean": band("mean_error"),
            "draws better": [
                "-" if row.n_studies == 0 else f"{row.share_better:.0%}".replace("%", " %")
                for row in curve.itertuples()
            ],
        }
    )
