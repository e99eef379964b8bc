import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from mura_skorch.data import list_caches, remove_caches
from mura_skorch.data.cache import lock_of
from mura_skorch.features import store
from mura_skorch.features.store import stored_features

NETWORK = {"weights": "abc"}


class Embed:
    """Features that say which file they are of; it counts the studies that it computes."""

    def __init__(self):
        self.n_studies = 0

    def __call__(self, studies, bar=None):
        self.n_studies += len(studies)
        bar.update(int(studies["views"].map(len).sum()))
        return [np.stack([self.of(path) for path in views]) for views in studies["views"]]

    def of(self, path):
        return np.array([len(path), os.stat(path).st_size, *Path(path).read_bytes()[:3]], "float32")


@pytest.fixture
def studies(tmp_path):
    """Nine studies of one to three views, whose files differ in bytes and size."""
    rows = []
    for number in range(9):
        paths = [str(tmp_path / f"{number}_{view}.png") for view in range(1 + number % 3)]
        for view, path in enumerate(paths):
            Path(path).write_bytes(bytes([number, view, 7]) + bytes(number))
        rows.append({"study_type": "XR_HAND", "views": tuple(paths)})
    return pd.DataFrame(rows)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def assert_right(found, studies):
    embed = Embed()
    for features, paths in zip(found, studies["views"], strict=True):
        np.testing.assert_array_equal(features, np.stack([embed.of(path) for path in paths]))
        assert features.dtype == np.float32


def in_child(work):
    """Run a function in a fork; return its process id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def test_any_selection_of_stored_studies_is_found(studies, folder):
    embed = Embed()
    assert_right(stored_features(folder, NETWORK, studies, embed), studies)
    for part in (studies[::-1], studies.iloc[[4, 1]], studies.sample(5, random_state=0)):
        assert_right(stored_features(folder, NETWORK, part, embed), part)
    assert embed.n_studies == len(studies)


def test_folds_compute_each_study_once(studies, folder):
    embed = Embed()
    for fold in range(3):
        is_test = np.arange(len(studies)) % 3 == fold
        for part in (studies[~is_test], studies[is_test]):
            assert_right(stored_features(folder, NETWORK, part, embed), part)
    assert embed.n_studies == len(studies)


def test_changed_image_is_computed_again_and_alone(studies, folder):
    embed = Embed()
    stored_features(folder, NETWORK, studies, embed)
    Path(studies["views"][5][0]).write_bytes(b"new bytes")
    assert_right(stored_features(folder, NETWORK, studies, embed), studies)
    assert embed.n_studies == len(studies) + 1


def test_networks_do_not_share_features(studies, folder):
    embed = Embed()
    for weights in "ab":
        stored_features(folder, {"weights": weights}, studies, embed)
    assert embed.n_studies == 2 * len(studies)


@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "no_json"])
def test_damaged_file_is_noticed_and_replaced(studies, folder, damage):
    embed = Embed()
    stored_features(folder, NETWORK, studies, embed)
    (file,) = folder.glob("*.npy")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-8])
    elif damage == "flip":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 64]))
    elif damage == "gone":
        file.unlink()
    else:
        file.with_suffix(".json").write_text("{")
    if damage == "no_json":
        found = stored_features(folder, NETWORK, studies, embed)
    else:
        with pytest.warns(UserWarning, match="is damaged; its features are computed again"):
            found = stored_features(folder, NETWORK, studies, embed)
    assert_right(found, studies)
    assert embed.n_studies == 2 * len(studies)
    assert_right(stored_features(folder, NETWORK, studies, embed), studies)
    assert embed.n_studies == 2 * len(studies)


@pytest.mark.faults
def test_killed_process_loses_no_finished_part(studies, folder, monkeypatch):
    monkeypatch.setattr(store, "PART", 2)
    embed = Embed()

    def dying(part, bar):
        if embed.n_studies == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return embed(part, bar)

    _, status = os.waitpid(in_child(lambda: stored_features(folder, NETWORK, studies, dying)), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert_right(stored_features(folder, NETWORK, studies, embed), studies)
    assert embed.n_studies == len(studies) - 4


@pytest.mark.faults
def test_two_processes_compute_each_study_once(studies, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "PART", 2)
    log = tmp_path / "computed"

    def slow(part, bar):
        time.sleep(0.02)
        with log.open("a") as file:
            file.writelines(f"{views[0]}\n" for views in part["views"])
        return Embed()(part, bar)

    tables = [studies, studies[::-1], studies[::2]]
    children = [in_child(lambda t=t: stored_features(folder, NETWORK, t, slow)) for t in tables]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(views[0] for views in studies["views"])


def test_cache_command_lists_features_and_removes_those_of_changed_images(studies, folder):
    stored_features(folder, NETWORK, studies.head(4), Embed())
    stored_features(folder, NETWORK, studies, Embed())
    assert [cache.problem for cache in list_caches(folder)] == [None, None]
    assert sum(cache.n_views for cache in list_caches(folder)) == sum(map(len, studies["views"]))
    Path(studies["views"][0][0]).write_bytes(b"new bytes")
    (removed,) = remove_caches(folder)
    assert removed.problem == "images have changed"
    assert not removed.file.with_suffix(".json").exists()
    embed = Embed()
    assert_right(stored_features(folder, NETWORK, studies, embed), studies)
    assert embed.n_studies == 4


def test_features_that_are_being_computed_are_not_removed(studies, folder):
    stored_features(folder, NETWORK, studies, Embed())
    (file,) = folder.glob("*.npy")
    with FileLock(lock_of(file)):
        assert remove_caches(folder, all_files=True) == []
    assert len(remove_caches(folder, all_files=True)) == 1


def test_full_disk_is_reported_before_it_is_full(studies, folder, monkeypatch):
    usage = type("usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OSError, match="free disk for the cache, got .* as cache"):
        stored_features(folder, NETWORK, studies, Embed())
    assert not list(folder.glob("*.npy*"))


def test_description_holds_no_features(studies, folder):
    stored_features(folder, NETWORK, studies, Embed())
    (file,) = folder.glob("*.json")
    about = json.loads(file.read_text())
    assert about["network"] == NETWORK
    assert about["paths"] == [path for views in studies["views"] for path in views]
