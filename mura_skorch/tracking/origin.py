"""Pass on to other processes where runs are logged: store, experiment, parent run and folder."""

import os
import platform
from contextlib import suppress
from typing import NamedTuple, Self

from mura_skorch.tracking.offline.connection import is_missing
from mura_skorch.utils.dask_worker import dask_worker

__all__ = ["Origin", "lasting_uri"]

WITHHELD = ""  # an address with a password


class Origin(NamedTuple):
    """Where work for another process was prepared.

    Attributes
    ----------
    process : int
    machine : str
    folder : str
        The current folder there; "" if it is not known.
    run_id : str or None
        Parent of the runs in the other process.
    uri : str or None
        The tracking URI; "" if it holds a password, None if it is not known.
    experiment_id : str or None
    """

    process: int = 0
    machine: str = ""
    folder: str = ""
    run_id: str | None = None
    uri: str | None = None
    experiment_id: str | None = None

    @classmethod
    def here(cls, run_id: str | None, uri: str | None, experiment_id: str | None) -> Self:
        """Return the origin of work that this process prepares."""
        folder = ""
        with suppress(FileNotFoundError):  # it was removed
            folder = os.getcwd()
        return cls(os.getpid(), platform.node(), folder, run_id, lasting_uri(uri), experiment_id)

    def seen_here(self) -> "Origin":
        """Return what this process uses of it; in the process it is of, only the parent run.

        Raises
        ------
        ValueError
            A Dask worker would log into a store of its own.
        """
        if (self.process, self.machine) == (os.getpid(), platform.node()):
            return Origin(run_id=self.run_id)
        if self.folder and dask_worker() is not None:
            return self._seen_by_dask()
        if self.uri and is_missing(self.uri):  # a file of another machine
            return Origin()
        return self

    def _seen_by_dask(self):
        import mlflow

        is_same_machine = self.machine == platform.node()
        is_same_folder = is_same_machine and self.folder == os.getcwd()
        is_unknown = self.uri == WITHHELD or (self.uri is None and not is_same_folder)
        if is_unknown and not mlflow.is_tracking_uri_set():
            raise ValueError(
                "expected MLFLOW_TRACKING_URI in the environment of this Dask worker, got none, "
                "and none from its client, which sends no address with a password; start workers "
                "with it, or set it where the client runs and pass the password by "
                "MLFLOW_TRACKING_PASSWORD"
            )
        if not self.uri or not is_missing(self.uri):
            return self
        if not is_same_machine:
            raise ValueError(
                f"expected a tracking store that all workers reach, got {self.uri}, a file of "
                f"{self.machine} that {platform.node()} lacks; start mlflow server, and set "
                "MLFLOW_TRACKING_URI to its address"
            )
        return Origin() if is_same_folder else self  # nobody has logged yet


def lasting_uri(uri: str | None) -> str | None:
    """Return a tracking URI that is valid in other folders; "" if it holds a password."""
    if uri is None:
        return None
    if "@" in uri:
        return WITHHELD
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{os.path.abspath(uri.removeprefix('sqlite:///'))}"
    return uri
