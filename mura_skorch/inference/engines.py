"""Run an ONNX graph of views by ONNX Runtime or OpenVINO, in place of torch."""

import math
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal, Self, get_args

import numpy as np
import torch

from mura_skorch.inference.graph import FEATURES, INPUT, MAP, check_packages

__all__ = [
    "ENGINES",
    "Engine",
    "EngineName",
    "EngineSetting",
    "Precision",
    "PrecisionSetting",
    "Quantized",
    "check_engine",
    "check_quantized",
    "installed_engines",
    "native_bfloat16",
    "openvino_core",
]

# Values of the parameters ``engine`` and ``precision`` of a net.
EngineSetting = Literal["torch", "auto", "onnxruntime", "openvino"]
PrecisionSetting = Literal["auto", "float32", "bfloat16", "int8"]
EngineName = Literal["onnxruntime", "openvino"]
Precision = Literal["float32", "bfloat16", "int8"]
ENGINES = get_args(EngineName)

BLOCK = 4  # views that OpenVINO computes at once; larger ones leave the processor's caches


@dataclass(frozen=True)
class Quantized:
    """A network in 8-bit integers, and what that changed on studies it was not calibrated on.

    Attributes
    ----------
    structure, weights : bytes
        OpenVINO's two files.
    n_views : int
        Training views that the ranges of the integers were found on.
    n_studies : int
        Studies of the validation part.
    n_changed : int
        Those whose decision differs from that of torch.
    kappa_before, kappa_after : float
        Cohen's kappa of torch and of the integers on these studies.
    """

    structure: bytes
    weights: bytes
    n_views: int
    n_studies: int = 0
    n_changed: int = 0
    kappa_before: float = math.nan
    kappa_after: float = math.nan

    def report(self) -> dict[str, int | float]:
        """Return what was counted, for a saved model and a run."""
        values = asdict(self)
        return {name: values[name] for name in values if name not in ("structure", "weights")}


