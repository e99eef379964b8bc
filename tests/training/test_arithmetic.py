"""How precision, memory formats and threads are chosen, recorded and kept."""

import json
import logging
import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest
import torch
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.tracking.params import settings_of
from mura_skorch.training import arithmetic, speed
from mura_skorch.training.arithmetic import (
    Arithmetic,
    choose_arithmetic,
    choose_fastest,
)
from tests.callbacks.test_callbacks import CtrlC

VARIABLE = "MURA_SKORCH_PRECISION"


def times(**changes):
    """Return times in which bfloat16 is exactly 1.1 times as fast, and formats differ."""
    seconds = {
        ("training", "float32", "contiguous"): 1.1,
        ("training", "float32", "channels_last"): 2.0,
        ("training", "bfloat16", "contiguous"): 1.0,
        ("training", "bfloat16", "channels_last"): 1.5,
        ("prediction", "float32", "contiguous"): 2.0,
        ("prediction", "float32", "channels_last"): 1.1,
        ("prediction", "bfloat16", "contiguous"): 2.0,
        ("prediction", "bfloat16", "channels_last"): 1.0,
    }
    return seconds | {tuple(name.split("_", 2)): value for name, value in changes.items()}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A machine on which nothing is measured yet: its cache folder, and the times it would give."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(arithmetic, "_measured", {})
    return tmp_path / "cache" / "mura_skorch" / "arithmetic"


@pytest.fixture
def measured(cache, monkeypatch):
    """Count measurements; each returns made-up times."""
    calls = []

    def measure():
        calls.append(None)
        return times()

    monkeypatch.setattr(arithmetic, "measure_speed", measure)
    monkeypatch.setattr(arithmetic, "measure_threads", lambda *args: None)
    return calls


def forget(monkeypatch):
    """Forget what this process has measured, as another process would know nothing of it."""
    monkeypatch.setattr(arithmetic, "_measured", {})


# --- the rule ----------------------------------------------------------------------------------


def test_bfloat16_must_be_a_tenth_faster_in_training_and_in_prediction():
    assert choose_fastest(times()).precision == "bfloat16"
    assert choose_fastest(times(training_bfloat16_contiguous=1.01)).precision == "float32"
    assert choose_fastest(times(prediction_bfloat16_channels_last=1.01)).precision == "float32"


def test_each_phase_gets_the_memory_format_that_is_faster():
    found = choose_fastest(times())
    assert (found.training_format, found.prediction_format) == ("contiguous", "channels_last")
    found = choose_fastest(times(training_bfloat16_channels_last=0.5))
    assert found.training_format == "channels_last"


def test_float32_is_taken_where_bfloat16_was_not_measured():
    without = {key: value for key, value in times().items() if key[:2] != ("training", "bfloat16")}
    assert choose_fastest(without).precision == "float32"


# --- when it is measured -----------------------------------------------------------------------


def test_given_precision_is_never_measured(measured, monkeypatch):
    for precision in ("float32", "bfloat16"):
        assert choose_arithmetic(precision, "cpu").precision == precision
        tiny_classifier(precision=precision).initialize()
    monkeypatch.setenv(VARIABLE, "bfloat16")
    assert choose_arithmetic("auto", "cpu") == choose_arithmetic("bfloat16", "cpu")
    assert tiny_classifier(precision="auto").initialize().precision_ == "bfloat16"
    assert measured == []


def test_parameters_are_checked_without_a_measurement(measured, train):
    with pytest.raises(ValueError, match="dataset__wrong"):
        tiny_classifier(precision="auto", dataset__wrong=1).fit(train)
    assert measured == []


def test_gpu_is_not_measured_but_asked(measured, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    for has, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has, **kwargs: has)
        found = choose_arithmetic("auto", "cuda")
        assert (found.precision, found.device, found.processor) == (precision, "cuda", "GPU")
    assert measured == []


def test_environment_variable_of_an_unknown_precision_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "float16")
    with pytest.raises(ValueError, match=f"expected {VARIABLE} to be 'float32' or 'bfloat16'"):
        choose_arithmetic("auto", "cpu")


# --- where it is stored ------------------------------------------------------------------------


def test_measurement_is_logged_and_later_processes_read_it(measured, cache, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "mura_skorch")
    first = choose_arithmetic("auto", "cpu")
    assert choose_arithmetic("auto", "cpu") == first
    assert "measured" in caplog.text
    assert "bfloat16, contiguous in training, channels_last in prediction" in caplog.text
    forget(monkeypatch)
    assert choose_arithmetic("auto", "cpu") == first
    assert len(measured) == 1
    assert str(cache) in caplog.text


