"""Choose the precision, memory formats and threads of a network for the machine at hand."""

import hashlib
import json
import logging
import os
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Self, get_args

import torch
from filelock import FileLock, Timeout

from mura_skorch.inference.engines import PrecisionSetting
from mura_skorch.training.device import usable_threads
from mura_skorch.training.speed import Seconds, measure_speed, measure_threads
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.provenance import cpu_facts

__all__ = [
    "Arithmetic",
    "check_precision",
    "choose_arithmetic",
    "choose_fastest",
    "is_of_this_machine",
]

_log = logging.getLogger(__name__)

VARIABLE = "MURA_SKORCH_PRECISION"
PRECISIONS = ("float32", "bfloat16")
FORMATS = ("contiguous", "channels_last")
LEAST_GAIN = 1.1  # how many times as fast as float32 bfloat16 must be
LOCK_SECONDS = 10  # several times what another process needs to measure
FORMAT = 1  # increase it when other things are measured: older files are then ignored

_measured: dict[int, "Arithmetic"] = {}  # of this process and those forked from it


@dataclass(frozen=True)
class Arithmetic:
    """How a network computes on a machine.

    Attributes
    ----------
    precision : {"float32", "bfloat16"}
        Arithmetic of the network.
    training_format, prediction_format : {"contiguous", "channels_last"}
        Memory format of the network's input in training, and outside of it.
    threads : int or None
        Most CPU threads. None means all that the process has.
    device : str
        Type of the device that this is for, such as "cpu".
    processor : str
        Name of the processor or GPU that this is for.
    """

    precision: str
    training_format: str = "contiguous"
    prediction_format: str = "channels_last"
    threads: int | None = None
    device: str = "cpu"
    processor: str = ""

    @property
    def memory_format(self) -> str:
        """The memory formats as one text."""
        if self.training_format == self.prediction_format:
            return self.training_format
        return f"{self.training_format} in training, {self.prediction_format} in prediction"

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """Return what a dict of `dataclasses.asdict` describes.

        Raises
        ------
        KeyError, TypeError, ValueError
            It describes nothing of the kind.
        """
        found = cls(**{name: saved[name] for name in cls.__dataclass_fields__})
        formats = (found.training_format, found.prediction_format)
        is_known = found.precision in PRECISIONS and all(name in FORMATS for name in formats)
        has_threads = found.threads is None or (type(found.threads) is int and found.threads > 0)
        is_named = isinstance(found.device, str) and isinstance(found.processor, str)
        if not (is_known and has_threads and is_named):
            raise ValueError(f"expected an arithmetic, got {saved!r:.200}")
        return found


def check_precision(precision: Any) -> None:
    """Raise ValueError if a precision is unknown.

    Parameters
    ----------
    precision : object
        Expected to be "auto", "float32", "bfloat16" or "int8".
    """
    if precision not in get_args(PrecisionSetting):
        raise ValueError(
            f"expected precision to be 'auto', 'float32', 'bfloat16' or 'int8', got {precision!r}"
        )


def choose_arithmetic(precision: str, device: str | torch.device) -> Arithmetic:
    """Return how a network computes on a device.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16", "int8"}
        "auto" is what the environment variable ``MURA_SKORCH_PRECISION`` says. Without it, a GPU
        uses bfloat16 if torch reports that it has instructions for it, and a CPU is measured.
        "int8", which only predictions by an engine use, means "auto".
    device : str or torch.device
        Where the network runs.

    Raises
    ------
    ValueError
        The precision, or that of the environment variable, is unknown.

    Notes
    -----
    A CPU is measured once for each number of threads and version of torch, in about a second. The
    result is stored in ``$XDG_CACHE_HOME/mura_skorch/arithmetic``, or ``~/.cache`` instead of the
    variable. A precision that is given is not measured: bfloat16 is then channels-last, float32
    channels-last in prediction alone.
    """
    check_precision(precision)
    if precision == "int8":
        precision = "auto"
    given = os.environ.get(VARIABLE)
    if precision == "auto" and given:
        if given not in PRECISIONS:
            raise ValueError(
                f"expected {VARIABLE} to be 'float32' or 'bfloat16', got {given!r}; correct it, "
                "or unset it"
            )
        precision = given
    kind = torch.device(device).type
    if kind == "cuda":
        if precision == "auto":
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bfloat16" if has_bfloat16 else "float32"
        layout = "channels_last" if precision == "bfloat16" else "contiguous"
        return Arithmetic(precision, layout, layout, None, kind, _processor_of(device))
    if kind != "cpu":
        precision = "float32" if precision == "auto" else precision
        return Arithmetic(precision, "contiguous", "contiguous", None, kind)
    if precision == "auto":
        return _measured_once(usable_threads())
    layout = "channels_last" if precision == "bfloat16" else "contiguous"
    return Arithmetic(precision, training_format=layout, processor=_processor_of(device))


