import io
import os
import shutil
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier
from PIL import Image
from sklearn.base import clone

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.data import check_views, read_view, studies_of
from mura_skorch.studies import explode_views

pytestmark = pytest.mark.faults


@pytest.fixture
def own(train, tmp_path):
    """Studies whose files a test may damage."""
    return copied(train, tmp_path / "own")


def copied(studies, folder):
    folder.mkdir()
    views = [
        tuple(str(shutil.copyfile(path, folder / f"{i}_{k}.png")) for k, path in enumerate(paths))
        for i, paths in enumerate(studies["views"])
    ]
    return studies.assign(views=views)


def hollow(path):
    """Fill the middle of a file with zeros, as a lost sector does: header and end stay good."""
    with open(path, "r+b") as file:
        data = file.read()
        file.seek(len(data) // 3)
        file.write(bytes(len(data) // 3))


def empty(path):
    Path(path).write_bytes(b"")


def skipping(**params):
    return tiny_classifier(**{"on_bad_view": "skip", "max_bad_share": 1.0, **params})


def quietly(call, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return call(*args)


def test_lost_sector_is_an_error_and_no_black_stripe(own):
    path = own["views"].iloc[0][0]
    hollow(path)
    check_views([path])  # the cheap check before training looks at header and end
    with pytest.raises(ValueError, match=r"0_0\.png.*checksum of its pixels"):
        read_view(path)


def test_no_damage_of_a_png_changes_its_pixels_silently(own):
    path = own["views"].iloc[0][0]
    expected, whole = read_view(path), Path(path).read_bytes()
    rng = np.random.default_rng(0)
    n_refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        Path(path).write_bytes(damaged)
        try:
            assert np.array_equal(read_view(path), expected)
        except ValueError:
            n_refused += 1
    assert n_refused > 150


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damage_within_the_pixels_is_named_when_an_epoch_comes_to_it(own, num_workers):
    hollow(own["views"].iloc[5][0])
    with pytest.raises(ValueError, match=r"5_0\.png.*damaged file"):
        tiny_classifier(iterator_train__num_workers=num_workers, train_split=None).fit(own)


def test_skipping_is_a_parameter_like_any_other():
    clf = MuraClassifier(on_bad_view="skip", max_bad_share=0.05)
    assert clone(clf).get_params()["max_bad_share"] == 0.05
    assert MuraClassifier().get_params()["on_bad_view"] == "raise"
    assert MuraClassifier().max_bad_share == 0.01


@pytest.mark.parametrize("params", [{"on_bad_view": "ignore"}, {"max_bad_share": 1.5}])
def test_settings_that_mean_nothing_are_refused(train, params):
    with pytest.raises(ValueError, match=f"expected {next(iter(params))}"):
        skipping(**params).fit(train)


@pytest.mark.parametrize("damage", [hollow, empty, os.remove], ids=["hollow", "empty", "gone"])
def test_fit_leaves_out_bad_views_and_studies_that_have_no_other(own, damage):
    first = own.index[own["views"].map(len) > 1][0]
    row = own.index.get_loc(first)
    lost = (row + 1) % len(own)
    damage(own["views"].iloc[row][0])
    for path in own["views"].iloc[lost]:
        damage(path)
    net = skipping(train_split=None, max_epochs=1)
    with pytest.warns(UserWarning, match=r"unreadable views are left out, and 1 studies"):
        net.fit(own)
    found = net.bad_views_
    assert len(found) == 1 + len(own["views"].iloc[lost])
    assert set(found["study"]) == {own["study"].iloc[row], own["study"].iloc[lost]}
    assert found.set_index("study")["study_left_out"].to_dict()[own["study"].iloc[lost]]
    sizes = net.history[-1, "batches", :, "train_batch_size"]
    assert sum(sizes) == len(own) - 1


def test_fit_that_skips_is_the_fit_of_the_table_without_them(own):
    bad, kept = own["views"].iloc[2], own.copy()
    for path in bad:
        hollow(path)
    kept = kept.drop(index=kept.index[2])
    skipped = quietly(skipping().fit, own)
    plain = tiny_classifier().fit(kept)
    assert skipped.history[:, "valid_loss"] == plain.history[:, "valid_loss"]
    assert np.array_equal(skipped.criterion_.class_weight, plain.criterion_.class_weight)


def test_bad_views_of_a_validation_table_are_left_out_too(own, valid, tmp_path):
    held_out = copied(valid, tmp_path / "held_out")
    for path in held_out["views"].iloc[3]:
        empty(path)
    net = quietly(skipping(train_split=ValidStudies(held_out)).fit, own)
    assert set(net.bad_views_["study"]) == {held_out["study"].iloc[3]}
    rows = studies_of(quietly(net.get_split_datasets, own)[1])
    assert len(rows) == len(held_out) - 1


def test_more_than_the_allowed_share_stops_the_fit_with_count_and_names(own):
    empty(own["views"].iloc[4][0])
    n_views = int(own["views"].map(len).sum())
    with pytest.raises(
        ValueError, match=rf"(?s)at most 1\.00%.*got 1 of {n_views}.*raise max_bad_share"
    ):
        skipping(max_bad_share=0.01).fit(own)
    with pytest.raises(ValueError, match=r"4_0\.png\): expected a readable image, got zero bytes"):
        skipping(max_bad_share=0.01).fit(own)
    quietly(skipping(max_bad_share=1 / n_views, max_epochs=1).fit, own)


def test_a_disk_that_is_gone_is_an_error_whatever_share_is_allowed(own, tmp_path):
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(ValueError, match=r"(?s)got none among \d+.*disk of the images"):
        skipping().fit(own)


def test_one_class_that_loses_all_its_views_stops_the_fit(own):
    for path in own["views"][own["label"] == 1].explode():
        empty(path)
    with pytest.raises(ValueError, match="expected labels 0 and 1, got only 0"):
        quietly(skipping().fit, own)


def test_missing_right_to_read_is_no_bad_picture(own, tmp_path):
    path = own["views"].iloc[0][0]
    os.remove(path)
    os.symlink(path, path)  # a loop of links: nobody, not even root, may open it
    with pytest.raises(OSError, match="0_0.png"):
        skipping().fit(own)


def test_list_of_bad_views_is_an_artifact_without_folders(own, tmp_path):
    hollow(own["views"].iloc[6][0])
    net = skipping(max_epochs=1, callbacks__mlflow__log_model=False)
    quietly(net.fit, own)
    text = mlflow.artifacts.load_text(f"runs:/{net.run_id_}/bad_views.csv")
    table = pd.read_csv(io.StringIO(text))
    assert table.columns.tolist() == ["study", "view", "file", "reason", "study_left_out"]
    assert table.loc[0, ["study", "view", "file"]].tolist() == [own["study"].iloc[6], 1, "6_0.png"]
    assert "checksum" in table.loc[0, "reason"]
    assert str(tmp_path) not in text


def test_fit_without_bad_views_logs_no_list(own):
    net = skipping(max_epochs=1, callbacks__mlflow__log_model=False).fit(own)
    names = {item.path for item in mlflow.MlflowClient().list_artifacts(net.run_id_)}
    assert "bad_views.csv" not in names
    assert net.bad_views_.empty


def test_probability_is_the_mean_of_the_views_that_are_left(fitted, valid, tmp_path):
    fitted.save(tmp_path / "model")
    net = MuraClassifier.load(tmp_path / "model", module=TinyNet, on_bad_view="skip")
    held_out = copied(valid, tmp_path / "held_out")
    whole = fitted.predict_view_proba(held_out)
    row = int(np.argmax(held_out["views"].map(len)))
    hollow(held_out["views"].iloc[row][1])
    with pytest.warns(UserWarning, match=rf"{row}_1\.png"):
        proba, of_views = net.predict_with_views(held_out)
    maps = quietly(net.localize, held_out)
    left = np.delete(whole[row], 1)
    assert proba[row, 1] == pytest.approx(left.mean(), abs=1e-6)
    assert np.isnan(of_views[row]).tolist() == [k == 1 for k in range(len(whole[row]))]
    np.testing.assert_allclose(np.delete(of_views[row], 1), left, atol=1e-6)
    assert np.isnan(maps[row][1]).all()
    assert np.isfinite(np.delete(maps[row], 1, axis=0)).all()
    assert [len(own) for own in of_views] == [len(own) for own in maps]
    others = np.arange(len(valid)) != row
    np.testing.assert_allclose(proba[others], fitted.predict_proba(valid)[others], atol=1e-6)


def test_study_without_any_view_left_gets_no_probability(fitted, valid, tmp_path):
    fitted.save(tmp_path / "model")
    net = MuraClassifier.load(tmp_path / "model", module=TinyNet, on_bad_view="skip")
    table = explode_views(copied(valid, tmp_path / "held_out"))
    empty(table["views"].iloc[2][0])
    for predict in (net.predict, net.predict_proba, net.predict_with_views, net.localize):
        with pytest.raises(ValueError, match="(?s)got none of 1.*no probability") as caught:
            predict(table)
        assert table["study"].iloc[2] in str(caught.value)


def test_with_a_cache_a_second_fit_opens_no_image(own, tmp_path):
    hollow(own["views"].iloc[2][0])
    params = {"dataset__cache": tmp_path / "cache", "train_split": None, "max_epochs": 1}
    first = quietly(skipping(**params).fit, own)
    for path in own["views"].explode():  # nothing left to decode; size and time stay
        found = os.stat(path)
        Path(path).write_bytes(bytes(found.st_size))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    second = quietly(skipping(**params).fit, own)
    assert first.history[-1, "train_loss"] == second.history[-1, "train_loss"]
    pd.testing.assert_frame_equal(first.bad_views_, second.bad_views_)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"fingerprint": 1}'])
def test_damaged_list_of_what_was_found_is_made_again(own, tmp_path, damage):
    hollow(own["views"].iloc[2][0])
    params = {"dataset__cache": tmp_path / "cache", "train_split": None, "max_epochs": 1}
    first = quietly(skipping(**params).fit, own)
    (known,) = (tmp_path / "cache").glob("unreadable-*.json")
    known.write_bytes(damage)
    second = quietly(skipping(**params).fit, own)
    pd.testing.assert_frame_equal(first.bad_views_, second.bad_views_)


def test_mended_file_comes_back_in_spite_of_the_cache(own, tmp_path):
    path = own["views"].iloc[2][0]
    whole = Path(path).read_bytes()
    hollow(path)
    params = {"dataset__cache": tmp_path / "cache", "train_split": None, "max_epochs": 1}
    assert len(quietly(skipping(**params).fit, own).bad_views_) == 1
    Path(path).write_bytes(whole)
    assert skipping(**params).fit(own).bad_views_.empty


def test_black_picture_is_a_picture(own):
    path = own["views"].iloc[2][0]
    Image.new("L", (40, 40)).save(path)
    assert skipping(max_epochs=1).fit(own).bad_views_.empty
