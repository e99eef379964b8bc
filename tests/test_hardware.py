import os

import pytest
import torch

from mura_skorch.hardware import keep_compiled_kernels, loader_defaults


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
