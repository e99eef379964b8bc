import errno
import os
import shutil
import subprocess

import pytest
from disks import mounted
from nets import tiny_classifier

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.utils.atomic import (
    check_writable,
    make_folder,
    whole_folder,
    write_text,
    write_whole,
)


@pytest.fixture
def umask():
    """Files of this test are for the group, and not for others."""
    before = os.umask(0o027)
    yield
    os.umask(before)


def modes(folder):
    return {f.name: oct(f.stat().st_mode & 0o777) for f in folder.rglob("*") if f.is_file()}


def test_files_have_the_mode_of_the_umask_whatever_their_writer_gives(umask, tmp_path):
    def write(path):
        path.write_text("x")
        path.chmod(0o600)

    write_whole(tmp_path / "file", write)
    assert modes(tmp_path) == {"file": "0o640"}


def test_file_is_the_new_one_once_written_and_nothing_else_is_left(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")

    def write(path):
        path.write_text("new")
        assert file.read_text() == "old"
        (path.parent / ".tmp1234").touch()  # as writers that were killed leave them
        assert path.stat().st_dev == file.stat().st_dev, "a rename within one file system"

    write_whole(file, write, flush=True)
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, MemoryError])
def test_writer_that_fails_leaves_the_old_file_and_no_other(tmp_path, error):
    file = tmp_path / "file"
    file.write_text("old")

    def write(path):
        path.write_text("ha")
        raise error

    with pytest.raises(error):
        write_whole(file, write)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
    ids=["disk", "quota", "in words alone"],
)
def test_full_disk_is_told_with_the_bytes_needed_and_free(tmp_path, error):
    (tmp_path / "file").write_text("old")

    def write(path):
        raise error

    said = rf"expected 1,234 bytes free in {tmp_path} to write file, got [\d,]+; make room"
    with pytest.raises(OSError, match=said) as caught:
        write_whole(tmp_path / "file", write, n_bytes=1234)
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_text() == "old"


def test_text_is_written_as_utf_8(tmp_path):
    write_text(tmp_path / "file", "骨 é\n")
    assert (tmp_path / "file").read_bytes() == "骨 é\n".encode()


def test_files_of_a_folder_replace_those_of_their_names_and_spare_others(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text("old")
    with whole_folder(folder) as temporary:
        (temporary / "a").write_text("new")
        (temporary / "c").write_text("new")
        assert (folder / "a").read_text() == "old"
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"a": "new", "b": "old", "c": "new"}
    assert not temporary.exists()


def test_files_written_before_an_error_are_kept(tmp_path):
    def write():
        with whole_folder(tmp_path / "out") as temporary:
            (temporary / "log").write_text("so far")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert (tmp_path / "out" / "log").read_text() == "so far"


def test_folder_that_has_too_little_room_is_left_as_it_was(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("old")
    usage = shutil.disk_usage(tmp_path)._replace(free=3)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    said = "expected 8 bytes free in .*out to write 2 files, got 3"

    def write():
        with whole_folder(tmp_path / "out") as temporary:
            (temporary / "a").write_text("new")
            (temporary / "b").write_text("other")

    with pytest.raises(OSError, match=said):
        write()
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert not (tmp_path / "out" / "b").exists()


def test_check_makes_nothing(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_models_states_and_caches_can_be_read_by_those_the_umask_lets(umask, train, tmp_path):
    clf = tiny_classifier(
        max_epochs=1,
        checkpoint_path=tmp_path / "fit.state",
        dataset__cache=tmp_path / "cache",
        callbacks__best__dirname=tmp_path / "best",
    ).fit(train)
    clf.save(tmp_path / "model")
    MuraEnsemble.of([clf]).save(tmp_path / "ensemble")
    found = modes(tmp_path)
    assert {"model.json", "model.safetensors", "ensemble.json", "fit.state"} <= set(found)
    assert {mode for name, mode in found.items() if not name.endswith("lock")} == {"0o640"}
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o750"}


def test_model_that_is_replaced_is_told_in_a_line(train, tmp_path, caplog):
    clf = tiny_classifier(max_epochs=2, callbacks__best__dirname=tmp_path / "best").fit(train)
    clf.save(tmp_path / "model")
    MuraEnsemble.of([clf]).save(tmp_path / "vote")
    assert not caplog.records
    clf.save(tmp_path / "model")
    MuraEnsemble.of([clf]).save(tmp_path / "vote")
    for name, record in zip(("model", "vote"), caplog.records, strict=True):
        assert record.message.startswith(f"replacing the model in {tmp_path / name}, saved on 20")
    assert MuraClassifier.load(tmp_path / "model", module=clf.module).seed_ == 0


@pytest.mark.faults
def test_folder_that_is_read_only_is_named_with_a_remedy(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with mounted(folder, "--bind", "-o", "ro", folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        said = f"expected a writable folder to .*, got {folder}.*; pass another"
        for call in (
            lambda: make_folder(folder / "model"),
            lambda: check_writable(folder / "results" / "today"),
            lambda: write_whole(folder / "file", lambda path: path.write_text("x")),
        ):
            with pytest.raises(OSError, match=said):
                call()
