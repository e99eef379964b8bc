"""Check what a client sent, except for the images.

Nothing here depends on MLflow or reads an image.
"""

import codecs
import json
import math
from collections.abc import Sequence
from email.message import Message
from typing import Any, NamedTuple

import numpy as np

from mura_skorch.serving.limits import DEFAULTS, Limits

__all__ = ["BadRequestError", "Row", "check_body", "check_params", "check_rows"]

JSON = "application/json"
FORMATS = ("dataframe_records", "dataframe_split")
EXAMPLE = '{"dataframe_records": [{"images": ["<base64 of a PNG, JPEG or DICOM file>"]}]}'
SPLIT_EXAMPLE = '{"columns": ["images"], "data": [[["<base64>"]]]}'


class BadRequestError(ValueError):
    """What is wrong with a request, in one sentence for the client."""


class Row(NamedTuple):
    """One study of a request."""

    images: list[str]
    study_type: str | None


def check_body(
    body: bytes | bytearray, content_type: str | None, limits: Limits = DEFAULTS
) -> tuple[list[Row], bool]:
    """Return the studies of an HTTP request and whether it asks for activation maps.

    Parameters
    ----------
    body : bytes or bytearray
    content_type : str or None
        The header ``Content-Type``.
    limits : Limits

    Returns
    -------
    rows : list of Row
    activation_maps : bool

    Raises
    ------
    BadRequestError
        The body is not JSON or not in one of the two formats, or a study or a parameter is wrong.
    """
    _check_content_type(content_type)
    request = _parse(body)
    if not isinstance(request, dict):
        raise BadRequestError(f"expected an object such as {EXAMPLE}, got {_kind(request)}")
    formats = [name for name in FORMATS if name in request]
    if len(formats) != 1:
        raise BadRequestError(
            f"expected one of the keys {' and '.join(FORMATS)}, as in {EXAMPLE}, got "
            f"{_names(request) or 'an empty object'}"
        )
    (format_,) = formats
    if unknown := sorted(set(request) - {format_, "params"}):
        raise BadRequestError(f"expected {format_} and params, got also {_short(unknown[0])}")
    activation_maps = check_params(request.get("params"))
    rows = request[format_]
    if format_ == "dataframe_split":
        rows = _rows_of_split(rows)
    elif not isinstance(rows, list):
        raise BadRequestError(f"expected {format_} as a list of studies, got {_kind(rows)}")
    return check_rows(rows, limits), activation_maps


def check_params(params: Any) -> bool:
    """Return whether the parameters of a request ask for activation maps.

    Parameters
    ----------
    params : dict or None
        At most ``activation_maps``, true or false.

    Raises
    ------
    BadRequestError
        There is another parameter, or its value is of another type.
    """
    if params is None:
        return False
    if not isinstance(params, dict):
        raise BadRequestError(
            f'expected params as an object such as {{"activation_maps": true}}, got {_kind(params)}'
        )
    for name in params:
        if name != "activation_maps":
            raise BadRequestError(f"expected no params but activation_maps, got {_short(name)}")
    value = params.get("activation_maps", False)
    if not isinstance(value, bool | np.bool_):
        raise BadRequestError(f"expected activation_maps as true or false, got {_short(value)}")
    return bool(value)


def check_rows(rows: Sequence[Any], limits: Limits = DEFAULTS) -> list[Row]:
    """Return the studies of a request; their images are lists of strings.

    Parameters
    ----------
    rows : sequence of dict
        Columns other than ``images`` and ``study_type`` are not read.
    limits : Limits

    Raises
    ------
    BadRequestError
        There is no study, there are too many images, or a value of a study has a wrong type.
    """
    if not len(rows):
        raise BadRequestError("expected at least one study, got none")
    checked = [_check_row(row, f"study {number}") for number, row in enumerate(rows, start=1)]
    n_images = sum(len(row.images) for row in checked)
    if n_images > limits.images:
        raise BadRequestError(
            f"expected at most {limits.images:,} images in a request, got {n_images:,}; send the "
            "studies in several requests"
        )
    return checked


def _check_content_type(content_type: str | None) -> None:
    header = Message()
    header["Content-Type"] = content_type or ""
    mime = (content_type or "").split(";")[0].strip().lower()
    if mime != JSON:
        raise BadRequestError(
            f"expected the header Content-Type: {JSON}, got {_short(mime or None)}"
        )
    charset = header.get_content_charset("utf-8")
    try:
        is_utf_8 = codecs.lookup(charset).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        is_utf_8 = False
    if not is_utf_8:
        raise BadRequestError(f"expected the charset of {JSON} as utf-8, got {_short(charset)}")


