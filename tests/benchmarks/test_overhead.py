"""Our fit, all callbacks and tracking on, beside bare loops; what its options cost and save."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from sklearn.base import clone
from torchvision.models import densenet169

from mura_skorch import MuraClassifier, write_phantoms
from mura_skorch.data import StudyCollate
from tests.benchmarks.conftest import DEVICE, add_row, on_device, wait

IMAGE_SIZE = 224  # pixels
# Runs one side in a process of its own and prints its peak memory in bytes above the imports; on a
# GPU that of the GPU.
MEMORY = """
import re, sys
from pathlib import Path
import torch
from mura_skorch import MuraClassifier, read_studies
from mura_skorch.data import StudyCollate

# Not getrusage, whose peak a process takes over from the one that started it.
def peak():
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

studies = read_studies(sys.argv[1])
clf = MuraClassifier(
    module__weights=None, module__augment=None, train_split=None, callbacks__mlflow=None,
    verbose=0, random_state=0, iterator_train__shuffle=False,
)
clf.set_params(max_epochs=1, module__memory_efficient=sys.argv[2] == "checkpointing")
before = peak()
if sys.argv[2] != "bare":
    clf.fit(studies)
else:
    clf.initialize()
    dataset = clf.get_dataset(studies)
    clf.criterion_.fit_weights([0] * len(studies), studies.label, dataset.n_views, ["XR_WRIST"])
    for start in range(0, len(studies), 8):
        inputs, y = StudyCollate()([dataset[i] for i in range(start, start + 8)])
        clf.optimizer_.zero_grad()
        clf.get_loss(clf.infer(inputs), y, X=inputs).backward()
        clf.optimizer_.step()
print(peak() - before)
"""


def peak_memory(side, studies):
    root = studies["views"].iloc[0][0].split("/train/")[0]
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), root, side]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.fixture
def clf(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return MuraClassifier(
        module__weights=None,
        module__augment=None,
        dataset__image_size=IMAGE_SIZE,
        dataset__cache=tmp_path / "cache",
        train_split=None,
        max_epochs=1,
        callbacks__mlflow__log_model=False,  # once a fit, not an epoch
        verbose=0,
        device=DEVICE,
    ).initialize()


def test_epoch_of_fit_against_a_bare_loop(in_turn, studies, clf):
    clf.partial_fit(studies)
    dataset = clf.get_dataset(studies)
    n = len(studies)
    batches = [
        StudyCollate()([dataset[i] for i in range(start, min(start + 8, n))])
        for start in range(0, n, 8)
    ]
    for inputs, _ in batches:
        del inputs["row"]  # names a view that went wrong: no argument of the network's
        inputs["view_index"] = inputs["view_mask"].flatten().nonzero().squeeze(1)
    if DEVICE == "cuda":
        batches = [
            ({name: value.pin_memory() for name, value in inputs.items()}, y.pin_memory())
            for inputs, y in batches
        ]
    network, optimizer = clf.module_, clf.optimizer_

    def bare():
        network.train()
        for inputs, y in batches:
            optimizer.zero_grad()
            X, label = on_device(inputs), y.to(DEVICE, non_blocking=True)
            half = clf.precision_ == "bfloat16"
            with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=half):
                logits = network(**X)
            clf.criterion_(logits, label, X["study_type"], X["view_mask"]).backward()
            optimizer.step()
        wait()

    in_turn(
        "an epoch of fit, all callbacks and tracking on",
        "a bare loop on the same prepared tensors",
        lambda: clf.partial_fit(studies),
        bare,
        target=0.95 if DEVICE == "cpu" else 0.9,
        rounds=5,
    )


@pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("batch_size", [8, 64])
def test_training_against_random_data_on_the_device(in_turn, studies, clf, batch_size):
    clf.set_params(batch_size=batch_size, callbacks__mlflow=None).initialize()
    clf.partial_fit(studies)
    n_views = studies["views"].map(len).to_numpy()
    sizes = [
        n_views[start : start + batch_size].sum() for start in range(0, len(studies), batch_size)
    ]
    shape = (3, IMAGE_SIZE, IMAGE_SIZE)
    views = torch.randn(max(sizes), *shape, device=DEVICE).to(memory_format=torch.channels_last)
    network = densenet169(num_classes=1).to(DEVICE, memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)

    def bare():
        for size in sizes:
            optimizer.zero_grad()
            with torch.autocast(DEVICE, dtype=torch.bfloat16):
                loss = network(views[:size]).float().square().mean()
            loss.backward()
            optimizer.step()
        wait()

    in_turn(
        f"training, minibatch {batch_size}, from a filled cache",
        "a bare bfloat16 loop on random data on the device",
        lambda: clf.partial_fit(studies),
        bare,
        target=0.9,
    )


def test_peak_memory_of_a_fit(studies):
    fit, bare, checkpointing = (
        peak_memory(side, studies) for side in ("fit", "bare", "checkpointing")
    )
    against = "a bare loop on the same batches"
    add_row("peak memory of a fit at minibatch 8", against, [fit / bare], 1.1, min)
    what = "peak memory of a fit, gradient checkpointing"
    add_row(what, "without", [checkpointing / fit], None, min)


def test_cost_of_gradient_checkpointing(in_turn, studies, clf):
    clf.partial_fit(studies)
    thrifty = clone(clf).set_params(module__memory_efficient=True)
    in_turn(
        "training, gradient checkpointing",
        "without",
        lambda: thrifty.partial_fit(studies),
        lambda: clf.partial_fit(studies),
    )


def test_loader_workers(in_turn, studies, clf):
    clf.set_params(dataset__cache=None).partial_fit(studies)

    def epoch(n_workers):
        clf.set_params(iterator_train__num_workers=n_workers)
        clf.partial_fit(studies)

    in_turn(
        "training without a cache, no loader workers",
        "two loader workers",
        lambda: epoch(0),
        lambda: epoch(2),
    )


def test_end_of_a_script(tmp_path):
    """Two models at a time: the processes that trained them end, too."""
    settings = {"n_train": 8, "n_valid": 8, "n_test": 0, "study_types": ["XR_HAND", "XR_WRIST"]}
    write_phantoms(tmp_path / "phantoms", **settings)
    script = Path(__file__).parents[2] / "experiments" / "per_body_part.py"
    options = ["--max-epochs", "1", "--image-size", "32", "--jobs", "2"]
    seconds = []
    for _ in range(2):
        command = [sys.executable, "-u", script, *options, "--out", f"out{len(seconds)}"]
        with subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            for _ in process.stdout:
                last = time.perf_counter()
        assert process.returncode == 0
        seconds.append(time.perf_counter() - last)
    add_row("end of a script after its last line, seconds", "", seconds, 2, min)


def test_import():
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    bases = "torch, torchvision, skorch, pandas"

    def seconds(modules):
        command = [sys.executable, "-c", code.format(modules)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    seconds(bases)
    ratios = [seconds(f"{bases}, mura_skorch") / seconds(bases) for _ in range(5)]
    add_row("import mura_skorch", "importing torch, torchvision, skorch, pandas", ratios, 1.1, min)
