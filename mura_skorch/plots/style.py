"""Colours that every picture shares, and texts that are taken as they are."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

Draw = TypeVar("Draw", bound=Callable[..., Any])

# Okabe and Ito's palette, told apart with every kind of colour blindness; shapes differ as well.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PURPLE = "#CC79A7"
GREY, LINE_GREY = "#595959", "#D0D0D0"
SERIES = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, "#56B4E9", "#000000")  # of one kind


def plain_texts(draw: Draw) -> Draw:
    """Let what a method draws show dollar signs: names of folders are no formulas."""

    @functools.wraps(draw)
    def drawn(*args: Any, **kwargs: Any) -> Any:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return drawn  # type: ignore[return-value]
