"""One fit on several processes, which torchrun starts by ``mura_skorch.distributed``."""

from mura_skorch.distributed.processes import Processes, count_processes, current_processes

__all__ = ["Processes", "count_processes", "current_processes"]
