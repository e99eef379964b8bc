"""The guide "Change a part": its snippets run as they stand, each on its own."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import tiny_classifier
from torch import nn

from mura_skorch import MuraClassifier
from mura_skorch.models import pool_views

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "change_a_part.md"
TEXT = GUIDE.read_text(encoding="utf-8")
FIRST, *SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)


def name_of(snippet):
    """Return the heading above a snippet."""
    return re.findall(r"^## (.*)$", TEXT[: TEXT.index(snippet)], flags=re.MULTILINE)[-1]


def run(snippet, names):
    names = {**names, "print": lambda *values: None}
    exec(compile(snippet, GUIDE.name, "exec"), names)
    return names


@pytest.fixture(scope="module")
def first():
    return run(FIRST, {})


def test_guide_names_every_part():
    headings = ["Backbone", "Loss", "Schedule", "Optimizer", "Augmentation", "Early stopping"]
    headings += ["A module of your own", "A dataset of your own", "Pooling"]
    assert set(headings) <= {name_of(snippet) for snippet in SNIPPETS}


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=name_of)
def test_snippet_runs_on_its_own_after_the_first_block(first, snippet):
    names = run(snippet, first)
    proba = names["clf"].predict_proba(first["valid"])
    assert proba.shape == (len(first["valid"]), 2)
    assert np.isfinite(proba).all()
    if "loaded" in names:
        np.testing.assert_array_equal(names["loaded"].predict_proba(first["valid"]), proba)


# --- what the guide says of a module of one's own ----------------------------------------------


class Plain(nn.Module):
    """A network with no more than `forward`, which leaves bfloat16 to the net."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 8, stride=8)
        self.head = nn.Linear(4, 1)

    def view_logit(self, views, view_mask):
        return self.head(self.features(views, view_mask)).squeeze(1)

    def features(self, views, view_mask):
        return self.layer(views[view_mask].unsqueeze(1).float() / 255).mean(dim=(2, 3))

    def forward(self, views, view_mask, study_type=None):
        view_logit = self.view_logit(views, view_mask)
        return pool_views(view_logit.float(), view_mask), view_logit


class Complete(Plain):
    """A network with the optional methods, too."""

    def activation_maps(self, views, view_mask, study_type=None):
        maps = self.layer(views[view_mask].unsqueeze(1).float() / 255)
        return (maps * self.head.weight[0][:, None, None]).sum(dim=1)

    def view_features(self, views, view_mask, study_type=None):
        return self.features(views, view_mask)

    def view_weights(self, views, view_mask, study_type=None):
        return (view_mask / view_mask.sum(dim=1, keepdim=True))[view_mask]

    def freeze(self, freeze):
        self.layer.requires_grad_(freeze is None)


def classifier(module, **params):
    settings = {"dataset__image_size": 32, "max_epochs": 1, "verbose": 0, "random_state": 0}
    return MuraClassifier(module=module, callbacks__mlflow=None, **settings, **params)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_network_with_forward_alone_is_trained_and_saved(train, valid, tmp_path, precision):
    clf = classifier(Plain, precision=precision).fit(train)
    proba, of_views = clf.predict_with_views(valid)
    means = [own.mean() for own in of_views]
    np.testing.assert_allclose(proba[:, 1], means, atol=1e-2 if precision == "bfloat16" else 1e-5)
    assert proba.dtype == np.float32
    clf.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=Plain)
    np.testing.assert_array_equal(loaded.predict_proba(valid), proba)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_optional_methods_of_a_network_are_used(train, valid, precision):
    clf = classifier(Complete, precision=precision, fine_tune_after=1).fit(train)
    n_views = valid["views"].map(len).tolist()
    assert [own.shape for own in clf.localize(valid)] == [(n, 4, 4) for n in n_views]
    assert [own.shape for own in clf.embed_views(valid)] == [(n, 4) for n in n_views]
    assert clf.embed(valid).shape == (len(valid), 4)
    assert [own.sum() for own in clf.predict_view_weights(valid)] == pytest.approx([1] * len(valid))
    start = classifier(Complete, precision=precision).initialize().module_
    assert torch.equal(clf.module_.layer.weight, start.layer.weight)
    assert not torch.equal(clf.module_.head.weight, start.head.weight)


@pytest.mark.parametrize("method", ["localize", "embed", "embed_views", "predict_view_weights"])
def test_missing_method_is_named(train, valid, method):
    clf = classifier(Plain).initialize()
    clf.study_types_ = sorted(set(train["study_type"]))
    with pytest.raises(TypeError, match=r"expected a network with .*got Plain; give it"):
        getattr(clf, method)(valid)


class OfOneValue(Plain):
    def forward(self, views, view_mask, study_type=None):
        return super().forward(views, view_mask)[0]


class OfColumns(Plain):
    def forward(self, views, view_mask, study_type=None):
        return tuple(logit[:, None] for logit in super().forward(views, view_mask))


@pytest.mark.parametrize("module", [OfOneValue, OfColumns])
def test_network_that_returns_something_else_is_refused_clearly(train, module):
    message = rf"forward of {module.__name__} to return a pair, the logits of the studies, of shape"
    with pytest.raises(ValueError, match=message):
        classifier(module).fit(train)


def test_loss_of_studies_gets_logits_and_labels_of_studies(train):
    class Seen(nn.BCEWithLogitsLoss):
        def forward(self, logit, label):
            assert logit.shape == label.shape == (len(label),)
            assert logit.dtype == label.dtype == torch.float32
            return super().forward(logit, label)

    tiny_classifier(criterion=Seen, max_epochs=1).fit(train)
