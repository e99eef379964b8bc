"""Decode the images of a request into prepared views in memory."""

import base64
import binascii
import io
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.data.image_size import count_pixels
from mura_skorch.data.images import decode_view
from mura_skorch.data.prepared import PreparedStudies
from mura_skorch.data.transforms import Prepare
from mura_skorch.serving.deadlines import check_deadline, result_in_time
from mura_skorch.serving.limits import DEFAULTS, Limits
from mura_skorch.serving.requests import BadRequestError, Row
from mura_skorch.training.device import count_cores
from mura_skorch.utils.intensity import UnsuitableImageError
from mura_skorch.utils.paths import paths_outside

__all__ = ["DecodedStudies", "decode_studies"]

# First bytes of the accepted formats. Pillow reads many more, some of them by starting other
# programs.
KINDS = {
    "PNG": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "JPEG": lambda data: data.startswith(b"\xff\xd8\xff"),
    "DICOM": lambda data: data[128:132] == b"DICM",
}
LONGEST_PATH = 4096  # characters, the limit of Linux
# For the images of all requests: decoding more at once than there are cores would only take memory.
DECODERS = ThreadPoolExecutor(count_cores(), thread_name_prefix="decoder")


class DecodedStudies(PreparedStudies):
    """The studies of a request, their views in memory.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        ``study_type``, "" where unknown, and ``views``, tuples of names.
    views : dict of int to list of ndarray
        For each image size, the prepared views of all studies in order.
    shapes : list of tuple of int
        Height and width of each view before it was prepared, in order.
    notes : list of list of str
        Remarks on the images of each study, such as that one is blank.
    """

    def __init__(self, studies, views, shapes, notes):
        super().__init__(studies, {size: np.stack(arrays) for size, arrays in views.items()})
        self.shapes = shapes
        self.notes = notes


