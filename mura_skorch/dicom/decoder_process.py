"""Decode compressed frames, and check image files, in a separate process.

The libraries that read compressed pixels are written in C and C++. Damaged pixels can crash the
process they run in, or fill its memory; a separate process protects the fit. This file is also the
program of that process. It imports nothing from the package, which takes seconds to import.
"""

import atexit
import contextlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

__all__ = ["check_image_apart", "decode_apart"]

TIMEOUT = 60.0  # seconds; 5 megapixels of JPEG 2000, the slowest, take one
# Memory that decoders need besides the pixels: copies, colours as float32, and their own tables.
N_COPIES, RESERVE = 16, 512 * 2**20
TOO_LARGE = "its pixels take far more memory than their size"
_idle: list["_Process"] = []
_running: set["_Process"] = set()


def decode_apart(frame: bytes, **options: Any) -> np.ndarray:
    """Decode a compressed frame in another process, which then waits for the next one.

    Parameters
    ----------
    frame : bytes
        One frame, without DICOM's encapsulation.
    **options : str, int or bool
        ``syntax``, the transfer syntax; ``plugin``, the name of a pydicom decoder; and the
        options of `pydicom.pixels.decoders.base.Decoder.as_array`.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, 3), integer

    Raises
    ------
    ImportError
        The process does not start.
    ValueError
        The frame cannot be decoded, needs more than a minute or far more memory than its size, or
        crashes the process. The next frame gets a new process.

    Notes
    -----
    Threads that decode at the same time each use a process, of 70 MB or more. It ends with the
    process that started it. A forked process starts its own.
    """
    process = _take_process()
    timer = threading.Timer(TIMEOUT, process.popen.kill)
    timer.daemon = True
    try:
        timer.start()
        _send(process.questions, options, frame)
        about = _receive_about(process.answers)
        if "error" not in about:
            pixels = np.empty(about["shape"], about["dtype"])
            _fill(process.answers, pixels.reshape(-1).view(np.uint8))
    except (EOFError, OSError):
        process.end()
        raise ValueError("its pixels are damaged: the decoder ended") from None
    except BaseException:  # such as Ctrl-C, between question and answer
        process.end()
        raise
    finally:
        timer.cancel()
    if len(_idle) < _count_cores():
        _idle.append(process)
    else:
        process.end()
    if "error" in about:
        raise ValueError(about["error"])
    return pixels


def check_image_apart(data: bytes, formats: Sequence[str]) -> None:
    """Decode an image file with Pillow in another process, which has Pillow's default settings.

    Parameters
    ----------
    data : bytes
        The complete file. Its header must not exceed the allowed number of pixels.
    formats : sequence of str
        Pillow's names of the formats to try.

    Raises
    ------
    ImportError
        The process does not start.
    ValueError
        The file is truncated or damaged; see also `decode_apart`.
    """
    decode_apart(data, formats=list(formats))


class _Process:
    """A running decoder and its two pipes, unbuffered: a fork must not copy pending bytes."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self.popen = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self.questions: Any = self.popen.stdin
        self.answers: Any = self.popen.stdout
        _running.add(self)
        try:
            _receive_about(self.answers)
        except BaseException as error:
            self.end()
            if isinstance(error, EOFError):
                raise ImportError(
                    f"expected a decoder that starts, got one that ended at once. Check that "
                    f"{sys.executable} -c 'import pydicom.pixels' works"
                ) from None
            raise

    def end(self) -> None:
        _running.discard(self)
        self.popen.kill()
        self.popen.wait()
        self.close()

    def close(self) -> None:
        self.questions.close()
        self.answers.close()


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _take_process() -> _Process:
    """Return an idle decoder, or a new one."""
    with contextlib.suppress(IndexError):
        while True:
            process = _idle.pop()  # atomic: two threads never get the same
            if process.popen.poll() is None:
                return process
            process.end()
    return _Process()


def _forget() -> None:
    """In a forked process, leave the decoders to the parent: they end when all pipes are closed."""
    for process in _running:
        process.close()
        process.popen.returncode = 0  # the parent waits for it
    _running.clear()
    _idle.clear()


def _end_all() -> None:
    for process in list(_running):
        process.end()


# --------------------------------------------------------------------- the pipes


def _send(pipe: BinaryIO, about: dict[str, Any], data: Any = b"") -> None:
    text = json.dumps({**about, "n_bytes": len(data)}).encode()
    for part in (struct.pack("<Q", len(text)) + text, data):
        rest = memoryview(part)
        while rest:
            rest = rest[pipe.write(rest) :]


def _receive_about(pipe: Any) -> dict[str, Any]:
    size = struct.unpack("<Q", _fill(pipe, bytearray(8)))[0]
    return json.loads(_fill(pipe, bytearray(size)))


def _fill(pipe: Any, target: Any) -> Any:
    rest = memoryview(target)
    while rest:
        if not (n := pipe.readinto(rest)):
            raise EOFError
        rest = rest[n:]
    return target


# ------------------------------------------------------------------- the program


def _main() -> None:
    """Answer requests until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with open(0, "rb", buffering=0) as questions, open(os.dup(1), "wb", buffering=0) as answers:
        os.dup2(2, 1)  # output of a library must not mix with the answers
        from PIL import Image
        from pydicom import pixels  # noqa: F401

        Image.MAX_IMAGE_PIXELS = None  # the process that asks has checked the size
        _send(answers, {})
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                options = _receive_about(questions)
                frame = bytes(_fill(questions, bytearray(options.pop("n_bytes"))))
                try:
                    if "formats" in options:
                        array = _decoded_by_pillow(frame, **options)
                    else:
                        array = np.ascontiguousarray(_decoded(frame, **options))
                except Exception as error:
                    # pydicom's message for the error of a decoder: "... plugins:\n  name: error".
                    text = " ".join(str(error).rpartition("plugins:\n")[2].split())
                    is_empty = not text or text.endswith(":")  # as a MemoryError is
                    _send(answers, {"error": TOO_LARGE if is_empty else text})
                else:
                    about = {"dtype": array.dtype.str, "shape": array.shape}
                    _send(answers, about, array.reshape(-1).view(np.uint8))


def _decoded(frame: bytes, *, syntax: str, plugin: str, **options: Any) -> np.ndarray:
    from pydicom import encaps, pixels

    n_values = options["rows"] * options["columns"] * options["samples_per_pixel"]
    n_bytes = n_values * options["bits_allocated"] // 8
    wrapped = encaps.encapsulate([frame], has_bot=False)
    decoder = pixels.get_decoder(syntax)
    with _bounded_memory(N_COPIES * n_bytes + 4 * len(frame) + RESERVE):
        return decoder.as_array(wrapped, index=0, decoding_plugin=plugin, **options)[0]


def _decoded_by_pillow(data: bytes, *, formats: list[str]) -> np.ndarray:
    """Return no pixels: the process that asks decodes the file again."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.UnidentifiedImageError:
        raise ValueError("its header is damaged") from None
    with image, _bounded_memory(N_COPIES * image.width * image.height + 4 * len(data) + RESERVE):
        image.load()
    return np.empty(0, np.uint8)


@contextlib.contextmanager
def _bounded_memory(n_bytes: int) -> Iterator[None]:
    """Limit the additional memory of this process, on Linux."""
    try:
        import resource

        with open("/proc/self/statm") as file:
            limit = int(file.read().split()[0]) * resource.getpagesize() + n_bytes
    except (ImportError, OSError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


if __name__ == "__main__":
    _main()
else:
    atexit.register(_end_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)
