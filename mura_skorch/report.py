"""Results: a table of predictions goes in; scores, a CSV of each and a figure come out."""

import warnings
from pathlib import Path

import pandas as pd

from mura_skorch.metrics import OVERALL, study_scores
from mura_skorch.plots import KappaDisplay
from mura_skorch.predictions import join_notes
from mura_skorch.published import beside_published

__all__ = ["final_metrics", "score_predictions", "write_results"]

FINAL = ["n", "kappa", "kappa_low", "kappa_high", "auroc", "sensitivity", "specificity", "accuracy"]


def score_predictions(predictions, *, published=False, failed=None):
    """Return the scores per study type and overall, with patient-bootstrap intervals.

    Parameters
    ----------
    predictions : DataFrame
        ``study_type``, ``patient``, ``label`` and ``score``; may be empty. With a column
        ``pooled_score``, of one model trained on all types, its kappa stands in ``pooled_model``.
    published : bool, default=False
        Set the paper's kappas beside; for MURA alone.
    failed : dict of str to str, optional
        What to say of study types that have no predictions.

    Returns
    -------
    DataFrame
        As `mura_skorch.metrics.study_scores` gives it, with a row for each failed type.
    """
    scores = _scores(predictions, "score")
    if failed:
        rows = pd.DataFrame({"study_type": list(failed), "status": list(failed.values())})
        types, overall = scores[scores.study_type != OVERALL], scores[scores.study_type == OVERALL]
        scores = pd.concat([types, rows]).sort_values("study_type")
        scores = pd.concat([scores, overall], ignore_index=True)
    if "pooled_score" in predictions:
        pooled = _scores(predictions, "pooled_score").set_index("study_type")["kappa"]
        # Overall, both stand for the same studies.
        both = _scores(predictions.dropna(subset="score"), "pooled_score").iloc[-1]
        pooled[OVERALL] = both["kappa"]
        scores["pooled_model"] = scores["study_type"].map(pooled)
    return beside_published(scores) if published else scores


def write_results(predictions, folder, *, published=False, failed=None):
    """Score predictions and write predictions.csv, results.csv and results.png.

    Parameters
    ----------
    predictions, published, failed
        As for `score_predictions`.
    folder : path
        Made where it is missing.

    Returns
    -------
    DataFrame
        The scores.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    predictions.to_csv(folder / "predictions.csv", index=False)
    scores = score_predictions(predictions, published=published, failed=failed)
    note = join_notes(predictions)
    scores.assign(**({"note": note} if note else {})).to_csv(folder / "results.csv", index=False)
    KappaDisplay(scores, note=note).plot().figure_.savefig(folder / "results.png", dpi=150)
    return scores


def final_metrics(scores):
    """Return the overall scores under the names that runs share: ``test/kappa`` and so on."""
    overall = scores[scores.study_type == OVERALL].iloc[0]
    return {f"test/{name}": overall[name] for name in FINAL}


def _scores(predictions, column):
    labelled = predictions[predictions["label"].notna() & predictions[column].notna()]
    with warnings.catch_warnings():
        # The table and the figure say it where it is.
        warnings.filterwarnings("ignore", "zero width", RuntimeWarning)
        return study_scores(
            labelled["label"].astype(int),
            labelled[column],
            study_type=labelled["study_type"],
            groups=labelled["patient"],
        )
