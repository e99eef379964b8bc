"""Limits: environment variables go in; the most that one request may hold comes out."""

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["DEFAULTS", "Limits", "read_limits"]

PREFIX = "MURA_MAX_"


class Limits(NamedTuple):
    """The most that one request may hold; each has a variable, such as ``MURA_MAX_IMAGES``."""

    # More than the 64 studies of two or three views that a large request holds.
    images: int = 256
    # The detectors of radiography deliver at most about 20.
    image_megapixels: int = 40
    total_megapixels: int = 400
    # MURA's 64 studies are a tenth of it as PNG, five raw DICOM files of 12 megapixels all of it.
    body_megabytes: int = 128

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        return self.image_megapixels * 10**6

    @property
    def total_pixels(self) -> int:
        """Pixels of all images of a request together."""
        return self.total_megapixels * 10**6

    @property
    def n_bytes(self) -> int:
        """Bytes of a request, and of a file that it names."""
        return self.body_megabytes * 10**6


DEFAULTS = Limits()


def read_limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits of this process.

    Raises
    ------
    ValueError
        A variable holds no whole number above 0.

    Examples
    --------
    >>> read_limits({"MURA_MAX_IMAGES": "12"}).images
    12
    """
    found = {}
    for name in Limits._fields:
        variable = PREFIX + name.upper()
        if text := environment.get(variable, "").strip():
            if not (text.isascii() and text.isdigit() and int(text)):
                raise ValueError(
                    f"expected {variable} as a whole number above 0, got {text!r}; change it or "
                    "take it out of the server's environment"
                )
            found[name] = int(text)
    return Limits(**found)
