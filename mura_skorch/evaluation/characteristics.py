"""Describe the studies of a partition: patients, studies, views, labels, age, sex and site."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.utils.identity import count_patients
from mura_skorch.utils.provenance import data_digest
from mura_skorch.utils.text import shorten

__all__ = [
    "add_descriptions",
    "characteristics_table",
    "describe_studies",
    "digest_of",
    "patients_text",
]

AGE, CATEGORIES = "age", ("sex", "site")
MAX_VALUES = 20  # of a column; more are only counted
LONGEST_VALUE = 60  # characters
IDENTITY = ["study", "study_type", "patient", "label"]
SEVERAL = "several"


def describe_studies(studies: pd.DataFrame) -> dict[str, Any]:
    """Count what a reader of a paper asks of a partition.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table, or a prediction table with ``n_views``. ``age`` (years), ``sex`` and ``site``
        are described if there are such columns, in any case of letters.

    Returns
    -------
    dict
        What JSON can hold: ``studies``, ``views``, ``patients`` (None if unknown), ``abnormal``,
        ``unlabelled``; ``types``, the same of each study type; ``columns``, quartiles of the age
        and counts of the values of sex and site; ``digest``, which identifies studies and labels.
        No id of a study or a patient is among them.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("1.png",)], "label": [1]})
    >>> found = describe_studies(studies)
    >>> found["studies"], found["views"], found["abnormal"], found["patients"]
    (1, 1, 1, None)
    """
    types = studies["study_type"].astype(str)
    return {
        **_counts(studies),
        "types": {name: _counts(studies[types == name]) for name in sorted(set(types))},
        "columns": _columns(studies),
        "digest": digest_of(studies),
    }


def digest_of(studies: pd.DataFrame) -> str:
    """Return what identifies studies, labels and numbers of views, whatever other columns hold.

    Parameters
    ----------
    studies : DataFrame
        As for `describe_studies`.
    """
    table = studies[[name for name in IDENTITY if name in studies]].copy()
    table["n_views"] = _n_views(studies)
    return data_digest(table)


def add_descriptions(first: Any, second: Any) -> Any:
    """Add the counts of two descriptions; texts that differ become "several".

    Patients of both are counted twice, and quartiles cannot be added: they are left out.

    Examples
    --------
    >>> add_descriptions({"studies": 1, "digest": "a"}, {"studies": 2, "digest": "b"})
    {'studies': 3, 'digest': 'several'}
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        names = [name for name in {**first, **second} if name != AGE]
        return {
            name: add_descriptions(first[name], second[name])
            if name in first and name in second
            else first.get(name, second.get(name))
            for name in names
        }
    if isinstance(first, bool) or isinstance(second, bool):
        return bool(first or second)
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first + second
    return first if first == second else SEVERAL


def patients_text(part: Mapping[str, Any]) -> str:
    """Return the number of patients of a description, and whether it is a sum over models.

    Parameters
    ----------
    part : mapping
        What `describe_studies` returns. ``summed_over`` is the number of models whose patients
        were added up, so that one of several models was counted by each.

    Returns
    -------
    str
        "" if the number is not known.

    Examples
    --------
    >>> patients_text({"patients": 530}), patients_text({"patients": 530, "summed_over": 7})
    ('530', '530 (sum over 7 models)')
    """
    over = part.get("summed_over")
    return _number(part["patients"]) + (f" (sum over {over} models)" if over else "")


