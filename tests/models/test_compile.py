"""A backbone that is compiled in place: one fit of the smallest network, shared by all tests."""

import copy
import os
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from nets import tiny_classifier
from served import requested
from torch import nn
from torch._dynamo.utils import counters  # torch has no public count of its graphs

from mura_skorch import MuraClassifier, StudyNetwork
from mura_skorch.serving.model import StudyModel
from mura_skorch.training.errors import explained_faults
from tests.callbacks.test_callbacks import CtrlC

ROUNDING = {"atol": 1e-5, "rtol": 0}


def least():
    """Return a backbone of one convolution."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


class LeastNet(StudyNetwork):
    """The study network with one convolution."""

    def __init__(self, weights=None, backbone=least, **params):
        super().__init__(weights, backbone, **params)


def classifier(**params):
    return tiny_classifier(module=LeastNet, **{"max_epochs": 3, "lr": 1e-2, **params})


def n_graphs():
    return counters["stats"]["unique_graphs"]


def batch_of(n_views, seed=0):
    """Return one study of some random views."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.randint(0, 256, (1, n_views, 32, 32), generator=generator, dtype=torch.uint8)
    return {"views": views, "view_mask": torch.ones(1, n_views, dtype=torch.bool)}


class Fits:
    """The same fit without and with compiling, and compiled in two halves."""

    def __init__(self, train, folder):
        own = {"callbacks": [("stop", CtrlC(99))]}
        self.plain = classifier(**own).fit(train)
        torch._dynamo.reset()
        before = n_graphs()
        self.compiled = classifier(module__compile=True, **own).fit(train)
        self.n_graphs = n_graphs() - before
        path = folder / "fit.checkpoint"
        halves = {"module__compile": True, "checkpoint_path": path}
        classifier(callbacks=[("stop", CtrlC(2))], **halves).fit(train)
        self.resumed = classifier(**own, **halves).fit(train)
        self.folder = folder / "model"
        self.compiled.save(self.folder)


@pytest.fixture(scope="module")
def fits(train, tmp_path_factory):
    before = os.getcwd()
    folder = tmp_path_factory.mktemp("compiled")
    os.chdir(folder)
    try:
        return Fits(train, folder)
    finally:
        os.chdir(before)
        torch._dynamo.reset()


# --- what needs a compiler ---------------------------------------------------------------------


@pytest.mark.slow
def test_compiled_fit_differs_by_rounding_alone_and_keeps_the_names(fits, valid):
    assert fits.n_graphs > 0
    losses = [net.history[:, "train_loss"] for net in (fits.compiled, fits.plain)]
    np.testing.assert_allclose(*losses, **ROUNDING)
    probas = [net.predict_proba(valid) for net in (fits.compiled, fits.plain)]
    np.testing.assert_allclose(*probas, **ROUNDING)
    assert list(fits.compiled.module_.state_dict()) == list(fits.plain.module_.state_dict())


@pytest.mark.slow
def test_compiled_fit_resumes_with_the_same_bits(fits, valid):
    assert fits.resumed.history[:, "train_loss"] == fits.compiled.history[:, "train_loss"]
    assert (fits.resumed.predict_proba(valid) == fits.compiled.predict_proba(valid)).all()


@pytest.mark.slow
def test_loaded_model_compiles_only_if_asked(fits, valid):
    expected = fits.compiled.predict_proba(valid)
    torch._dynamo.reset()  # what is compiled already serves all networks of these layers
    before = n_graphs()
    loaded = MuraClassifier.load(fits.folder, module=LeastNet, module__backbone=least)
    np.testing.assert_allclose(loaded.predict_proba(valid), expected, **ROUNDING)
    assert n_graphs() == before
    assert "module__compile" not in loaded.get_params()
    asked = MuraClassifier.load(
        fits.folder, module=LeastNet, module__backbone=least, module__compile=True
    )
    np.testing.assert_allclose(asked.predict_proba(valid), expected, **ROUNDING)
    assert n_graphs() > before


@pytest.mark.slow
def test_model_of_a_compiled_fit_is_fine_tuned_and_continued(fits, train):
    tuned = classifier(module__weights=fits.folder, max_epochs=1).fit(train)
    assert tuned.module_.loaded.startswith("7 of 7 tensors")
    copied = pickle.loads(pickle.dumps(fits.compiled)).set_params(max_epochs=1)
    assert len(copied.partial_fit(train).history) == 4


