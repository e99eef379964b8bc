"""Studies whose views are in an object store or on a web server."""

import io
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom
from disks import fill, small_disk
from nets import TinyNet, tiny_classifier
from object_store import Gate, ObjectStore, file_server, google_store
from servers import Proxy

from mura_skorch import MuraClassifier, read_studies
from mura_skorch.cli.options import folder_or_address
from mura_skorch.data import (
    Prepare,
    StudyDataset,
    check_apart,
    check_views,
    fill_cache,
    list_caches,
    read_view,
    remove_caches,
    view_statistics,
)
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.exploration import read_image_files
from mura_skorch.features import StudyEmbedder
from mura_skorch.studies import check_studies, join_labels
from mura_skorch.training.fingerprint import digest_of
from mura_skorch.utils import remote
from mura_skorch.utils.identity import copied_files
from mura_skorch.utils.provenance import type_digests

pytestmark = pytest.mark.slow  # a store takes seconds to start

NAME = "PHANTOMS-v1.1"


@pytest.fixture(scope="module")
def store(tmp_path_factory, phantom_root):
    """A running object store that holds the phantoms; its address is in the environment."""
    settings = {
        "AWS_ACCESS_KEY_ID": "reader",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # botocore's own
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        with ObjectStore(tmp_path_factory.mktemp("store") / "log") as server:
            patch.setenv("AWS_ENDPOINT_URL", server.url)
            files = fresh_files()
            files.mkdir("bucket")
            files.put(str(phantom_root), f"bucket/data/{NAME}", recursive=True)
            yield server


def fresh_files():
    """Return s3fs's file system without connections of earlier tests."""
    files = fsspec.filesystem("s3")
    type(files).clear_instance_cache()
    return fsspec.filesystem("s3")


@pytest.fixture
def gate(store, monkeypatch):
    """The way to the store, which counts requests and can fail."""
    with Gate(store.port) as gate:
        monkeypatch.setenv("AWS_ENDPOINT_URL", gate.url)
        fresh_files()
        yield gate
    fresh_files()


@pytest.fixture
def s3_train(gate):
    studies = read_studies(f"s3://bucket/data/{NAME}")
    gate.reset()
    return studies[studies.split == "train"]


@pytest.fixture
def own(gate, store, train):
    """Three studies in a bucket of their own, which a test may change, and the file system."""
    bucket = f"own-{os.urandom(4).hex()}"
    files = fsspec.filesystem("s3", endpoint_url=store.url)
    files.mkdir(bucket)
    table = train[:3].assign(
        views=[
            tuple(put(files, path, f"{bucket}/{i}_{k}.png") for k, path in enumerate(views))
            for i, views in enumerate(train["views"][:3])
        ]
    )
    return table, files


def put(files, path, key):
    files.put(str(path), key)
    return f"s3://{key}"


def paths_of(studies):
    return list(chain.from_iterable(studies["views"]))


def keys_of(studies):
    """Return the paths of requests for the views of a table in the store."""
    return {path.removeprefix("s3:/") for path in paths_of(studies)}


def cached(studies, folder="cache", size=32):
    return np.load(fill_cache(folder, paths_of(studies), Prepare(size)))


# ------------------------------------------------------------------------ listing


def test_table_of_a_bucket_is_that_of_the_folder(gate, studies, phantom_root):
    found = read_studies(f"s3://bucket/data/{NAME}/")
    expected = studies.assign(
        views=[
            tuple(v.replace(str(phantom_root.parent), "s3://bucket/data") for v in views)
            for views in studies["views"]
        ]
    )
    pd.testing.assert_frame_equal(found, expected)
    pd.testing.assert_frame_equal(read_studies("s3://bucket/data"), expected)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_table_file_in_a_bucket_names_its_neighbours(own, suffix):
    studies, files = own
    folder, _, _ = paths_of(studies)[0].rpartition("/")
    relative = studies.assign(views=[[Path(v).name for v in views] for views in studies["views"]])
    if suffix == "csv":
        relative["views"] = relative["views"].map(";".join)
        relative.to_csv("clinic.csv", index=False)
    else:
        relative.to_parquet("clinic.parquet")
    address = put(files, f"clinic.{suffix}", f"{folder.removeprefix('s3://')}/clinic.{suffix}")
    found = read_studies(address)
    pd.testing.assert_frame_equal(found, studies.reset_index(drop=True)[list(found)])
    assert check_views(paths_of(found)) is None
    with pytest.raises(FileNotFoundError, match="expected a table of studies, got no such file"):
        read_studies(f"{folder}/other.{suffix}")


def test_table_takes_one_listing_and_one_request_for_each_file_of_the_root(gate, phantom_root):
    read_studies(f"s3://bucket/data/{NAME}")
    listings = [path for _, path in gate.requests if "list-type=2" in path]
    assert len(listings) == 1
    n_files = sum(path.is_file() for path in phantom_root.iterdir())
    assert len(gate.requests) <= 1 + n_files
    assert gate.images == []


def test_listing_takes_a_request_for_a_thousand_files(gate, store):
    files = fsspec.filesystem("s3", endpoint_url=store.url)
    bucket = f"many-{os.urandom(4).hex()}"
    files.mkdir(bucket)
    keys = [
        f"{bucket}/train/XR_HAND/patient{i}/study{k}_negative/image{n}.png"
        for i in range(300)
        for k in (1, 2)
        for n in (1, 2)
    ]
    files.pipe(dict.fromkeys(keys, b"pixels"), batch_size=8)
    gate.reset()
    studies = read_studies(f"s3://{bucket}")
    assert len(studies) == 600
    assert len(gate.requests) == 2  # of 1,200 files
    gate.reset()
    remote.stat_files(paths_of(studies))
    assert len(gate.requests) == 2


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("s3://bucket/no/such", FileNotFoundError, "got no file below this address"),
        ("s3://no-such-bucket/MURA", FileNotFoundError, "no-such-bucket"),
        (f"s3://bucket/data/{NAME}/train_image_paths.csv", NotADirectoryError, "got a file"),
        (f"s3://bucket/data/{NAME}/train/XR_HAND", ValueError, f"Pass s3://bucket/data/{NAME} and"),
        ("s3://bucket", ValueError, f"one too high. Pass s3://bucket/data/{NAME}"),
        ("https://127.0.0.1/MURA", ValueError, "a web server, which lists no files"),
        (Path("s3://bucket/data"), FileNotFoundError, "Pass an address as str, not as Path"),
    ],
)
def test_wrong_address_is_an_error_with_a_remedy(gate, address, error, message):
    with pytest.raises(error, match=message):
        read_studies(address)


