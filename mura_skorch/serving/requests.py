"""Requests: what a client sent goes in; checked rows, or a sentence on what is wrong, come out.

Nothing here knows MLflow or reads an image.
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
PARAMS = ("activation_maps",)
EXAMPLE = '{"dataframe_records": [{"images": ["<base64 of a PNG, JPEG or DICOM file>"]}]}'


class BadRequestError(ValueError):
    """What is wrong with a request, in one sentence that its sender may read."""


class Row(NamedTuple):
    """One study of a request."""

    images: list[str]
    study_type: str | None


def check_body(
    body: bytes | str | dict, content_type: str | None, limits: Limits = DEFAULTS
) -> dict:
    """Return the JSON object of an HTTP request, checked but for its images.

    Of its rows only what is known is left: MLflow would log the names of other columns.

    Parameters
    ----------
    body : bytes, str or dict
    content_type : str or None
        The header of that name.
    limits : Limits

    Raises
    ------
    BadRequestError
        It is no JSON, or has none of the two formats, or a study or a parameter of it is wrong.
    """
    _check_content_type(content_type)
    if isinstance(body, dict):
        found: Any = body
    else:
        try:
            found = json.loads(body if isinstance(body, str) else body.decode("utf-8-sig"))
        except RecursionError:
            raise BadRequestError(f"expected {EXAMPLE}, got JSON nested too deep") from None
        except UnicodeDecodeError:
            raise BadRequestError(
                f"expected JSON in UTF-8 such as {EXAMPLE}, got other bytes"
            ) from None
        except json.JSONDecodeError as error:
            got = (
                f"another text ({error.msg}, character {error.pos})" if body.strip() else "nothing"
            )
            raise BadRequestError(f"expected JSON such as {EXAMPLE}, got {got}") from None
        except ValueError:  # a number of thousands of digits
            raise BadRequestError(f"expected JSON such as {EXAMPLE}, got an odd number") from None
    if not isinstance(found, dict):
        raise BadRequestError(f"expected an object such as {EXAMPLE}, got {_kind(found)}")
    formats = [name for name in FORMATS if name in found]
    if len(formats) != 1:
        got = ", ".join(map(_short, found)) or "an empty object"
        raise BadRequestError(
            f"expected one of the keys {' and '.join(FORMATS)}, as in {EXAMPLE}, got {got[:200]}"
        )
    if unknown := set(found) - {*FORMATS, "params"}:
        raise BadRequestError(
            f"expected {formats[0]} and params, got also {_short(sorted(unknown)[0])}"
        )
    check_params(found.get("params"))
    rows = check_rows(_rows(found[formats[0]], formats[0]), limits)
    records = [row._asdict() for row in rows]
    return {"dataframe_records": records, "params": found.get("params") or {}}


def check_params(params: Any) -> bool:
    """Return whether activation maps are asked for."""
    if params is None:
        return False
    if not isinstance(params, dict):
        raise BadRequestError(
            f'expected params as an object such as {{"activation_maps": true}}, got {_kind(params)}'
        )
    if unknown := [name for name in params if name not in PARAMS]:
        raise BadRequestError(
            f"expected no params but {', '.join(PARAMS)}, got {_short(unknown[0])}"
        )
    value = params.get("activation_maps", False)
    if not isinstance(value, bool | np.bool_):
        raise BadRequestError(f"expected activation_maps as true or false, got {_short(value)}")
    return bool(value)


def check_rows(rows: Sequence[Any], limits: Limits = DEFAULTS) -> list[Row]:
    """Return the studies of a request whose images are lists of texts.

    Parameters
    ----------
    rows : sequence of dict
        Columns beside ``images`` and ``study_type`` are not read.
    limits : Limits

    Raises
    ------
    BadRequestError
        There is no study, or too many images, or one of a study's values has a wrong type.
    """
    if not len(rows):
        raise BadRequestError("expected at least one study, got none")
    checked = [_check_row(row, f"study {number}") for number, row in enumerate(rows, start=1)]
    n_images = sum(len(row.images) for row in checked)
    if n_images > limits.images:
        raise BadRequestError(
            f"expected at most {limits.images:,} images in a request, got {n_images:,}: send the "
            "studies in several requests"
        )
    return checked


def _check_row(row: Any, name: str) -> Row:
    if not isinstance(row, dict):
        raise BadRequestError(
            f'expected {name} as an object such as {{"images": [...]}}, got {_kind(row)}'
        )
    if "images" not in row:
        got = ", ".join(map(_short, row)) or "none"
        raise BadRequestError(f"expected a column images in {name}, got the columns {got[:200]}")
    images, study_type = row["images"], row.get("study_type")
    if isinstance(images, np.ndarray):
        images = images.tolist()
    if isinstance(images, str):
        raise BadRequestError(
            f"expected images of {name} as a list, one text for each view, got a single text"
        )
    if not isinstance(images, list | tuple):
        raise BadRequestError(f"expected images of {name} as a list of texts, got {_kind(images)}")
    if not images:
        raise BadRequestError(f"expected at least one image in {name}, got an empty list")
    for number, image in enumerate(images, start=1):
        if not isinstance(image, str):
            raise BadRequestError(
                f"expected image {number} of {name} as a base64 text, got {_kind(image)}"
            )
        _check_text(image, f"image {number} of {name}")
    if study_type is None or (isinstance(study_type, float) and math.isnan(study_type)):
        return Row(list(images), None)
    if not isinstance(study_type, str):
        raise BadRequestError(
            f"expected study_type of {name} as a text such as XR_WRIST, got {_kind(study_type)}"
        )
    _check_text(study_type, f"study_type of {name}")
    return Row(list(images), study_type)


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
        known = codecs.lookup(charset).name in ("utf-8", "ascii")
    except (LookupError, ValueError):
        known = False
    if not known:
        raise BadRequestError(f"expected the charset of {JSON} as utf-8, got {_short(charset)}")


def _check_text(text: str, name: str) -> None:
    """Refuse halves of characters, which JSON can write and no file or answer can hold."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise BadRequestError(
            f"expected {name} as a text, got half of a surrogate pair in it"
        ) from None


