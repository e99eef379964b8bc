"""Try the installed package with an extra, or with none: `make dist` does it in fresh environments.

python tests/try_wheel.py             # none: the core works, and what is missing names its extra
python tests/try_wheel.py dicom
"""

import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mura_skorch import MuraClassifier, StudyNetwork, read_studies, write_phantoms


def classifier(folder, backbone="resnet18"):
    """Return a classifier fitted for one epoch, and its studies."""
    if not (folder / "phantoms").exists():
        write_phantoms(
            folder / "phantoms", n_train=12, n_valid=4, n_test=0, study_types=["XR_WRIST"]
        )
    studies = read_studies(folder / "phantoms")
    clf = MuraClassifier(
        module__backbone=backbone,
        module__weights=None,
        dataset__image_size=64,
        max_epochs=1,
        callbacks__mlflow=None,
        verbose=0,
    )
    return clf.fit(studies), studies


def dicom(folder):
    """Read a DICOM file."""
    from mura_skorch.dicom import read_dicom_studies

    try:
        from pydicom.dataset import FileDataset, FileMetaDataset
    except ImportError:
        (folder / "view.dcm").write_bytes(b"\0" * 128 + b"DICM")
        read_dicom_studies(folder)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    file.PatientID, file.StudyInstanceUID, file.Modality = "7", "1.2", "DX"
    file.BodyPartExamined = "HAND"
    file.Rows, file.Columns, file.SamplesPerPixel = 40, 30, 1
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 8, 8, 7, 0
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = np.arange(1200, dtype=np.uint8).tobytes()
    file.save_as(folder / "view.dcm", enforce_file_format=True)
    assert read_dicom_studies(folder)["study_type"].tolist() == ["XR_HAND"]


def timm(folder):
    """Build a backbone of timm."""
    StudyNetwork(backbone="timm:resnet10t", weights=None)


def dask(folder):
    """Start a cluster on this machine."""
    from mura_skorch.commands.cluster import dask_client

    with dask_client("local", 1) as client:
        assert client.submit(sum, [1, 2]).result() == 3


def remote(folder):
    """Ask for a folder in an object store that is not there."""
    from mura_skorch.utils.remote import _file_system

    for scheme in ("s3", "gs", "https"):
        _file_system(scheme)


def export(folder):
    """Export a model, which runs it by ONNX Runtime and compares."""
    clf, _ = classifier(folder)
    clf.export(folder / "onnx")


def fast(folder):
    """Predict by OpenVINO."""
    clf, studies = classifier(folder)
    clf.save(folder / "model")
    fast = MuraClassifier.load(folder / "model", engine="openvino", precision="float32")
    np.testing.assert_allclose(fast.predict_proba(studies), clf.predict_proba(studies), atol=0.02)


def sweep(folder):
    """Open a database of trials."""
    from mura_skorch.sweeps.trials import import_optuna

    import_optuna().create_study(storage=f"sqlite:///{folder}/sweep.db")


def labels(folder):
    """Rank suspect labels."""
    from mura_skorch.evaluation.label_review import rank_suspects

    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 50)
    score = np.clip(label * 0.8 + rng.uniform(0, 0.2, 100), 0, 1)
    label[0] = 1
    ranked = rank_suspects(label, score, ["XR_HAND"] * 100)
    assert len(ranked) == 100


EXTRAS = {run.__name__: run for run in (dicom, timm, dask, remote, export, fast, sweep, labels)}


@contextmanager
def names_the_extra(name):
    """Expect an ImportError that names the extra."""
    try:
        yield
    except ImportError as error:
        if f"[{name}]" not in str(error):
            raise
    else:
        raise AssertionError(f"expected an error that names the extra [{name}], got none")


def core(folder):
    """Fit, save, load, call the command; every missing extra is named."""
    clf, studies = classifier(folder)
    clf.save(folder / "saved")
    again = MuraClassifier.load(folder / "saved")
    assert (again.predict(studies) == clf.predict(studies)).all()
    command = [Path(sys.executable).with_name("mura-skorch"), "--help"]
    assert "train" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for name, run in EXTRAS.items():
        part = folder / name
        part.mkdir()
        with names_the_extra(name):
            run(part)


def main():
    """Try what was asked for."""
    names = sys.argv[1:]
    for name in names or ["core"]:
        with tempfile.TemporaryDirectory() as folder:
            EXTRAS.get(name, core)(Path(folder))
        sys.stdout.write(f"{name}: works\n")


if __name__ == "__main__":
    main()
