from itertools import pairwise

import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.callbacks import Callback, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mura_skorch import MuraClassifier, StudyNetwork
from mura_skorch.data import StudyCollate
from mura_skorch.tracking.params import settings_of


class Weights(Callback):
    """Keep a copy of the weights at the beginning and after each epoch."""

    def on_train_begin(self, net, **kwargs):
        self.states_ = [copied(net.module_)]

    def on_epoch_end(self, net, **kwargs):
        self.states_.append(copied(net.module_))


def copied(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, after):
    """Return the first parts of the names of tensors that differ by a bit."""
    return {name for name in before if not torch.equal(before[name], after[name])}


def states_of(train, **params):
    """Return the weights before a fit and after each of its epochs."""
    callbacks = [("weights", Weights())]
    clf = tiny_classifier(callbacks=callbacks, callbacks__best=None, **params).fit(train)
    return dict(clf.callbacks_)["weights"].states_, clf


def with_tensors(module, prefix):
    """Return the names of the tensors below a prefix, without counters of batches."""
    return {
        name
        for name in module.state_dict()
        if name.startswith(prefix) and not name.endswith("num_batches_tracked")
    }


def batch_of(n_studies, n_views, size):
    samples = [
        ({"views": torch.randint(0, 256, (n_views, size, size), dtype=torch.uint8)}, 0.0)
        for _ in range(n_studies)
    ]
    return StudyCollate()(samples)[0]