def test_other_processor_number_of_threads_and_version_are_measured_anew(measured, monkeypatch):
    choose_arithmetic("auto", "cpu")
    for owner, name, value in (
        (arithmetic, "processor", lambda: ("Another", "12345678")),
        (arithmetic, "usable_threads", lambda: 99),
        (torch, "__version__", "99.0"),
    ):
        forget(monkeypatch)
        with monkeypatch.context() as other:
            other.setattr(owner, name, value)
            choose_arithmetic("auto", "cpu")
    assert len(measured) == 4


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 100_000, b'{"format": 1, "precision": "float16"}'],
)
def test_damaged_file_is_measured_again_and_replaced(measured, cache, monkeypatch, content):
    first = choose_arithmetic("auto", "cpu")
    (file,) = cache.glob("*.json")
    file.write_bytes(content)
    forget(monkeypatch)
    assert choose_arithmetic("auto", "cpu") == first
    assert json.loads(file.read_text())["precision"] == first.precision
    assert len(measured) == 2


@pytest.mark.parametrize("change", [{"threads": 0}, {"threads": True}, {"threads": 10**6},
                                    {"training_format": "x"}, {"processor": None},
                                    {"device": "cuda"}, {"format": 0}])  # fmt: skip
def test_file_with_impossible_values_is_measured_again(measured, cache, monkeypatch, change):
    choose_arithmetic("auto", "cpu")
    (file,) = cache.glob("*.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    forget(monkeypatch)
    choose_arithmetic("auto", "cpu")
    assert len(measured) == 2


def test_folder_that_cannot_be_written_is_no_error(measured, cache, monkeypatch):
    cache.parents[1].write_text("a file")
    choose_arithmetic("auto", "cpu")
    forget(monkeypatch)
    choose_arithmetic("auto", "cpu")
    assert len(measured) == 2


def test_threads_that_begin_together_measure_once(measured):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: choose_arithmetic("auto", "cpu"), range(4)))
    assert len(set(found)) == len(measured) == 1


def _choose(file):
    def measure():
        with file.open("a") as log:
            log.write("measured\n")
        return times()

    arithmetic.measure_speed = measure
    choose_arithmetic("auto", "cpu")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_forks_that_begin_together_measure_once(measured, tmp_path):
    fork = multiprocessing.get_context("fork")
    forks = [fork.Process(target=_choose, args=(tmp_path / "log",)) for _ in range(3)]
    for process in forks:
        process.start()
    for process in forks:
        process.join()
    assert [process.exitcode for process in forks] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "measured\n"


# --- the measurement ---------------------------------------------------------------------------


@pytest.mark.slow
def test_real_measurement_leaves_no_trace_in_the_process(cache):
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    found = choose_arithmetic("auto", "cpu")
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    (file,) = cache.glob("*.json")
    saved = json.loads(file.read_text())
    assert Arithmetic.from_dict(saved) == found
    assert all(seconds > 0 for seconds in saved["seconds"].values())


class Clock:
    """Time that passes only while a step is computed."""

    def __init__(self, monkeypatch, seconds, share):
        self.wall = self.computed = 0.0

        def step():
            n_threads = torch.get_num_threads()
            self.wall += seconds[n_threads]
            self.computed += share * n_threads * seconds[n_threads]

        monkeypatch.setattr(speed, "_step", lambda *args: step)
        monkeypatch.setattr(speed, "_network", lambda: None)
        monkeypatch.setattr(speed, "time", self)

    def perf_counter(self):
        return self.wall

    def process_time(self):
        return self.computed


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ({4: 1.0, 2: 0.8}, 1.0, 2),
        ({4: 1.0, 2: 0.95}, 1.0, None),
        ({4: 1.0, 2: 2.0}, 1.0, None),
        ({4: 1.0, 2: 0.8}, 0.5, None),
    ],
    ids=["half are faster", "half are hardly faster", "all are faster", "busy cores"],
)
def test_fewer_threads_are_chosen_only_if_they_are_faster_on_idle_cores(
    monkeypatch, seconds, share, expected
):
    Clock(monkeypatch, seconds, share)
    assert speed.measure_threads(4, "float32", "contiguous") == expected


def test_processor_without_a_kernel_is_measured_without_it(monkeypatch):
    def step(network, views, phase, precision, layout):
        def run():
            if precision == "bfloat16":
                raise RuntimeError("not implemented")

        return run

    monkeypatch.setattr(speed, "_step", step)
    assert {key[1] for key in speed.measure_speed()} == {"float32"}


# --- how a network computes --------------------------------------------------------------------


def formats_of(net, studies):
    """Return whether the network's inputs are channels-last in training and in prediction."""
    seen = {}

    def watch(layer, args):
        is_last = args[0].is_contiguous(memory_format=torch.channels_last)
        seen[net.module_.training] = is_last

    net.module_.network.features.conv0.register_forward_pre_hook(watch)
    net.partial_fit(studies)
    net.predict_proba(studies)
    return seen[True], seen[False]


@pytest.mark.parametrize("training", ["contiguous", "channels_last"])
@pytest.mark.parametrize("prediction", ["contiguous", "channels_last"])
def test_network_computes_in_the_chosen_formats(train, training, prediction):
    net = tiny_classifier(max_epochs=1, train_split=None).initialize()
    net.compute_with(Arithmetic("float32", training, prediction))
    found = formats_of(net, train.head(4))
    assert found == (training == "channels_last", prediction == "channels_last")


