"""Options, data and logging that the experiments share."""

import argparse
import atexit
import gc
import logging
import warnings
from collections.abc import Mapping
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any

from pandas import DataFrame

from mura_skorch.data import check_apart
from mura_skorch.data.views import refuse_remote
from mura_skorch.phantoms import write_phantoms
from mura_skorch.studies import read_studies
from mura_skorch.studies.columns import join_notes
from mura_skorch.utils.remote import is_remote

__all__ = [
    "PHANTOMS",
    "add_option",
    "choose_studies",
    "find_data",
    "folder_or_address",
    "make_parser",
    "read_train_valid",
    "start_script",
    "weights_or_none",
    "write_record",
]

PHANTOMS = Path("phantoms")


def folder_or_address(text: str) -> Path | str:
    """Return a path, or an address such as s3://bucket/MURA-v1.1, which no path can hold."""
    return text if is_remote(text) else Path(text)


def share(text: str) -> float:
    """Return a share between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(
            f"expected a share between 0 and 1, got {text!r}; 10 % is 0.1"
        )
    return value


OPTIONS: dict[str, dict[str, Any]] = {
    "--data": {
        "type": folder_or_address,
        "metavar": "DIR",
        "help": "MURA's folder or one like it, or its address on s3:// or gs:// (default: drawn "
        "phantoms)",
    },
    "--study-types": {"nargs": "+", "metavar": "TYPE", "help": "default: all in the data"},
    "--weights": {
        "help": "name of torchvision or tag of timm, path, or none (default: ImageNet's; "
        "phantoms: none)",
    },
    "--module": {
        "metavar": "FILE:CLASS",
        "help": "a network of your own (default: DenseNet-169)",
    },
    "--image-size": {"type": int, "metavar": "PIXELS"},
    "--max-epochs": {"type": int},
    "--batch-size": {"type": int, "metavar": "STUDIES"},
    "--lr": {"type": float},
    "--valid-share": {
        "type": float,
        "help": "share of the train split's patients for validation",
    },
    "--device": {"default": "auto"},
    "--threads": {"type": int, "help": "CPU threads"},
    "--cache": {
        "type": Path,
        "help": "folder for prepared views, so that each is decoded once",
    },
    "--dask": {
        "metavar": "ADDRESS",
        "help": "fit on the workers of a Dask cluster, tcp://HOST:8786, or of one on this machine: "
        "local; does not change the results",
    },
    "--study-facts": {
        "type": Path,
        "metavar": "TOML",
        "help": "what only the authors know, for the checklists: setting, centres, dates, "
        "eligibility, reference_standard, annotators, ethics, funding, licence, contact",
    },
    "--prevalence": {
        "nargs": "+",
        "type": share,
        "default": [],
        "metavar": "SHARE",
        "help": "shares of abnormal studies at the place of use, to give PPV and NPV at",
    },
    "--cases": {"type": int, "default": 4, "help": "false negatives and false positives to show"},
    "--random-state": {"type": int, "default": 0},
    "--experiment": {"help": "name of the MLflow experiment"},
    "--out": {"type": Path, "help": "folder of the report"},
}


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help shows the description as it is laid out."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_option(parser: argparse.ArgumentParser, name: str, **changes: Any) -> None:
    """Add one of the shared options.

    Parameters
    ----------
    parser : ArgumentParser
        The parser of an experiment.
    name : str
        A key of `OPTIONS`. ``--out`` is a new folder below ``results`` by default.
    **changes
        Arguments of ``parser.add_argument`` that replace those in `OPTIONS`.
    """
    settings = OPTIONS[name] | changes
    if name == "--out":
        settings.setdefault("default", Path("results") / datetime.now().strftime("%Y%m%d-%H%M%S"))
    parser.add_argument(name, **settings)


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


def read_train_valid(folder: Path | str) -> DataFrame:
    """Return the studies of a folder with a train and a valid split that share no patient.

    Raises
    ------
    ValueError
        A split is missing, or both hold a patient or a view.
    """
    studies = read_studies(folder)
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
    are_phantoms = (join_notes(studies) or "").startswith("phantoms")
    for name, choices in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, choices[are_phantoms])
    present = sorted(studies.study_type.unique())
    args.study_types = sorted(set(args.study_types or present))
    if unknown := sorted(set(args.study_types) - set(present)):
        raise ValueError(f"expected --study-types among {present}, got {unknown}")
    studies = studies[studies.study_type.isin(args.study_types)]
    if getattr(args, "cache", "") is None:
        refuse_remote(chain.from_iterable(studies["views"]))
    return studies


def write_record(folder: Path, title: str, question: str, command: str, text: str) -> None:
    """Write what was measured, and by which command, to ``README.md`` in a folder.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    title, question, command, text : str
        What the page consists of, from top to bottom.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = f"# {title}\n\n{question}\n\n```\n{command}\n```\n\n{text}\n"
    (folder / "README.md").write_text(page, encoding="utf-8")


def weights_or_none(text: str) -> str | None:
    """Return the value of ``--weights`` as `StudyNetwork` takes it."""
    return None if text == "none" else text


def start_script() -> None:
    """Log warnings and the progress of long work to stderr, and let the script end at once."""
    # At its end Python looks for cycles among the half million objects of torch and MLflow, for
    # seconds. Objects that are frozen are left to the end of the process.
    atexit.register(gc.freeze)
    logging.basicConfig(format="%(message)s")
    warnings.formatwarning = lambda message, *_: f"Caution: {message}\n"  # no code in a script
    logging.getLogger("mura_skorch").setLevel(logging.INFO)
