import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier, tiny_densenet
from PIL import Image
from scipy.special import expit
from served import requested
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from mura_skorch import MuraClassifier, MuraEnsemble, StudyNetwork
from mura_skorch.data import StudyCollate
from mura_skorch.models.pooling import POOLINGS
from mura_skorch.report.model_card import describe_model
from mura_skorch.serving.model import StudyModel
from tests.models.test_freeze import Stopping

ATTENTION = ("attention", "attention_additive")
SIZE = 32


def batch_of(*n_views, seed=0):
    """Return a batch of random studies."""
    generator = torch.Generator().manual_seed(seed)
    samples = [
        (
            {"views": torch.randint(0, 256, (n, SIZE, SIZE), generator=generator).byte()},
            0.0,
        )
        for n in n_views
    ]
    return samples, StudyCollate()(samples)[0]


def network(pooling, *, learned=True, **params):
    """Return a network whose views differ, with an attention that prefers some."""
    torch.manual_seed(0)
    net = TinyNet(pooling=pooling, **params).eval()
    with torch.no_grad():
        net.head.weight *= 30
        if net.attention is not None and learned:
            nn.init.normal_(net.attention.score.weight, std=3)
            net.attention.value.weight *= 30
    return net


def by_study(values, n_views):
    return values.split(list(n_views))


