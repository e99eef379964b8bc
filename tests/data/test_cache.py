import os
import pickle
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from nets import tiny_classifier
from torch.utils.data import DataLoader

from mura_skorch.data import Prepare, StudyCollate, StudyDataset, ViewCache, read_view
from mura_skorch.data.cache import HEADER_BYTES


@pytest.fixture
def paths(valid):
    return list(valid["views"].explode())


@pytest.fixture
def changed(paths, tmp_path):
    """Copies of three images, which a test may change."""
    copies = []
    for i, path in enumerate(paths[:3]):
        copies.append(tmp_path / f"{i}.png")
        shutil.copyfile(path, copies[-1])
    return copies


def files(folder):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_cached_views_are_the_prepared_views(paths, tmp_path):
    cache = ViewCache(tmp_path / "cache", paths, Prepare(32))
    expected = np.stack([Prepare(32)(read_view(path)) for path in paths])
    assert np.array_equal(cache.views, expected)
    assert not cache.views.flags.writeable


def test_views_read_by_other_rules_are_in_another_file(paths, tmp_path, monkeypatch):
    first = ViewCache(tmp_path, paths, Prepare(16)).file
    monkeypatch.setattr("mura_skorch.data.cache.READING", -1)
    assert ViewCache(tmp_path, paths, Prepare(16)).file != first


def test_second_opening_reads_no_image(changed, tmp_path):
    first = ViewCache(tmp_path / "cache", changed, Prepare(16))
    time = first.file.stat().st_mtime_ns
    for path in changed:  # nothing left to decode; size and time stay
        found = path.stat()
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ViewCache(tmp_path / "cache", changed, Prepare(16))
    assert second.file.stat().st_mtime_ns == time
    assert np.array_equal(first.views, second.views)


def test_fit_with_a_filled_cache_opens_no_image(train, tmp_path):
    part = train[:8].assign(
        views=[
            tuple(shutil.copyfile(path, tmp_path / f"{i}_{k}.png") for k, path in enumerate(views))
            for i, views in enumerate(train["views"][:8])
        ]
    )
    params = {"dataset__cache": tmp_path / "cache", "train_split": None, "max_epochs": 1}
    first = tiny_classifier(**params).fit(part)
    for path in part["views"].explode():
        found = path.stat()
        path.write_bytes(b"\0" * found.st_size)
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    second = tiny_classifier(**params).fit(part)
    assert first.history[-1, "train_loss"] == second.history[-1, "train_loss"]


def test_changed_image_is_told_apart_and_read_again(changed, tmp_path):
    before = np.array(ViewCache(tmp_path / "cache", changed, Prepare(16)).views)
    changed[0].write_bytes(changed[1].read_bytes())
    with pytest.warns(UserWarning, match="have changed since; it is filled again"):
        after = ViewCache(tmp_path / "cache", changed, Prepare(16)).views
    assert np.array_equal(after[0], before[1])
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.parametrize("other", ["size", "order"])
def test_other_table_or_preparation_has_another_file(changed, tmp_path, other):
    ViewCache(tmp_path / "cache", changed, Prepare(16))
    if other == "size":
        ViewCache(tmp_path / "cache", changed, Prepare(17))
    else:
        ViewCache(tmp_path / "cache", changed[::-1], Prepare(16))
    assert len(files(tmp_path / "cache")) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:100],
        lambda raw: b"",
        lambda raw: raw[: HEADER_BYTES + 9] + b"\xff\x00\xff" + raw[HEADER_BYTES + 12 :],
        lambda raw: b"{}" + raw[2:],
    ],
    ids=["cut by a byte", "cut in the header", "empty", "pixels", "header"],
)
def test_damaged_cache_is_filled_again(changed, tmp_path, damage):
    cache = ViewCache(tmp_path / "cache", changed, Prepare(16))
    whole = cache.file.read_bytes()
    cache.file.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="it is filled again"):
        ViewCache(tmp_path / "cache", changed, Prepare(16))
    assert cache.file.read_bytes() == whole


def test_bad_image_is_named_and_leaves_no_file(changed, tmp_path):
    changed[2].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.png"):
        ViewCache(tmp_path / "cache", changed, Prepare(16))
    assert files(tmp_path / "cache") == []


def test_killed_while_filling_leaves_nothing_that_counts(changed, tmp_path):
    code = (
        "import os, signal, sys; from mura_skorch.data.cache import ViewCache; "
        "from mura_skorch.data.transforms import Prepare; "
        "class_ = type('Slow', (Prepare,), {'__call__': lambda s, v: os.kill(os.getpid(), 9)}); "
        "ViewCache('cache', sys.argv[1:], class_(16))"
    )
    killed = subprocess.run([sys.executable, "-c", code, *map(str, changed)], check=False)
    assert killed.returncode == -9
    cache = ViewCache("cache", changed, Prepare(16))
    assert np.array_equal(cache.views[0], Prepare(16)(read_view(changed[0])))


def test_two_processes_that_fill_it_at_once_fill_it_once(paths, tmp_path):
    code = (
        "import sys; from mura_skorch.data.cache import ViewCache; "
        "from mura_skorch.data.transforms import Prepare; "
        "cache = ViewCache('cache', sys.argv[1:], Prepare(200)); "
        "print(cache.file.stat().st_ino, int(cache.views.sum()))"
    )
    command = [sys.executable, "-c", code, *paths]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate(timeout=120)[0] for process in both)
    assert first == second != ""


def test_full_disk_is_told_before_with_needed_and_free(changed, tmp_path):
    with pytest.raises(
        OSError, match=r"expected .* GB of free disk .* got .* GB; free some"
    ) as error:
        ViewCache(tmp_path / "cache", changed, Prepare(10_000_000))
    assert "dataset__cache" in str(error.value)


def test_workers_get_the_file_and_not_the_pixels(paths, tmp_path, valid):
    dataset = StudyDataset(valid, image_size=64, cache=tmp_path / "cache")
    assert len(pickle.dumps(dataset.prepared)) < 1000
    plain = StudyDataset(valid, image_size=64)
    for context in ("fork", "spawn"):
        loader = DataLoader(
            dataset, 4, collate_fn=StudyCollate(), num_workers=1, multiprocessing_context=context
        )
        expected = DataLoader(plain, 4, collate_fn=StudyCollate())
        for (inputs, _), (others, _) in zip(loader, expected, strict=True):
            assert (inputs["views"] == others["views"]).all()


def test_cache_changes_no_result(train, valid, tmp_path):
    plain = tiny_classifier().fit(train)
    cached = tiny_classifier(dataset__cache=tmp_path / "cache").fit(train)
    again = tiny_classifier(dataset__cache=tmp_path / "cache").fit(train)
    expected = plain.predict_proba(valid)
    assert np.array_equal(cached.predict_proba(valid), expected)
    assert np.array_equal(again.predict_proba(valid), expected)
    assert plain.history[:, "train_loss"] == cached.history[:, "train_loss"]
