"""Parsers, and options that several commands and experiments have."""

import argparse
from collections.abc import Iterable, Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mura_skorch.commands.defaults import default_text as text_of

__all__ = ["OPTIONS", "Parser", "add_option", "folder_or_address", "make_parser", "nearest"]


class Parser(argparse.ArgumentParser):
    """A parser whose help keeps the layout of its texts and shows every default.

    Parameters
    ----------
    **settings
        Arguments of `argparse.ArgumentParser`.
    """

    def __init__(self, **settings: Any):
        self._options: list[str] = []  # names of options, of which argparse has no public list
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **settings)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add an argument, and its default to its help where that does not say it.

        Parameters
        ----------
        *names : str
            Name of the argument, or names of the option.
        **settings
            Other arguments of `argparse.ArgumentParser.add_argument`.
        """
        text, default = settings.get("help", ""), settings.get("default")
        is_plain = default is None or default is False or default in ([], argparse.SUPPRESS)
        if not is_plain and "default:" not in text:
            settings["help"] = f"{text} (default: %(default)s)".lstrip()
        self._options += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **settings)

    def parse_known_args(self, args=None, namespace=None):
        """Parse arguments, and refuse unknown ones by the usage of the command they are of.

        Parameters
        ----------
        args : list of str, optional
            None means those of the process.
        namespace : Namespace, optional
            Filled in.
        """
        found, unknown = super().parse_known_args(args, namespace)
        if unknown and unknown[0].startswith("-"):
            option = unknown[0].partition("=")[0]
            hint = nearest(option, self._options, f"see {self.prog} --help")
            self.error(f"expected a known option, got {option}; {hint}")
        if unknown:
            self.error(
                f"expected no further arguments, got {' '.join(unknown)}; see {self.prog} --help"
            )
        return found, unknown


def nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    """Return a question with the known word that is most like another, for a message.

    Parameters
    ----------
    word : str
        What was typed.
    known : iterable of str
        What could have been meant.
    otherwise : str
        Returned if no known word is like it.
    """
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def folder_or_address(text: str) -> Path | str:
    """Return a path, or an address such as s3://bucket/MURA-v1.1, which no path can hold."""
    from mura_skorch.utils.remote import is_remote  # imports pandas

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
        "metavar": "DATA",
        "help": "MURA's folder or one like it, a table of studies (.csv, .parquet), or the address "
        "of either (default: drawn phantoms)",
    },
    "--study-types": {"nargs": "+", "metavar": "TYPE", "help": "default: all in the data"},
    "--weights": {"help": "name of torchvision or tag of timm, path, or none"},
    "--module": {
        "metavar": "FILE:CLASS",
        "help": "a network of your own (default: DenseNet-169)",
    },
    "--image-size": {"type": int, "metavar": "PIXELS", "help": "height and width of a view"},
    "--max-epochs": {"type": int, "help": "epochs of a fit"},
    "--batch-size": {"type": int, "metavar": "STUDIES", "help": "studies of a step"},
    "--lr": {"type": float, "help": "learning rate"},
    "--valid-share": {
        "type": share,
        "help": "share of the train split's patients for validation",
    },
    "--device": {"default": "auto", "help": "cpu, cuda, or auto: a GPU if there is one"},
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
    "--random-state": {"type": int, "default": 0, "help": "seed"},
    "--experiment": {"help": "name of the MLflow experiment"},
    "--out": {"type": Path, "help": "folder of the report"},
    "--json": {
        "action": "store_true",
        "help": "print the result as one JSON object, and everything else to stderr",
    },
}


def make_parser(description: str | None) -> Parser:
    """Return a parser whose help shows the description as it is laid out."""
    return Parser(description=description)


def add_option(
    parser: argparse.ArgumentParser,
    name: str,
    *,
    defaults: Mapping[str, tuple[Any, Any]] | None = None,
    default_text: str | None = None,
    **changes: Any,
) -> None:
    """Add one of the shared options.

    Parameters
    ----------
    parser : ArgumentParser
        The parser of a command or an experiment.
    name : str
        A key of `OPTIONS`. ``--out`` is a new folder below ``results`` by default.
    defaults : mapping of str to tuple, optional
        Defaults of the command that depend on the data, as in `mura_skorch.commands.defaults`. The
        help shows that of this option.
    default_text : str, optional
        How the help shows another default, which depends on the data or the time. None means that
        the help shows the default as it is.
    **changes
        Arguments of ``parser.add_argument`` that replace those in `OPTIONS`.
    """
    settings = OPTIONS[name] | changes
    if choices := (defaults or {}).get(name[2:].replace("-", "_")):
        default_text = text_of(*choices)
    if name == "--out" and "default" not in changes:
        settings["default"] = Path("results") / datetime.now().strftime("%Y%m%d-%H%M%S")
        default_text = "results/DATE-TIME"
    if default_text is not None:
        settings["help"] += f" (default: {default_text})"
    parser.add_argument(name, **settings)