def fitted(pooling, table, **params):
    """Return a fitted classifier whose attention prefers some views."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the maximum over views")
        clf = tiny_classifier(module__pooling=pooling, max_epochs=1, **params).fit(table)
    return prefer(clf)


def prefer(clf):
    torch.manual_seed(1)
    with torch.no_grad():
        clf.module_.head.weight *= 30
        if clf.module_.attention is not None:
            nn.init.normal_(clf.module_.attention.score.weight, std=3)
            clf.module_.attention.value.weight *= 30
    return clf


# --- the network -------------------------------------------------------------------------------


@torch.no_grad()
def test_attention_starts_as_the_mean_of_probabilities():
    _, inputs = batch_of(1, 5, 3)
    expected = network("mean")(**inputs)
    found = network("attention", learned=False)(**inputs)
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_additive_attention_starts_as_the_mean_of_logits():
    _, inputs = batch_of(1, 5, 3)
    study_logit, view_logit = network("attention_additive", learned=False)(**inputs)
    means = torch.stack([part.mean() for part in by_study(view_logit, (1, 5, 3))])
    torch.testing.assert_close(study_logit, means)


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padded_studies_equal_each_alone(pooling):
    net = network(pooling)
    samples, inputs = batch_of(1, 5, 2, 12)
    together = net(**inputs)[0], net.view_weights(**inputs)
    alone = [StudyCollate()([sample])[0] for sample in samples]
    torch.testing.assert_close(together[0], torch.cat([net(**one)[0] for one in alone]))
    torch.testing.assert_close(together[1], torch.cat([net.view_weights(**one) for one in alone]))


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_content_of_the_padding_does_not_matter(pooling):
    net = network(pooling)
    _, inputs = batch_of(1, 4)
    before = net(**inputs)
    inputs["views"][~inputs["view_mask"]] = 255
    torch.testing.assert_close(net(**inputs), before, atol=0, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_order_of_views_moves_their_weights_and_nothing_else(pooling):
    net = network(pooling)
    _, inputs = batch_of(4, 4)
    moved = {**inputs, "views": inputs["views"].flip(1)}
    torch.testing.assert_close(net(**moved)[0], net(**inputs)[0])
    before, after = (net.view_weights(**batch).view(2, 4) for batch in (inputs, moved))
    torch.testing.assert_close(after, before.flip(1))


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_repeating_every_view_changes_no_study(pooling):
    net = network(pooling)
    _, inputs = batch_of(3, 3)
    twice = net(inputs["views"].repeat(1, 2, 1, 1), inputs["view_mask"].repeat(1, 2))
    torch.testing.assert_close(twice[0], net(**inputs)[0])


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_study_of_one_view_is_the_view(pooling):
    net = network(pooling)
    _, inputs = batch_of(1, 1)
    study_logit, view_logit = net(**inputs)
    torch.testing.assert_close(study_logit, view_logit)
    torch.testing.assert_close(net.view_weights(**inputs), torch.ones(2))


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights_of_a_study_sum_to_one_and_make_its_logit(pooling):
    net, n_views = network(pooling), (1, 5, 3)
    _, inputs = batch_of(*n_views)
    study_logit, view_logit = net(**inputs)
    parts = list(zip(by_study(net.view_weights(**inputs), n_views),
                     by_study(view_logit, n_views), strict=True))  # fmt: skip
    for weight, _ in parts:
        torch.testing.assert_close(weight.sum(), torch.tensor(1.0))
    if pooling in ATTENTION:
        assert max(weight.max() - weight.min() for weight, _ in parts) > 0.1
    if pooling in ("mean", "attention"):
        means = torch.stack([(weight * part.sigmoid()).sum() for weight, part in parts])
        torch.testing.assert_close(study_logit.sigmoid(), means)
    else:
        means = torch.stack([(weight * part).sum() for weight, part in parts])
        torch.testing.assert_close(study_logit, means)


@torch.no_grad()
def test_maximum_is_the_largest_logit():
    _, inputs = batch_of(1, 5, 3)
    study_logit, view_logit = network("max")(**inputs)
    largest = [part.max() for part in by_study(view_logit, (1, 5, 3))]
    assert torch.equal(study_logit, torch.stack(largest))


@torch.no_grad()
def test_maps_of_additive_attention_add_up_to_the_study():
    net, n_views = network("attention_additive"), (1, 4, 2)
    _, inputs = batch_of(*n_views)
    of_views = net.activation_maps(**inputs).mean(dim=(1, 2)) + net.head.bias
    weighted = by_study(net.view_weights(**inputs) * of_views, n_views)
    found = torch.stack([part.sum() for part in weighted])
    torch.testing.assert_close(found, net(**inputs)[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_chunks_of_views_change_no_study_and_no_weight(pooling):
    _, inputs = batch_of(1, 5, 3)
    one_go, chunks = network(pooling), network(pooling, max_views=2)
    torch.testing.assert_close(chunks(**inputs), one_go(**inputs))
    torch.testing.assert_close(chunks.view_weights(**inputs), one_go.view_weights(**inputs))


@pytest.mark.parametrize("pooling", ATTENTION)
def test_gradients_reach_the_attention(pooling):
    net = network(pooling, learned=False)
    _, inputs = batch_of(4, 3)
    optimizer = torch.optim.SGD(net.attention.parameters(), lr=1.0)
    for _ in range(2):  # the other layers get theirs once the last one is no longer zero
        optimizer.zero_grad()
        functional.softplus(net(**inputs)[0]).sum().backward()
        optimizer.step()
    for name, parameter in net.attention.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("scale", [-300.0, 300.0])
def test_saturated_views_give_finite_logits_and_gradients(pooling, scale):
    net = network(pooling)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.fill_(scale)
        if net.attention is not None:
            net.attention.score.weight *= 1000
    _, inputs = batch_of(4, 1)
    study_logit, _ = net(**inputs)
    study_logit.sum().backward()
    torch.testing.assert_close(study_logit, torch.full((2,), scale))
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


@torch.no_grad()
@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_is_float32_in_bfloat16_too(pooling):
    net, n_views = network(pooling), (1, 5, 3)
    _, inputs = batch_of(*n_views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        study_logit, view_logit = net(**inputs)
        weight = net.view_weights(**inputs)
    assert {study_logit.dtype, view_logit.dtype, weight.dtype} == {torch.float32}
    sums = torch.stack([part.sum() for part in by_study(weight, n_views)])
    torch.testing.assert_close(sums, torch.ones(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", ["noisy-or", "noisy_or", "sum", None])
def test_other_poolings_are_refused(pooling):
    message = "expected pooling to be one of 'mean', 'attention', 'attention_additive', 'max'"
    with pytest.raises(ValueError, match=message):
        StudyNetwork(backbone=tiny_densenet, pooling=pooling)


# --- the classifier ----------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ATTENTION)
def test_loss_of_views_does_not_train_attention(pooling):
    clf = tiny_classifier(module__pooling=pooling, criterion__level="view")
    with pytest.raises(ValueError, match="criterion__level='study' with attention.*got 'view'"):
        clf.initialize()


def test_maximum_warns_when_it_is_trained_and_not_when_it_is_loaded(train, tmp_path):
    with pytest.warns(UserWarning, match="maximum over views grows with their number.*'mean'"):
        clf = tiny_classifier(module__pooling="max", max_epochs=1).fit(train)
    clf.save(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MuraClassifier.load(tmp_path, module=TinyNet)


@pytest.mark.parametrize("pooling", ATTENTION)
def test_fit_trains_the_attention(train, pooling):
    clf = tiny_classifier(module__pooling=pooling, max_epochs=1).fit(train)
    assert clf.module_.attention.score.weight.abs().max() > 0


@pytest.mark.parametrize("pooling", POOLINGS)
def test_weights_and_view_probabilities_make_those_of_the_study(train, valid, pooling):
    clf = fitted(pooling, train)
    proba, of_views = clf.predict_with_views(valid)
    weights = clf.predict_view_weights(valid)
    assert [len(own) for own in weights] == valid["views"].map(len).tolist()
    assert {own.dtype for own in weights} == {np.dtype("float32")}
    np.testing.assert_allclose([own.sum() for own in weights], 1, rtol=1e-5)
    if pooling in ("mean", "attention"):
        expected = [own @ p for own, p in zip(weights, of_views, strict=True)]
    else:
        _, logits = clf.logits_with_views(valid)
        expected = expit([own @ z for own, z in zip(weights, logits, strict=True)])
    np.testing.assert_allclose(proba[:, 1], expected, atol=1e-4)


@pytest.mark.parametrize("pooling", ["attention_additive", "max"])
def test_recalibration_keeps_what_is_linear_in_the_logits(train, valid, pooling):
    local = fitted(pooling, train).recalibrate(valid)
    of_studies, of_views = local.logits_with_views(valid)
    weights = local.predict_view_weights(valid)
    means = [own @ z for own, z in zip(weights, of_views, strict=True)]
    assert (local.slope_, local.intercept_) != (1, 0)
    np.testing.assert_allclose(of_studies, means, atol=1e-4)


@pytest.mark.parametrize("pooling", ["attention", "attention_additive", "max"])
def test_saved_model_pools_as_before(train, valid, tmp_path, pooling):
    clf = fitted(pooling, train)
    clf.save(tmp_path / "model")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the maximum over views")
        loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert loaded.module_.pooling == pooling
    np.testing.assert_array_equal(loaded.predict_proba(valid), clf.predict_proba(valid))
    for one, other in zip(*(c.predict_view_weights(valid) for c in (loaded, clf)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_attention_is_fine_tuned_from_a_model_with_the_mean(train, tmp_path):
    tiny_classifier(max_epochs=1).fit(train).save(tmp_path / "model")
    net = TinyNet(tmp_path / "model", pooling="attention")
    assert not net.attention.score.weight.any()
    start = MuraClassifier.load(tmp_path / "model", module=TinyNet).module_
    assert torch.equal(net.head.weight, start.head.weight)


@pytest.mark.parametrize("pooling", ATTENTION)
def test_resumed_fit_has_the_same_attention(train, tmp_path, pooling):
    def fit(path, epoch):
        callbacks = [("stopping", Stopping(epoch))]
        return tiny_classifier(
            module__pooling=pooling, checkpoint_path=tmp_path / path, callbacks=callbacks
        ).fit(train)

    expected = fit("whole", None).module_.state_dict()
    with pytest.raises(OSError, match="stopped"):
        fit("parts", 2)
    state = fit("parts", None).module_.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_ensemble_averages_members_with_attention(train, valid, tmp_path):
    members = [fitted("attention", train, random_state=seed) for seed in (0, 1)]
    ensemble = MuraEnsemble.of(members)
    mean = np.mean([member.predict_proba(valid) for member in members], axis=0)
    np.testing.assert_allclose(ensemble.predict_proba(valid), mean)
    ensemble.save(tmp_path)
    loaded = MuraEnsemble.load(tmp_path, module=TinyNet)
    np.testing.assert_array_equal(loaded.predict_proba(valid), ensemble.predict_proba(valid))


@pytest.mark.parametrize("pooling", ATTENTION)
def test_served_model_pools_as_the_classifier(valid, tmp_path, pooling):
    clf = MuraClassifier(
        module__backbone="resnet18", module__weights=None, module__pooling=pooling,
        dataset__image_size=32, precision="float32", random_state=0, callbacks__mlflow=None,
    ).initialize()  # fmt: skip
    clf.study_types_ = ["XR_HAND", "XR_WRIST"]
    table = valid[valid["views"].map(len) > 1].head(3)
    _, logits = prefer(clf).logits_with_views(table)
    clf.module_.head.bias.data -= float(np.concatenate(logits).mean())  # away from 0 and 1
    clf.save(tmp_path / "model")
    model = StudyModel(tmp_path / "model")
    model.load_context(None)
    answers = model.predict(None, pd.DataFrame(requested(table)))
    expected, of_views = clf.predict_with_views(table)
    np.testing.assert_allclose(answers["probability"].astype(float), expected[:, 1], atol=1e-4)
    assert max(abs(p.mean() - q) for p, q in zip(of_views, expected[:, 1], strict=True)) > 1e-3


@pytest.mark.parametrize("pooling", POOLINGS)
def test_skipped_views_have_no_weight(train, valid, tmp_path, pooling):
    clf = fitted(pooling, train).set_params(on_bad_view="skip")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    table = valid.head(2).copy()
    table["views"] = [(str(broken), *views) for views in table["views"]]
    with pytest.warns(UserWarning, match="broken"):
        weights = clf.predict_view_weights(table)
    assert all(np.isnan(own[0]) for own in weights)
    np.testing.assert_allclose([np.nansum(own) for own in weights], 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "sentence"),
    [
        ("mean", "A study's probability is the mean of its views' probabilities."),
        ("attention", "probability is the mean of its views' probabilities, weighted by learned"),
        ("attention_additive", "logit is the mean of its views' logits, weighted by learned"),
        ("max", "the largest of its views' probabilities"),
    ],
)
def test_model_card_says_how_views_are_pooled(train, pooling, sentence):
    clf = fitted(pooling, train)
    assert sentence in " ".join(describe_model(clf))
    others = {"mean of its views' prob", "mean of its views' logits", "largest of"}
    assert sum(other in " ".join(describe_model(clf)) for other in others) == 1


class Plain(nn.Module):
    """A network of one layer without methods of its own."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)


