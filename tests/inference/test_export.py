"""Export of a fitted classifier, and its program in an environment without torch."""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier, tiny_densenet
from packaging.requirements import Requirement
from torch import nn

from mura_skorch import MuraClassifier, MuraEnsemble, StudyNetwork
from mura_skorch.cli.main import main
from mura_skorch.data import StudyDataset
from mura_skorch.inference import export_classifier, program
from mura_skorch.inference.graph import ViewGraph

FILES = ["README.md", "export.json", "model.onnx", "predict.py"]
# What a file of this machine would name.
PLACES = [str(Path(__file__).parents[2]), str(Path(torch.__file__).parents[1])]


def program_of(folder, source, *args):
    """Return the program's results by the name of the study's folder, in this process."""
    code = (folder / "predict.py").read_text()
    assert code == Path(program.__file__).read_text()
    lines = []
    namespace = {"__name__": "predict", "__file__": str(folder / "predict.py")}
    exec(compile(code, "predict.py", "exec"), namespace)
    namespace["print"] = lambda *texts, **options: lines.append(texts)
    namespace["main"](str(source), *args)
    return parsed([line for line in lines if len(line) > 3])


def parsed(rows):
    return {
        row[0]: (
            float(row[1]),
            row[2],
            {text.split()[0]: float(text.split()[1]) for text in row[3:]},
        )
        for row in rows
    }


def check_equal(clf, studies, rows):
    """Compare the program's lines with the classifier's predictions."""
    proba, of_views = clf.predict_with_views(studies)
    decisions = clf.predict(studies)
    assert len(rows) == len(studies)
    for i, views in enumerate(studies["views"]):
        p, decision, p_views = rows[os.path.dirname(views[0])]
        assert p == pytest.approx(proba[i, 1], abs=2e-6)
        assert decision == ["normal", "abnormal"][decisions[i]]
        assert list(p_views) == [os.path.basename(path) for path in views]
        assert list(p_views.values()) == pytest.approx(of_views[i].tolist(), abs=2e-6)


@pytest.fixture(scope="module")
def folder(fitted, tmp_path_factory):
    """The export of a tiny classifier; tests must not change it."""
    folder = tmp_path_factory.mktemp("export") / "new" / "folder"
    assert fitted.export(folder) is None
    return folder


@pytest.fixture(scope="module")
def about(folder):
    return json.loads((folder / "export.json").read_text())


# --- what is written -------------------------------------------------------------------------


def test_folder_has_four_files_and_no_others(folder):
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_json_holds_what_a_program_needs(fitted, folder, about):
    assert about["pooling"] == "mean"
    assert about["threshold"] == 0.5
    assert about["study_types"] == ["XR_HAND", "XR_WRIST"]
    assert about["classes"] == ["normal", "abnormal"]
    assert about["preparation"]["image_size"] == 32
    assert about["normalisation"]["mean"] == fitted.module_.mean.flatten().tolist()
    assert about["caveat"].endswith("Trained on phantoms: no clinical meaning.")
    assert about["inputs"] == {"views": {"dtype": "uint8", "shape": ["n_views", 1, 32, 32]}}
    assert about["outputs"]["logit"]["shape"] == ["n_views"]
    assert about["outputs"]["map"]["shape"] == ["n_views", 4, 4]
    assert about["sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert max(about["parity"].values()) < 1e-4


def test_readme_has_the_program_and_the_caveats(folder):
    text = (folder / "README.md").read_text()
    assert (folder / "predict.py").read_text() in text
    assert "not a medical device" in text
    assert "phantoms: no clinical meaning" in text
    assert "$" not in text.split("```python")[0]


def test_map_of_the_graph_adds_up_to_the_logit(fitted, folder, about):
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx")
    views = np.random.default_rng(0).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)
    logit, maps = session.run(["logit", "map"], {"views": views})
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + about["head_bias"], logit, atol=1e-5)


def test_layer_norm_before_the_head_is_found_in_a_network_without_biases():
    net = StudyNetwork(backbone="timm:test_convnext", image_size=64).eval()
    with torch.no_grad():
        for name, parameter in net.network.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    assert ViewGraph(net, 64).has_norm


