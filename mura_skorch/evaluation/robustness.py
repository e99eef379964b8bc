"""Score predictions under small changes against those of the unchanged studies."""

import numpy as np
import pandas as pd

from mura_skorch.evaluation.comparison import compare_models
from mura_skorch.evaluation.predictions import check_columns, scored_rows

__all__ = ["robustness_scores", "worst_moves"]

NAMES = {"_a": "_unchanged", "_b": "", "_difference": "_difference"}


def robustness_scores(
    predictions: pd.DataFrame,
    *,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return kappa and AUROC under each change, and the difference to the unchanged studies.

    Parameters
    ----------
    predictions : DataFrame
        The `table` of `mura_skorch.inspection.predict_perturbed`: `perturbation`, `label`, `score`,
        `score_unchanged` and, optionally, `patient` and `threshold`. Studies without a label are
        left out.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per change, in order: `perturbation`, `n`, `n_patients`; `kappa_unchanged`, `kappa`
        and `kappa_difference` (below 0: worse) with `_low` and `_high`; the same for `auroc`;
        `n_changed`, decisions that differ; `mean_move`, the mean absolute change of the
        probability; `caution` and `undefined`, see `compare_models`. Both figures of a row are of
        the same studies.

    Raises
    ------
    ValueError
        A column is missing.

    Notes
    -----
    Intervals are 95 % percentiles of the difference over resamples of patients, both figures on the
    same resamples. They are not adjusted for the number of changes.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation import robustness_scores
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "perturbation": "inverted",
    ...         "label": [1, 1, 0, 0],
    ...         "score_unchanged": [0.9, 0.8, 0.2, 0.1],
    ...         "score": [0.4, 0.6, 0.7, 0.3],
    ...     }
    ... )
    >>> found = robustness_scores(predictions)
    >>> found[["kappa_unchanged", "kappa", "auroc_difference", "n_changed"]]
       kappa_unchanged  kappa  auroc_difference  n_changed
    0              1.0    0.0              -0.5          2
    """
    check_columns(predictions, ["perturbation", "label", "score", "score_unchanged"])
    rows = []
    for name, own in scored_rows(predictions).groupby("perturbation", sort=False):
        threshold = own.get("threshold", pd.Series(0.5, index=own.index))
        compared = compare_models(
            own["label"].astype(int),
            own["score_unchanged"],
            own["score"],
            groups=own.get("patient"),
            threshold=threshold.to_numpy(float),
            n_resamples=n_resamples,
            random_state=random_state,
        ).iloc[0]
        row = {"perturbation": name, "n": compared["n"], "n_patients": compared["n_patients"]}
        for figure in ("kappa", "auroc"):
            for old, new in NAMES.items():
                row[f"{figure}{new}"] = compared[f"{figure}{old}"]
            for end in ("_low", "_high"):
                row[f"{figure}_difference{end}"] = compared[f"{figure}_difference{end}"]
        differs = (own["score"] > threshold) != (own["score_unchanged"] > threshold)
        row["n_changed"] = int(differs.sum())
        row["mean_move"] = float((own["score"] - own["score_unchanged"]).abs().mean())
        rows.append(row | {name: compared[name] for name in ("caution", "undefined")})
    return pd.DataFrame(rows)


def worst_moves(predictions: pd.DataFrame, n_worst: int = 6) -> pd.DataFrame:
    """Return the studies that changes moved most to the wrong side, one for each change.

    Parameters
    ----------
    predictions : DataFrame
        As for `robustness_scores`, with `study`.
    n_worst : int, default=6
        Most rows.

    Returns
    -------
    DataFrame
        Rows of `predictions`, the farthest move first, with `move`, the change of the probability.
        Changes that moved no labelled study to the wrong side have no row.
    """
    table = scored_rows(predictions)
    move = table["score"] - table["score_unchanged"]
    harm = move.where(table["label"].astype(int) == 0, -move)
    table = table.assign(move=move, harm=harm).query("harm > 0")
    ranked = table.sort_values("harm", ascending=False, kind="stable")
    return ranked.drop_duplicates("perturbation").head(n_worst).drop(columns="harm")
