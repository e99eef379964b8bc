"""Images of a request: base64 texts go in, prepared views of studies in memory come out."""

import base64
import binascii
import io
import re
import threading
from collections.abc import Collection, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from torch.utils.data import Dataset

from mura_skorch.data.dataset import StudyDataset
from mura_skorch.data.image_size import count_pixels
from mura_skorch.data.images import decode_view
from mura_skorch.data.transforms import Prepare
from mura_skorch.data.views import ArrayViews
from mura_skorch.serving.deadlines import check_waiting, held
from mura_skorch.serving.limits import DEFAULTS, Limits
from mura_skorch.serving.requests import BadRequestError, Row
from mura_skorch.training.device import count_cores
from mura_skorch.utils.intensity import UnsuitableImageError

__all__ = ["DecodedStudies", "decode_studies"]

# First bytes of the files that are taken. Pillow knows many more formats, some of which start
# other programs.
KINDS = {
    "PNG": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "JPEG": lambda data: data.startswith(b"\xff\xd8\xff"),
    "DICOM": lambda data: data[128:132] == b"DICM",
}
LONGEST_PATH = 4096  # characters, as on Linux
# More requests than cores would only hold more large images at once.
DECODERS = threading.BoundedSemaphore(count_cores())


class DecodedStudies(Dataset):
    """Studies whose views are in memory: whatever takes a study table for prediction takes them.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        ``study_type``, "" where it is not known, and ``views``, tuples of names.
    views : dict of int to list of ndarray
        For each image size, the prepared views of all studies, in order.
    shapes : list of tuple of int
        Height and width of every view before it was prepared, in order.
    notes : list of list of str
        What is to say of the images of each study, such as that one is blank.
    """

    def __init__(self, studies, views, shapes, notes):
        self.studies = studies
        self.views = {size: np.stack(arrays) for size, arrays in views.items()}
        self.shapes = shapes
        self.notes = notes

    def __len__(self):
        return len(self.studies)

    def dataset_for(self, net):
        """Return the dataset that a classifier makes of a table, with its size and type codes."""
        size = net.get_params_for("dataset")["image_size"]
        views = ArrayViews(self.views[size])
        return StudyDataset(self.studies, views=views, study_types=net.study_types_)


def decode_studies(
    rows: Sequence[Row],
    sizes: Collection[int],
    *,
    root: Any = None,
    limits: Limits = DEFAULTS,
) -> DecodedStudies:
    """Return the studies of a request with their views read and prepared.

    The headers of all files are read before the first is decoded, and one is decoded at a time.

    Parameters
    ----------
    rows : sequence of Row
        As `check_rows` returns them.
    sizes : collection of int
        Image sizes of the classifiers that will see the views, in pixels.
    root : path, optional
        Folder below which a client may name files. None refuses every path.
    limits : Limits

    Returns
    -------
    DecodedStudies

    Raises
    ------
    BadRequestError
        An image is no base64, a path that is refused, no readable PNG, JPEG or DICOM, or too
        large, alone or together with the others.
    GivenUpError
        Nobody waits for the answer any more.
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
    views: dict[int, list[np.ndarray]] = {size: [] for size in sizes}
    shapes, n_pixels = [], 0
    with held(DECODERS):
        for image, name, _ in named:
            check_waiting()
            n_pixels += _n_pixels(_bytes_of(image, name, root, limits), name, limits)
        if n_pixels > limits.total_pixels:
            raise BadRequestError(
                f"expected at most {limits.total_pixels:,} pixels in all images of a request, got "
                f"{n_pixels:,}: send the studies in several requests"
            )
        for image, name, its_notes in named:
            check_waiting()
            view, told = _view(_bytes_of(image, name, root, limits), name, limits)
            its_notes.extend(told)
            shapes.append(view.shape)
            for size, prepared in views.items():
                prepared.append(Prepare(size)(view))
    table = pd.DataFrame({"study_type": [row.study_type or "" for row in rows]})
    table["views"] = np.fromiter(names, dtype=object, count=len(names))
    return DecodedStudies(table, views, shapes, notes)


def _bytes_of(image: str, name: str, root: Any, limits: Limits) -> bytes:
    """Return the bytes of a file that came as base64, as a data URL or, below a root, by name."""
    if image.startswith("data:"):
        head, comma, text = image.partition(",")
        if not comma or not head.endswith(";base64"):
            raise BadRequestError(
                f"expected {name} as base64, with or without data:image/png;base64, before it, "
                "got another data URL"
            )
    else:
        text = image
    if _is_path(text):
        return _file_below(root, text.removeprefix("file:"), name, limits)
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise BadRequestError(
            f"expected {name} as the base64 of a whole file, got a text of {len(text):,} "
            "characters that is none"
        ) from None
    if not data:
        raise BadRequestError(f"expected {name} as the base64 of a file, got an empty text")
    return data


def _is_path(text: str) -> bool:
    """Return whether a text can only be meant as a path.

    The alphabet of base64 has the slash, and a JPEG's begins with one, but neither dot nor colon,
    backslash or tilde; and short texts with a slash are no image.
    """
    if len(text) > LONGEST_PATH:
        return False
    return bool(re.search(r"[.:\\~]", text)) or (len(text) < 60 and "/" in text)


def _file_below(root: Any, path: str, name: str, limits: Limits) -> bytes:
    """Return the bytes of a file that lies below the root once all links are followed."""
    if not root:
        raise BadRequestError(
            f"expected {name} as the base64 of a file, got what looks like a path, which this "
            "server does not open"
        )
    top = Path(root).resolve()
    try:
        file = (top / path).resolve()
        if file.is_relative_to(top) and file.is_file() and file.stat().st_size <= limits.n_bytes:
            return file.read_bytes()
    except (OSError, ValueError, RuntimeError):
        pass  # the same answer, whatever is there: a client learns nothing of the disk
    raise BadRequestError(
        f"expected {name} as base64, or the name of a file of at most {limits.n_bytes:,} bytes "
        "below this server's image folder, got a path that is neither"
    )


def _n_pixels(data: bytes, name: str, limits: Limits) -> int:
    """Return the number of pixels of an image, at most those of one, by its header."""
    with _told(data, name, limits) as kind:
        n_pixels = count_pixels(data, kind)
    if n_pixels > limits.pixels:
        raise _too_large(name, limits)
    return n_pixels


def _view(data: bytes, name: str, limits: Limits) -> tuple[np.ndarray, list[str]]:
    """Return a view and what is to say of it."""
    _n_pixels(data, name, limits)  # again: a file below the root may have changed
    notes: list[str] = []
    with _told(data, name, limits):
        view = decode_view(io.BytesIO(data), note=notes.append)
    return view, [f"{name}: {note}" for note in notes]


@contextmanager
def _told(data, name, limits):
    """Give the kind of a file, and say in a sentence what is wrong with it."""
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
    except UnsuitableImageError as error:  # complete, but it cannot be shown
        raise BadRequestError(f"{name}: {error}") from None
    except Exception as error:
        reason = "" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        reason = " ".join(reason.split())[:200]
        raise BadRequestError(
            f"expected {name} as a readable {kind} file, got a truncated or damaged one"
            + (f" ({reason})" if reason else "")
        ) from None


def _too_large(name, limits):
    most = min(limits.pixels, Image.MAX_IMAGE_PIXELS or limits.pixels)
    return BadRequestError(f"expected {name} with at most {most:,} pixels, got more")
