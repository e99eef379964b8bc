"""What the commands that train refuse before they open a run, and where their models are."""

import shlex

import mlflow
import pytest

from mura_skorch import write_phantoms
from mura_skorch.cli.main import main
from mura_skorch.cli.options import make_parser
from mura_skorch.cli.predict import add_arguments
from mura_skorch.commands.train import model_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "my phantoms"
    return str(write_phantoms(folder, n_train=4, n_valid=2, n_test=0, study_types=["XR_HAND"]))


def test_devices_of_a_cluster_are_not_asked_of_this_machine(data):
    args = ["--data", data, "--device", "cuda:99"]
    with pytest.raises(SystemExit, match="mura-skorch config: expected .*cuda:99"):
        main(["config", "train", *args])
    assert main(["config", "train", *args, "--dask", "tcp://head:8786"]) == 0


def n_runs():
    return len(mlflow.search_runs(search_all_experiments=True, output_format="list"))


@pytest.mark.parametrize(
    ("command", "option", "reason"),
    [
        ("train", "--lr=-1", "expected lr to be a finite number, 0 or more, got -1"),
        ("train", "--max-epochs=0", "expected max_epochs to be 1, 2, ... epochs, got 0"),
        ("train", "--batch-size=0", "expected batch_size to be 1, 2, ... studies, got 0"),
        ("train", "--random-state=-1", "expected random_state from 0 to"),
        ("train", "--device=gpu", "expected device to be known to torch, got 'gpu'"),
        ("reproduce-paper", "--lr=-1", "expected lr to be a finite number"),
        ("reproduce-paper", "--max-epochs=0", "expected max_epochs to be 1"),
        ("review-labels --fine-tune", "--lr=-1", "expected lr to be a finite number"),
        ("review-labels --fine-tune", "--max-epochs=0", "expected max_epochs to be 1"),
    ],
)
def test_settings_of_no_fit_are_refused_before_a_run_is_opened(
    command, option, reason, data, tmp_path
):
    n_before = n_runs()
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match=reason):
        main([*command.split(), "--data", data, option, "--out", str(out)])
    assert n_runs() == n_before
    assert not out.exists()


@pytest.mark.slow
def test_views_that_the_network_cannot_take_are_refused_before_a_run_is_opened(data, tmp_path):
    n_before = n_runs()
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="of 29 pixels or more.* densenet169 takes, got 10; raise"):
        main(["train", "--data", data, "--image-size", "10", "--out", str(out)])
    assert n_runs() == n_before
    assert not out.exists()


def test_config_refuses_what_train_refuses(data):
    for words in (["--data", data], []):
        with pytest.raises(SystemExit, match="mura-skorch config: expected max_epochs to be 1"):
            main(["config", "train", *words, "--max-epochs", "0"])


def test_models_are_named_by_run_with_a_command_that_predicts(data):
    done = {"XR_WRIST": (None, None, "b2"), "XR_HAND": (None, None, "a1")}
    lines = model_lines(done, data)
    assert [line.split() for line in lines[1:3]] == [["XR_HAND", "a1"], ["XR_WRIST", "b2"]]
    program, name, *words = shlex.split(lines[3].removeprefix("Predict with one: "))
    assert program.endswith("mura-skorch")
    assert name == "predict"
    parser = make_parser("")
    add_arguments(parser)
    args = parser.parse_args(words)
    assert (args.model, str(args.data)) == ("a1", data)


def test_models_take_few_lines_and_none_without_mlflow(data):
    many = {f"TYPE_{i}": (None, None, f"{i}") for i in range(30)}
    lines = model_lines(many, data)
    assert len(lines) == 10
    assert lines[8] == "  and 23 more, which the report names"
    assert model_lines({"XR_HAND": (None, None, None)}, data) == []


def test_model_that_is_none_is_answered_with_where_ids_are(data, tmp_path):
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text("{}")
    for model, remedy in (
        (str(report), "holds a report; pass the id of a model's run, which report.html names"),
        ("nope", "train prints ids at its end, and mlflow ui shows them"),
    ):
        with pytest.raises(SystemExit, match=f"predict: expected a folder .*{remedy}"):
            main(["predict", "--model", model, "--data", data, "--out", str(tmp_path / "out")])
