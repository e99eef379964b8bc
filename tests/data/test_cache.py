import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from nets import tiny_classifier
from torch.utils.data import DataLoader

from mura_skorch.data import (
    CachedViews,
    Prepare,
    StudyCollate,
    StudyDataset,
    fill_cache,
    list_caches,
    read_view,
    remove_caches,
)


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


def files(folder, suffix=".npy"):
    return sorted(path.name for path in folder.iterdir() if path.suffix == suffix)


def rest(folder):
    """Return the names of all files but locks."""
    return [path.name for path in folder.iterdir() if path.suffix != ".lock"]


def opened(folder, paths, size):
    views = CachedViews(folder, paths, size)
    views.prepare()
    return views


def hollow(paths):
    """Leave nothing to decode; sizes and times of change stay."""
    for path in paths:
        found = os.stat(path)
        Path(path).write_bytes(bytes(found.st_size))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def test_cached_views_are_the_prepared_views(paths, tmp_path):
    views = opened(tmp_path / "cache", paths, 32)
    expected = np.stack([Prepare(32)(read_view(path)) for path in paths])
    assert np.array_equal(views[:], expected)
    assert np.array_equal(views[2:4], expected[2:4])
    assert not views.array.flags.writeable


def test_numpy_reads_the_file_and_json_describes_it(paths, tmp_path):
    file = fill_cache(tmp_path, paths, Prepare(16))
    assert np.load(file).shape == (len(paths), 16, 16)
    about = json.loads(file.with_suffix(".json").read_text())
    assert about["paths"] == paths
    assert (about["n_views"], about["image_size"]) == (len(paths), 16)


def test_constructor_reads_nothing(tmp_path):
    views = CachedViews(tmp_path / "cache", ["no/such/image1.png"], 16)
    assert len(views) == 1
    assert not (tmp_path / "cache").exists()
    with pytest.raises(RuntimeError, match=r"not open; call prepare\(\) first"):
        views[0:1]


def test_views_read_by_other_rules_are_in_another_file(paths, tmp_path, monkeypatch):
    first = fill_cache(tmp_path, paths, Prepare(16))
    monkeypatch.setattr("mura_skorch.data.cache.READING", -1)
    assert fill_cache(tmp_path, paths, Prepare(16)) != first


def test_second_opening_reads_no_image(changed, tmp_path):
    first = opened(tmp_path / "cache", changed, 16)
    written = first.file.stat().st_mtime_ns
    hollow(changed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = opened(tmp_path / "cache", changed, 16)
    assert second.file.stat().st_mtime_ns == written
    assert np.array_equal(first[:], second[:])


def test_fit_with_a_filled_cache_opens_no_image(train, tmp_path):
    part = train[:8].assign(
        views=[
            tuple(shutil.copyfile(path, tmp_path / f"{i}_{k}.png") for k, path in enumerate(views))
            for i, views in enumerate(train["views"][:8])
        ]
    )
    params = {"dataset__cache": tmp_path / "cache", "train_split": None, "max_epochs": 1}
    first = tiny_classifier(**params).fit(part)
    hollow(part["views"].explode())
    second = tiny_classifier(**params).fit(part)
    assert first.history[-1, "train_loss"] == second.history[-1, "train_loss"]


def test_changed_image_is_told_apart_and_read_again(changed, tmp_path):
    before = opened(tmp_path / "cache", changed, 16)[:]
    changed[0].write_bytes(changed[1].read_bytes())
    with pytest.warns(UserWarning, match="have changed since; it is filled again"):
        after = opened(tmp_path / "cache", changed, 16)[:]
    assert np.array_equal(after[0], before[1])
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.parametrize("other", ["size", "order"])
def test_other_table_or_preparation_has_another_file(changed, tmp_path, other):
    fill_cache(tmp_path / "cache", changed, Prepare(16))
    if other == "size":
        fill_cache(tmp_path / "cache", changed, Prepare(17))
    else:
        fill_cache(tmp_path / "cache", changed[::-1], Prepare(16))
    assert len(files(tmp_path / "cache")) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:100],
        lambda raw: b"",
        lambda raw: raw[:-9] + b"\xff\x00\xff" + raw[-6:],
        lambda raw: b"{}" + raw[2:],
    ],
    ids=["cut by a byte", "cut in the header", "empty", "pixels", "header"],
)
def test_damaged_cache_is_filled_again(changed, tmp_path, damage):
    file = fill_cache(tmp_path / "cache", changed, Prepare(16))
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    with pytest.warns(UserWarning, match="it is filled again"):
        fill_cache(tmp_path / "cache", changed, Prepare(16))
    assert file.read_bytes() == whole


@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b'{"fingerprint": 1}'])
def test_damaged_description_is_written_again(changed, tmp_path, damage):
    file = fill_cache(tmp_path / "cache", changed, Prepare(16))
    description = file.with_suffix(".json")
    whole = description.read_bytes()
    description.unlink()
    if damage is not None:
        description.write_bytes(damage)
    with pytest.warns(UserWarning, match="it is filled again"):
        fill_cache(tmp_path / "cache", changed, Prepare(16))
    assert description.read_bytes() == whole


def test_bad_image_is_named_and_leaves_no_file(changed, tmp_path):
    changed[2].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"2\.png"):
        fill_cache(tmp_path / "cache", changed, Prepare(16))
    assert rest(tmp_path / "cache") == []


