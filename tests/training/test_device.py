import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mura_skorch.training.device import (
    MALLOC_VARIABLES,
    keep_compiled_kernels,
    loader_defaults,
    threads_within_quota,
)


def test_cpu_keeps_its_cores_for_the_network():
    assert loader_defaults("cpu", 9, is_cached=False) == {}


@pytest.mark.parametrize("is_cached", [True, False])
def test_gpu_gets_workers_where_images_are_decoded_for_it(is_cached):
    found = loader_defaults(torch.device("cuda", 0), 2, is_cached=is_cached)
    assert found["pin_memory"]
    assert (found.get("num_workers", 0) > 0) is not is_cached
    assert found.get("num_workers", 0) <= 2


def test_number_of_kept_kernels_is_the_users_where_they_give_one(monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    keep_compiled_kernels()
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    keep_compiled_kernels()
    assert int(os.environ[name]) > 1024


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize(
    ("variable", "is_kept"), [("MALLOC_NOTHING", True), ("MALLOC_MMAP_THRESHOLD_", False)]
)
def test_freed_memory_is_used_again_unless_the_user_says_how_to_allocate(variable, is_kept):
    # In a process of its own: what glibc keeps holds until a process ends.
    code = """
import resource, torch
from mura_skorch.training.device import keep_freed_memory
keep_freed_memory()
for _ in range(10): torch.ones(8 * 2**20)  # until what was freed before fits, with its alignment
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): torch.ones(8 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    given = {name: text for name, text in os.environ.items() if name not in MALLOC_VARIABLES}
    environment = given | {variable: "131072"}  # Dask's workers are given one, too
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    pages = 10 * 32 * 2**20 / os.sysconf("SC_PAGE_SIZE")
    assert (int(found.stdout) < 0.5 * pages) is is_kept


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_threads_are_at_most_the_cores_of_the_process_and_come_back():
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    torch.set_num_threads(3)
    os.sched_setaffinity(0, {min(cores)})
    try:
        with threads_within_quota():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)


@pytest.fixture
def group_of_half_a_core():
    """A control group of the kernel whose processes get half a core."""
    for root, name, text in (
        ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "50000"),
        ("/sys/fs/cgroup", "cpu.max", "50000 100000"),
    ):
        group = Path(root, f"mura_skorch-{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(text)
            yield group
            return
        except OSError:
            continue
        finally:
            group.rmdir()
    pytest.skip("nobody may make control groups here")


@pytest.mark.slow
def test_threads_are_at_most_the_quota_of_the_control_group(group_of_half_a_core):
    ask = (
        f"import os; open('{group_of_half_a_core}/cgroup.procs', 'w').write(str(os.getpid())); "
        "import torch; torch.set_num_threads(3); "
        "from mura_skorch.training.device import threads_within_quota as within\n"
        "with within(): print(torch.get_num_threads())"
    )
    found = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"


def test_fewer_threads_than_cores_stay_as_the_user_set_them():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threads_within_quota():
        assert torch.get_num_threads() == 1
    torch.set_num_threads(before)