def is_of_this_machine(arithmetic: Arithmetic, device: str | torch.device) -> bool:
    """Return whether an arithmetic was chosen for a device of this machine."""
    kind = torch.device(device).type
    return (arithmetic.device, arithmetic.processor) == (kind, _processor_of(device))


def choose_fastest(seconds: Seconds, threads: int | None = None) -> Arithmetic:
    """Return the fastest arithmetic; bfloat16 must be 1.1 times as fast as float32.

    Parameters
    ----------
    seconds : dict of (str, str, str) to float
        Time by phase ("training" or "prediction"), precision and memory format. float32 is there
        in both phases.
    threads : int, optional
        Most threads.

    Returns
    -------
    Arithmetic
        One precision for both phases: a network that is trained is validated, too. bfloat16 must
        be faster in both. Each phase has its own memory format.
    """

    def fastest(phase, precision):
        found = {k[2]: value for k, value in seconds.items() if k[:2] == (phase, precision)}
        return min(found.items(), key=lambda item: item[1], default=("", float("inf")))

    gains = [
        fastest(phase, "float32")[1] / fastest(phase, "bfloat16")[1]
        for phase in ("training", "prediction")
    ]
    precision = "bfloat16" if min(gains) >= LEAST_GAIN else "float32"
    return Arithmetic(
        precision, fastest("training", precision)[0], fastest("prediction", precision)[0], threads
    )


def _processor_of(device):
    """Return the name of the processor or GPU of a device, "" of other devices."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return processor()[0] if kind == "cpu" else ""


@cache
def processor() -> tuple[str, str]:
    """Return the name of this machine's processor, and a digest of its model and instructions.

    Virtual machines may call processors of several generations by one name.
    """
    facts = cpu_facts()
    name = facts["model name"]
    # The others, such as the clock rate, change while the machine runs.
    names = ("cpu family", "model", "stepping", "flags")
    arm = ("CPU implementer", "CPU part", "CPU variant", "Features")
    text = " ".join([name, *(facts.get(key, "") for key in names + arm)])
    return name, hashlib.sha256(text.encode()).hexdigest()[:8]


def _measured_once(n_threads):
    """Return what was measured in this process, is stored on this machine, or is measured now."""
    if n_threads not in _measured:
        _measured[n_threads] = _stored_or_measured(n_threads)
    return _measured[n_threads]


def _stored_or_measured(n_threads):
    file = _file(n_threads)
    with ExitStack() as stack:
        if file is not None and _read(file, n_threads) is None:
            # Another process may be measuring. Without a lock both do, which costs a second.
            with suppress(OSError, NotImplementedError, Timeout):
                file.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(f"{file}.lock", timeout=LOCK_SECONDS))
        found = None if file is None else _read(file, n_threads)
        if found is not None:
            _log.info("%s: %s", file, _text(found))
            return found
        found, seconds = _measure(n_threads)
        times = {" ".join(key): round(value, 6) for key, value in seconds.items()}
        if file is not None:
            about = {"format": FORMAT, "torch": torch.__version__, "usable_threads": n_threads}
            text = json.dumps({**about, **asdict(found), "seconds": times}, indent=2)
            with suppress(OSError):  # a folder that is read-only, or a disk that is full
                write_text(file, text)
        _log.info("measured %s: %s (seconds: %s)", found.processor, _text(found), times)
        return found


def _measure(n_threads):
    """Return the fastest arithmetic, and the times that it was chosen by."""

    def measure():
        seconds = measure_speed()
        found = replace(choose_fastest(seconds), processor=processor()[0])
        threads = measure_threads(n_threads, found.precision, found.training_format)
        return replace(found, threads=threads), seconds

    # In a thread of its own, whose pool of threads ends with it: the caller can still be forked.
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1, "mura_skorch-measure") as executor:
            return executor.submit(measure).result()
    finally:
        torch.set_num_threads(before)  # what torch and MKL tell threads that begin later


def _file(n_threads):
    """Return where a measurement is stored, or None if there is no home."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        folder = Path(root) if os.path.isabs(root) else Path.home() / ".cache"
    except RuntimeError:
        return None
    name, digest = processor()
    words = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:60]
    version = re.sub(r"[^A-Za-z0-9.+]+", "-", torch.__version__)
    return folder / "mura_skorch" / "arithmetic" / f"{words}-{digest}-{n_threads}-{version}.json"


def _read(file, n_threads):
    """Return a stored measurement, or None if there is none that can be used."""
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        found = Arithmetic.from_dict(saved)
    except (OSError, KeyError, TypeError, ValueError, RecursionError):
        return None
    is_ours = saved.get("format") == FORMAT and found.device == "cpu"
    return found if is_ours and (found.threads or 1) <= n_threads else None


def _text(found):
    threads = "all threads" if found.threads is None else f"{found.threads} threads"
    return f"{found.precision}, {found.memory_format}, {threads}"