def decode_studies(
    rows: Sequence[Row],
    sizes: Collection[int],
    *,
    root: Any = None,
    limits: Limits = DEFAULTS,
) -> DecodedStudies:
    """Return the studies of a request with their views decoded and prepared.

    The headers of all files are read before the first file is decoded. As many files are decoded
    at a time, of all requests together, as there are cores.

    Parameters
    ----------
    rows : sequence of Row
        As `check_rows` returns them.
    sizes : collection of int
        Image sizes, in pixels, of the classifiers that will predict.
    root : path, optional
        Folder in which a client may name files. None refuses every path.
    limits : Limits

    Returns
    -------
    DecodedStudies

    Raises
    ------
    BadRequestError
        An image is not base64, is a path that is refused, is not a readable PNG, JPEG or DICOM
        file, or is too large, alone or together with the others.
    DeadlineError
        The client no longer waits.
    """
    names = [
        tuple(f"image {k} of study {number}" for k in range(1, len(row.images) + 1))
        for number, row in enumerate(rows, start=1)
    ]
    notes: list[list[str]] = [[] for _ in rows]
    named = [
        (image, name, its_notes)
        for row, its_names, its_notes in zip(rows, names, notes, strict=True)
        for image, name in zip(row.images, its_names, strict=True)
    ]
    n_pixels = 0
    for image, name, _ in named:
        check_deadline()
        n_pixels += _count_pixels(_read(image, name, root, limits), name, limits)
    if n_pixels > limits.total_pixels:
        raise BadRequestError(
            f"expected at most {limits.total_pixels:,} pixels in all images of a request, got "
            f"{n_pixels:,}; send the studies in several requests"
        )

    def decode(image, name):
        check_deadline()
        view, view_notes = _decode(_read(image, name, root, limits), name, limits)
        return [Prepare(size)(view) for size in sizes], view.shape, view_notes

    # Each task sees the request's deadline. The first error in the order of the images is raised.
    tasks = [DECODERS.submit(copy_context().run, decode, image, name) for image, name, _ in named]
    try:
        decoded = [result_in_time(task) for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
    for (_, _, its_notes), (_, _, view_notes) in zip(named, decoded, strict=True):
        its_notes.extend(view_notes)
    shapes = [shape for _, shape, _ in decoded]
    views = {
        size: [prepared[number] for prepared, _, _ in decoded] for number, size in enumerate(sizes)
    }
    table = pd.DataFrame({"study_type": [row.study_type or "" for row in rows]})
    table["views"] = np.fromiter(names, dtype=object, count=len(names))
    return DecodedStudies(table, views, shapes, notes)


def _read(image: str, name: str, root: Any, limits: Limits) -> bytes:
    """Return the bytes of a file sent as base64 or as a data URL, or named below the root."""
    if image.startswith("data:"):
        head, comma, text = image.partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadRequestError(
                f"expected {name} as base64, with or without data:image/png;base64, in front, "
                "got another data URL"
            )
    else:
        text = image
    if _is_path(text):
        return _read_file(root, text.removeprefix("file:"), name, limits)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(
            f"expected {name} as base64 of a complete file, got {len(text):,} characters that are "
            "not base64"
        ) from None
    if not data:
        raise BadRequestError(f"expected {name} as base64 of a file, got an empty string")
    return data


def _is_path(text: str) -> bool:
    """Return whether a string can only be a path.

    Base64 may contain a slash, and that of a JPEG begins with one. It contains no dot, colon,
    backslash or tilde. A short string with a slash is not an image.
    """
    if len(text) > LONGEST_PATH:
        return False
    return bool(re.search(r"[.:\\~]", text)) or (len(text) < 60 and "/" in text)


def _read_file(root: Any, path: str, name: str, limits: Limits) -> bytes:
    """Return the bytes of a file that is below the root after all links are followed."""
    if not root:
        raise BadRequestError(
            f"expected {name} as base64 of a file, got what looks like a path, which this server "
            "does not open"
        )
    try:
        file = (Path(root) / path).resolve()
        is_inside = not paths_outside(root, [file])
        if is_inside and file.is_file() and file.stat().st_size <= limits.n_bytes:
            return file.read_bytes()
    except (OSError, ValueError, RuntimeError):
        pass  # same answer for every reason, so that a client learns nothing about the disk
    raise BadRequestError(
        f"expected {name} as base64, or the name of a file of at most {limits.n_bytes:,} bytes "
        "in this server's image folder, got a path that is neither"
    )


def _count_pixels(data: bytes, name: str, limits: Limits) -> int:
    """Return the number of pixels in an image according to its header, within the limit."""
    with _described_errors(data, name, limits) as kind:
        n_pixels = count_pixels(data, kind)
    if n_pixels > limits.pixels:
        raise _too_large(name, limits)
    return n_pixels


def _decode(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, list[str]]:
    """Return a view and remarks on it."""
    _count_pixels(data, name, limits)  # again, because a file below the root may have changed
    notes: list[str] = []
    with _described_errors(data, name, limits):
        view = decode_view(io.BytesIO(data), note=notes.append)
    return view, [f"{name}: {note}" for note in notes]


@contextmanager
def _described_errors(data, name, limits):
    """Give the format of a file; raise all errors of the block in a sentence for the client."""
    kind = next((kind for kind, fits in KINDS.items() if fits(data)), None)
    if kind is None:
        raise BadRequestError(
            f"expected {name} as a PNG, JPEG or DICOM file, got {len(data):,} bytes of another kind"
        )
    try:
        yield kind
    except MemoryError:
        raise
    except ImportError:
        raise BadRequestError(
            f"expected {name} as a PNG or JPEG file, got {kind}, which this server cannot read"
        ) from None
    except Image.DecompressionBombError:
        raise _too_large(name, limits) from None
    except UnsuitableImageError as error:  # complete, but it cannot be displayed
        raise BadRequestError(f"{name}: {error}") from None
    except Exception as error:
        message = f"expected {name} as a readable {kind} file, got a truncated or damaged one"
        reason = " ".join(str(error).split())[:200]
        if reason and not isinstance(error, Image.UnidentifiedImageError):
            message += f" ({reason})"
        raise BadRequestError(message) from None


def _too_large(name, limits):
    most = min(limits.pixels, Image.MAX_IMAGE_PIXELS or limits.pixels)
    return BadRequestError(f"expected {name} with at most {most:,} pixels, got more")
