"""Measure how fast a CPU computes a small network, by precision, memory format and threads."""

import math
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

import torch
from torch import nn

__all__ = ["Seconds", "measure_speed", "measure_threads"]

# By phase ("training" or "prediction"), precision and memory format.
Seconds = dict[tuple[str, str, str], float]

PRECISIONS = ("float32", "bfloat16")
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
IMAGE_SIZE = 112  # pixels
N_VIEWS = 4
ROUNDS = 5
LEAST_ROUNDS = 3
SLOW = 1.5  # what takes so many times the time of the fastest is measured no further
VERY_SLOW = 4  # the same of one small view, whose time is mostly that of calling the layers
BUDGET = 0.5  # seconds of a phase, after which no further round is begun
LEAST_GAIN = 1.1  # how many times as fast fewer threads must be
IDLE = 0.9  # share of its threads' time that a process gets where it has the cores for itself


def measure_speed() -> Seconds:
    """Return the time of one step, by phase, precision and memory format.

    Returns
    -------
    dict of (str, str, str) to float
        Seconds of CPU time on one thread, the median of up to five runs in turn. Other processes
        hardly change it. bfloat16 is left out where it is clearly slower.

    Notes
    -----
    The network is a DenseNet of four dense layers, with the convolutions of 3 x 3 and 1 x 1, batch
    norms and ReLUs of the large ones. Nothing is drawn from torch's global random state. The
    calling thread computes on one thread afterwards.
    """
    torch.set_num_threads(1)
    network = _network()

    def measure(phase, precisions, n_views, image_size=IMAGE_SIZE, layouts=tuple(LAYOUTS)):
        views = _views(n_views, image_size)
        return _in_turn(
            {
                (phase, precision, layout): _step(network, views, phase, precision, layout)
                for precision in precisions
                for layout in layouts
            }
        )

    def is_hopeless(seconds, slow):
        best = dict.fromkeys(PRECISIONS, math.inf)
        for (_, precision, _), value in seconds.items():
            best[precision] = min(best[precision], value)
        return best["bfloat16"] > slow * best["float32"]

    # Without instructions for it, bfloat16 may be a hundred times slower: it is tried on one view.
    tried = measure("prediction", PRECISIONS, 1, 64, ["channels_last"])
    precisions = PRECISIONS[:1] if is_hopeless(tried, VERY_SLOW) else PRECISIONS
    seconds = measure("prediction", precisions, 2 * N_VIEWS)
    if is_hopeless(seconds, SLOW):
        precisions = PRECISIONS[:1]
    return seconds | measure("training", precisions, N_VIEWS)


def measure_threads(n_threads: int, precision: str, layout: str) -> int | None:
    """Return fewer threads that train faster than all, or None if all are best.

    Parameters
    ----------
    n_threads : int
        All that the process may use. Half of them are tried, too: two threads of one core may
        hinder each other.
    precision : {"float32", "bfloat16"}
        Arithmetic of the network.
    layout : {"contiguous", "channels_last"}
        Memory format of its input.

    Returns
    -------
    int or None
        None also if other processes use the cores: then nothing can be said.

    Notes
    -----
    The calling thread computes on another number of threads afterwards.
    """
    if n_threads == 1:
        return None
    step = _step(_network(), _views(N_VIEWS * n_threads // 2), "training", precision, layout)
    counts = (n_threads, n_threads // 2)
    times: dict[int, list[float]] = {count: [] for count in counts}
    for number in range(ROUNDS + 1):
        for count in counts:
            torch.set_num_threads(count)
            begin, computed = time.perf_counter(), time.process_time()
            step()
            seconds = time.perf_counter() - begin
            if number == 0:
                continue  # it compiles kernels and fills memory
            if (time.process_time() - computed) / (seconds * count) < IDLE:
                return None
            times[count].append(seconds)
    of_all, of_half = (statistics.median(times[count]) for count in counts)
    return n_threads // 2 if of_all >= LEAST_GAIN * of_half else None


def _in_turn(runs: dict[tuple[str, str, str], Callable[[], None]]) -> Seconds:
    """Return the median CPU time of each run; what is much slower than the best is dropped."""
    times: dict[tuple[str, str, str], list[float]] = {}
    for key, run in runs.items():
        with suppress(RuntimeError):  # of a processor for which torch has no such kernel
            run()  # compiles kernels and fills memory
            times[key] = []
    active, begin = list(times), time.perf_counter()
    for number in range(1, ROUNDS + 1):
        for key in active:
            before = time.thread_time()
            runs[key]()
            times[key].append(time.thread_time() - before)
        best = min(min(times[key]) for key in active)
        active = [key for key in active if min(times[key]) <= SLOW * best]
        if number >= LEAST_ROUNDS and time.perf_counter() - begin > BUDGET:
            break
    return {key: statistics.median(found) for key, found in times.items()}


def _step(network, views, phase, precision, layout):
    """Return a function that computes a batch, with its gradients in training."""
    views = views.contiguous(memory_format=LAYOUTS[layout])
    is_training = phase == "training"

    def step():
        network.train(is_training)
        with (
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"),
            torch.set_grad_enabled(is_training),
        ):
            logits = network(views).float()
        if is_training:
            logits.sum().backward()
            network.zero_grad()

    return step


def _network() -> nn.Module:
    from torchvision.models import DenseNet  # half a second, which only a measurement needs

    with torch.device("meta"):  # without drawing weights from the global random state
        network = DenseNet(growth_rate=32, block_config=(1, 1, 1, 1), num_classes=1)
    network = network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.05, generator=generator)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
    return network


def _views(n_views, image_size=IMAGE_SIZE):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n_views, 3, image_size, image_size, generator=generator)