def characteristics_table(parts: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Lay out descriptions next to each other.

    Parameters
    ----------
    parts : mapping of str to dict
        What `describe_studies` returns, by the name of the partition.

    Returns
    -------
    DataFrame
        One column per partition, of texts, after `characteristic`.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("1.png",)], "label": [1]})
    >>> found = characteristics_table({"training": describe_studies(studies)})
    >>> found.set_index("characteristic").loc["abnormal studies", "training"]
    '1 (100 %)'
    """
    described = list(parts.values())
    rows = {
        "patients": [patients_text(part) for part in described],
        "studies": [_number(part["studies"]) for part in described],
        "views": [_number(part["views"]) for part in described],
        "views per study": [_ratio(part["views"], part["studies"]) for part in described],
        "abnormal studies": [_share(part["abnormal"], _labelled(part)) for part in described],
        "unlabelled studies": [_number(part["unlabelled"] or None) for part in described],
    }
    for name in sorted({name for part in described for name in part["types"]}):
        pairs = [(part["types"].get(name), part) for part in described]
        rows[f"{name}: studies"] = [
            _share(own["studies"] if own else 0, part["studies"]) for own, part in pairs
        ]
        rows[f"{name}: abnormal"] = [
            _share(own["abnormal"], _labelled(own)) if own else "" for own, _ in pairs
        ]
    ages = [part["columns"].get(AGE) for part in described]
    rows["age in years: median (quartiles)"] = [_age(own) for own in ages]
    rows["age: missing"] = [_number(own["missing"]) if own else "" for own in ages]
    for name in CATEGORIES:
        rows |= _category_rows(name, [(part["columns"].get(name), part) for part in described])
    rows["digest of studies and labels"] = [part["digest"] for part in described]
    filled = {name: cells for name, cells in rows.items() if any(cells)}
    table = pd.DataFrame.from_dict(filled, orient="index", columns=list(parts))
    return table.rename_axis("characteristic").reset_index()


def _category_rows(name, pairs):
    """Return the rows of a column such as site; pairs hold its description and the partition's."""
    rows = {}
    for value in sorted({value for own, _ in pairs if own for value in own["counts"]}):
        rows[f"{name}: {value}"] = [
            _share(own["counts"].get(value, 0), part["studies"]) if own else ""
            for own, part in pairs
        ]
    for key, words in (("more_values", "different values"), ("missing", "missing")):
        rows[f"{name}: {words}"] = [_number(own[key] or None) if own else "" for own, _ in pairs]
    return rows


def _counts(studies):
    """Return the numbers of patients, studies, views, abnormal and unlabelled studies."""
    label = studies["label"] if "label" in studies else pd.Series([None] * len(studies))
    return {
        "patients": count_patients(studies["patient"]) if "patient" in studies else None,
        "studies": len(studies),
        "views": int(_n_views(studies).sum()),
        "abnormal": int((pd.to_numeric(label).fillna(0) == 1).sum()),
        "unlabelled": int(label.isna().sum()),
    }


def _n_views(studies):
    """Return the number of views of each study, 0 where a table does not say."""
    if "views" in studies:
        return studies["views"].map(len).astype(int)
    if "n_views" in studies:
        return studies["n_views"].fillna(0).astype(int)
    return pd.Series(0, index=studies.index)


def _columns(studies):
    """Describe the columns age, sex and site."""
    by_name = {str(column).casefold(): column for column in studies}
    found: dict[str, Any] = {}
    if AGE in by_name:
        age = pd.to_numeric(studies[by_name[AGE]], errors="coerce").dropna().astype(float)
        quartiles = np.quantile(age, [0.25, 0.5, 0.75]).tolist() if len(age) else None
        found[AGE] = {"quartiles": quartiles, "missing": len(studies) - len(age)}
    for name in CATEGORIES:
        if name in by_name:
            values = studies[by_name[name]].dropna().astype(str)
            counts = {
                shorten(str(value), LONGEST_VALUE): int(n)
                for value, n in values.value_counts().sort_index().items()
            }
            is_long = len(counts) > MAX_VALUES
            found[name] = {
                "counts": {} if is_long else counts,
                "more_values": len(counts) if is_long else 0,
                "missing": int(len(studies) - len(values)),
            }
    return found


def _labelled(own):
    """Return the number of labelled studies."""
    return own["studies"] - own["unlabelled"]


def _number(value):
    """Format a count, "" if it is not known."""
    return "" if value is None else f"{value:,}"


def _ratio(part, total):
    """Format the mean per study, "" without studies or views."""
    return f"{part / total:.2f}" if part and total else ""


def _share(part, total):
    """Format a count and its percentage."""
    return f"{part:,} ({part / total:.0%})".replace("%", " %") if total else f"{part:,}"


def _age(own):
    """Format the quartiles of the age."""
    if not own or not own.get("quartiles"):
        return ""
    low, middle, high = own["quartiles"]
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"