def test_graph_names_no_path_of_the_machine(folder):
    data = (folder / "model.onnx").read_bytes()
    assert not [place for place in PLACES if place.encode() in data]
    assert b"site-packages" not in data


def test_older_export_is_replaced_and_the_log_says_so(fitted, folder, tmp_path, caplog):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(b"old")
    fitted.export(tmp_path)
    assert "replacing the model in" in caplog.text
    assert all((tmp_path / name).read_bytes() != b"old" for name in FILES)


@pytest.mark.parametrize("name", ["README.md", "predict.py", "model.onnx"])
def test_files_of_something_else_are_not_replaced(fitted, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"with another {name}; pass another folder"):
        fitted.export(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_file_in_the_way_is_named(fitted, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="got the file .*file; pass another path"):
        fitted.export(tmp_path / "file")


# --- the program -----------------------------------------------------------------------------


def requirements_of(*names):
    """Return names of distributions and of all they require."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            for text in importlib.metadata.requires(name) or []:
                required = Requirement(text)
                if required.marker is None or required.marker.evaluate({"extra": ""}):
                    left.append(required.name)
    return found


def test_program_predicts_as_the_classifier_where_there_is_no_torch(
    fitted, folder, valid, phantom_root, tmp_path
):
    links = tmp_path / "packages"
    links.mkdir()
    for name in requirements_of("onnxruntime", "pillow", "numpy"):
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (links / top).exists():
                (links / top).symlink_to(distribution.locate_file(top))
    code = (
        "import importlib.util, runpy, sys\n"
        f"sys.path.insert(0, {str(links)!r})\n"
        "for name in ('torch', 'mura_skorch', 'onnx', 'pandas', 'scipy'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        f"sys.argv = ['predict.py', {str(phantom_root / 'valid')!r}]\n"
        f"runpy.run_path({str(folder / 'predict.py')!r}, run_name='__main__')\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "phantoms: no clinical meaning" in done.stderr
    check_equal(fitted, valid, parsed([line.split("\t") for line in done.stdout.splitlines()]))


def varied(clf):
    """Give a network view logits and attention that differ from view to view."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in (clf.module_.head, getattr(clf.module_.attention, "score", None)):
            if layer is not None:
                layer.weight[:] = 3 * torch.randn(layer.weight.shape, generator=generator)


@pytest.mark.parametrize(
    "pooling",
    [
        "attention",
        pytest.param("mean", marks=pytest.mark.slow),
        pytest.param("attention_additive", marks=pytest.mark.slow),
        pytest.param("max", marks=pytest.mark.slow),
    ],
)
def test_program_pools_flips_and_calibrates_as_the_classifier(
    pooling, train, valid, phantom_root, tmp_path
):
    clf = tiny_classifier(
        module__pooling=pooling, flip_average=True, max_epochs=1, train_split=None
    ).fit(train)
    varied(clf)
    clf = clf.recalibrate(threshold=0.4, calibration=None, prior_correction=True)
    clf.slope_, clf.intercept_ = 0.7, -0.2
    clf.export(tmp_path)
    types = clf.prior_shift(["XR_HAND", "XR_WRIST"])
    assert types[0] != types[1]
    for study_type in ("XR_HAND", "XR_WRIST"):
        of_type = valid[valid.study_type == study_type]
        rows = program_of(tmp_path, phantom_root / "valid" / study_type, study_type)
        check_equal(clf, of_type, rows)
    with pytest.warns(UserWarning, match="training never saw XR_FOOT"):
        unknown = of_type.assign(study_type="XR_FOOT")
        check_equal(
            clf, unknown, program_of(tmp_path, phantom_root / "valid" / study_type, "XR_FOOT")
        )


# --- what is refused -------------------------------------------------------------------------


class Brighter(nn.Module):
    """A network that computes something else while it is exported."""

    def __init__(self):
        super().__init__()
        self.network = tiny_densenet()
        self.classifier, self.network.classifier = self.network.classifier, nn.Identity()

    def forward(self, x):
        if torch.compiler.is_exporting():
            x = x + 0.1
        return self.classifier(self.network(x))


class Branching(Brighter):
    """A network whose layers depend on the values of the views."""

    def forward(self, x):
        features = self.network(x)
        is_first = x.is_meta or features.sum() > 0
        return self.classifier(features if is_first else -features)


class Bessel(Brighter):
    """A network with a function that ONNX lacks."""

    def forward(self, x):
        return self.classifier(torch.special.bessel_j1(self.network(x)))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Brighter, "got a difference of .* in a (logit|map) .* nothing was written"),
        (Branching, "ONNX can express, got Branching, of which torch.onnx.export says: .*data-dep"),
        (Bessel, "got Bessel, of which torch.onnx.export says: .*bessel_j1"),
    ],
)
def test_network_without_parity_or_without_a_graph_is_refused(network, reason, train, tmp_path):
    clf = tiny_classifier(module__backbone=network, max_epochs=1, train_split=None).fit(train)
    varied(clf)
    folder = tmp_path / "out"
    with pytest.raises(ValueError, match=reason):
        clf.export(folder)
    assert not folder.exists()


