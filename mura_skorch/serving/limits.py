"""Limits on one request, read from environment variables."""

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["DEFAULTS", "Limits", "read_limits"]

PREFIX = "MURA_MAX_"


class Limits(NamedTuple):
    """Limits on one request; each has a variable, such as ``MURA_MAX_IMAGES``."""

    # A large request holds 64 studies of two or three views.
    images: int = 256
    # Detectors for radiography deliver at most about 20.
    image_megapixels: int = 40
    total_megapixels: int = 400
    # 64 studies of MURA take a tenth of it; five raw DICOM files of 12 megapixels take all of it.
    body_megabytes: int = 128

    @property
    def pixels(self) -> int:
        """Pixels in one image."""
        return self.image_megapixels * 10**6

    @property
    def total_pixels(self) -> int:
        """Pixels in all images of a request together."""
        return self.total_megapixels * 10**6

    @property
    def n_bytes(self) -> int:
        """Bytes in a request, or in a file that it names."""
        return self.body_megabytes * 10**6


DEFAULTS = Limits()


def read_limits(environment: Mapping[str, str] = os.environ) -> Limits:
    """Return the limits that the environment sets.

    Parameters
    ----------
    environment : mapping of str to str, default=os.environ

    Raises
    ------
    ValueError
        A variable is not a whole number above 0.

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
                    f"expected {variable} as a whole number above 0, got {text!r}; change it in "
                    "the server's environment or unset it"
                )
            found[name] = int(text)
    return Limits(**found)