# ------------------------------------------------------------------------- fitting


def test_fit_on_a_bucket_equals_fit_on_the_folder(gate, s3_train, train, valid):
    here = tiny_classifier().fit(train)
    there = tiny_classifier(dataset__cache="cache").fit(s3_train)
    assert there.history[:, "train_loss"] == here.history[:, "train_loss"]
    assert there.history[:, "valid_loss"] == here.history[:, "valid_loss"]
    assert np.array_equal(there.predict_proba(valid), here.predict_proba(valid))
    assert Counter(gate.images) == Counter(keys_of(s3_train))


def test_second_fit_and_its_workers_read_no_image(gate, s3_train):
    settings = {"dataset__cache": "cache", "max_epochs": 1}
    first = tiny_classifier(**settings).fit(s3_train)
    gate.reset()
    again = tiny_classifier(**settings, iterator_train__num_workers=1).fit(s3_train)
    assert again.history[-1, "train_loss"] == first.history[-1, "train_loss"]
    assert gate.images == []
    assert len(gate.requests) <= 4  # listings


def test_subset_of_what_was_read_is_not_read_again(gate, s3_train):
    cached(s3_train)
    gate.reset()
    part = cached(s3_train[3:7])
    assert gate.images == []
    assert np.array_equal(part[0], Prepare(32)(read_view(paths_of(s3_train[3:7])[0])))