class Transformer(nn.Module):
    """A vision transformer in small: tokens beside its layers."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).layers
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 1)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).movedim(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.head(self.norm(tokens[:, 0]))


# --- frozen parts ------------------------------------------------------------------------------


def test_fit_changes_no_bit_of_a_frozen_backbone(train):
    states, clf = states_of(train, module__freeze="backbone")
    assert changed(states[0], states[-1]) == {"head.weight", "head.bias"}
    assert all(parameter.requires_grad for parameter in clf.module_.head.parameters())


def test_fit_trains_attention_on_a_frozen_backbone(train):
    states, _ = states_of(train, module__freeze="backbone", module__pooling="attention")
    found = {name.partition(".")[0] for name in changed(states[0], states[-1])}
    assert found == {"head", "attention"}


@pytest.mark.parametrize("n_stages", [1, 2, 4])
def test_fit_changes_no_bit_of_the_first_stages_and_trains_all_others(train, n_stages):
    states, clf = states_of(train, module__freeze=n_stages, max_epochs=1)
    module = clf.module_
    assert module.stages == [
        *["features.conv0", "features.denseblock1", "features.transition1"],
        "features.denseblock2",
    ]
    is_frozen = ("conv0", "norm0") if n_stages == 1 else ("conv0", "norm0", "denseblock1")
    is_frozen = tuple(f"network.features.{name}." for name in is_frozen)
    every = with_tensors(module, "")
    frozen = with_tensors(module, "network.") if n_stages == 4 else set()
    frozen |= {name for name in every if name.startswith(is_frozen)}
    found = changed(states[0], states[-1])
    assert not found & frozen
    assert every - found - frozen <= {"mean", "std"}


@pytest.mark.parametrize("freeze", [None, 0])
def test_nothing_is_frozen_unless_asked_for(freeze):
    module = TinyNet(freeze=freeze)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_frozen_parts_stay_in_eval_mode_in_copies_too():
    for module in (TinyNet(freeze=2), tiny_classifier(module__freeze=2).initialize().module_):
        features = module.train().network.features
        assert not features.norm0.training
        assert not features.denseblock1.training
        assert features.denseblock2.training
        assert not module.eval().network.features.denseblock2.training


def test_freeze_can_be_lifted():
    module = TinyNet(freeze="backbone").train()
    module.freeze(None)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize("freeze", [5, -1, True, "head", 1.5])
def test_unknown_freeze_is_refused_with_the_stages_before_weights_are_read(freeze):
    message = r"'backbone', None or a number of the 4 stages.*features.conv0, .*got"
    with pytest.raises(ValueError, match=message):
        TinyNet("nowhere.pth", freeze=freeze)


def test_all_stages_together_hold_every_tensor_of_the_backbone():
    for backbone in (Transformer, TinyNet().backbone):
        module = StudyNetwork(backbone=backbone)
        module.freeze(len(module.stages))
        trained = {name for name, tensor in module.named_parameters() if tensor.requires_grad}
        assert trained == {"head.weight", "head.bias"}


def test_tokens_of_a_transformer_are_frozen_with_its_first_stage():
    module = StudyNetwork(backbone=Transformer, freeze=1)
    assert module.stages == ["patches", "layers.0", "layers.1"]
    assert not module.network.token.requires_grad
    assert module.network.layers[0].norm1.weight.requires_grad


@pytest.mark.parametrize(
    ("backbone", "n_stages", "first", "last"),
    [
        ("densenet169", 8, "features.conv0", "features.denseblock4"),
        ("resnet50", 5, "conv1", "layer4"),
        ("convnext_tiny", 8, "features.0", "features.7"),
        ("vit_b_16", 13, "conv_proj", "encoder.layers.encoder_layer_11"),
        ("swin_t", 8, "features.0", "features.7"),
        ("efficientnet_b0", 9, "features.0", "features.8"),
        ("mobilenet_v3_small", 14, "features.0", "classifier"),
    ],
)
def test_stages_are_the_blocks_of_a_network_in_order(backbone, n_stages, first, last):
    with torch.device("meta"):
        module = StudyNetwork(backbone=backbone)
    assert len(module.stages) == n_stages
    assert (module.stages[0], module.stages[-1]) == (first, last)
    module.freeze(n_stages)
    assert not any(parameter.requires_grad for parameter in module.network.parameters())


def test_frozen_backbone_stores_nothing_for_a_backward_pass():
    def n_stored(freeze):
        module = TinyNet(freeze=freeze).train()
        batch = batch_of(4, 2, 32)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            study_logit, _ = module(batch["views"], batch["view_mask"])
        study_logit.sum().backward()
        return sum(sizes)

    module = TinyNet()
    n_features = module.head.in_features
    assert n_stored("backbone") < 8 * (n_features + 10) + n_features
    assert n_stored("backbone") < n_stored(2) < n_stored(None)


@pytest.mark.parametrize("freeze", ["backbone", 2])
def test_gradient_checkpointing_keeps_frozen_parts_as_they_are(train, freeze):
    states, clf = states_of(
        train, module__freeze=freeze, module__memory_efficient=True, max_epochs=1
    )
    plain, _ = states_of(train, module__freeze=freeze, max_epochs=1)
    found = changed(states[0], states[-1])
    assert found == changed(plain[0], plain[-1])
    for name in found & with_tensors(clf.module_, ""):
        torch.testing.assert_close(states[-1][name], plain[-1][name], atol=1e-5, rtol=1e-4)


def test_saved_model_knows_what_was_frozen(train, valid, tmp_path):
    clf = tiny_classifier(module__freeze=2, max_epochs=1).fit(train)
    clf.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert loaded.module__freeze == 2
    assert not next(loaded.module_.network.parameters()).requires_grad
    assert (loaded.predict_proba(valid) == clf.predict_proba(valid)).all()


def test_weight_decay_does_not_shrink_frozen_weights(train):
    states, _ = states_of(
        train,
        module__freeze="backbone",
        optimizer="AdamW",
        optimizer__weight_decay=0.5,
        max_epochs=1,
    )
    assert changed(states[0], states[-1]) == {"head.weight", "head.bias"}


# --- the head first ----------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 2])
def test_only_the_head_is_trained_at_first_and_then_everything(train, accumulate):
    states, clf = states_of(train, fine_tune_after=2, max_epochs=3, accumulate=accumulate)
    for before, after in pairwise(states[:3]):
        assert changed(before, after) == {"head.weight", "head.bias"}
    assert with_tensors(clf.module_, "") - changed(states[2], states[3]) <= {"mean", "std"}


def test_own_freeze_holds_after_the_first_epochs(train):
    states, _ = states_of(train, fine_tune_after=1, module__freeze=2, max_epochs=2)
    found = changed(states[1], states[2])
    frozen = ("network.features.conv0", "network.features.norm0", "network.features.denseblock1")
    assert not any(name.startswith(frozen) for name in found)
    assert any(name.startswith("network.features.denseblock2") for name in found)


def test_backbone_is_trained_by_a_later_call_after_a_fit_of_the_head_alone(train):
    states, clf = states_of(train, fine_tune_after=1, max_epochs=1)
    assert changed(states[0], states[1]) == {"head.weight", "head.bias"}
    before = copied(clf.module_)
    clf.set_params(fine_tune_after=0).partial_fit(train)
    assert "network.features.conv0.weight" in changed(before, copied(clf.module_))


class Stopping(Callback):
    """End a fit with an error in an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise OSError("stopped")

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


