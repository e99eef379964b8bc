"""A network that fails in process 1 in its second epoch, as the last argument says."""

import os
import signal
import sys

from nets import TinyNet

from mura_skorch.distributed import current_processes

FAULT = "" if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" else sys.argv[-1]
BATCHES = 8 + 2  # of process 1 before its fault: there are 8 in an epoch


class Failing(TinyNet):
    """A network that fails in process 1."""

    n_seen = 0  # batches of this process, whose copies of the network come and go

    def forward(self, *args, **kwargs):
        processes = current_processes()
        if processes is not None and processes.rank == 1 and self.training:
            Failing.n_seen += 1
            if Failing.n_seen == BATCHES:
                self.fail()
        return super().forward(*args, **kwargs)

    def fail(self):
        if FAULT == "error":
            raise LookupError("no such view")
        if FAULT in ("kill", "freeze"):
            os.kill(os.getpid(), signal.SIGKILL if FAULT == "kill" else signal.SIGSTOP)
