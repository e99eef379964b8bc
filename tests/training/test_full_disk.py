"""What becomes of files when the disk is full: a real one, of a few megabytes."""

import errno

import numpy as np
import pandas as pd
import pytest
from disks import fill, small_disk
from nets import tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.callbacks import StatelessCallback
from mura_skorch.report import write_report

FULL = r"expected [\d,]+ bytes free .* got [\d,]+; make room"


class Fill(StatelessCallback):
    """Fill a disk in the given epoch."""

    def __init__(self, folder, epoch):
        self.folder = folder
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            fill(self.folder)


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as folder:
        yield folder


@pytest.mark.faults
def test_state_of_before_stands_and_the_fit_goes_on_once_there_is_room(train, valid, disk):
    settings = {"checkpoint_path": disk / "fit.state", "max_epochs": 3}
    with pytest.raises(OSError, match=FULL) as raised:
        tiny_classifier(**settings, callbacks=[("fill", Fill(disk, 2))]).fit(train)
    assert raised.value.errno == errno.ENOSPC
    (disk / "filler").unlink()
    gone_on = tiny_classifier(**settings, callbacks=[("fill", Fill(disk, 9))]).fit(train)
    whole = tiny_classifier(max_epochs=3).fit(train)
    assert np.array_equal(gone_on.predict_proba(valid), whole.predict_proba(valid))


@pytest.mark.faults
def test_saved_model_of_before_stands(train, valid, disk):
    first = tiny_classifier(max_epochs=1).fit(train)
    first.save(disk / "model")
    fill(disk)
    with pytest.raises(OSError, match=FULL):
        tiny_classifier(max_epochs=1, random_state=1).fit(train).save(disk / "model")
    loaded = MuraClassifier.load(disk / "model", module=type(first.module_))
    assert np.array_equal(loaded.predict_proba(valid), first.predict_proba(valid))


@pytest.mark.faults
def test_report_of_before_stands(disk):
    table = pd.DataFrame(
        {"study": list("abcd"), "study_type": "XR_HAND", "patient": list("abcd")}
    ).assign(label=[0, 1, 0, 1], score=[0.1, 0.9, 0.6, 0.7], n_views=1)
    write_report(disk / "report", table)
    before = {file.name: file.read_bytes() for file in (disk / "report").iterdir()}
    fill(disk)
    with pytest.raises(OSError, match=FULL):
        write_report(disk / "report", table.assign(score=0.5))
    assert {file.name: file.read_bytes() for file in (disk / "report").iterdir()} == before


@pytest.mark.faults
def test_cache_leaves_nothing_half(train, disk):
    fill(disk)
    with pytest.raises(OSError, match=r"(?s)expected .*free.*got"):
        tiny_classifier(dataset__cache=disk / "cache", max_epochs=1).fit(train)
    (disk / "filler").unlink()
    left = [file for file in (disk / "cache").rglob("*") if file.is_file() and file.stat().st_size]
    assert left == []
    assert len(tiny_classifier(dataset__cache=disk / "cache").fit(train).history) == 2
