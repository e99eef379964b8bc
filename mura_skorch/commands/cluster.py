"""Run the fits of a script on the workers of a Dask cluster."""

import logging
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from joblib import parallel_config

from mura_skorch._version import __version__
from mura_skorch.commands.data import find_data
from mura_skorch.distributed import count_processes

__all__ = ["LOCAL", "dask_client", "make_absolute"]

LOCAL = "local"
WAIT = 120  # seconds for a first worker


@contextmanager
def dask_client(address: str | None, n_workers: int) -> Iterator[Any]:
    """Send joblib's tasks to a Dask cluster while the block runs.

    Parameters
    ----------
    address : str or None
        Of the scheduler, such as ``tcp://host:8786``; "local" starts a cluster on this machine.
        With None nothing changes.
    n_workers : int
        Processes of a local cluster.

    Yields
    ------
    distributed.Client or None

    Raises
    ------
    ImportError
        Dask's package distributed is missing.
    OSError, ValueError
        No scheduler or worker answers, a worker has another version of mura_skorch, or this is one
        of several processes of torchrun.
    """
    if address is None:
        yield None
        return
    if count_processes() > 1:
        raise ValueError(
            f"expected --dask without torchrun, got {count_processes()} processes that train each "
            "model; choose one of the two"
        )
    try:
        import dask
        import distributed
    except ImportError as error:
        raise ImportError(
            f"expected distributed for --dask, got {error}; pip install 'mura-skorch[dask]'"
        ) from error
    logging.getLogger("distributed").setLevel(logging.WARNING)
    with ExitStack() as stack:
        if address == LOCAL:
            # Workers may start the processes that read images.
            stack.enter_context(dask.config.set({"distributed.worker.daemon": False}))
            address = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    memory_limit=0,  # none, as without Dask
                    dashboard_address=":0",
                )
            )
            # While the cluster is closed, Dask warns of workers that take a while to end.
            stack.callback(logging.getLogger("distributed.nanny").setLevel, logging.ERROR)
        try:
            client = stack.enter_context(distributed.Client(address))
        except OSError as error:
            raise OSError(
                f"expected a Dask scheduler at {address}, got {error}; start one: dask scheduler"
            ) from error
        _check_workers(client)
        stack.enter_context(parallel_config(backend="dask", client=client))
        yield client


def make_absolute(args: Namespace) -> None:
    """Make the paths among the arguments absolute: workers may be in other folders."""
    args.data = find_data(args.data)
    for name, value in vars(args).items():
        if isinstance(value, Path):
            setattr(args, name, value.absolute())
    if args.weights is not None and Path(args.weights).is_file():
        args.weights = str(Path(args.weights).absolute())


def version() -> str:
    """Return the version of this package, on a worker."""
    return __version__


def _check_workers(client):
    """Raise ValueError if there is no worker, or one without this version of this package."""
    try:
        client.wait_for_workers(1, timeout=WAIT)
        found = set(client.run(version).values())
    except TimeoutError as error:
        raise ValueError(
            f"expected a worker at {client.scheduler.address}, got none in {WAIT} s; start some"
        ) from error
    except (AttributeError, ImportError) as error:
        found = {f"none ({error})"}
    if found != {__version__}:
        raise ValueError(
            f"expected mura_skorch {__version__} on every worker, got {', '.join(sorted(found))}; "
            "start the workers in the same environment"
        )
