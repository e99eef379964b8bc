import pickle
import re
import socket

import pytest
import torch
from nets import TinyNet, tiny_classifier
from safetensors.torch import save_file
from torchvision.models import densenet169

from mura_skorch import StudyNetwork


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