def test_network_without_weights_of_views_is_refused_clearly(valid):
    clf = MuraClassifier(module=Plain, callbacks__mlflow=None, verbose=0).initialize()
    for method, name in (("predict_view_weights", "view_weights"), ("embed", "view_features")):
        with pytest.raises(TypeError, match=f"network with a method {name}.*got Plain; give it"):
            getattr(clf, method)(valid)


# --- the number of views as a shortcut ---------------------------------------------------------


class NoisyOr(TinyNet):
    """A study is abnormal if any view is, each by its own chance: not offered."""

    def forward(self, views, view_mask, study_type=None):
        view_logit = self._logits_of(self.view_features(views, view_mask))
        normal = torch.zeros(view_mask.shape).masked_scatter(
            view_mask, functional.logsigmoid(-view_logit)
        )
        log_normal = normal.sum(dim=1).clamp(max=-1e-6)
        return torch.log(-torch.expm1(log_normal)) - log_normal, view_logit


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Studies of noise, whose labels follow from their number of views alone."""
    folder = tmp_path_factory.mktemp("noise")
    rng = np.random.default_rng(0)
    n_views = rng.integers(1, 7, 700)
    rows = []
    for study, n in enumerate(n_views):
        paths = [str(folder / f"{study}_{view}.png") for view in range(n)]
        for path in paths:
            Image.fromarray(rng.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
        rows.append(("XR_WRIST", f"p{study}", tuple(paths), int(n > 3)))
    table = pd.DataFrame(rows, columns=["study_type", "patient", "views", "label"])
    return table.iloc[:300], table.iloc[300:]


def auroc_from_count(counted, **params):
    """Return the AUROC on 400 new studies; chance alone moves it by .03 (one standard error)."""
    train, test = counted
    settings = {"module__augment": None, "max_epochs": 8, "train_split": None}
    clf = tiny_classifier(**settings, **params).fit(train)
    return roc_auc_score(test["label"], clf.predict_proba(test)[:, 1])


@pytest.fixture(scope="module")
def of_noisy_or(counted):
    return auroc_from_count(counted, module=NoisyOr)


@pytest.mark.slow
def test_noisy_or_would_learn_the_number_of_views(of_noisy_or):
    assert of_noisy_or > 0.85


@pytest.mark.slow
def test_mean_does_not_learn_the_number_of_views(counted):
    assert auroc_from_count(counted) == pytest.approx(0.5, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ATTENTION)
def test_attention_learns_less_of_the_number_of_views_than_noisy_or(counted, of_noisy_or, pooling):
    assert auroc_from_count(counted, module__pooling=pooling) < of_noisy_or - 0.1


@torch.no_grad()
@pytest.mark.parametrize("pooling", [*ATTENTION, "mean"])
def test_number_of_equal_views_moves_no_study(pooling):
    net = network(pooling)
    _, inputs = batch_of(1)
    logits = [net(inputs["views"].repeat(1, n, 1, 1), torch.ones(1, n).bool())[0] for n in (1, 6)]
    torch.testing.assert_close(*logits)
