import logging
import pickle
import re
import socket

import pytest
import torch
from nets import TinyNet, tiny_classifier
from safetensors.torch import save_file
from torch import nn
from torchvision.models import densenet169, get_model

from mura_skorch import MuraClassifier, StudyNetwork


def published_state(seed=0):
    """Return a state dict as torchvision publishes it: old key names, 1000 classes, no counters."""
    torch.manual_seed(seed)
    state = densenet169().state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): value
        for key, value in state.items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    return old, state


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    old, state = published_state()
    path = tmp_path_factory.mktemp("weights") / "densenet169.pth"
    torch.save(old, path)
    return path, old, state


def assert_backbone_is(network, state):
    own = network.state_dict()
    keys = [key for key in own if key.startswith("features.") and "num_batches" not in key]
    assert all(torch.equal(own[key], state[key]) for key in keys)
    assert len(keys) > 800


def test_published_file_fills_the_whole_backbone(published):
    path, _, state = published
    net = StudyNetwork(path)
    assert_backbone_is(net.network, state)
    assert net.head.out_features == 1


def test_todays_key_names_and_safetensors_work_as_well(published, tmp_path):
    _, _, state = published
    save_file(state, tmp_path / "today.safetensors")
    assert_backbone_is(StudyNetwork(str(tmp_path / "today.safetensors")).network, state)


def test_head_with_one_output_is_taken_over(tmp_path):
    state = densenet169(num_classes=1).state_dict()
    torch.save({"state_dict": state}, tmp_path / "one.pth")
    net = StudyNetwork(tmp_path / "one.pth")
    assert torch.equal(net.head.weight, state["classifier.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.conv0.weight"), "1 missing .features.conv0.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected .extra"),
        (lambda state: state.update({"features.conv0.weight": torch.ones(1)}), "another shape"),
    ],
)
def test_partial_match_is_refused(published, tmp_path, change, message):
    state = dict(published[1])
    change(state)
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=message) as error:
        StudyNetwork(tmp_path / "partial.pth")
    assert "partial match is refused" in str(error.value)


def test_weights_of_another_architecture_are_refused_with_a_count(tmp_path):
    torch.save(TinyNet().network.state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(ValueError, match=r"\d+ missing .*\.\.\."):
        StudyNetwork(tmp_path / "tiny.pth")


@pytest.mark.parametrize("name", ["text.pth", "text.safetensors", "empty.pth"])
def test_file_that_is_no_state_dict_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_text("" if name == "empty.pth" else "not a model")
    with pytest.raises(ValueError, match=name):
        StudyNetwork(tmp_path / name)


class Malicious:
    def __reduce__(self):
        import os

        return os.mkdir, ("touched",)


def test_pickle_in_a_weights_file_is_not_executed(tmp_path):
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ValueError, match="evil.pth"):
        StudyNetwork(tmp_path / "evil.pth")
    assert not (tmp_path / "touched").exists()


def test_unknown_name_says_what_is_possible():
    with pytest.raises(FileNotFoundError, match="IMAGENET1K_V1.*'IMAGENET'"):
        StudyNetwork("IMAGENET")


def test_saved_model_can_be_fine_tuned_from(fitted, train, tmp_path):
    fitted.save(tmp_path / "model")
    tuned = tiny_classifier(module__weights=str(tmp_path / "model")).initialize()
    own = tuned.module_.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in fitted.module_.state_dict().items())
    tuned.partial_fit(train)


