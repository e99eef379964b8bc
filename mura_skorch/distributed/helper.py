"""What the processes other than rank 0 do: what it orders, until its program ends."""

import signal

from mura_skorch.distributed.processes import Processes, StoppedError

__all__ = ["QUIT", "help_out"]

QUIT = "quit"


def help_out(processes: Processes) -> None:
    """Do what rank 0 orders until it has nothing left.

    An order is a function and its arguments. An error of this process is sent to rank 0, whose
    program raises it.

    Parameters
    ----------
    processes : Processes

    Raises
    ------
    RuntimeError
        Rank 0 or another process is gone.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # rank 0 gets them, too, and says when to stop
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            function, *arguments = processes.hear()
            if function == QUIT:
                return
            function(*arguments, processes)
        except StoppedError:
            pass
        except Exception as error:
            if not processes.is_whole:
                raise
            if processes.phase == "exchange":  # no other process knows of it
                _report(processes, error)


def _report(processes, error):
    try:
        processes.exchange(error=error)
    except Exception:
        if not processes.is_whole:
            raise
