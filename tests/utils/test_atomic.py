import os
import subprocess

import pytest
from disks import mounted
from nets import tiny_classifier

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.utils.atomic import check_writable, make_folder, write_whole


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
        said = f"expected a folder that can be written to .*, got {folder}.*; pass another"
        for call in (
            lambda: make_folder(folder / "model"),
            lambda: check_writable(folder / "results" / "today"),
            lambda: write_whole(folder / "file", lambda path: path.write_text("x")),
        ):
            with pytest.raises(OSError, match=said):
                call()
