"""Evaluate predictions: scores, model comparison, reader studies, subgroups, shortcuts."""

from mura_skorch.evaluation.comparison import compare_models, holm, match_predictions
from mura_skorch.evaluation.evaluate import Evaluation, evaluate, final_metrics, score_predictions
from mura_skorch.evaluation.label_review import (
    VERDICTS,
    apply_verdicts,
    flip_labels,
    rank_suspects,
    review_curve,
)
from mura_skorch.evaluation.optimism import choice_optimism
from mura_skorch.evaluation.predictions import (
    add_pooled_scores,
    check_columns,
    prediction_table,
    scored_rows,
    view_prediction_table,
    write_competition,
)
from mura_skorch.evaluation.reader_study import reader_kappas, wide_kappas
from mura_skorch.evaluation.seeds import compare_seeds
from mura_skorch.evaluation.shortcuts import SHORTCUTS, is_constant, shortcut_alert, shortcut_scores
from mura_skorch.evaluation.subgroups import subgroup_scores
from mura_skorch.evaluation.triage_scores import share_interval, triage_scores
from mura_skorch.studies.columns import check_extra_columns, join_notes

__all__ = [
    "SHORTCUTS",
    "VERDICTS",
    "Evaluation",
    "add_pooled_scores",
    "apply_verdicts",
    "check_columns",
    "check_extra_columns",
    "choice_optimism",
    "compare_models",
    "compare_seeds",
    "evaluate",
    "final_metrics",
    "flip_labels",
    "holm",
    "is_constant",
    "join_notes",
    "match_predictions",
    "prediction_table",
    "rank_suspects",
    "reader_kappas",
    "review_curve",
    "score_predictions",
    "scored_rows",
    "share_interval",
    "shortcut_alert",
    "shortcut_scores",
    "subgroup_scores",
    "triage_scores",
    "view_prediction_table",
    "wide_kappas",
    "write_competition",
]