@pytest.mark.slow
def test_maps_features_and_weights_of_views_are_those_of_the_plain_network(fits, valid):
    for method in ("localize", "embed_views", "predict_view_weights", "predict_view_proba"):
        found, expected = (
            np.concatenate(getattr(net, method)(valid)) for net in (fits.compiled, fits.plain)
        )
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0, err_msg=method)


@pytest.mark.slow
@torch.no_grad()
def test_maps_of_a_compiled_network_itself_add_up(fits):
    network = fits.compiled.module_.eval()
    _, view_logit = network(**batch_of(3))
    maps = network.activation_maps(**batch_of(3))
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + network.head.bias, view_logit, **ROUNDING)


@pytest.mark.slow
def test_copies_of_a_compiled_model_predict_without_compiling(fits, valid, tmp_path):
    expected = fits.compiled.predict_proba(valid)
    joblib.dump(fits.compiled, tmp_path / "model.joblib")
    copies = [
        pickle.loads(pickle.dumps(fits.compiled)),
        copy.deepcopy(fits.compiled),
        joblib.load(tmp_path / "model.joblib"),
    ]
    before = n_graphs()
    for net in copies:
        np.testing.assert_allclose(net.predict_proba(valid), expected, **ROUNDING)
    assert n_graphs() == before


@pytest.mark.slow
def test_training_and_prediction_of_1_to_60_views_need_at_most_six_graphs():
    torch._dynamo.reset()
    before = n_graphs()
    network = LeastNet(compile=True)
    for n_views in (5, *range(1, 61)):
        network.train()
        network(**batch_of(n_views))[0].sum().backward()
        with torch.no_grad():
            network.eval()(**batch_of(n_views))
    assert 0 < n_graphs() - before <= 6
    assert not counters["graph_break"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "params",
    [
        {"precision": "bfloat16"},
        {"module__freeze": "backbone"},
        {"fine_tune_after": 1},
        {"flip_average": True},
        {"module__max_views": 2, "module__pooling": "attention"},
    ],
    ids=lambda params: ", ".join(params),
)
def test_compiling_goes_with_other_options(train, valid, params):
    settings = {"max_epochs": 2, **params}
    plain, compiled = (
        classifier(module__compile=is_compiled, **settings).fit(train)
        for is_compiled in (False, True)
    )
    tolerance = 0.02 if "precision" in params else 1e-4
    probas = [net.predict_proba(valid) for net in (compiled, plain)]
    np.testing.assert_allclose(*probas, atol=tolerance, rtol=0)


@pytest.mark.slow
def test_served_model_of_a_compiled_fit_does_not_compile(valid, tmp_path):
    clf = MuraClassifier(
        module__backbone="resnet18",  # a server knows no networks of tests
        module__weights=None,
        module__compile=True,
        dataset__image_size=32,
        precision="float32",
        callbacks__mlflow=None,
    ).initialize()
    clf.study_types_ = sorted(set(valid["study_type"]))
    clf.save(tmp_path)
    served, before = StudyModel(tmp_path), n_graphs()
    served.load_context(None)
    table = valid.head(3)
    answers = served.predict(None, pd.DataFrame(requested(table)), {"activation_maps": True})
    expected = MuraClassifier.load(tmp_path).predict_proba(table)[:, 1]
    np.testing.assert_allclose(answers["probability"].astype(float), expected, **ROUNDING)
    assert n_graphs() == before


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"compile": True}, {"compile__dynamic": True}])
def test_compiling_of_whole_modules_is_refused_with_a_remedy(train, params):
    with pytest.raises(ValueError, match="pass module__compile=True"):
        classifier(**params).fit(train)


@pytest.mark.slow
def test_single_small_view_is_refused_as_without_compiling():
    batch = batch_of(1)
    batch["views"] = batch["views"][..., :4, :4]  # one pixel after the convolution
    with pytest.raises(ValueError, match="expected two views or more in a training batch"):
        LeastNet(compile=True).train()(**batch)


def test_compiling_excludes_gradient_checkpointing():
    with pytest.raises(ValueError, match="blocks that are computed again are not compiled"):
        LeastNet(compile=True, memory_efficient=True)


@pytest.mark.parametrize(
    "text",
    [
        "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx",
        "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
        "CppCompileError: fatal error: Python.h: No such file or directory",
    ],
)
def test_machine_without_a_compiler_is_told_what_to_install(text):
    with pytest.raises(RuntimeError, match=r"apt-get install g\+\+ python3-dev"):  # noqa: SIM117
        with explained_faults(None):
            raise RuntimeError(text)