class OwnForward(TinyNet):
    def forward(self, views, view_mask, study_type=None):
        study_logit, view_logit = super().forward(views, view_mask, study_type)
        return 2 * study_logit, view_logit


class OwnModule(nn.Module):
    def __init__(self, weights=None):
        super().__init__()
        self.head = nn.Linear(1, 1)

    def forward(self, views, view_mask, study_type=None):
        z = self.head(views.float().mean(dim=(2, 3))[..., None]).squeeze(2)
        return z.mean(dim=1), z[view_mask]


class OwnDataset(StudyDataset):
    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        return {**inputs, "views": 255 - inputs["views"]}, label


def two_columns(logit):
    p = torch.sigmoid(logit[0] if isinstance(logit, tuple) else logit)
    return torch.stack([1 - p, p], dim=1)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"module": OwnForward}, "the forward of StudyNetwork.* one of OwnForward's own"),
        ({"module": OwnModule}, "expected a StudyNetwork.* got a OwnModule; .*module__backbone"),
        ({"dataset": OwnDataset}, "expected dataset to be StudyDataset.* got OwnDataset"),
        ({"predict_nonlinearity": two_columns}, "predict_nonlinearity='auto'"),
    ],
)
def test_parts_that_the_program_would_not_repeat_are_refused(params, reason, tmp_path):
    clf = tiny_classifier(**params).initialize()
    with pytest.raises(TypeError, match=reason):
        clf.export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_ensemble_is_exported_member_by_member(fitted, tmp_path):
    with pytest.raises(TypeError, match="got an ensemble; export each member"):
        MuraEnsemble.of([fitted, fitted]).export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_package_is_named_with_the_extra(fitted, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ImportError, match=r"got no onnxscript: pip install 'mura-skorch\[export\]'"
    ):
        export_classifier(fitted, tmp_path / "out")


def test_unfitted_classifier_is_refused(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        MuraClassifier().export(tmp_path / "out")


# --- the command -----------------------------------------------------------------------------


def test_command_refuses_a_module_of_ones_own(tmp_path):
    clf = tiny_classifier(module=TinyNet).initialize()
    clf.save(tmp_path / "model")
    with pytest.raises(SystemExit, match=r"^mura-skorch export: .*expected module TinyNet.*$"):
        main(["export", str(tmp_path / "model"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_command_exports_the_model_of_a_run(train, tmp_path, capsys):
    clf = MuraClassifier(
        module__backbone="timm:test_resnet",
        module__weights=None,
        dataset__image_size=32,
        max_epochs=1,
        train_split=None,
        verbose=0,
    ).fit(train)
    assert main(["export", clf.run_id_, str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "timm:test_resnet; largest differences from torch: logit " in out
    about = json.loads((tmp_path / "out" / "export.json").read_text())
    assert about["run_id"] == clf.run_id_


@pytest.mark.parametrize("source", ["absent", "runs:/0123/model", "models:/absent@champion"])
def test_command_says_in_a_line_that_there_is_no_model(source, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["export", source, str(tmp_path / "out")])
    message = ended.value.code
    assert message.startswith("mura-skorch export: expected")
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


def test_help_says_what_is_exported(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["export", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "mura-skorch export models:/mura@champion" in text
    assert "id of an MLflow run" in text
