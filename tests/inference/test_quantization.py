import copy
import ctypes
import gc
import sys
from pathlib import Path

import numpy as np
import pytest
from nets import TinyNet, tiny_classifier
from sklearn.metrics import cohen_kappa_score

from mura_skorch import MuraClassifier
from mura_skorch.inference import quantization

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quantized(fitted, train):
    """A quantized copy; tests must not change it."""
    return copy.deepcopy(fitted).quantize(train, force=True)


def test_report_counts_changed_decisions_of_the_validation_part(quantized, fitted, train):
    report = quantized.quantized_.report()
    _, valid = fitted.get_split_datasets(train)
    assert report["n_studies"] == len(valid)
    assert 0 < report["n_views"] <= quantization.MAX_VIEWS
    assert 0 <= report["n_changed"] <= report["n_studies"]


def test_integers_predict_near_torch_after_saving(quantized, fitted, valid, tmp_path):
    quantized.save(tmp_path)
    plain = MuraClassifier.load(tmp_path, module=TinyNet)
    assert np.array_equal(plain.predict_proba(valid), fitted.predict_proba(valid))
    small = MuraClassifier.load(tmp_path, module=TinyNet, precision="int8")
    assert small.describe_engine() == "openvino, int8"
    assert small.quantized_ == quantized.quantized_
    difference = np.abs(small.predict_proba(valid) - plain.predict_proba(valid))
    assert 0 < difference.max() < 0.1


def test_more_changed_decisions_than_two_percent_are_refused(quantized, fitted, train, valid):
    integers = copy.deepcopy(quantized).set_params(precision="int8")
    exact, small = (net.predict_proba(valid)[:, 1] for net in (fitted, integers))
    most = np.abs(exact - small).argmax()
    net = copy.deepcopy(fitted).set_params(threshold=float(exact[most] + small[most]) / 2)
    with pytest.raises(ValueError, match=r"at most 2% changed decisions .* kappa is .* force=True"):
        net.quantize(train, valid)
    assert net.quantized_ is None
    report = net.quantize(train, valid, force=True).quantized_.report()
    before, after = net.predict(valid), net.set_params(precision="int8").predict(valid)
    assert report["n_changed"] == (before != after).sum() >= 1
    assert report["kappa_before"] == cohen_kappa_score(valid["label"], before)
    assert report["kappa_after"] == cohen_kappa_score(valid["label"], after)


def test_other_table_than_that_of_the_fit_needs_its_parts(fitted, train):
    with pytest.raises(ValueError, match="expected the table that the model was fitted on"):
        copy.deepcopy(fitted).quantize(train.iloc[4:])


def test_integers_need_a_quantized_model(fitted, valid):
    net = copy.deepcopy(fitted).set_params(precision="int8")
    with pytest.raises(ValueError, match="expected a quantized model .* call quantize"):
        net.predict_proba(valid)


def test_integers_are_not_computed_by_onnx_runtime(quantized, valid):
    net = copy.deepcopy(quantized).set_params(precision="int8", engine="onnxruntime")
    with pytest.raises(ValueError, match="expected engine='openvino' with precision='int8'"):
        net.predict_proba(valid)


def test_fit_forgets_integers_and_trains_in_another_arithmetic(train):
    net = tiny_classifier(max_epochs=1).fit(train).quantize(train, force=True)
    net.set_params(precision="int8", max_epochs=1).fit(train)
    assert net.quantized_ is None
    assert net.precision_ in ("float32", "bfloat16")


class SignalStack(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_stack_for_signals_is_there_after_engines_are_gone(fitted, train, valid):
    nets = [copy.deepcopy(fitted).set_params(engine="openvino") for _ in range(2)]
    for net in nets:
        net.predict_proba(valid)
    nets.append(copy.deepcopy(fitted).quantize(train, force=True))
    while nets:
        del net, nets[0]
        gc.collect()
        net = None
    stack = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    if stack.start is not None:
        lines = Path("/proc/self/maps").read_text().splitlines()
        spans = [line.split()[0].split("-") for line in lines]
        assert any(int(a, 16) <= stack.start < int(b, 16) for a, b in spans)
