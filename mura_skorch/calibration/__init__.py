"""Thresholds and calibrated probabilities, chosen on held-out studies."""

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

__all__ = [
    "apply_platt",
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "enough_studies",
    "fit_platt",
    "fit_temperature",
    "is_rule",
    "recalibration_curve",
]
