import math

import pytest

from mura_skorch.metrics import kappa_interval, studies_needed


def test_number_is_the_closed_form_of_the_analytic_interval():
    """The standard error of kappa, p (1 - p) / (n (1 - q)^2) under the root, solved for n."""
    y_true = [1] * 92 + [0] * 115
    y_pred = [1] * 75 + [0] * 17 + [1] * 13 + [0] * 102
    n = len(y_true)
    agreement = (75 + 102) / n
    chance = (92 * 88 + 115 * 119) / n**2
    expected = 1.959964**2 * agreement * (1 - agreement) / ((1 - chance) * 0.05) ** 2
    _, low, high = kappa_interval(y_true, y_pred)
    assert studies_needed(n, low, high) == math.ceil(expected)


def test_half_the_width_takes_four_times_the_studies():
    assert studies_needed(100, 0.5, 0.7, half_width=0.05) == 400
    assert studies_needed(100, 0.5, 0.7, half_width=0.1) == 100


@pytest.mark.parametrize("ends", [(math.nan, math.nan), (1.0, 1.0)])
def test_interval_without_a_width_gives_no_number(ends):
    assert math.isnan(studies_needed(100, *ends))


def test_width_of_nothing_is_refused():
    with pytest.raises(ValueError, match="expected half_width above 0"):
        studies_needed(100, 0.5, 0.7, half_width=0)