class Engine:
    """A graph of views, compiled by another library than torch, on the CPU.

    Copies share the compiled graph; a pickled engine compiles it again. Several threads may call
    one engine.

    Parameters
    ----------
    name : {"onnxruntime", "openvino"}
        The library.
    graph : bytes or Quantized
        An ONNX model, as `mura_skorch.inference.graph.export_graph` makes it, or one in integers.
    precision : {"float32", "bfloat16", "int8"}
        Arithmetic. "bfloat16" needs OpenVINO. "int8" is that of the graph itself.
    n_threads : int
        Threads to compute on.

    Attributes
    ----------
    has_maps : bool
        Whether the graph computes activation maps.
    """

    def __init__(
        self, name: EngineName, graph: bytes | Quantized, precision: Precision, n_threads: int
    ) -> None:
        self.name, self.graph = name, graph
        self.precision, self.n_threads = precision, n_threads
        self._compile()

    def __str__(self) -> str:
        """Return library and arithmetic, such as "openvino, bfloat16"."""
        return f"{self.name}, {self.precision}"

    def __copy__(self) -> Self:
        """Return the engine itself."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the engine itself."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the compiled graph."""
        return {name: value for name, value in vars(self).items() if name != "_run"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Compile the graph again."""
        vars(self).update(state)
        self._compile()

    def _compile(self):
        check_engine(self.name)
        compile_graph = _openvino if self.name == "openvino" else _onnxruntime
        self._run, names = compile_graph(self.graph, self.precision, self.n_threads)
        self.has_maps = MAP in names

    def features(self, views: torch.Tensor) -> torch.Tensor:
        """Return what the network's last layer reads.

        Parameters
        ----------
        views : Tensor of shape (N, H, W), uint8
            Prepared views.

        Returns
        -------
        Tensor of shape (N, n_features), float32
        """
        return self._output(FEATURES, views)

    def maps(self, views: torch.Tensor) -> torch.Tensor:
        """Return the activation maps of views, of shape (N, h, w), float32, in logits."""
        return self._output(MAP, views)

    def _output(self, name, views):
        return torch.from_numpy(self._run(views.unsqueeze(1).numpy(), name))


def installed_engines() -> list[str]:
    """Return the names of the engines whose library, and what exports the graph, is installed."""
    if not all(find_spec(name) for name in ("onnx", "onnxscript")):
        return []
    return [name for name in ENGINES if find_spec(name)]


def check_engine(name: str) -> None:
    """Raise ImportError if an engine's library is not installed.

    Parameters
    ----------
    name : {"onnxruntime", "openvino"}
    """
    check_packages(name, extra="fast", otherwise=", or pass engine='torch'")


def check_quantized(engine: str, quantized: Quantized | None) -> None:
    """Raise where ``precision="int8"`` cannot be computed.

    Parameters
    ----------
    engine : str
        As it was given.
    quantized : Quantized or None

    Raises
    ------
    ImportError, ValueError
    """
    if engine == "onnxruntime":
        raise ValueError(
            "expected engine='openvino' with precision='int8', which it computes, got 'onnxruntime'"
        )
    if quantized is None:
        raise ValueError(
            "expected a quantized model for precision='int8', got one that is not; call "
            "quantize(train) before you save it"
        )
    check_engine("openvino")


@cache
def openvino_core() -> Any:
    """Return the one core of OpenVINO in this process.

    A core gives its thread another stack for signals. Of two cores, the one that is destroyed last
    puts back the stack of the other, which is gone: the next signal then ends the process.
    """
    import openvino

    return openvino.Core()


def native_bfloat16() -> bool:
    """Return whether OpenVINO has bfloat16 instructions on this processor."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _onnxruntime(graph, precision, n_threads):
    """Return a function of views and an output's name, and the names of all outputs."""
    import onnxruntime

    if precision == "bfloat16":
        raise ValueError(
            "expected precision='float32' with engine='onnxruntime', got 'bfloat16', which it does "
            "not compute on CPUs; pass engine='openvino'"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(views: np.ndarray, name: str) -> np.ndarray:
        return session.run([name], {INPUT: views})[0]

    return run, [output.name for output in session.get_outputs()]


def _openvino(graph, precision, n_threads):
    """Return a function of views and an output's name, and the names of all outputs.

    The views are computed in blocks, several at a time, each on threads of its own: a graph for a
    known number of views need not copy what its layers concatenate.
    """
    import openvino

    core = openvino_core()
    hint = "bf16" if precision == "bfloat16" else "f32"
    if precision == "int8" and native_bfloat16():
        hint = "bf16"  # what is not quantized
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": n_threads,
    }

    def compile_for(n_views):
        if isinstance(graph, Quantized):
            weights = openvino.Tensor(np.frombuffer(graph.weights, np.uint8))
            model = core.read_model(graph.structure, weights)
        else:
            model = core.read_model(graph)
        model.reshape({INPUT: [n_views, *list(model.input(INPUT).partial_shape)[1:]]})
        return core.compile_model(model, "CPU", settings)

    compiled = {n_views: compile_for(n_views) for n_views in (BLOCK, 1)}

    def run(views: np.ndarray, name: str) -> np.ndarray:
        n_whole = len(views) - len(views) % BLOCK
        if n_whole < 2 * BLOCK:
            n_whole = 0  # one block would leave other threads idle
        parts = [views[i : i + BLOCK] for i in range(0, n_whole, BLOCK)]
        parts += [views[i : i + 1] for i in range(n_whole, len(views))]
        outputs: dict[int, np.ndarray] = {}

        def keep(request, number):
            outputs[number] = request.get_tensor(name).data.copy()

        # Queues of their own: several threads may call.
        queues = {n_views: openvino.AsyncInferQueue(graph) for n_views, graph in compiled.items()}
        for queue in queues.values():
            queue.set_callback(keep)
        for number, part in enumerate(parts):
            queues[len(part)].start_async({INPUT: part}, number)
        for queue in queues.values():
            queue.wait_all()
        return np.concatenate([outputs[number] for number in range(len(parts))])

    return run, [output.get_any_name() for output in compiled[1].outputs]