def test_table_without_a_cache_is_refused_before_any_request(gate, s3_train):
    with pytest.raises(ValueError, match=r"expected dataset__cache, a folder .* got None for s3:"):
        tiny_classifier().fit(s3_train)
    with pytest.raises(ValueError, match="expected dataset__cache"):
        tiny_classifier(on_bad_view="skip").fit(s3_train)
    assert gate.requests == []


def test_loaded_model_predicts_with_a_cache_that_load_names(gate, fitted, valid):
    fitted.save("model")
    studies = read_studies(f"s3://bucket/data/{NAME}")
    there = studies[studies.split == "valid"]
    bare = MuraClassifier.load("model", module=TinyNet)
    with pytest.raises(ValueError, match="to MuraClassifier or load"):
        bare.predict_proba(there)
    loaded = MuraClassifier.load("model", module=TinyNet, dataset__cache="cache")
    assert np.array_equal(loaded.predict_proba(there), fitted.predict_proba(valid))


def test_table_may_hold_paths_and_addresses(gate, s3_train, train):
    mixed = pd.concat([s3_train[:4], train[4:8]])
    assert np.array_equal(cached(mixed), cached(train[:8]))


def test_embedder_keeps_views_and_features_in_one_folder(gate, s3_train, train):
    settings = {"backbone": "densenet121", "weights": None, "image_size": 32, "device": "cpu"}
    expected = StudyEmbedder(**settings).fit_transform(train[:3])
    found = StudyEmbedder(**settings, cache="cache").fit_transform(s3_train[:3])
    np.testing.assert_array_equal(found, expected)


# ------------------------------------------------------- breaks, faults and slowness


@pytest.mark.faults
def test_store_that_fails_at_times_is_asked_again(gate, s3_train, train):
    n_asked = Counter()

    def answer(method, path):
        n_asked[path] += 1
        return [503, None][n_asked[path] - 1] if n_asked[path] < 2 else None

    gate.answer = answer
    assert np.array_equal(cached(s3_train), cached(train))


@pytest.mark.faults
def test_store_that_cuts_connections_at_times_is_asked_again(gate, s3_train, train):
    n_asked = Counter()

    def answer(method, path):
        n_asked[path] += 1
        return 0 if n_asked[path] == 1 else None

    gate.answer = answer
    assert np.array_equal(cached(s3_train), cached(train))


@pytest.mark.faults
def test_reading_goes_on_where_the_store_went_away(gate, store, s3_train, train, monkeypatch):
    stat = remote.stat_files(paths_of(s3_train))
    assert all(found.size > 0 for found in stat.values())
    n_passed = 20
    served = []
    monkeypatch.setattr(remote, "WAITS", (0.01,))
    with Proxy(gate.port) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        fresh_files()

        def answer(method, path):
            if ".png" in path and len(served) >= n_passed:
                line.close()
                return 0
            served.extend([path] * (".png" in path))
            return None

        gate.answer = answer
        with pytest.raises(
            OSError, match=r"views are stored in .* will not be read again"
        ) as error:
            cached(s3_train)
        assert not isinstance(error.value, FileNotFoundError)
        (found,) = [cache for cache in list_caches("cache") if cache.file.suffix == ".sqlite"]
        assert 0 < found.n_views <= n_passed
        line.open()
        gate.reset()
        assert np.array_equal(cached(s3_train), cached(train))
    assert len(gate.images) == len(paths_of(s3_train)) - found.n_views
    assert len(set(gate.images)) == len(gate.images)


@pytest.mark.faults
def test_killed_process_has_kept_what_it_read(gate, s3_train, train):
    code = (
        "import sys; from mura_skorch.data.cache import fill_cache; "
        "from mura_skorch.data.transforms import Prepare; "
        "fill_cache('cache', sys.argv[1:], Prepare(32))"
    )
    gate.seconds = 0.3
    child = subprocess.Popen([sys.executable, "-c", code, *paths_of(s3_train)])
    while len(gate.images) < 20:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    gate.seconds = 0.0
    gate.reset()
    assert np.array_equal(cached(s3_train), cached(train))
    assert len(gate.images) < len(paths_of(s3_train))


