import shutil
import time

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.callbacks import Callback
from torch import nn

from mura_skorch.models import StudyNetwork, subsample_views


class WithoutBatchNorm(TinyNet):
    """A network in which studies do not meet: gradients of batches add up exactly."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        for module in list(self.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())


class Steps(Callback):
    """Counts the optimizer's steps."""

    def on_train_begin(self, net, **kwargs):
        self.n_ = 0

    def on_grad_computed(self, net, **kwargs):
        self.n_ += 1


def fit(train, **params):
    settings = {
        **{"module": WithoutBatchNorm, "module__augment": None, "optimizer": torch.optim.SGD},
        **{"max_epochs": 1, "lr": 0.1, "train_split": None, "callbacks": [("steps", Steps())]},
        **{"callbacks__mlflow": None, "iterator_train__shuffle": False},
    }
    return tiny_classifier(**settings | params).fit(train)


@pytest.mark.parametrize("n_studies", [16, 13], ids=["even", "with a remainder"])
@pytest.mark.parametrize("level", ["study", "view"])
def test_added_gradients_are_those_of_one_large_batch(train, n_studies, level):
    part = train[:n_studies]
    large = fit(part, batch_size=8, criterion__level=level)
    added = fit(part, batch_size=2, accumulate=4, criterion__level=level)
    for key, value in large.module_.state_dict().items():
        torch.testing.assert_close(added.module_.state_dict()[key], value, rtol=1e-4, atol=1e-6)
    assert dict(added.callbacks_)["steps"].n_ == dict(large.callbacks_)["steps"].n_ == 2


@pytest.mark.parametrize("accumulate", [0, -1, 2.5])
def test_number_of_added_batches_is_checked(train, accumulate):
    with pytest.raises(ValueError, match="expected accumulate to be 1, 2"):
        fit(train, accumulate=accumulate)


def test_other_kernels_of_the_optimizer_may_be_asked_for(train):
    fit(train, optimizer=torch.optim.Adam, optimizer__foreach=True)


def test_recorded_losses_do_not_depend_on_how_gradients_are_added(train):
    one = fit(train, batch_size=4, lr=0.0)
    added = fit(train, batch_size=4, lr=0.0, accumulate=3)
    assert one.history[-1, "train_loss"] == pytest.approx(added.history[-1, "train_loss"])


def test_long_study_contributes_some_of_its_views_in_their_order():
    views = torch.arange(12).view(2, 6, 1, 1)
    mask = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    batch = {"views": views, "view_mask": mask, "study_type": torch.tensor([0, 1])}
    drawn = subsample_views(batch, 3)
    first = drawn["views"][0].flatten().tolist()
    assert first == sorted(set(first))
    assert set(first) <= set(range(6))
    assert drawn["view_mask"].sum(dim=1).tolist() == [3, 2]
    assert drawn["views"][1, :2].flatten().tolist() == [6, 7]
    assert drawn["study_type"] is batch["study_type"]
    seen = {tuple(subsample_views(batch, 3)["views"][0].flatten().tolist()) for _ in range(100)}
    assert len(seen) > 5


def test_batch_of_short_studies_is_left_alone():
    batch = {"views": torch.zeros(1, 3, 1, 1), "view_mask": torch.ones(1, 3, dtype=torch.bool)}
    assert subsample_views(batch, 3) is batch
    assert subsample_views(batch, None) is batch


def ten_times(views, folder):
    """Return the views and nine copies of each in files of their own."""
    copies = [str(folder / f"{time.monotonic_ns()}-{i}.png") for i in range(9 * len(views))]
    for i, path in enumerate(copies):
        shutil.copy(views[i % len(views)], path)
    return (*views, *copies)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:(?s).*copies of one another:UserWarning")
def test_training_on_long_studies_stays_within_the_limit(train, tmp_path):
    long = train.assign(views=[ten_times(views, tmp_path) for views in train["views"]])
    sizes = []

    class Watching(TinyNet):
        def _features(self, views):
            sizes.append(len(views))
            return super()._features(views)

    for level in ("study", "view"):
        clf = tiny_classifier(module=Watching, module__max_views=4, criterion__level=level)
        clf.fit(long)
        assert max(sizes) <= 4 * 8
        assert np.isfinite(clf.history[:, "train_loss"]).all()


def test_chunks_change_no_prediction(fitted, valid):
    expected = fitted.predict_proba(valid)
    limit = fitted.module_.max_views
    try:
        for fitted.module_.max_views in (1, 3, None):
            found = fitted.predict_proba(valid)
            np.testing.assert_allclose(found, expected, atol=1e-6)
            assert [len(views) for views in fitted.predict_view_proba(valid)] == list(
                valid["views"].map(len)
            )
    finally:
        fitted.module_.max_views = limit


def test_gradient_checkpointing_changes_no_result(train, valid):
    plain = tiny_classifier(module__augment=None).fit(train)
    frugal = tiny_classifier(module__augment=None, module__memory_efficient=True).fit(train)
    for key, value in plain.module_.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            torch.testing.assert_close(
                frugal.module_.state_dict()[key], value, rtol=1e-3, atol=1e-5, msg=key
            )
    np.testing.assert_allclose(frugal.predict_proba(valid), plain.predict_proba(valid), atol=1e-4)


def test_view_limit_below_one_is_refused():
    with pytest.raises(ValueError, match="max_views to be 1 or more, or None, got 0"):
        StudyNetwork(max_views=0)
