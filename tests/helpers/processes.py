"""Processes that tests start, and those that these start."""

from pathlib import Path


def children_of(pid):
    """Return the ids of the processes that a process has started and that still run; Linux only."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = file.read_text()
        except OSError:  # it has ended meanwhile
            continue
        # The name, in brackets, may hold spaces: "17 (a b) S 4 ...", 4 being the parent.
        state, parent = text.rpartition(")")[2].split()[:2]
        if int(parent) == pid and state != "Z":
            found.append(int(file.parent.name))
    return found
