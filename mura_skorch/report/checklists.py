"""Fill reporting checklists from the sections of a report and the facts of its authors."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd

__all__ = [
    "CHECKLISTS",
    "SECTIONS",
    "Checklist",
    "FilledItem",
    "checklist_count",
    "fill_checklist",
    "fill_checklists",
    "item_table",
]

# What an item names as its source, and the titles of such sections of a report, in any case.
# A star stands for any text.
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "results": "results by study type",
        "curves": "curves",
        "figures": "all figures",
        "shortcuts": "shortcuts",
        "readers": "readers",
        "groups": "by *",
        "training": "training",
        "cases": "case review",
        "run": "what was run",
        "failures": "failure analysis*",
        "benefit": "*net benefit*",
        "robustness": "robustness*",
        # The flow of studies, their characteristics by partition, and the size of the sample.
        "flow": "what went in*",
        "characteristics": "what went in*",
        "size": "what went in*",
        "triage": "*triage*",
        "mix": "case mix*",
        "change": "change in performance*",
        "recalibration": "recalibration on local studies*",
    }
)
CARD = "card:"  # begins the name of a heading of the model card
FILLED, PARTLY, MISSING = "filled", "in part", "authors must state"


class Checklist(NamedTuple):
    """A published checklist.

    Attributes
    ----------
    key : str
        Name of its files.
    name : str
        Name and year.
    n_items : int
        Number of its items as published, parts such as 3a and 3b counted once.
    citation : str
        Where it was published.
    """

    key: str
    name: str
    n_items: int
    citation: str


CHECKLISTS = (
    Checklist(
        "claim",
        "CLAIM 2024",
        44,
        "Tejani et al., Radiology: Artificial Intelligence 6(4), e240300, 2024, "
        "doi:10.1148/ryai.240300",
    ),
    Checklist(
        "tripod_ai",
        "TRIPOD+AI",
        27,
        "Collins et al., BMJ 385, e078378, 2024, doi:10.1136/bmj-2023-078378",
    ),
    Checklist(
        "stard_ai",
        "STARD-AI",
        40,
        "Sounderajah et al., Nature Medicine 31, 3283-3289, 2025, doi:10.1038/s41591-025-03953-8",
    ),
)


class FilledItem(NamedTuple):
    """An item of a checklist with the places that fill it.

    Attributes
    ----------
    item, words : str
        Number as published, and what it asks for in our words.
    status : {"filled", "in part", "authors must state"}
        Whether the report fills it.
    places : list of (str, str)
        Anchor and title of each place on the page that fills it.
    missing : str
        What the authors must state; "" if nothing.
    """

    item: str
    words: str
    status: str
    places: list[tuple[str, str]]
    missing: str


def fill_checklist(
    checklist: Checklist,
    places: Iterable[tuple[str, str]],
    card: Mapping[str, str],
    facts: Mapping[str, str],
) -> list[FilledItem]:
    """Return the items of a checklist with what fills them.

    Parameters
    ----------
    checklist : Checklist
        One of `CHECKLISTS`.
    places : iterable of (str, str)
        Anchor and title of each section that the page really has.
    card : mapping of str to str
        Anchor by heading of the model card, for headings that it really has.
    facts : mapping of str to str
        What the authors state, see `mura_skorch.report.study_facts.FACTS`. Its place is the
        heading "Study" of the card.

    Returns
    -------
    list of FilledItem
        In the order of publication. An item is filled by sections of this report or by facts.
        What a report cannot know stays with the authors, so that the item is filled in part.
    """
    places = list(places)
    items = []
    for row in _items(checklist).to_dict("records"):
        found = [place for name in _split(row["sections"]) for place in _find(name, places, card)]
        found = list(dict.fromkeys(found))  # two sources may be one section
        facts_asked = _split(row["facts"])
        stated = [name for name in facts_asked if name in facts]
        if stated:
            found.append((card["Study"], f"Model card: Study ({', '.join(stated)})"))
        missing = [name for name in facts_asked if name not in facts]
        missing += [row["authors"]] if row["authors"] else []
        if not found and not missing:
            missing = ["this report has no section on it"]
        status = MISSING if not found else PARTLY if missing else FILLED
        items.append(FilledItem(row["item"], row["words"], status, found, "; ".join(missing)))
    return items


def fill_checklists(
    places: Iterable[tuple[str, str]], *, card: Mapping[str, str], facts: Mapping[str, str]
) -> list[tuple[Checklist, list[FilledItem]]]:
    """Return every checklist with its items.

    Parameters
    ----------
    places, card, facts
        As for `fill_checklist`.

    Returns
    -------
    list of (Checklist, list of FilledItem)
    """
    return [(each, fill_checklist(each, places, card, facts)) for each in CHECKLISTS]


def checklist_count(checklist: Checklist, items: Iterable[FilledItem]) -> str:
    """Return a sentence on how many of a checklist's items are shown.

    Examples
    --------
    >>> items = fill_checklist(CHECKLISTS[1], [], {}, {})
    >>> checklist_count(CHECKLISTS[1], items)
    'All 27 items are shown, in 52 rows.'
    """
    numbers = [item.item for item in items]
    n_shown = len({number.rstrip("abcdefg") for number in numbers})
    rows = f", in {len(numbers)} rows" if len(numbers) > n_shown else ""
    if n_shown == checklist.n_items:
        return f"All {n_shown} items are shown{rows}."
    return (
        f"{n_shown} of {checklist.n_items} items are shown{rows}; the numbers of the others could "
        "not be verified."
    )


def item_table(items: Iterable[FilledItem]) -> pd.DataFrame:
    """Return filled items as a table of texts.

    Parameters
    ----------
    items : iterable of FilledItem
        What `fill_checklist` returns.

    Returns
    -------
    DataFrame
        Columns ``item``, ``asks_for``, ``status``, ``filled_from`` (titles on the page),
        ``anchors`` and ``authors_must_state``.
    """
    rows = [
        {
            "item": item.item,
            "asks_for": item.words,
            "status": item.status,
            "filled_from": "; ".join(title for _, title in item.places),
            "anchors": " ".join(f"#{anchor}" for anchor, _ in item.places),
            "authors_must_state": item.missing,
        }
        for item in items
    ]
    return pd.DataFrame(rows)


def _items(checklist):
    """Return the items as published, with their sources."""
    file = Path(__file__).parent / "checklist_items" / f"{checklist.key}.csv"
    return pd.read_csv(file, comment="#", dtype=str, keep_default_na=False)


def _split(text):
    """Return the names in a cell."""
    return [name for name in text.split("|") if name]


def _find(name, places, card):
    """Return the places that a name stands for, as pairs of anchor and title."""
    if name.startswith(CARD):
        heading = name.removeprefix(CARD)
        return [(card[heading], f"Model card: {heading}")] if heading in card else []
    pattern = SECTIONS[name]
    return [place for place in places if fnmatchcase(place[1].lower(), pattern)]