@pytest.mark.parametrize("stopped_in", [2, 3])
def test_resumed_fit_ends_with_the_bits_of_an_uninterrupted_one(train, tmp_path, stopped_in):
    params = {"fine_tune_after": 2, "max_epochs": 4}
    params["optimizer__param_groups"] = [("network.*", {"lr": 1e-4})]

    def fitted(path, epoch):
        callbacks = [("stopping", Stopping(epoch))]
        return tiny_classifier(checkpoint_path=path, callbacks=callbacks, **params).fit(train)

    whole = fitted(tmp_path / "whole", None)
    with pytest.raises(OSError, match="stopped"):
        fitted(tmp_path / "parts", stopped_in)
    resumed = tiny_classifier(
        checkpoint_path=tmp_path / "parts", callbacks=[("stopping", Stopping(None))], **params
    ).fit(train)
    assert len(resumed.history) == 4
    assert not changed(copied(whole.module_), copied(resumed.module_))


def test_network_that_cannot_be_frozen_is_refused():
    class Plain(nn.Module):
        pass

    with pytest.raises(TypeError, match="can be frozen with fine_tune_after, got Plain.*freeze"):
        tiny_classifier(module=Plain, fine_tune_after=1).initialize()


# --- rates -------------------------------------------------------------------------------------


def rates(clf):
    return [group["lr"] for group in clf.optimizer_.param_groups]


def test_plateau_lowers_both_rates_by_the_same_factor(train):
    clf = tiny_classifier(
        optimizer__param_groups=[("network.*", {"lr": 1e-5})],
        lr=1e-3,
        max_epochs=3,
        callbacks__plateau=LRScheduler(
            ReduceLROnPlateau, monitor="valid_loss", patience=0, factor=0.1, threshold=1.0
        ),  # lowers the rates after every epoch
    ).fit(train)
    assert rates(clf) == pytest.approx([1e-8, 1e-6])
    groups = [len(group["params"]) for group in clf.optimizer_.param_groups]
    assert groups == [len(list(clf.module_.network.parameters())), 2]


def test_rate_of_zero_leaves_the_backbone_as_it_is_and_trains_the_head(train):
    groups = [("network.*", {"lr": 0.0})]
    states, _ = states_of(train, optimizer__param_groups=groups, max_epochs=1)
    found = {name for name in changed(states[0], states[-1]) if "running_" not in name}
    assert {name for name in found if "tracked" not in name} == {"head.weight", "head.bias"}


def test_pattern_that_matches_no_parameter_is_refused():
    clf = tiny_classifier(optimizer__param_groups=[("backbone.*", {"lr": 1e-5})])
    with pytest.raises(ValueError, match=r"'network\.\*', 'head\.\*'.*got 'backbone\.\*'"):
        clf.initialize()


@pytest.mark.parametrize("groups", ["network.*", [("network.*", 1e-5)], [1], {"network.*": 1e-5}])
def test_groups_that_are_no_pairs_are_refused(groups):
    with pytest.raises(TypeError, match=r"list of pairs of a pattern and settings.*network"):
        tiny_classifier(optimizer__param_groups=groups).initialize()


def test_unknown_setting_of_a_group_is_refused():
    clf = tiny_classifier(optimizer__param_groups=[("network.*", {"learning_rate": 1e-5})])
    with pytest.raises(ValueError, match=r"settings of Adam for 'network\.\*'.*learning_rate"):
        clf.initialize()


# --- the record --------------------------------------------------------------------------------


def test_record_says_what_was_frozen_and_the_rates():
    clf = tiny_classifier(
        module__freeze=1,
        fine_tune_after=3,
        optimizer__param_groups=[("network.*", {"lr": 1e-5})],
    )
    found = settings_of(clf.initialize())
    assert found["module__freeze"] == 1
    assert found["fine_tune_after"] == 3
    assert found["optimizer__param_groups"] == "[[network.*, {lr: 1e-05}]]"
    assert found["lr"] == 1e-3
