import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from nets import tiny_classifier

from mura_skorch import MuraClassifier


def head_of(clf, features):
    """Return what the last layer makes of features."""
    with torch.no_grad():
        return clf.module_.head(torch.from_numpy(features)).squeeze(1).numpy()


@pytest.fixture
def broken(valid, tmp_path):
    """Three studies, the first view of the second of which cannot be read."""
    table = valid[valid["views"].map(len) > 1].head(3).reset_index(drop=True)
    (tmp_path / "broken.png").write_bytes(b"no image")
    views = list(table["views"])
    views[1] = (str(tmp_path / "broken.png"), *views[1][1:])
    return table.assign(views=views)


@pytest.mark.filterwarnings("ignore:training never saw", "ignore:the maximum over views")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("pooling", ["mean", "attention", "max"])
def test_head_makes_the_view_logits_of_embedded_views(valid, precision, pooling):
    clf = tiny_classifier(precision=precision, module__pooling=pooling).initialize()
    _, logits = clf.logits_with_views(valid)
    for features, logit in zip(clf.embed_views(valid), logits, strict=True):
        np.testing.assert_allclose(head_of(clf, features), logit, atol=1e-5)


def test_embedding_of_a_study_is_the_mean_over_its_views(fitted, valid):
    features = fitted.embed(valid)
    assert features.shape == (len(valid), fitted.module_.head.in_features)
    assert features.dtype == np.float32
    for own, views, paths in zip(features, fitted.embed_views(valid), valid.views, strict=True):
        assert views.shape == (len(paths), len(own))
        assert views.dtype == np.float32
        np.testing.assert_allclose(own, views.mean(axis=0), rtol=1e-6)


def test_neither_chunks_nor_batches_change_embeddings(fitted, valid):
    expected = fitted.embed(valid)
    other = tiny_classifier(module__max_views=1, batch_size=3).initialize()
    other.module_.load_state_dict(fitted.module_.state_dict())
    np.testing.assert_allclose(other.embed(valid), expected, atol=1e-6)


def test_skipped_view_is_nan_and_does_not_count(fitted, broken, tmp_path):
    fitted.save(tmp_path / "model")
    clf = MuraClassifier.load(
        tmp_path / "model", module=fitted.module, on_bad_view="skip", verbose=0
    )
    with pytest.warns(UserWarning, match="1 unreadable views"):
        views = clf.embed_views(broken)
    assert np.isnan(views[1][0]).all()
    assert np.isfinite(np.concatenate([views[0], views[1][1:], views[2]])).all()
    with pytest.warns(UserWarning, match="1 unreadable views"):
        embedded = clf.embed(broken)
    np.testing.assert_allclose(embedded[1], views[1][1:].mean(axis=0), rtol=1e-6)


def test_unseen_study_types_are_embedded_without_a_warning(fitted, valid):
    table = valid.head(2).assign(study_type="XR_HIP")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        features = fitted.embed(table)
    np.testing.assert_array_equal(features, fitted.embed(valid.head(2)))


def test_embedding_leaves_gradients_of_its_reader_on(fitted, valid):
    for _ in fitted.pass_through("view_features", valid.head(1)):
        assert torch.is_grad_enabled()


def test_embedding_before_a_fit_says_so(valid):
    for method in ("embed", "embed_views", "predict_view_weights"):
        with pytest.raises(Exception, match="not initialized"):
            getattr(tiny_classifier(), method)(pd.DataFrame(valid))
