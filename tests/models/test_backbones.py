"""Laws that hold for every backbone, and what is said where one does not fit."""

import os
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from nets import tiny_classifier, tiny_densenet
from served import requested
from torch import nn

from mura_skorch import MuraClassifier, MuraEnsemble, StudyNetwork
from mura_skorch.callbacks import StatelessCallback
from mura_skorch.ensemble import load_model
from mura_skorch.inference import export_classifier
from mura_skorch.models.backbones import check_image_size

AVG = {"module__global_pool": "avg"}
CLASS_TOKEN = "averages no feature maps; it may read a class token"
HIDDEN_LAYER = "layers between the average of its feature maps and its last"


def backbone(name, why_no_maps=None, *, quick=False, **params):
    """Return a backbone to test, and why it has no maps if it has none."""
    params = {"module__backbone": name, "dataset__image_size": 64, **params}
    label = name + ("+avg" if "module__global_pool" in params else "")
    return pytest.param((params, why_no_maps), id=label, marks=() if quick else pytest.mark.slow)


# Those of timm that begin with "test" are small ones of the same families.
BACKBONES = [
    backbone("timm:test_resnet", quick=True),
    backbone("timm:test_convnext", quick=True),
    backbone("timm:test_vit", quick=True, **AVG),
    backbone("densenet121"),
    backbone("resnet18"),
    backbone("resnext50_32x4d"),
    backbone("regnet_y_400mf"),
    backbone("efficientnet_b0"),
    backbone("mobilenet_v2"),
    backbone("mobilenet_v3_small", HIDDEN_LAYER),
    backbone("shufflenet_v2_x0_5"),
    backbone("mnasnet0_5"),
    backbone("swin_t"),
    backbone("convnext_tiny"),
    backbone("vit_b_16", CLASS_TOKEN),
    backbone("googlenet"),
    backbone("inception_v3", dataset__image_size=75),
    backbone("timm:resnet10t"),
    backbone("timm:convnext_atto"),
    backbone("timm:vit_tiny_patch16_224", CLASS_TOKEN),
    backbone("timm:vit_tiny_patch16_224", **AVG),
    backbone("timm:vit_small_patch14_dinov2", dataset__image_size=56, **AVG),
    backbone("timm:tf_efficientnet_lite0"),
    backbone("timm:mobilenetv4_conv_small", HIDDEN_LAYER),
]


def classifier(**params):
    """Return a classifier that trains for one epoch, off the record."""
    settings = {
        "module__weights": None,
        "dataset__image_size": 64,
        "precision": "float32",
        "max_epochs": 1,
        "batch_size": 4,
        "train_split": None,
        "random_state": 0,
        "verbose": 0,
        "callbacks__mlflow": None,
    }
    return MuraClassifier(**{**settings, **params})


@pytest.fixture(scope="module")
def few(train):
    return train.groupby("label").head(2)


def spread_logits(clf, studies):
    """Give a network a random head whose view logits go up to 3.

    Those of an untrained network may be so close to zero that any law holds for them.
    """
    features = torch.from_numpy(np.concatenate(clf.embed_views(studies)))
    weight = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        clf.module_.head.weight[0] = 3 * weight / (features @ weight).abs().max()
        clf.module_.head.bias[0] = 0.1


@pytest.fixture(scope="module", params=BACKBONES)
def fitted_one(request, few, tmp_path_factory):
    """A backbone fitted for an epoch and saved, and why it has no maps, or None."""
    params, why_no_maps = request.param
    clf = classifier(**params).fit(few)
    spread_logits(clf, few)
    folder = tmp_path_factory.mktemp("model")
    clf.save(folder)
    return clf, folder, why_no_maps


def view_logits(clf, studies):
    return np.concatenate(clf.logits_with_views(studies)[1])


# --- laws --------------------------------------------------------------------------------------


def test_saved_model_is_loaded_without_arguments_and_predicts_the_same_bits(fitted_one, few):
    clf, folder, _ = fitted_one
    loaded = MuraClassifier.load(folder)
    assert np.array_equal(loaded.predict_proba(few), clf.predict_proba(few))
    for own, other in zip(loaded.embed_views(few), clf.embed_views(few), strict=True):
        assert np.array_equal(own, other)


def test_study_probability_is_the_mean_of_its_views(fitted_one, few):
    proba, of_views = fitted_one[0].predict_with_views(few)
    assert [len(part) for part in of_views] == few["views"].map(len).tolist()
    np.testing.assert_allclose([part.mean() for part in of_views], proba[:, 1], atol=1e-6)
    assert np.abs(proba[:, 1] - 0.5).max() > 0.1


