"""Compare the data and the performance of a model elsewhere with those of its own hospital."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.evaluation.characteristics import characteristics_table, describe_studies
from mura_skorch.evaluation.comparison import caution_of, model_figures, why_undefined
from mura_skorch.evaluation.predictions import check_columns, scored_rows
from mura_skorch.metrics.checks import check_binary, check_scores, check_threshold
from mura_skorch.metrics.intervals import percentiles
from mura_skorch.metrics.tables import OVERALL, ordered_parts
from mura_skorch.utils.members import members_of

__all__ = ["ExternalValidation", "case_mix", "known_training", "performance_change"]

TRAINING, TRAIN_SPLIT = "training", "train split"  # columns of a case mix
BOTH_TYPES = "types of both"  # a row that pools the study types that both samples have


@dataclass(frozen=True)
class ExternalValidation:
    """What a report shows of a model on the data of another hospital.

    Attributes
    ----------
    case_mix : DataFrame or None
        What `case_mix` returns.
    change : DataFrame or None
        What `performance_change` returns.
    recalibration : DataFrame or None
        What `mura_skorch.calibration.recalibration_curve` returns.
    """

    case_mix: pd.DataFrame | None = None
    change: pd.DataFrame | None = None
    recalibration: pd.DataFrame | None = None


def performance_change(
    reference: pd.DataFrame,
    external: pd.DataFrame,
    *,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Return the change of kappa and AUROC from one sample of patients to another.

    Parameters
    ----------
    reference, external : DataFrame
        Prediction tables of one model on studies of its own hospital, which it was not trained on,
        and on studies of another. ``label`` and ``score`` are needed; ``study_type``, ``patient``
        and ``threshold`` are used. Studies without a label or a score are left out.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per study type that both tables have, sorted; "types of both", if one table has
        further types; and "overall". Columns: `study_type`; `n_reference`, `n_external` (studies)
        and `patients_reference`, `patients_external`; `kappa_reference`, `kappa_external` and
        `kappa_change` (external minus reference, negative for a drop) with `_low` and `_high`; the
        same for `auroc`; `caution`, such as "fewer than 50 patients", if the interval is likely to
        be too narrow, else ""; `undefined`, the reasons for NaN, else "".

    Raises
    ------
    ValueError
        A column is missing, a label is not 0 or 1, or a score is not in [0, 1].

    Notes
    -----
    The two samples are independent: no study is in both, so nothing can be paired. Intervals are
    95 % percentiles of the difference of two bootstraps over patients, drawn independently of each
    other [1]_. Without patients, studies are drawn.

    Kappa and AUROC depend on which studies are examined, not on the model alone. A change may
    therefore come from the case mix: compare the rows of single study types, and see `case_mix`.

    References
    ----------
    .. [1] Efron and Tibshirani, "An introduction to the bootstrap", section 8.3 (the two-sample
       problem), 1993.

    Examples
    --------
    >>> own = pd.DataFrame({"label": [0, 0, 1, 1] * 9, "score": [0.1, 0.2, 0.8, 0.9] * 9})
    >>> other = pd.DataFrame({"label": [0, 0, 1, 1] * 9, "score": [0.1, 0.8, 0.2, 0.9] * 9})
    >>> performance_change(own, other)[["study_type", "kappa_change", "auroc_change"]]
      study_type  kappa_change  auroc_change
    0    overall          -1.0         -0.25
    """
    tables = [scored_rows(table) for table in _checked(reference, external)]
    types = [set(table["study_type"]) if "study_type" in table else set() for table in tables]
    shared = sorted(types[0] & types[1])
    parts = [_parts(table) for table in tables]
    names = [*shared, OVERALL]
    if shared and types[0] != types[1]:
        for own, table in zip(parts, tables, strict=True):
            own[BOTH_TYPES] = _parts(table[table["study_type"].isin(shared)])[OVERALL]
        names.insert(-1, BOTH_TYPES)
    unit = "patients" if all("patient" in table for table in tables) else "studies"
    rows = [
        {"study_type": name}
        | _change([own[name] for own in parts], n_resamples, random_state, unit)
        for name in names
    ]
    return pd.DataFrame(rows)


def case_mix(
    studies: pd.DataFrame,
    training: pd.DataFrame | None = None,
    *,
    known: Mapping[str, Any] | None = None,
    name: str = TRAINING,
) -> pd.DataFrame:
    """Return the characteristics of a sample of studies beside those of the training data.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table, such as one of another hospital.
    training : DataFrame of n_train rows, optional
        The study table that the model was trained on.
    known : dict, optional
        What is known of the training data without its table, see `known_training`.
    name : str, default="training"
        Header of the training data: "train split" if it is not known which of the studies the model
        was trained on.

    Returns
    -------
    DataFrame
        As of `characteristics_table`, with the columns ``characteristic``, `name` and ``here``.
        Without `training` and `known` there is no column `name`.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"study_type": "XR_HAND", "patient": list("aab"), "views": [(1,), (2,), (3, 4)],
    ...      "label": [1, 0, 0]}
    ... )
    >>> case_mix(table, table).set_index("characteristic").loc["abnormal studies"].tolist()
    ['1 (33 %)', '1 (33 %)']
    """
    there = known if training is None else describe_studies(training)
    parts = {name: there} if there else {}
    return characteristics_table({**parts, "here": describe_studies(studies)})


def known_training(model: Any) -> dict[str, Any] | None:
    """Return the counts of the training part that a fitted or loaded model has on record.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        An ensemble is described by its first member.

    Returns
    -------
    dict or None
        As of `describe_studies`; None if the version that fitted it recorded none.
    """
    return members_of(model)[0].record_.fitted_on.get("parts", {}).get("training")


def _checked(*tables):
    """Yield tables that have labels and scores."""
    for table in tables:
        check_columns(table, ["label", "score"])
        yield table


def _parts(table):
    """Return what `ordered_parts` gives for a prediction table, by study type."""
    y_true = check_binary(table["label"].astype(int), "label")
    y_score = check_scores(table["score"])
    threshold = check_threshold(table.get("threshold", 0.5), len(y_true))
    decision = (y_score > threshold).astype(np.int64)
    columns = (y_true, y_score, decision)
    return dict(ordered_parts(table.get("study_type"), table.get("patient"), *columns))


def _change(parts, n_resamples, random_state, unit):
    """Return one row: both samples, the change of each figure and its interval."""
    seeds = np.random.SeedSequence(random_state).spawn(2)
    figures: list[Any] = []
    row: dict[str, Any] = {}
    undefined: list[str] = []
    for part, name, seed in zip(parts, ("reference", "external"), seeds, strict=True):
        y_true, y_score, decision, codes = part
        generator = np.random.default_rng(seed)
        figures.append(model_figures(y_true, [y_score], [decision], codes, n_resamples, generator))
        row |= {f"n_{name}": len(y_true), f"patients_{name}": int(codes.max(initial=-1)) + 1}
    least = min(row["patients_reference"], row["patients_external"])
    for name in ("kappa", "auroc"):
        (before,), (after,) = (points[name] for points, _ in figures)
        drawn = [values[name][0] for _, values in figures]
        low, high = np.nan, np.nan
        if all(map(len, drawn)) and not np.isnan(after - before):
            low, high = percentiles(drawn[1] - drawn[0], n_resamples)
        row |= {f"{name}_reference": before, f"{name}_external": after}
        row |= {f"{name}_change": after - before}
        row |= {f"{name}_change_low": low, f"{name}_change_high": high}
        undefined += why_undefined(name, after - before, low, least)
    return row | {"caution": caution_of(least, unit), "undefined": "; ".join(undefined)}
