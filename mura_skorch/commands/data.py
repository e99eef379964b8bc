"""Find, read and choose the studies of a command."""

import argparse
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from pandas import DataFrame

from mura_skorch.data import check_apart
from mura_skorch.data.views import refuse_remote
from mura_skorch.phantoms import write_phantoms
from mura_skorch.studies import read_studies
from mura_skorch.studies.columns import join_notes

__all__ = [
    "PHANTOMS",
    "are_phantoms",
    "choose_split",
    "choose_studies",
    "fill_in",
    "find_data",
    "read_train_valid",
    "weights_or_none",
]

PHANTOMS = Path("phantoms")


def find_data(data: Path | str | None, phantoms: Path = PHANTOMS, **settings: Any) -> Path | str:
    """Return the folder of the studies, with phantoms in it if none was given.

    Parameters
    ----------
    data : Path, str or None
        What the user passed as ``--data``.
    phantoms : Path
        Where phantoms are, or are drawn, if `data` is None.
    **settings
        Arguments of `mura_skorch.write_phantoms`.
    """
    if data is not None:
        return data
    if not phantoms.exists():
        print(f"No --data: drawing phantoms into {phantoms}/ ...", flush=True)
        write_phantoms(phantoms, **settings)
    return phantoms


def choose_split(
    studies: DataFrame, split: str | None, option: str, source: Path | str
) -> tuple[DataFrame, list[str]]:
    """Return the studies of a split, and the names of the splits that they are of.

    Parameters
    ----------
    studies : DataFrame
        A study table, which may be without the column ``split``.
    split : str or None
        None means all but train, or train if there is no other; all studies of a table without
        splits, whose names are none.
    option, source : str
        The option that chose the split, and the data, for messages.

    Raises
    ------
    ValueError
        There is no such split.
    """
    if "split" not in studies:
        if split is None:
            return studies, []
        raise ValueError(
            f"expected a column split in {source} for {option} {split}, got none; add one with "
            "train, valid or test, or leave the option out"
        )
    found = sorted(set(studies["split"]))
    names = [split] if split else [name for name in found if name != "train"] or found
    if split and split not in found:
        raise ValueError(f"expected {option} among {found} in {source}, got {split}")
    return studies[studies["split"].isin(names)], names


def read_train_valid(folder: Path | str) -> DataFrame:
    """Return the studies of a folder or table with a train and a valid split that share no patient.

    Raises
    ------
    ValueError
        A split is missing, or both hold a patient or a view.
    """
    studies = read_studies(folder)
    if "split" not in studies:
        raise ValueError(
            f"expected a column split with train and valid in {folder}, got none; add it, the same "
            "for all studies of a patient, as docs/how_to/studies_table.md shows"
        )
    if not {"train", "valid"} <= set(studies["split"]):
        found = sorted(set(studies["split"]))
        raise ValueError(f"expected a train and a valid split in {folder}, got {found}")
    check_apart(studies[studies["split"] == "train"], studies[studies["split"] == "valid"])
    return studies


def choose_studies(
    args: argparse.Namespace, studies: DataFrame, defaults: Mapping[str, tuple[Any, Any]]
) -> DataFrame:
    """Return the studies of ``args.study_types``, and fill in the arguments that were not given.

    Parameters
    ----------
    args : Namespace
        Changed in place. ``study_types`` becomes a sorted list, of all types if none was given.
    studies : DataFrame
        A study table.
    defaults : mapping of str to tuple
        Default of an argument for radiographs, and for phantoms.

    Raises
    ------
    ValueError
        A study type is not in the table, or views are addresses and there is no ``--cache``.
    """
    fill_in(args, defaults, are_phantoms=are_phantoms(studies))
    present = sorted(studies.study_type.unique())
    args.study_types = sorted(set(args.study_types or present))
    if unknown := sorted(set(args.study_types) - set(present)):
        raise ValueError(f"expected --study-types among {present}, got {unknown}")
    studies = studies[studies.study_type.isin(args.study_types)]
    if getattr(args, "cache", "") is None:
        refuse_remote(chain.from_iterable(studies["views"]))
    return studies


def fill_in(
    args: argparse.Namespace, defaults: Mapping[str, tuple[Any, Any]], *, are_phantoms: bool
) -> None:
    """Set the arguments that were not given to their defaults.

    Parameters
    ----------
    args : Namespace
        Changed in place.
    defaults : mapping of str to tuple
        Default of an argument for radiographs, and for phantoms.
    are_phantoms : bool
        Which of the two to take.
    """
    for name, choices in defaults.items():
        if getattr(args, name, None) is None:
            setattr(args, name, choices[are_phantoms])


def are_phantoms(studies: DataFrame) -> bool:
    """Return whether studies are drawn, by their note."""
    return (join_notes(studies) or "").startswith("phantoms")


def weights_or_none(text: str) -> str | None:
    """Return the value of ``--weights`` as `StudyNetwork` takes it."""
    return None if text == "none" else text