def test_network_computes_on_at_most_the_chosen_threads(valid, fitted, monkeypatch):
    net = pickle.loads(pickle.dumps(fitted))
    seen = []
    net.module_.head.register_forward_pre_hook(lambda *args: seen.append(torch.get_num_threads()))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net.compute_with(replace(net.arithmetic_, threads=1))
        net.predict_proba(valid)
        net.localize(valid)
        assert set(seen) == {1}
        assert net.threads_ == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_precision_that_is_set_on_a_fitted_model_takes_effect(valid, fitted):
    net = pickle.loads(pickle.dumps(fitted))
    net.set_params(precision="bfloat16")
    assert net.precision_ == "bfloat16"
    assert not (net.predict_proba(valid) == fitted.predict_proba(valid)).all()


def test_unpickled_model_is_computed_as_suits_its_machine(fitted, measured):
    net = pickle.loads(pickle.dumps(fitted))
    net.set_params(precision="auto")
    assert pickle.loads(pickle.dumps(net)).arithmetic_ == net.arithmetic_
    net.compute_with(replace(net.arithmetic_, precision="float32", processor="another"))
    assert pickle.loads(pickle.dumps(net)).precision_ == "bfloat16"


# --- the record --------------------------------------------------------------------------------


def test_record_and_run_say_how_a_fit_was_computed(fitted):
    used = {"precision": "float32", "training_format": "contiguous", "threads": 1, "device": "cpu"}
    assert used.items() <= fitted.record_.arithmetic.items()
    settings = settings_of(fitted)
    assert settings["precision"] == "float32"
    assert settings["memory_format"] == "contiguous in training, channels_last in prediction"
    assert settings["threads"] == 1


def test_loaded_model_is_computed_as_suits_its_machine(train, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "bfloat16")
    tiny_classifier(precision="auto", max_epochs=1).fit(train).save(tmp_path)
    monkeypatch.setenv(VARIABLE, "float32")
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert loaded.precision_ == "float32"
    assert loaded.record_.arithmetic["precision"] == "bfloat16"
    loaded.set_params(callbacks__mlflow=None, max_epochs=1).partial_fit(train)
    assert loaded.record_.arithmetic["precision"] == "float32"


def half_of(train, path, stop_at=2, **params):
    own = [("stop", CtrlC(stop_at))]
    settings = {"precision": "auto", "max_epochs": 3, "callbacks": own, **params}
    return tiny_classifier(checkpoint_path=path, **settings).fit(train)


def assert_same_fit(resumed, whole, valid):
    assert len(resumed.history) == 3
    assert resumed.history[:, "train_loss"] == whole.history[:, "train_loss"]
    assert (resumed.predict_proba(valid) == whole.predict_proba(valid)).all()


@pytest.mark.parametrize(("first", "then"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_resumed_fit_keeps_its_precision_whatever_the_environment_says(
    train, valid, tmp_path, monkeypatch, first, then
):
    monkeypatch.setenv(VARIABLE, first)
    whole = half_of(train, None, stop_at=99)
    assert half_of(train, tmp_path / "fit.checkpoint").interrupted_
    monkeypatch.setenv(VARIABLE, then)
    resumed = half_of(train, tmp_path / "fit.checkpoint", stop_at=99)
    assert resumed.precision_ == resumed.record_.arithmetic["precision"] == first
    assert_same_fit(resumed, whole, valid)
    finished = half_of(train, tmp_path / "fit.checkpoint", stop_at=99)
    assert finished.precision_ == first
    assert_same_fit(finished, whole, valid)


def test_resumed_fit_keeps_formats_and_threads_whatever_a_new_measurement_says(
    train, valid, tmp_path, measured, cache, monkeypatch
):
    whole = half_of(train, None, stop_at=99)
    assert half_of(train, tmp_path / "fit.checkpoint").interrupted_
    (file,) = cache.glob("*.json")
    other = Arithmetic("float32", "channels_last", "contiguous", 1, processor="another")
    file.write_text(json.dumps(json.loads(file.read_text()) | asdict(other)))
    forget(monkeypatch)
    assert choose_arithmetic("auto", "cpu") == other
    resumed = half_of(train, tmp_path / "fit.checkpoint", stop_at=99)
    assert resumed.arithmetic_ == replace(whole.arithmetic_, threads=whole.threads_)
    assert resumed.record_.arithmetic == whole.record_.arithmetic
    assert_same_fit(resumed, whole, valid)


def test_fit_that_is_resumed_on_fewer_threads_warns(train, tmp_path, caplog):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        net = half_of(train, tmp_path / "fit.checkpoint", precision="float32")
        if net.record_.arithmetic["threads"] < 2:
            pytest.skip("this process has one core")
        torch.set_num_threads(1)
        half_of(train, tmp_path / "fit.checkpoint", stop_at=99, precision="float32")
    finally:
        torch.set_num_threads(threads)
    assert "training continues on 1 of 2 threads" in caplog.text
    assert "set OMP_NUM_THREADS=2 to keep them" in caplog.text
