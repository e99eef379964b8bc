"""Read the facts about a study that only its authors know, from a TOML file."""

import datetime
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType

from mura_skorch.utils.text import printable, shorten, some_names

__all__ = ["FACTS", "read_study_facts"]

# Each fact, and what a statement of it holds.
FACTS: Mapping[str, str] = MappingProxyType(
    {
        "setting": "kind of care, such as an emergency department or a screening programme",
        "centres": "number, names and places of the centres, and where the data come from",
        "dates": "first and last date of the examinations",
        "eligibility": "which patients and images were taken in and left out",
        "reference_standard": "how a study was found to be normal or abnormal",
        "annotators": "who labelled the studies, how many, with which qualification",
        "ethics": "committee, number of the approval, and consent or its waiver",
        "funding": "sources of funding, and the part of the funders",
        "licence": "licence of the model, such as apache-2.0",
        "contact": "whom to ask",
    }
)
LONGEST = 2000  # characters of a statement


def read_study_facts(source: Mapping[str, object] | str | os.PathLike[str]) -> dict[str, str]:
    """Read and check the facts about a study that no program can know.

    Parameters
    ----------
    source : path or mapping
        A TOML file, or the same as a mapping. Its keys are among setting, centres, dates,
        eligibility, reference_standard, annotators, ethics, funding, licence and contact. A value
        is a text, a number, a date, or a list of these.

    Returns
    -------
    dict of str to str
        The stated facts, in the order above. An empty text states nothing.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        The file is no TOML, a key is unknown, or a value is no text.

    Examples
    --------
    >>> read_study_facts({"ethics": "Waived by the board of X, 2024-17", "centres": ["X", "Y"]})
    {'centres': 'X; Y', 'ethics': 'Waived by the board of X, 2024-17'}
    """
    given, name = (source, "study facts") if isinstance(source, Mapping) else _read(source)
    for key in given:
        if key not in FACTS:
            near = get_close_matches(str(key), FACTS, n=1)
            remedy = f"did you mean {near[0]}?" if near else "correct the name"
            raise ValueError(
                f"{name}: expected keys among {', '.join(FACTS)}, got {some_names([key])}; {remedy}"
            )
    facts = {key: _statement(name, key, given[key]) for key in FACTS if key in given}
    return {key: text for key, text in facts.items() if text}


def _read(file):
    """Return what a TOML file holds, and its name for messages."""
    name = printable(file)
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: expected a TOML file of study facts, got no such file; check the path"
        ) from error
    except UnicodeError as error:
        raise ValueError(
            f"{name}: expected a TOML file in UTF-8, got another encoding; save it again"
        ) from error
    try:
        return tomllib.loads(text), name
    except tomllib.TOMLDecodeError as error:
        raise ValueError(
            f'{name}: expected a TOML file with lines such as ethics = "...", got '
            f"{printable(error)}; correct that line"
        ) from error


def _statement(name, key, value):
    """Return a value as one line of text."""
    values = value if isinstance(value, list | tuple) else [value]
    for item in values:
        is_plain = isinstance(item, str | int | float | datetime.date)
        if not is_plain or isinstance(item, bool):
            raise ValueError(
                f"{name}: expected {key} as a text ({FACTS[key]}), got {some_names([item])}; "
                'write it in quotes, as in ethics = "..."'
            )
    texts = (" ".join(str(item).split()) for item in values)
    return shorten("; ".join(text for text in texts if text), LONGEST)