def test_head_applied_to_the_features_gives_the_view_logits(fitted_one, few):
    clf = fitted_one[0]
    head = clf.module_.head
    features = torch.from_numpy(np.concatenate(clf.embed_views(few)))
    logit = (features.double() @ head.weight[0].double() + head.bias.double()).detach().numpy()
    np.testing.assert_allclose(logit, view_logits(clf, few), atol=1e-5)
    means = [part.mean(axis=0) for part in clf.embed_views(few)]
    np.testing.assert_allclose(clf.embed(few), means, rtol=1e-5, atol=1e-6)


def test_maps_add_up_to_the_view_logits_or_an_error_says_why_there_are_none(fitted_one, few):
    clf, _, why_no_maps = fitted_one
    if why_no_maps:
        with pytest.raises(TypeError, match=why_no_maps):
            clf.localize(few)
        return
    maps = np.concatenate(clf.localize(few))
    means = maps.mean(axis=(1, 2), dtype=float) + clf.module_.head.bias.item()
    np.testing.assert_allclose(means, view_logits(clf, few), atol=1e-5)
    assert maps[0].size == 1 or maps[0].std() > 1e-3


def test_gradient_checkpointing_changes_neither_gradients_nor_batch_norm(fitted_one, few):
    clf = fitted_one[0]
    inputs, _ = next(iter(clf.get_iterator(clf.get_dataset(few))))
    found = []
    for memory_efficient in (False, True):
        params = clf.get_params_for("module")
        net = StudyNetwork(**{**params, "augment": None, "memory_efficient": memory_efficient})
        net.load_state_dict(clf.module_.state_dict())
        torch.manual_seed(0)  # dropout draws the same numbers
        net.train()(inputs["views"], inputs["view_mask"])[0].square().sum().backward()
        gradients = {name: value.grad for name, value in net.named_parameters()}
        buffers = {name: value for name, value in net.named_buffers() if "running" in name}
        found.append(gradients | buffers)
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(checkpointed[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_views_computed_one_at_a_time_give_the_same_logits(fitted_one, few):
    clf, folder, _ = fitted_one
    one_by_one = MuraClassifier.load(folder, module__max_views=1)
    np.testing.assert_allclose(view_logits(one_by_one, few), view_logits(clf, few), atol=1e-4)


# One of each family; all 24 take five minutes, with MURA_SKORCH_ALL_EXPORTS=1.
EXPORTED = (
    *("timm:test_resnet", "timm:test_convnext", "timm:test_vit", "densenet121", "mobilenet_v2"),
    *("efficientnet_b0", "swin_t", "timm:vit_small_patch14_dinov2", "mobilenet_v3_small"),
)


def test_exported_graph_computes_the_same_logits_and_maps(fitted_one, tmp_path):
    clf, _, why_no_maps = fitted_one
    name = clf.get_params_for("module")["backbone"]
    if name not in EXPORTED and not os.environ.get("MURA_SKORCH_ALL_EXPORTS"):
        pytest.skip("set MURA_SKORCH_ALL_EXPORTS=1 to export every backbone")
    about = export_classifier(clf, tmp_path)
    assert ("map" in about["outputs"]) == (why_no_maps is None)
    assert max(about["parity"].values()) < 1e-3  # MobileNetV2's logits nearly cancel


def test_bfloat16_predicts_and_trains_and_keeps_the_law_of_views(fitted_one, few):
    clf, folder, _ = fitted_one
    half = MuraClassifier.load(folder, precision="bfloat16", module__augment=None)
    proba, of_views = half.predict_with_views(few)
    np.testing.assert_allclose([part.mean() for part in of_views], proba[:, 1], atol=1e-6)
    np.testing.assert_allclose(proba, clf.predict_proba(few), atol=0.1)
    half.partial_fit(few)
    assert np.isfinite(half.history[-1]["train_loss"])
    assert all(torch.isfinite(value).all() for value in half.module_.state_dict().values())


# --- other laws, with small backbones ----------------------------------------------------------


@pytest.mark.parametrize("backbone", [nn.Sequential(), None, 3])
def test_backbone_that_is_no_name_and_no_function_is_refused(backbone):
    with pytest.raises(TypeError, match="a name, or a function that returns a network, got"):
        StudyNetwork(backbone=backbone)


def test_default_is_densenet_169():
    assert StudyNetwork().backbone == "densenet169"


def test_model_with_gradient_checkpointing_is_pickled_and_saved(few, tmp_path):
    params = {"module__backbone": "timm:test_resnet", "module__memory_efficient": True}
    clf = classifier(**params).fit(few)
    clf.save(tmp_path)
    expected = clf.predict_proba(few)
    assert np.array_equal(MuraClassifier.load(tmp_path).predict_proba(few), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(clf)).predict_proba(few), expected)


def test_threads_get_the_maps_of_their_own_studies(few):
    clf = classifier(module__backbone="timm:test_convnext").fit(few)
    spread_logits(clf, few)
    tables = [few.iloc[[i]] for i in range(len(few))] * 4
    alone = [clf.localize(table)[0] for table in tables]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda table: clf.localize(table)[0], tables))
    for own, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(other, own, atol=1e-5)
    assert not np.allclose(alone[0].mean(), alone[1].mean(), atol=1e-5)


