import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.inspection import PERTURBATIONS, perturb_views, predict_perturbed, robustness

SOME = ["inverted", "noise of 5 %"]


@pytest.fixture(scope="module")
def found(fitted, valid):
    return predict_perturbed(fitted, valid, SOME)


def scores_of(found, name):
    own = found.table[found.table["perturbation"] == name]
    return own.set_index("study")["score"]


def test_unchanged_scores_are_those_of_a_prediction(fitted, valid, found):
    expected = pd.Series(fitted.predict_proba(valid)[:, 1], valid["study"].to_numpy())
    own = found.table.set_index("study")["score_unchanged"]
    np.testing.assert_allclose(own, expected[own.index], atol=1e-6)
    assert found.table["perturbation"].unique().tolist()[:3] == [*SOME, "one view dropped"]
    assert set(found.table["note"]) == {"phantoms: no clinical meaning"}


def test_changed_score_is_that_of_the_changed_view(fitted, valid, found):
    """The longer way: the prepared view is inverted by hand, then goes through the network."""
    import torch

    dataset = fitted.get_dataset(valid)
    inputs, _ = dataset[0]
    views = torch.from_numpy(255 - inputs["views"].numpy())[None]
    mask = torch.ones(views.shape[:2], dtype=torch.bool)
    kind = torch.tensor([inputs["study_type"]])
    with torch.inference_mode():
        logit, _ = fitted.module_.eval()(views=views, view_mask=mask, study_type=kind)
    expected = torch.sigmoid(logit).item()
    assert scores_of(found, "inverted")[valid["study"].iloc[0]] == pytest.approx(expected, abs=1e-5)


def test_view_alone_is_a_study_of_one_view(fitted, valid, found):
    several = valid[valid["views"].map(len) > 1]
    first = several.assign(views=[own[:1] for own in several["views"]])
    expected = fitted.predict_proba(first)[:, 1]
    own = scores_of(found, "view 1 alone")
    assert set(own.index) == set(several["study"])
    np.testing.assert_allclose(own[several["study"]], expected, atol=1e-6)


def test_dropped_view_is_missing_from_the_mean(fitted, valid, found):
    """With mean pooling, leaving view k out gives the mean of the others."""
    own = scores_of(found, "one view dropped")
    for study, views in zip(valid["study"], fitted.predict_view_proba(valid), strict=True):
        if len(views) > 1:
            left = (views.sum() - views) / (len(views) - 1)
            assert np.abs(left - own[study]).min() < 1e-5
        else:
            assert study not in own


def test_parts_in_memory_do_not_change_the_result(fitted, valid, found, monkeypatch):
    monkeypatch.setattr(robustness, "PART", 3)
    again = predict_perturbed(fitted, valid, ["inverted"])
    expected = scores_of(found, "inverted")
    np.testing.assert_allclose(scores_of(again, "inverted")[expected.index], expected, atol=1e-6)


def test_worst_study_is_shown_as_the_network_saw_it(found, valid, fitted):
    table = found.table[found.table["perturbation"].isin(SOME)]
    move = table["score"] - table["score_unchanged"]
    harm = move.where(table["label"] == 0, -move)
    worst = table.loc[harm.groupby(table["perturbation"]).idxmax()].set_index("perturbation")
    for moved in found.moved:
        assert moved.study == worst.loc[moved.perturbation, "study"]
        row = valid["study"].tolist().index(moved.study)
        view = fitted.get_dataset(valid)[row][0]["views"][moved.view - 1].numpy()
        np.testing.assert_array_equal(moved.before, view)
        if moved.perturbation == "inverted":
            np.testing.assert_array_equal(moved.after, 255 - view)
    assert found.moved


def test_members_of_an_ensemble_see_views_of_their_own_size(fitted, train, valid):
    other = tiny_classifier(dataset__image_size=40, max_epochs=1).fit(train)
    ensemble = MuraEnsemble.of([fitted, other])
    found = predict_perturbed(ensemble, valid, ["inverted"])
    each = [predict_perturbed(net, valid, ["inverted"]) for net in (fitted, other)]
    mean = np.mean([scores_of(own, "inverted") for own in each], axis=0)
    np.testing.assert_allclose(scores_of(found, "inverted"), mean, atol=1e-6)


def test_unlabelled_studies_are_predicted_and_move_nobody(fitted, valid):
    found = predict_perturbed(fitted, valid.drop(columns="label"), ["inverted"])
    assert len(scores_of(found, "inverted")) == len(valid)
    assert found.moved == []


def test_loaded_model_gives_the_same_table(fitted, valid, found, tmp_path):
    fitted.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet, callbacks__mlflow=None)
    again = predict_perturbed(loaded, valid, SOME)
    pd.testing.assert_frame_equal(again.table, found.table)


def test_unknown_change_is_refused_before_anything_is_read(fitted, valid):
    with pytest.raises(ValueError, match="expected changes among .* got blurred"):
        predict_perturbed(fitted, valid, ["blurred"])
    assert "blurred" not in PERTURBATIONS
    assert callable(perturb_views)
