"""Colours of all figures, and text without mathematical markup."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Draw = TypeVar("Draw", bound=Callable[..., Any])

# Palette of Okabe and Ito, safe for all kinds of colour blindness.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE = "#CC79A7"
GREY, LINE_GREY = "#595959", "#D0D0D0"
NOTE: dict[str, Any] = {"color": VERMILLION, "fontsize": 9, "fontweight": "bold"}  # of a caveat
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, "#56B4E9", "#000000")  # in this order


def plain_texts(draw: Draw) -> Draw:
    """Decorate a drawing method so that dollar signs in names are not parsed as formulas."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn  # type: ignore[return-value]
