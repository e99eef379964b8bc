"""Evaluate predictions: scores, model comparison, reader studies, subgroups, shortcuts."""

from mura_skorch.evaluation.characteristics import characteristics_table, describe_studies
from mura_skorch.evaluation.comparison import compare_models, holm, match_predictions
from mura_skorch.evaluation.evaluate import Evaluation, evaluate, final_metrics, score_predictions
from mura_skorch.evaluation.external import (
    ExternalValidation,
    case_mix,
    known_training,
    performance_change,
)
from mura_skorch.evaluation.failure_analysis import (
    FailureAnalysis,
    error_groups,
    failure_analysis,
    smallest_groups,
)
from mura_skorch.evaluation.label_review import (
    VERDICTS,
    apply_verdicts,
    flip_labels,
    rank_suspects,
    review_curve,
)
from mura_skorch.evaluation.optimism import choice_optimism
from mura_skorch.evaluation.prediction_file import read_predictions
from mura_skorch.evaluation.predictions import (
    add_pooled_scores,
    check_columns,
    prediction_table,
    scored_rows,
    view_prediction_table,
    write_competition,
)
from mura_skorch.evaluation.reader_study import reader_kappas, wide_kappas
from mura_skorch.evaluation.robustness import robustness_scores, worst_moves
from mura_skorch.evaluation.seeds import compare_seeds
from mura_skorch.evaluation.shortcuts import SHORTCUTS, is_constant, shortcut_alert, shortcut_scores
from mura_skorch.evaluation.subgroups import subgroup_scores
from mura_skorch.evaluation.triage_scores import share_interval, triage_scores
from mura_skorch.studies.columns import check_extra_columns, join_notes

__all__ = [
    "SHORTCUTS",
    "VERDICTS",
    "Evaluation",
    "ExternalValidation",
    "FailureAnalysis",
    "add_pooled_scores",
    "apply_verdicts",
    "case_mix",
    "characteristics_table",
    "check_columns",
    "check_extra_columns",
    "choice_optimism",
    "compare_models",
    "compare_seeds",
    "describe_studies",
    "error_groups",
    "evaluate",
    "failure_analysis",
    "final_metrics",
    "flip_labels",
    "holm",
    "is_constant",
    "join_notes",
    "known_training",
    "match_predictions",
    "performance_change",
    "prediction_table",
    "rank_suspects",
    "read_predictions",
    "reader_kappas",
    "review_curve",
    "robustness_scores",
    "score_predictions",
    "scored_rows",
    "share_interval",
    "shortcut_alert",
    "shortcut_scores",
    "smallest_groups",
    "subgroup_scores",
    "triage_scores",
    "view_prediction_table",
    "wide_kappas",
    "worst_moves",
    "write_competition",
]