def test_progress_counts_the_views_that_are_read(gate, s3_train, monkeypatch, caplog):
    monkeypatch.setattr("mura_skorch.utils.progress.PACE", 0.0)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    cached(s3_train[:4])
    with caplog.at_level("INFO", logger="mura_skorch"):
        cached(s3_train)
    n_missing = len(paths_of(s3_train[4:]))
    assert any(f"of {n_missing}," in line for line in caplog.messages if line.startswith("read:"))


def test_slow_store_is_asked_for_many_views_at_once(gate, s3_train):
    gate.seconds = 0.2
    cached(s3_train)
    assert gate.most_at_once >= 8


@pytest.mark.faults
def test_two_processes_read_each_view_once(gate, s3_train):
    code = (
        "import sys; from mura_skorch.data.cache import fill_cache; "
        "from mura_skorch.data.transforms import Prepare; "
        "fill_cache('cache', sys.argv[1:], Prepare(32))"
    )
    paths = paths_of(s3_train)
    lists = (paths, paths[::-1])
    both = [subprocess.Popen([sys.executable, "-c", code, *own]) for own in lists]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    assert Counter(gate.images) == Counter(keys_of(s3_train))


def test_damaged_store_of_views_is_made_again(gate, s3_train, train):
    cached(s3_train)
    (file,) = Path("cache").glob("remote-*.sqlite")
    file.write_bytes(b"no database" * 1000)
    with pytest.warns(UserWarning, match="is damaged; its views are read again"):
        assert np.array_equal(cached(s3_train[:5]), cached(train[:5]))


# ------------------------------------------------------------- changed, bad and denied


def test_changed_view_is_read_again_and_no_other(own, gate):
    table, files = own
    before = cached(table)
    first, second = paths_of(table)[:2]
    files.pipe(first.removeprefix("s3://"), files.cat(second.removeprefix("s3://")))
    gate.reset()
    with pytest.warns(UserWarning, match="have changed since; it is filled again"):
        after = cached(table)
    assert np.array_equal(after[0], before[1])
    assert np.array_equal(after[1:], before[1:])
    assert gate.images == [first.removeprefix("s3:/")]


def test_unreadable_view_is_named(own):
    table, files = own
    path = paths_of(table)[1]
    files.pipe(path.removeprefix("s3://"), b"no picture")
    for _ in range(2):  # the second time from the store of views
        with pytest.raises(ValueError, match=f"^{path}: expected a readable image, got a file"):
            cached(table)
    files.pipe(path.removeprefix("s3://"), b"")
    with pytest.raises(ValueError, match="got zero bytes"):
        cached(table)


def test_missing_view_is_named(own):
    table, files = own
    path = paths_of(table)[1]
    files.rm(path.removeprefix("s3://"))
    with pytest.raises(FileNotFoundError, match=f"{path}: expected an image file, got no such"):
        cached(table)


def test_unreadable_views_are_left_out_and_listed_and_all_are_read_once(own, gate):
    table, files = own
    bad, gone = paths_of(table)[0], paths_of(table)[-1]
    files.pipe(bad.removeprefix("s3://"), b"no picture")
    files.rm(gone.removeprefix("s3://"))
    gate.reset()
    dataset = StudyDataset(table, image_size=32, cache="cache", on_bad_view="skip").prepare()
    assert dataset.bad_views["file"].tolist() == [os.path.basename(p) for p in (bad, gone)]
    assert max(Counter(gate.images).values()) == 1
    assert len(dataset.views) == len(paths_of(table)) - 2


@pytest.mark.parametrize("on_bad_view", ["raise", "skip"])
def test_refused_access_is_no_unreadable_view(gate, s3_train, on_bad_view):
    gate.answer = lambda method, path: 403 if ".png" in path else None
    dataset = StudyDataset(s3_train, image_size=32, cache="cache", on_bad_view=on_bad_view)
    with pytest.raises(PermissionError, match="expected to be allowed to read it"):
        dataset.prepare()


