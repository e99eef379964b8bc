"""Choose what predicts, torch or a faster engine, by trying each on drawn views."""

import logging
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from statistics import median
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch

from mura_skorch.data.transforms import Prepare
from mura_skorch.inference.engines import (
    Engine,
    EngineName,
    check_engine,
    check_quantized,
    installed_engines,
    native_bfloat16,
)
from mura_skorch.inference.graph import ViewGraph, export_graph
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.phantoms.drawing import draw_view
from mura_skorch.phantoms.writing import MURA_TYPES

__all__ = ["Choice", "choose_engine", "current_choice", "example_views"]

_log = logging.getLogger(__name__)

MAX_DIFFERENCE = 0.02  # of a probability, from torch in float32
MIN_GAIN = 1.1  # times as fast as torch, or torch is left in place
N_EXAMPLES = 8  # views
N_ROUNDS = 3

_choosing = Lock()  # threads that predict for the first time make one engine


@dataclass(frozen=True)
class Choice:
    """What predicts.

    Attributes
    ----------
    engine : Engine or None
        None is torch.
    name : str
        Library and arithmetic, such as "openvino, bfloat16".
    seconds : dict of str to float
        Seconds that each candidate took for `N_EXAMPLES` views, by name. Empty if there was one.
    differences : dict of str to float
        Largest difference of a view's probability from torch in float32, by name.
    """

    engine: Engine | None
    name: str
    seconds: dict[str, float] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)


def example_views(image_size: int) -> torch.Tensor:
    """Return drawn views, one or two of each study type, the same at each call.

    Parameters
    ----------
    image_size : int
        Height and width in pixels.

    Returns
    -------
    Tensor of shape (8, image_size, image_size), uint8
    """
    prepare = Prepare(image_size)
    types = [MURA_TYPES[number % len(MURA_TYPES)] for number in range(N_EXAMPLES)]
    drawn = [draw_view(name, number, number, 0)[0] for number, name in enumerate(types)]
    return torch.from_numpy(np.stack([prepare(view) for view in drawn]))


def current_choice(net: Any, n_threads: int) -> Choice:
    """Return what predicts with the present weights and parameters of a net.

    The net keeps the choice in ``choice_``, with what it was made for.

    Parameters
    ----------
    net : StudyNet
        Initialized.
    n_threads : int
        Threads to compute on.

    Returns
    -------
    Choice

    Raises
    ------
    ImportError
        The library of ``engine`` is not installed.
    ValueError
        ``engine`` or ``precision="int8"`` cannot compute this network.
    """
    own = Choice(None, f"torch, {net.precision_}")
    is_quantized = net.precision == "int8"
    if net.engine == "torch" and not is_quantized:
        return own
    image_size = net.get_params_for("dataset").get("image_size")
    if reason := _obstacle(net, image_size):
        if net.engine == "auto" and not is_quantized:
            return own
        raise ValueError(
            f"expected engine='torch' and a precision other than 'int8', got "
            f"engine={net.engine!r} and precision={net.precision!r}: {reason}"
        )
    if is_quantized:
        check_quantized(net.engine, net.quantized_)
    sums = torch.stack(
        [value.sum(dtype=torch.float64) for value in net.module_.state_dict().values()]
    )
    made_for = (net.engine, net.precision, net.precision_, image_size, n_threads, sums.tolist())
    with _choosing:
        if net.choice_ is None or net.choice_[0] != made_for:
            if is_quantized:
                engine = Engine("openvino", net.quantized_, "int8", n_threads)
                choice = Choice(engine, str(engine))
            else:
                choice = choose_engine(
                    net.module_,
                    image_size,
                    engine=net.engine,
                    precision=net.precision,
                    torch_precision=net.precision_,
                    n_threads=n_threads,
                )
            net.choice_ = (made_for, choice)
        return net.choice_[1]


def _obstacle(net, image_size):
    """Return why only torch can compute a net, or ""."""
    if torch.device(net.where_).type != "cpu":
        return f"engines compute on the CPU, and device is {str(net.where_)!r}"
    if type(net.module_).forward is not StudyNetwork.forward:
        return f"engines compute a StudyNetwork, and the module is a {type(net.module_).__name__}"
    if image_size is None:
        return "engines need a dataset with image_size"
    return ""