def test_ensemble_averages_two_backbones_and_is_loaded_without_arguments(few, tmp_path):
    names = ("timm:test_resnet", "timm:test_vit")
    members = [classifier(module__backbone=name).fit(few) for name in names]
    ensemble = MuraEnsemble.of(members)
    ensemble.save(tmp_path)
    found = load_model(tmp_path).predict_proba(few)
    expected = np.mean([member.predict_proba(few) for member in members], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


class StopBefore(StatelessCallback):
    """Interrupt a fit before an epoch, as Ctrl-C would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_fit_of_a_network_that_asks_for_versions_of_layers_is_resumed(few, tmp_path):
    params = {"module__backbone": "mnasnet0_5", "max_epochs": 2}
    params["checkpoint_path"] = tmp_path / "fit.checkpoint"
    half = classifier(**params, callbacks=[("stop", StopBefore(epoch=2))]).fit(few)
    assert half.interrupted_
    whole = classifier(**params, callbacks=[("stop", StopBefore(epoch=99))]).fit(few)
    assert len(whole.history) == 2
    assert whole.history[0]["train_loss"] == half.history[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "timm:test_resnet"])
def test_mlflow_serves_a_model_of_another_backbone(name, few, tmp_path):
    import mlflow
    import pandas as pd

    from mura_skorch.tracking.mlflow_model import save_mlmodel

    clf = classifier(module__backbone=name).fit(few)
    spread_logits(clf, few)
    save_mlmodel(clf, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own
        served = mlflow.pyfunc.load_model(str(tmp_path))
        answers = pd.DataFrame(served.predict(pd.DataFrame(requested(few))))
    found = answers["probability"].astype(float)
    np.testing.assert_allclose(found, clf.predict_proba(few)[:, 1], atol=1e-6)
    needed = (tmp_path / "requirements.txt").read_text()
    assert ("timm==" in needed) == name.startswith("timm:")


def test_resuming_with_another_backbone_is_refused(few, tmp_path):
    path = tmp_path / "fit.checkpoint"
    classifier(module__backbone="timm:test_resnet", checkpoint_path=path).fit(few)
    other = classifier(module__backbone="timm:test_convnext", checkpoint_path=path)
    with pytest.raises(ValueError, match=r"module__backbone was timm:test_resnet and is timm:tes"):
        other.fit(few)


def test_mean_and_std_are_those_of_the_weights_and_saved_with_the_model(few, tmp_path):
    from_timm = StudyNetwork(backbone="timm:test_vit")
    assert from_timm.mean.flatten().tolist() == from_timm.std.flatten().tolist() == [0.5] * 3
    from_torchvision = StudyNetwork(backbone="shufflenet_v2_x0_5")
    assert from_torchvision.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    clf = classifier(module__backbone="timm:test_vit").initialize()
    clf.module_.mean[:] = 0.25
    clf.save(tmp_path)
    assert (MuraClassifier.load(tmp_path).module_.mean == 0.25).all()


def test_weights_file_leaves_mean_and_std_to_the_backbone(tmp_path):
    import timm

    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    net = StudyNetwork(tmp_path / "vit.pth", backbone="timm:test_vit", image_size=160)
    assert net.mean.flatten().tolist() == [0.5] * 3


def test_statistics_of_a_tag_are_used():
    from mura_skorch.models.backbones import make_backbone, statistics_of

    name = "timm:vit_tiny_patch16_224"
    network = make_backbone(name, 32).network
    usual, _ = statistics_of(network, name)
    of_tag, _ = statistics_of(network, "timm:vit_base_patch16_clip_224", "openai")
    assert tuple(usual) == (0.5, 0.5, 0.5)
    assert tuple(of_tag) == pytest.approx((0.48145466, 0.4578275, 0.40821073))


# --- a function as backbone --------------------------------------------------------------------


class WithoutMaps(nn.Module):
    """A network of one's own, whose last layer reads pixels."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveMaxPool2d(4)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16, 1))

    def forward(self, x):
        return self.classifier(self.pool(x))


def of_pixels():
    return WithoutMaps()


def test_model_of_a_function_is_loaded_with_the_function(few, tmp_path):
    clf = classifier(module__backbone=tiny_densenet).fit(few)
    clf.save(tmp_path)
    with pytest.raises(ValueError, match="tiny_densenet.*pass module__backbone=THAT_ONE to load"):
        MuraClassifier.load(tmp_path)
    with pytest.raises(ValueError, match="tiny_densenet.*got of_pixels"):
        MuraClassifier.load(tmp_path, module__backbone=of_pixels)
    loaded = MuraClassifier.load(tmp_path, module__backbone=tiny_densenet)
    assert np.array_equal(loaded.predict_proba(few), clf.predict_proba(few))


def test_network_that_averages_nothing_is_trained_and_has_no_maps(few):
    clf = classifier(module__backbone=of_pixels).fit(few)
    assert clf.embed(few).shape == (len(few), 48)
    with pytest.raises(TypeError, match="averages no feature maps"):
        clf.localize(few)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)),
            "one output, got .* with 2; pass",
        ),
        (lambda: nn.Conv2d(3, 1, 64), "last layer is linear"),
        (lambda: nn.Linear(64, 1), "one linear layer"),
    ],
)
def test_function_that_makes_something_else_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        StudyNetwork(backbone=make)