@pytest.mark.faults
def test_short_absence_of_a_store_is_waited_for(gate, s3_train, train, monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.1, 3.0))
    with Proxy(gate.port, is_open=False) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        fresh_files()
        threading.Timer(1.0, line.open).start()
        assert np.array_equal(cached(s3_train[:4]), cached(train[:4]))


def test_missing_package_is_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match=r"expected the package gcsfs .*mura-skorch\[remote\]"):
        read_studies("gs://bucket/MURA-v1.1")
    with pytest.raises(ImportError, match="gs://b/1.png: expected the package gcsfs"):
        read_view("gs://b/1.png")


def test_package_is_imported_without_what_reads_addresses():
    code = (
        "import sys, mura_skorch, mura_skorch.cli.options; "
        "print({'s3fs', 'gcsfs', 'aiobotocore'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# --------------------------------------------------------------------- web servers


@pytest.fixture
def web(phantom_root):
    with file_server(phantom_root.parent) as server, Gate(server.port) as gate:
        yield gate


@pytest.fixture
def web_train(web, train, phantom_root):
    views = [
        tuple(v.replace(str(phantom_root.parent), web.url) for v in own) for own in train["views"]
    ]
    return train.assign(views=views)


def test_fit_on_a_web_server_equals_fit_on_the_folder(web, web_train, train):
    here = tiny_classifier().fit(train)
    there = tiny_classifier(dataset__cache="cache").fit(web_train)
    assert there.history[:, "train_loss"] == here.history[:, "train_loss"]
    web.reset()
    cached(web_train)
    assert web.images == []
    assert {method for method, _ in web.requests} == {"HEAD"}


@pytest.mark.faults
@pytest.mark.parametrize("status", [503, 0])
def test_web_server_that_fails_at_times_is_asked_again(web, web_train, train, status):
    n_asked = Counter()

    def answer(method, path):
        n_asked[method, path] += 1
        return status if n_asked[method, path] == 1 else None

    web.answer = answer
    assert np.array_equal(cached(web_train), cached(train))


@pytest.mark.faults
def test_web_server_that_stays_away_is_an_error_and_no_missing_file(web, web_train, monkeypatch):
    monkeypatch.setattr(remote, "WAITS", (0.01,))
    web.answer = lambda method, path: 503
    with pytest.raises(OSError, match="expected an answer, got") as error:
        cached(web_train)
    assert not isinstance(error.value, FileNotFoundError)
    web.answer = lambda method, path: 404
    with pytest.raises(FileNotFoundError, match="got no such file"):
        cached(web_train)


# ------------------------------------------------------------ what else touches views


def test_checks_know_addresses(gate, s3_train):
    checked, _ = check_studies(s3_train, for_fit=True)
    assert len(checked) == len(s3_train)
    twice = s3_train.assign(views=[(*own, own[0]) for own in s3_train["views"]])
    with pytest.raises(ValueError, match="expected each file once in a study"):
        check_studies(twice)
    assert gate.requests == []
    check_views(paths_of(s3_train)[:3])
    with pytest.raises(FileNotFoundError, match="s3://bucket/none.png"):
        check_views(["s3://bucket/none.png"])


def test_copies_are_found_without_reading_them(own, gate):
    table, files = own
    first, last = paths_of(table)[0], paths_of(table)[-1]
    files.pipe(last.removeprefix("s3://"), files.cat(first.removeprefix("s3://")))
    gate.reset()
    assert copied_files(paths_of(table)) == [(first, last)]
    with pytest.raises(ValueError, match="share no view, got 1 in both as copies"):
        check_apart(table[:1].assign(patient="a"), table[2:].assign(patient="b"))
    assert gate.images == []


def test_digests_are_those_of_the_same_files_on_disk(gate, s3_train, train):
    assert type_digests(s3_train) == type_digests(train)
    assert digest_of(s3_train) == digest_of(train)


def test_exploration_reads_each_view_once(gate, s3_train, train):
    found, expected = (read_image_files(table[:4]) for table in (s3_train, train))
    pd.testing.assert_frame_equal(found.drop(columns="path"), expected.drop(columns="path"))
    assert Counter(gate.images) == Counter(keys_of(s3_train[:4]))
    pd.testing.assert_frame_equal(view_statistics(s3_train[:4]), view_statistics(train[:4]))


def test_labels_may_come_from_a_bucket(own):
    table, files = own
    first = paths_of(table)[0].rpartition("/")[0]
    rows = "".join(f"{study},1\n" for study in table["study"])
    files.pipe(f"{first}/labels.csv".removeprefix("s3://"), f"study,label\n{rows}".encode())
    assert join_labels(table, f"{first}/labels.csv")["label"].tolist() == [1, 1, 1]


def test_folder_of_dicom_is_on_a_disk():
    with pytest.raises(ValueError, match="expected a folder on disk, got s3://bucket/export"):
        read_dicom_studies("s3://bucket/export")


def test_scripts_take_addresses_as_they_are():
    assert folder_or_address("s3://bucket/MURA-v1.1") == "s3://bucket/MURA-v1.1"
    assert folder_or_address("MURA-v1.1") == Path("MURA-v1.1")


def test_caches_are_listed_and_removed_without_asking_the_store(gate, s3_train):
    cached(s3_train[:4])
    gate.answer = lambda method, path: 503
    gate.requests.clear()
    assert {cache.problem for cache in list_caches("cache")} == {None}
    assert remove_caches("cache") == []
    assert len(remove_caches("cache", all_files=True)) == 2
    assert [path for path in Path("cache").iterdir() if path.suffix != ".lock"] == []
    assert gate.requests == []


# ---------------------------------------------------------------- Google's, and DICOM


@pytest.fixture
def google(phantom_root, monkeypatch):
    """The way to a stand-in for Google Cloud Storage."""
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google by gRPC
    with google_store(phantom_root.parent) as server, Gate(server.port) as gate:
        monkeypatch.setitem(fsspec.config.conf["gs"], "endpoint_url", gate.url)
        yield gate


def test_google_addresses_are_listed_once_and_read(google, train):
    studies = read_studies(f"gs://bucket/{NAME}")
    there = studies[studies.split == "train"]
    assert google.images == []
    assert len(google.requests) <= 6
    assert np.array_equal(cached(there), cached(train))
    first = paths_of(there)[0]
    assert remote.stat_files([first], fresh=False)[first].digest
    google.reset()
    cached(there)
    assert google.images == []


def test_dicom_files_are_read_from_an_address(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    write_dicom(tmp_path / "image1.dcm", pixels)
    with file_server(tmp_path) as web:
        view = read_view(f"{web.url}/image1.dcm")
    assert np.array_equal(view, read_view(tmp_path / "image1.dcm"))


# -------------------------------------------------------------------------- scripts


@pytest.mark.faults
def test_full_disk_names_the_room_that_views_need(gate, s3_train, tmp_path):
    with small_disk(tmp_path / "disk", "200k") as disk:
        filler = fill(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 80_000)
        with pytest.raises(OSError, match=r"expected .* GB of free disk for the cache, got"):
            fill_cache(disk, paths_of(s3_train), Prepare(32))


def test_scripts_read_a_bucket(gate, train):
    settings = {"module__weights": None, "module__backbone": "resnet18", "train_split": None}
    settings |= {"dataset__image_size": 32, "max_epochs": 1, "callbacks__mlflow": None}
    MuraClassifier(**settings, verbose=0).fit(train[::4]).save("model")
    script = Path(__file__).parents[1] / "experiments" / "predict.py"
    main = runpy.run_path(str(script), run_name="predict")["main"]
    call = ["--model", "model", "--data", f"s3://bucket/data/{NAME}", "--split", "valid"]
    with pytest.raises(SystemExit, match="expected --cache for data that is not on a disk"):
        main([*call, "--out", "out"])
    assert main([*call, "--out", "out", "--cache", "cache", "--cases", "1"]) == 0
    assert Path("out/report.html").is_file()