def _parse(body: bytes | bytearray) -> Any:
    try:
        return json.loads(body.decode("utf-8-sig"))
    except RecursionError:
        raise BadRequestError(f"expected {EXAMPLE}, got JSON nested too deep") from None
    except UnicodeDecodeError:
        raise BadRequestError(
            f"expected JSON in UTF-8 such as {EXAMPLE}, got other bytes"
        ) from None
    except json.JSONDecodeError as error:
        got = "nothing"
        if body.strip():
            got = f"other text ({error.msg}, character {error.pos})"
        raise BadRequestError(f"expected JSON such as {EXAMPLE}, got {got}") from None
    except ValueError:  # Python's limit on the digits of an integer
        raise BadRequestError(
            f"expected JSON such as {EXAMPLE}, got a number of too many digits"
        ) from None


def _rows_of_split(table: Any) -> list[Any]:
    """Return the rows of a table in the format ``dataframe_split``."""
    name = "dataframe_split"
    if not isinstance(table, dict) or not all(
        isinstance(table.get(key), list) for key in ("columns", "data")
    ):
        raise BadRequestError(f"expected {name} as {SPLIT_EXAMPLE}, got another form")
    columns, data = table["columns"], table["data"]
    if not all(isinstance(column, str) for column in columns):
        raise BadRequestError(f"expected the columns of {name} as strings, got others")
    if len(set(columns)) < len(columns):
        raise BadRequestError(f"expected each column of {name} once, got one several times")
    if set(table) - {"columns", "data", "index"}:
        raise BadRequestError(f"expected no keys but columns, data and index in {name}, got others")
    if "index" in table:
        index = table["index"]
        is_list = isinstance(index, list) and not any(isinstance(i, list | dict) for i in index)
        if not is_list or len(index) != len(data):
            raise BadRequestError(
                f"expected as many entries in the index of {name} as rows, got another form"
            )
    for number, row in enumerate(data, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise BadRequestError(
                f"expected row {number} of {name} as a list of {len(columns)} values, one for "
                "each column, got another form"
            )
    return [dict(zip(columns, row, strict=True)) for row in data]


def _check_row(row: Any, name: str) -> Row:
    if not isinstance(row, dict):
        raise BadRequestError(
            f'expected {name} as an object such as {{"images": [...]}}, got {_kind(row)}'
        )
    if "images" not in row:
        raise BadRequestError(
            f"expected a column images in {name}, got the columns {_names(row) or 'none'}"
        )
    images, study_type = row["images"], row.get("study_type")
    if isinstance(images, np.ndarray):
        images = images.tolist()
    if isinstance(images, str):
        raise BadRequestError(
            f"expected images of {name} as a list, one string for each view, got a single string"
        )
    if not isinstance(images, list | tuple):
        raise BadRequestError(
            f"expected images of {name} as a list of strings, got {_kind(images)}"
        )
    if not images:
        raise BadRequestError(f"expected at least one image in {name}, got an empty list")
    for number, image in enumerate(images, start=1):
        if not isinstance(image, str):
            raise BadRequestError(
                f"expected image {number} of {name} as a base64 string, got {_kind(image)}"
            )
        _check_characters(image, f"image {number} of {name}")
    if study_type is None or (isinstance(study_type, float) and math.isnan(study_type)):
        return Row(list(images), None)
    if not isinstance(study_type, str):
        raise BadRequestError(
            f"expected study_type of {name} as a string such as XR_WRIST, got {_kind(study_type)}"
        )
    _check_characters(study_type, f"study_type of {name}")
    return Row(list(images), study_type)


def _check_characters(text: str, name: str) -> None:
    """Refuse half of a surrogate pair: JSON can write it, but no file or answer can hold it."""
    if text.isascii():  # as all base64 is, and faster
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRequestError(
            f"expected {name} as Unicode text, got half of a surrogate pair in it"
        ) from None


def _kind(value: Any) -> str:
    """Return the type of a value in JSON's words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {
        dict: "an object", list: "a list", str: "a string", int: "a number", float: "a number"
    }  # fmt: skip
    return kinds.get(type(value), type(value).__name__)


def _names(values: dict[str, Any]) -> str:
    return ", ".join(map(_short, values))[:200]


def _short(value: Any) -> str:
    """Return a value as JSON on one line, cut: it may be long or identify a patient."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return _kind(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