# --- names and sizes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet51", "did you mean resnet50 or"),
        ("ResNet50", "did you mean resnet50"),
        ("deeplabv3_resnet50", "expected module__backbone to be a classification network"),
        ("timm:resnet10", "did you mean timm:resnet10t"),
        ("timm:resnet10t.a1_in1k", r"a tag of timm:resnet10t \(c3_in1k\), got 'a1_in1k'"),
        ("timm:", "torchvision.models.list_models and timm.list_models list them"),
        ("squeezenet1_0", "last layer is linear, got squeezenet1_0"),
        ("timm:deit_tiny_distilled_patch16_224", "averages several; take another one"),
    ],
)
def test_backbone_that_cannot_be_used_is_refused_before_a_fit_begins(name, said, few):
    with pytest.raises(ValueError, match=said):
        classifier(module__backbone=name).fit(few)


def test_missing_timm_is_answered_with_the_line_that_installs_it(monkeypatch, few):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'mura-skorch\[timm\]'"):
        classifier(module__backbone="timm:test_resnet").fit(few)


@pytest.mark.parametrize(
    ("name", "size", "said"),
    [
        ("vgg11", 16, "of 32 pixels or more, the smallest that vgg11 takes, got 16; raise it"),
        pytest.param("inception_v3", 74, "of 75 pixels or more", marks=pytest.mark.slow),
        pytest.param("maxvit_t", 64, "such as 224, 448, got 64", marks=pytest.mark.slow),
        pytest.param("timm:test_vit", 100, "as 32, 64, 96, 112,.*got 100", marks=pytest.mark.slow),
    ],
)
def test_size_that_a_backbone_does_not_take_is_answered_with_those_it_takes(name, size, said):
    with pytest.raises(ValueError, match=said):
        check_image_size(name, size)


def test_size_is_checked_before_a_fit_begins(few):
    with pytest.raises(ValueError, match="inception_v3 takes, got 64"):
        classifier(module__backbone="inception_v3").fit(few)


def test_global_pool_belongs_to_timm(few):
    with pytest.raises(ValueError, match="module__global_pool with a backbone of timm, got 'avg'"):
        classifier(module__backbone="resnet18", module__global_pool="avg").fit(few)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:resnet10t", "timm:test_convnext"])
def test_unknown_global_pool_is_refused(name, few):
    with pytest.raises(ValueError, match="module__global_pool, got 'average'"):
        classifier(module__backbone=name, module__global_pool="average").fit(few)


def test_record_of_a_run_names_the_backbone(few):
    from mura_skorch.tracking.params import settings_of

    clf = tiny_classifier(module=StudyNetwork, module__backbone="timm:test_vit").initialize()
    assert settings_of(clf)["module__backbone"] == "timm:test_vit"