def _rows(table: Any, name: str) -> Sequence[Any]:
    """Return the rows of a table in one of MLflow's two formats."""
    if name == "dataframe_records":
        if not isinstance(table, list):
            raise BadRequestError(f"expected {name} as a list of studies, got {_kind(table)}")
        return table
    form = '{"columns": ["images"], "data": [[["<base64>"]]]}'
    if not isinstance(table, dict) or not all(
        isinstance(table.get(key), list) for key in ("columns", "data")
    ):
        raise BadRequestError(f"expected {name} as {form}, got another form")
    columns, data = table["columns"], table["data"]
    if not all(isinstance(column, str) for column in columns):
        raise BadRequestError(f"expected the columns of {name} as texts, got others")
    if set(table) - {"columns", "data", "index"}:
        raise BadRequestError(f"expected no keys but columns, data and index in {name}, got others")
    if len(set(columns)) < len(columns):
        raise BadRequestError(f"expected each column of {name} once, got one several times")
    index = table.get("index", range(len(data)))
    is_plain = isinstance(index, list | range) and not any(
        isinstance(i, list | dict) for i in index
    )
    if not is_plain or len(index) != len(data):
        raise BadRequestError(
            f"expected as many entries in the index of {name} as rows, got others"
        )
    for number, row in enumerate(data, start=1):
        if not isinstance(row, list) or len(row) != len(columns):
            raise BadRequestError(
                f"expected row {number} of {name} as a list of {len(columns)} values, one for "
                "each column, got another form"
            )
    return [dict(zip(columns, row, strict=True)) for row in data]


def _kind(value: Any) -> str:
    """Return what a value is, in JSON's words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return kinds.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    """Return a value as JSON on one line, cut: what was sent may be long, or a patient's."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        return _kind(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