@pytest.mark.slow
def test_killed_while_filling_leaves_nothing_that_counts(changed, tmp_path):
    code = (
        "import os, signal, sys; from mura_skorch.data.cache import fill_cache; "
        "from mura_skorch.data.transforms import Prepare; "
        "class_ = type('Slow', (Prepare,), {'__call__': lambda s, v: os.kill(os.getpid(), 9)}); "
        "fill_cache('cache', sys.argv[1:], class_(16))"
    )
    killed = subprocess.run([sys.executable, "-c", code, *map(str, changed)], check=False)
    assert killed.returncode == -9
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is no damaged cache
        views = opened("cache", changed, 16)
    assert len(rest(Path("cache"))) == 2
    assert np.array_equal(views[:][0], Prepare(16)(read_view(changed[0])))


@pytest.mark.slow
def test_two_processes_that_fill_it_at_once_fill_it_once(paths, tmp_path):
    code = (
        "import sys; from mura_skorch.data import CachedViews; "
        "views = CachedViews('cache', sys.argv[1:], 200); views.prepare(); "
        "print(views.file.stat().st_ino, int(views[:].sum()))"
    )
    command = [sys.executable, "-c", code, *paths]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (process.communicate(timeout=120)[0] for process in both)
    assert first == second != ""


def test_full_disk_is_told_before_with_needed_and_free(changed, tmp_path):
    with pytest.raises(
        OSError, match=r"expected .* GB of free disk .* got .* GB; free some"
    ) as error:
        fill_cache(tmp_path / "cache", changed, Prepare(10_000_000))
    assert "dataset__cache" in str(error.value)


@pytest.mark.slow
def test_workers_get_the_file_and_not_the_pixels(paths, tmp_path, valid):
    dataset = StudyDataset(valid, image_size=64, cache=tmp_path / "cache").prepare()
    assert len(pickle.dumps(dataset.views)) < 1000 + sum(map(len, paths)) + 8 * len(paths)
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


def test_disk_that_fills_up_meanwhile_is_an_error_and_leaves_nothing(
    changed, tmp_path, monkeypatch
):
    def is_full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", is_full)
    with pytest.raises(OSError, match=r"expected .* GB of free disk .* got .* GB; free some"):
        fill_cache(tmp_path / "cache", changed, Prepare(16))
    assert rest(tmp_path / "cache") == []


# --------------------------------------------------------------- list and remove


@pytest.fixture
def caches(changed, tmp_path):
    """Three caches: usable, of changed images, and unfinished."""
    folder = tmp_path / "cache"
    stale = fill_cache(folder, changed[:1], Prepare(16))
    with changed[0].open("ab") as file:
        file.write(b"\0")
    good = fill_cache(folder, changed, Prepare(16))
    unfinished = folder / f"16px-{'0' * 24}.npy.unfinished"
    unfinished.write_bytes(b"\0")
    return {"stale": stale, "good": good, "unfinished": unfinished}


def test_list_says_which_caches_are_used_again(caches, changed):
    found = {cache.file: cache for cache in list_caches(caches["good"].parent)}
    assert {name: found[file].problem for name, file in caches.items()} == {
        "stale": "images have changed",
        "good": None,
        "unfinished": "unfinished",
    }
    assert found[caches["good"]].n_views == 3
    size = sum(caches["good"].with_suffix(suffix).stat().st_size for suffix in (".npy", ".json"))
    assert found[caches["good"]].n_bytes == size
    for path in changed:
        path.unlink()
    assert {cache.problem for cache in list_caches(caches["good"].parent)} == {
        "images are gone",
        "unfinished",
    }


def test_only_what_is_not_used_again_is_removed(caches, changed):
    folder = caches["good"].parent
    assert {cache.file for cache in remove_caches(folder)} == {
        caches["stale"],
        caches["unfinished"],
    }
    assert sorted(rest(folder)) == sorted(
        caches["good"].with_suffix(suffix).name for suffix in (".npy", ".json")
    )
    assert remove_caches(folder, unused_days=1) == []
    long_ago = time.time() - 2 * 86400
    os.utime(caches["good"].with_suffix(".json"), (long_ago, long_ago))
    fill_cache(folder, changed, Prepare(16))  # counts as use
    assert remove_caches(folder, unused_days=1) == []
    os.utime(caches["good"].with_suffix(".json"), (long_ago, long_ago))
    assert len(remove_caches(folder, unused_days=1)) == 1
    assert rest(folder) == []


def test_cache_that_is_being_filled_stays(caches):
    folder = caches["good"].parent
    with (
        FileLock(f"{caches['good']}.lock"),
        FileLock(f"{caches['unfinished'].with_suffix('')}.lock"),
    ):
        assert {cache.file for cache in remove_caches(folder, all_files=True)} == {caches["stale"]}
    assert len(remove_caches(folder, all_files=True)) == 2


def test_other_files_of_the_folder_are_neither_listed_nor_removed(caches):
    folder = caches["good"].parent
    for name in ("notes.json", "16px-features.npy", "image1.png"):
        (folder / name).write_bytes(b"mine")
    assert len(list_caches(folder)) == 3
    remove_caches(folder, all_files=True)
    assert sorted(rest(folder)) == ["16px-features.npy", "image1.png", "notes.json"]


def test_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder of caches, got .*absent"):
        list_caches(tmp_path / "absent")