def test_imagenet_weights_without_a_network_fail_at_the_first_try_and_say_what_to_do(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    tries = []

    def unreachable(*args, **kwargs):
        tries.append(args)
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    with pytest.raises(ConnectionError, match="pass its path as weights.*None"):
        StudyNetwork("IMAGENET1K_V1")
    assert len(tries) == 1


# --- other backbones ---------------------------------------------------------------------------

SMALL = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def small_state():
    torch.manual_seed(1)
    return get_model(SMALL).state_dict()


def assert_network_is(network, state):
    own = network.state_dict()
    assert own
    assert all(torch.equal(own[key], state[key]) for key in own)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "backbone.",
        "model.",
        "encoder.",
        "_orig_mod.",
        "module.backbone.",
        "model.module.",
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_prefix_that_all_keys_share_is_removed(small_state, tmp_path, prefix, suffix):
    state = {prefix + key: value for key, value in small_state.items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert_network_is(StudyNetwork(path, backbone=SMALL).network, small_state)


@pytest.mark.parametrize("place", ["state_dict", "model", "model_state_dict"])
def test_state_dict_among_other_things_is_found(small_state, tmp_path, place):
    torch.save({"epoch": 3, place: small_state}, tmp_path / "training.pth")
    assert_network_is(StudyNetwork(tmp_path / "training.pth", backbone=SMALL).network, small_state)


def test_prefix_of_some_keys_is_a_partial_match(small_state, tmp_path):
    state = {("" if "fc" in key else "backbone.") + key: v for key, v in small_state.items()}
    torch.save(state, tmp_path / "some.pth")
    with pytest.raises(ValueError, match=r"\d+ missing .conv1.0.weight.*\d+ unexpected .backbone."):
        StudyNetwork(tmp_path / "some.pth", backbone=SMALL)


class Wrapped(nn.Module):
    """A network of one's own whose names all begin as those of a wrapper do."""

    def __init__(self):
        super().__init__()
        self.model = get_model(SMALL, num_classes=1)

    def forward(self, x):
        return self.model(x)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_names_of_the_network_itself_are_no_prefix(tmp_path, prefix):
    state = Wrapped().state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "wrapped.pth")
    net = StudyNetwork(tmp_path / "wrapped.pth", backbone=Wrapped)
    assert_network_is(net.network, state)
    assert torch.equal(net.head.weight, state["model.fc.weight"])


def test_head_of_another_size_is_replaced_and_said_with_counts(small_state, tmp_path, caplog):
    torch.save(small_state, tmp_path / "weights.pth")
    with caplog.at_level(logging.INFO, "mura_skorch"):
        net = StudyNetwork(tmp_path / "weights.pth", backbone=SMALL)
    n_tensors = sum(not key.endswith("num_batches_tracked") for key in small_state)
    said = (
        f"{n_tensors - 2} of {n_tensors} tensors of {SMALL}; the last layer, of 1,000 outputs, is "
        "replaced by a random one of one output"
    )
    assert net.loaded == said
    assert f"loaded {said} from {tmp_path}" in caplog.text
    assert net.head.weight.shape == (1, 1024)


def test_head_of_one_output_counts_as_loaded(tmp_path):
    state = get_model(SMALL, num_classes=1).state_dict()
    torch.save(state, tmp_path / "weights.pth")
    net = StudyNetwork(tmp_path / "weights.pth", backbone=SMALL)
    assert re.fullmatch(rf"(\d+) of \1 tensors of {SMALL}", net.loaded)
    assert torch.equal(net.head.weight, state["fc.weight"])


def test_missing_head_is_said(small_state, tmp_path):
    torch.save({k: v for k, v in small_state.items() if "fc" not in k}, tmp_path / "body.pth")
    assert (
        "the last layer, missing, is" in StudyNetwork(tmp_path / "body.pth", backbone=SMALL).loaded
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.weight"), "1 missing .fc.weight"),
        (lambda state: state.update({"fc.weight": torch.ones(())}), "another shape .fc.*fc.weight"),
        (
            lambda state: state.update({"fc.weight": torch.ones(1, 7)}),
            "another shape .fc.*fc.weight",
        ),
    ],
)
def test_half_a_head_is_refused(small_state, tmp_path, change, message):
    state = dict(small_state)
    change(state)
    torch.save(state, tmp_path / "half.pth")
    with pytest.raises(ValueError, match=message):
        StudyNetwork(tmp_path / "half.pth", backbone=SMALL)


def test_weights_of_another_backbone_are_refused_with_counts(small_state, tmp_path):
    torch.save(small_state, tmp_path / "small.pth")
    with pytest.raises(
        ValueError, match=r"tensors of resnet18, got .*\d+ missing .*\d+ unexpected"
    ):
        StudyNetwork(tmp_path / "small.pth", backbone="resnet18")


