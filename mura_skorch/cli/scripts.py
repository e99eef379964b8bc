"""What the scripts in experiments/ and the commands share: their log, and records of results."""

import atexit
import gc
import logging
import warnings
from pathlib import Path

__all__ = ["start_script", "write_record"]


def start_script() -> None:
    """Log warnings and the progress of long work to stderr, and let the script end at once."""
    # At its end Python looks for cycles among the half million objects of torch and MLflow, for
    # seconds. Objects that are frozen are left to the end of the process.
    atexit.register(gc.freeze)
    logging.basicConfig(format="%(message)s")
    warnings.formatwarning = lambda message, *_: f"Caution: {message}\n"  # no code in a script
    logging.getLogger("mura_skorch").setLevel(logging.INFO)


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
