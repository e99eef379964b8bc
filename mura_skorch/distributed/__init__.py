"""One fit on several processes: ``torchrun ... -m mura_skorch.distributed SCRIPT``."""

from mura_skorch.distributed.processes import Processes, count_processes, current_processes

__all__ = ["Processes", "count_processes", "current_processes"]