def test_auxiliary_heads_of_googlenet_are_left_out(tmp_path):
    whole = get_model("googlenet", init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    net = StudyNetwork(tmp_path / "googlenet.pth", backbone="googlenet")
    assert torch.equal(net.network.conv1.conv.weight, whole.conv1.conv.weight)


def test_weights_for_another_size_are_refused_with_the_size(tmp_path):
    import timm

    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    with pytest.raises(ValueError, match="another shape .pos_embed.*dataset__image_size=160"):
        StudyNetwork(tmp_path / "vit.pth", backbone="timm:test_vit", image_size=64)
    net = StudyNetwork(tmp_path / "vit.pth", backbone="timm:test_vit", image_size=160)
    assert "the last layer, of 1,000 outputs" in net.loaded


def test_averaged_vision_transformer_takes_the_weights_of_the_one_with_a_class_token(tmp_path):
    import timm

    state = timm.create_model("test_vit").state_dict()
    torch.save(state, tmp_path / "vit.pth")
    net = StudyNetwork(
        tmp_path / "vit.pth", backbone="timm:test_vit", image_size=160, global_pool="avg"
    )
    assert_network_is(net.network, state)


def test_model_of_another_backbone_can_be_fine_tuned_from_its_folder(train, tmp_path):
    params = {"module": StudyNetwork, "module__backbone": "timm:test_resnet", "max_epochs": 1}
    first = tiny_classifier(**params).fit(train.head(8))
    first.save(tmp_path / "model")
    tuned = tiny_classifier(**params, module__weights=tmp_path / "model").initialize()
    own = first.module_.state_dict()
    assert all(torch.equal(v, own[key]) for key, v in tuned.module_.state_dict().items())
    other = {**params, "module__backbone": "timm:test_convnext"}
    with pytest.raises(ValueError, match="tensors of timm:test_convnext, got .*partial match is"):
        tiny_classifier(**other, module__weights=tmp_path / "model").initialize()


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        ("resnet18", r"\(IMAGENET1K_V1, DEFAULT\)"),
        ("resnet50", r"\(IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT\)"),
        ("timm:resnet10t", r"\(DEFAULT, c3_in1k\)"),
    ],
)
def test_unknown_name_is_answered_with_those_of_the_backbone(backbone, names):
    with pytest.raises(FileNotFoundError, match=f"to be a name {names}, .*got 'IMAGENET'"):
        StudyNetwork("IMAGENET", backbone=backbone)


@pytest.mark.parametrize("tag", ["c3_in1k", "DEFAULT"])
def test_unreachable_hub_of_timm_is_answered_with_what_to_do(monkeypatch, tag):
    import timm

    made = timm.create_model

    def unreachable(name, *args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("Name or service not known")
        return made(name, *args, **kwargs)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ConnectionError, match=r"hub of timm \(timm:resnet10t.*pass its path.*None"):
        StudyNetwork(tag, backbone="timm:resnet10t")


@pytest.mark.parametrize("tag", ["c3_in1k", "DEFAULT", "IMAGENET1K_V1"])
def test_tag_of_timm_is_loaded(monkeypatch, tag):
    import timm

    made, whole = timm.create_model, timm.create_model("resnet10t")
    asked = []

    def published(name, *args, pretrained=False, **kwargs):
        if pretrained:
            asked.append(name)
            return whole
        return made(name, *args, **kwargs)

    monkeypatch.setattr(timm, "create_model", published)
    net = StudyNetwork(tag, backbone="timm:resnet10t")
    assert asked == ["resnet10t.c3_in1k" if tag == "c3_in1k" else "resnet10t"]
    assert_network_is(net.network, whole.state_dict())
    text = "the last layer, of 1,000 outputs, is replaced by a random one of one output"
    if tag == "IMAGENET1K_V1":  # the estimator's default
        text += "; timm's DEFAULT weights, since IMAGENET1K_V1 is torchvision's name"
    assert net.loaded.endswith(text)


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "IMAGENET1K_V2", "DEFAULT"])
def test_names_of_torchvision_are_read_from_its_cache(monkeypatch, tmp_path, name):
    from torchvision.models import MobileNet_V2_Weights

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = get_model("mobilenet_v2").state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    file = MobileNet_V2_Weights[name].url.rpartition("/")[2]
    torch.save(state, tmp_path / "hub" / "checkpoints" / file)
    assert_network_is(StudyNetwork(name, backbone="mobilenet_v2").network, state)


@pytest.mark.slow
def test_run_says_how_many_tensors_were_loaded_without_naming_a_folder(
    small_state, train, tmp_path
):
    import mlflow

    folder = tmp_path / "patient-smith"
    folder.mkdir()
    torch.save(small_state, folder / "weights.pth")
    clf = MuraClassifier(
        module__backbone=SMALL,
        module__weights=folder / "weights.pth",
        dataset__image_size=32,
        max_epochs=1,
        train_split=None,
        precision="float32",
        verbose=0,
        callbacks__mlflow__log_model=False,
    ).fit(train.head(4))
    params = mlflow.get_run(clf.run_id_).data.params
    assert "the last layer, of 1,000 outputs, is replaced" in params["weights_loaded"]
    assert params["weights"].startswith("weights.pth with digest")
    assert params["module__backbone"] == SMALL
    assert "smith" not in str(params)
