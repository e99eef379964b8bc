"""What bfloat16 changes: one trained network, read in both kinds of arithmetic."""

import numpy as np
import pytest

from mura_skorch import MuraClassifier, read_studies, write_phantoms
from tests.benchmarks.conftest import DEVICE, add_row

IMAGE_SIZE = 64  # pixels: a minute of training suffices


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Wrists: 120 studies to train on, 200 to compare."""
    root = tmp_path_factory.mktemp("precision") / "phantoms"
    write_phantoms(root, n_train=120, n_valid=200, n_test=0, study_types=["XR_WRIST"])
    return read_studies(root)


def test_bfloat16_beside_float32_on_trained_weights(studies, tmp_path):
    clf = MuraClassifier(
        module__weights=None,
        dataset__image_size=IMAGE_SIZE,
        max_epochs=7,
        lr=5e-4,
        device=DEVICE,
        callbacks__mlflow=None,
        verbose=0,
        random_state=0,
    ).fit(studies[studies.split == "train"])
    clf.save(tmp_path)
    single, half = (
        MuraClassifier.load(tmp_path, precision=precision).predict_proba(
            studies[studies.split == "valid"]
        )[:, 1]
        for precision in ("float32", "bfloat16")
    )
    assert np.ptp(single) > 0.5, "the network has not learnt: probabilities near .5 say little"
    against = "float32, 200 phantom studies"
    largest, differ = np.abs(half - single).max(), np.mean((half > 0.5) != (single > 0.5))
    add_row("bfloat16, largest difference of a probability", against, [largest], 0.02, min)
    add_row("bfloat16, share of decisions that differ", against, [differ], 0.01, min)
