"""Small real disks, for tests that fill them."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, *words):
    """A mount for the time of a test; only root may."""
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *words, folder], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"mount is not permitted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder):
    """Write until the disk is full; return the file."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def small_disk(folder, size):
    """A disk in memory of so many bytes, such as "1m"."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")
