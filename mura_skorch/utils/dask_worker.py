"""Detect tasks of Dask workers, and print to the screen of their client."""

import sys
from typing import Any

__all__ = ["dask_worker", "print_line"]


def dask_worker() -> Any:
    """Return the Dask worker that runs this task, or None elsewhere."""
    distributed = sys.modules.get("distributed")  # a worker has imported it
    try:
        return None if distributed is None else distributed.get_worker()
    except ValueError:  # imported, but not in a task
        return None


def print_line(text: str) -> None:
    """Print a line; in a task of a Dask worker, on the client's screen."""
    worker = dask_worker()
    if worker is None:
        print(text, flush=True)  # noqa: T201, printing is its job
    else:
        worker.log_event("print", text)  # clients print this topic
