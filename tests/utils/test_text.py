import numpy as np
import pytest

from mura_skorch.utils.text import number_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.705, ".705"),
        (-0.349, "-.349"),
        (1.0, "1.000"),
        (-1.0, "-1.000"),
        (10.5, "10.500"),
        (-0.00001, ".000"),
        (-10.0, "-10.000"),
        (np.float32(0.25), ".250"),
        (np.nan, "n/a"),
    ],
)
def test_only_a_leading_zero_is_left_out(value, text):
    assert number_text(value) == text
