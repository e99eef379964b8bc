import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.inference import choice, engines, graph

NAMES = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def plain(fitted):
    """A classifier that predicts by torch in float32; tests must not change it."""
    return fitted


@pytest.fixture(scope="module", params=NAMES)
def fast(request, plain):
    """The same by an engine; tests must not change it."""
    return copy.deepcopy(plain).set_params(engine=request.param)


def test_engine_predicts_as_torch_does(fast, plain, valid):
    assert fast.prediction_engine() is not None
    assert np.allclose(fast.predict_proba(valid), plain.predict_proba(valid), atol=1e-5)
    for method in ("predict_view_proba", "embed_views", "localize", "predict_view_weights"):
        own, other = (getattr(net, method)(valid) for net in (fast, plain))
        for one, two in zip(own, other, strict=True):
            assert one.shape == two.shape
            assert one.dtype == two.dtype
            assert np.allclose(one, two, atol=1e-4)


def test_maps_of_an_engine_add_up_to_its_own_logits(fast, valid):
    bias = fast.module_.head.bias.item()
    _, logits = fast.logits_with_views(valid)
    for cams, own in zip(fast.localize(valid), logits, strict=True):
        assert np.allclose(cams.mean(axis=(1, 2)) + bias, own, atol=1e-4)


@pytest.mark.parametrize("settings", [{"module__max_views": 1}, {"flip_average": True}])
def test_engine_follows_the_other_parameters(fast, plain, valid, settings):
    fast, plain = (copy.deepcopy(net).set_params(**settings) for net in (fast, plain))
    assert np.allclose(fast.predict_proba(valid), plain.predict_proba(valid), atol=1e-5)
    for own, other in zip(fast.localize(valid), plain.localize(valid), strict=True):
        assert np.allclose(own, other, atol=1e-4)


def test_attention_is_computed_of_an_engines_features(train, valid):
    net = tiny_classifier(module__pooling="attention", max_epochs=1).fit(train)
    torch.nn.init.normal_(net.module_.attention.score.weight)
    expected = net.predict_proba(valid), net.predict_view_weights(valid)
    net.set_params(engine="onnxruntime")
    assert np.allclose(net.predict_proba(valid), expected[0], atol=1e-5)
    for own, other in zip(net.predict_view_weights(valid), expected[1], strict=True):
        assert np.allclose(own, other, atol=1e-5)


def test_recalibrated_model_keeps_its_engine(fast, plain, valid):
    own, other = (net.recalibrate(valid, threshold=0.4) for net in (fast, plain))
    assert own.describe_engine() == fast.describe_engine()
    assert np.allclose(own.predict_proba(valid), other.predict_proba(valid), atol=1e-4)


def test_changed_weights_make_a_new_engine(plain, valid):
    net = copy.deepcopy(plain).set_params(engine="onnxruntime")
    before = net.predict_proba(valid)
    with torch.no_grad():
        next(net.module_.network.parameters()).mul_(1.5)
    after = net.predict_proba(valid)
    assert not np.allclose(before, after, atol=1e-5)
    assert np.allclose(after, net.set_params(engine="torch").predict_proba(valid), atol=1e-5)


def test_training_never_uses_an_engine(train, plain):
    net = tiny_classifier(engine="onnxruntime").fit(train)
    for own, other in zip(net.module_.parameters(), plain.module_.parameters(), strict=True):
        assert torch.equal(own, other)
    assert net.history[:, "valid_loss"] == plain.history[:, "valid_loss"]


def test_engine_is_of_a_machine_and_not_saved(fast, valid, tmp_path):
    fast.save(tmp_path)
    assert MuraClassifier.load(tmp_path, module=TinyNet).prediction_engine() is None
    loaded = MuraClassifier.load(tmp_path, module=TinyNet, engine=fast.engine)
    assert np.array_equal(loaded.predict_proba(valid), fast.predict_proba(valid))


def test_members_of_an_ensemble_have_engines(fast, plain, valid):
    ensemble = MuraEnsemble.of([fast, plain])
    assert ensemble.describe_engine() == f"{fast.engine}, float32; torch, float32"
    assert np.allclose(ensemble.predict_proba(valid), plain.predict_proba(valid), atol=1e-5)


