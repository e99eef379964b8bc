"""Thresholds, calibrated probabilities and triage, chosen on held-out studies."""

from mura_skorch.calibration.operating_point import (
    apply_platt,
    apply_temperature,
    check_rule,
    choose_threshold,
    fit_platt,
    fit_temperature,
    is_rule,
)
from mura_skorch.calibration.recalibration_curve import enough_studies, recalibration_curve
from mura_skorch.calibration.triage import (
    Triage,
    TypeLimits,
    fit_triage,
    patients_needed,
    view_disagreement,
)

__all__ = [
    "Triage",
    "TypeLimits",
    "apply_platt",
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "enough_studies",
    "fit_platt",
    "fit_temperature",
    "fit_triage",
    "is_rule",
    "patients_needed",
    "recalibration_curve",
    "view_disagreement",
]
