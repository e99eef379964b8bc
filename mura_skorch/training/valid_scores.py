"""Keep the scores of a validation part as a model's record stores them."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from mura_skorch.evaluation.evaluate import score_predictions

__all__ = ["read_scores", "score_rows"]

TEXTS = ("study_type", "level", "caution", "undefined")
COUNTS = ("n", "n_abnormal", "tp", "fp", "fn", "tn")


def score_rows(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Score the predictions on a validation part.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table. Its column ``level`` is "view" if its rows are single views.

    Returns
    -------
    list of dict
        The rows of `mura_skorch.metrics.study_scores`, which JSON can store: None stands for NaN.
    """
    scores = score_predictions(predictions.drop(columns="level", errors="ignore"))
    if "level" in predictions:
        scores["level"] = predictions["level"].iloc[0]
    rows: list[dict[str, Any]] = json.loads(scores.to_json(orient="records", double_precision=15))
    return rows


def read_scores(rows: Sequence[dict[str, Any]]) -> pd.DataFrame | None:
    """Return the table that `score_rows` gave the rows of; None without rows."""
    if not rows:
        return None
    table = pd.DataFrame(list(rows))
    figures = [name for name in table if name not in (*TEXTS, *COUNTS)]
    return table.astype(dict.fromkeys(figures, float))