def choose_engine(
    network: StudyNetwork,
    image_size: int,
    *,
    engine: EngineName | Literal["auto"],
    precision: str,
    torch_precision: str,
    n_threads: int,
) -> Choice:
    """Return what predicts fastest with probabilities that stay near those of torch in float32.

    Parameters
    ----------
    network : StudyNetwork
        With its final weights, on the CPU.
    image_size : int
        Height and width of a prepared view in pixels.
    engine : {"auto", "onnxruntime", "openvino"}
        "auto" compares what is installed with torch.
    precision : {"auto", "float32", "bfloat16"}
        "auto" tries float32, and bfloat16 if the processor has instructions for it.
    torch_precision : {"float32", "bfloat16"}
        Arithmetic of torch.
    n_threads : int
        Threads to compute on.

    Returns
    -------
    Choice

    Raises
    ------
    ImportError
        The library of `engine` is not installed.
    ValueError
        The network cannot be exported, the engine has no such arithmetic, or it changes a
        probability by more than 0.02.
    """
    is_open = engine == "auto"
    torch_name = f"torch, {torch_precision}"
    names: list[Any] = installed_engines() if is_open else [engine]
    if not is_open:
        check_engine(engine)
    if not names:
        _log.info("no faster engine is installed; predicting with torch")
        return Choice(None, torch_name)
    own = deepcopy(network).eval()
    try:
        graph = export_graph(ViewGraph(own, image_size), image_size).SerializeToString()
    except ValueError as error:
        if not is_open:
            raise
        _log.info("predicting with torch: %s", error)
        return Choice(None, torch_name)
    engines = [
        Engine(name, graph, kind, n_threads)
        for name in names
        for kind in _precisions(name, precision, is_open=is_open)
    ]
    return _fastest(own, image_size, engines, torch_precision, is_open=is_open)


def _precisions(engine, precision, *, is_open):
    """Return the arithmetics to try of an engine."""
    if precision == "auto":
        has_bfloat16 = engine == "openvino" and native_bfloat16()
        return ["float32", "bfloat16"] if has_bfloat16 else ["float32"]
    if is_open and precision == "bfloat16" and engine != "openvino":
        return []
    return [precision]


def _fastest(network, image_size, engines, torch_precision, *, is_open):
    """Return the choice among engines and, with "auto", torch."""
    views = example_views(image_size).unsqueeze(0)
    mask = torch.ones(views.shape[:2], dtype=torch.bool)

    def reader(engine: Engine | None, precision: str) -> Callable[[], np.ndarray]:
        def read():
            is_bfloat16 = engine is None and precision == "bfloat16"
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_bfloat16):
                features = network.view_features(views, mask, engine=engine)
            with torch.no_grad():
                return torch.sigmoid(network.head(features)).numpy()

        return read

    exact = reader(None, "float32")()
    torch_name = f"torch, {torch_precision}"
    candidates = {str(engine): (engine, reader(engine, "")) for engine in engines}
    if is_open:
        candidates[torch_name] = (None, reader(None, torch_precision))
    differences = {
        name: float(np.abs(read() - exact).max()) for name, (_, read) in candidates.items()
    }
    near = [name for name in candidates if differences[name] <= MAX_DIFFERENCE]
    if torch_name in candidates and torch_name not in near:
        near.append(torch_name)  # what would predict otherwise
    if not near:
        raise ValueError(
            f"expected probabilities within {MAX_DIFFERENCE} of torch in float32, got differences "
            f"of {', '.join(f'{d:.3f} ({n})' for n, d in differences.items())}; pass "
            "engine='torch'"
        )
    if len(candidates) == 1:
        return Choice(candidates[near[0]][0], near[0], differences=differences)
    seconds = _time({name: candidates[name][1] for name in near})
    best = min(near, key=seconds.__getitem__)
    if torch_name in near and seconds[torch_name] < MIN_GAIN * seconds[best]:
        best = torch_name
    _log.info(
        "predicting with %s; seconds for %d views: %s",
        best,
        N_EXAMPLES,
        ", ".join(f"{name} {value:.2f}" for name, value in seconds.items()),
    )
    return Choice(candidates[best][0], best, seconds, differences)


def _time(readers):
    """Return the median seconds of each reader, called in turn."""
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(N_ROUNDS):
        for name, read in readers.items():
            start = time.perf_counter()
            read()
            times[name].append(time.perf_counter() - start)
    return {name: median(own) for name, own in times.items()}