def test_pickled_model_predicts_with_equal_bits(fast, valid):
    again = pickle.loads(pickle.dumps(fast))
    assert np.array_equal(again.predict_proba(valid), fast.predict_proba(valid))


def test_threads_that_share_an_engine_get_the_bits_of_each_alone(fast, valid):
    tables = [valid.iloc[[i]] for i in range(8)]
    alone = [fast.predict_proba(table) for table in tables]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(fast.predict_proba, tables * 3))
    assert all(map(np.array_equal, alone * 3, together))


# --- choice ----------------------------------------------------------------------------------


def test_auto_takes_the_fastest_of_those_it_has_tried(plain, valid):
    net = copy.deepcopy(plain).set_params(engine="auto", precision="auto")
    expected = plain.predict_proba(valid)
    assert np.abs(net.predict_proba(valid) - expected).max() < choice.MAX_DIFFERENCE
    _, made = net.choice_
    assert net.describe_engine() == made.name
    assert {"onnxruntime, float32", "openvino, float32"} < set(made.seconds)
    fastest = min(made.seconds.values())
    assert made.seconds[made.name] <= choice.MIN_GAIN * fastest


def spread_logits(net):
    """Give the drawn views logits so far apart that rounding changes probabilities."""
    module, views = net.module_.eval(), choice.example_views(32).unsqueeze(0)
    mask = torch.ones(views.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        module.head.weight.mul_(100 / module(views, mask)[1].std())
        module.head.bias.sub_(module(views, mask)[1].median())


def test_bfloat16_that_changes_probabilities_is_not_chosen(plain):
    net = copy.deepcopy(plain).set_params(engine="openvino", precision="auto")
    spread_logits(net)
    assert net.describe_engine() == "openvino, float32"


@pytest.mark.skipif(not engines.native_bfloat16(), reason="needs a processor with bfloat16")
def test_bfloat16_that_was_asked_for_and_changes_probabilities_is_refused(plain, valid):
    net = copy.deepcopy(plain).set_params(engine="openvino", precision="bfloat16")
    assert net.describe_engine() == "openvino, bfloat16"
    spread_logits(net)
    with pytest.raises(ValueError, match="expected probabilities within 0.02 .* engine='torch'"):
        net.predict_proba(valid)


def test_example_is_the_same_at_each_call():
    views = choice.example_views(32)
    assert views.shape == (8, 32, 32)
    assert torch.equal(views, choice.example_views(32))


def test_missing_library_is_named_with_its_extra(plain, valid, monkeypatch):
    for module in (engines, graph):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    net = copy.deepcopy(plain).set_params(engine="openvino")
    with pytest.raises(ImportError, match=r"got no openvino: pip install 'mura-skorch\[fast\]'"):
        net.predict_proba(valid)
    net.set_params(engine="auto")
    assert net.describe_engine() == "torch, float32"
    assert np.array_equal(net.predict_proba(valid), plain.predict_proba(valid))


def test_auto_stays_with_torch_where_no_engine_has_the_arithmetic(plain, monkeypatch):
    monkeypatch.setattr(choice, "installed_engines", lambda: ["onnxruntime"])
    net = copy.deepcopy(plain).set_params(engine="auto", precision="bfloat16")
    assert net.prediction_engine() is None
    assert net.describe_engine() == "torch, bfloat16"


def test_onnx_runtime_computes_no_bfloat16(plain, valid):
    net = copy.deepcopy(plain).set_params(engine="onnxruntime", precision="bfloat16")
    with pytest.raises(ValueError, match="expected precision='float32' with engine='onnxruntime'"):
        net.predict_proba(valid)


class OwnForward(TinyNet):
    def forward(self, views, view_mask, study_type=None):
        return super().forward(views, view_mask)


def test_network_with_a_forward_of_its_own_is_left_to_torch(train, valid):
    net = tiny_classifier(module=OwnForward, max_epochs=1).fit(train)
    expected = net.predict_proba(valid)
    net.set_params(engine="auto")
    assert np.array_equal(net.predict_proba(valid), expected)
    net.set_params(engine="openvino")
    with pytest.raises(ValueError, match="engines compute a StudyNetwork, .* is a OwnForward"):
        net.predict_proba(valid)


def test_unknown_engine_is_refused_before_training(train):
    with pytest.raises(ValueError, match="expected engine to be 'torch' or 'auto' or"):
        tiny_classifier(engine="tensorrt").fit(train)
