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

__all__ = [
    "apply_platt",
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "fit_platt",
    "fit_temperature",
    "is_rule",
]
