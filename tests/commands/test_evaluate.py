"""The command ``mura-skorch evaluate`` on tables of predictions."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mura_skorch.cli.main import main
from mura_skorch.evaluation import score_predictions
from mura_skorch.studies import read_studies, write_studies
from mura_skorch.tracking import fetch_predictions

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def table(predictions):
    """The predictions of somebody's model in a file, with names of our choice."""
    site = ["north", "south"] * 30
    predictions.rename(columns={"score": "y_score"}).assign(site=site).to_csv("table.csv")
    return predictions


def test_scores_are_those_of_the_predictions_at_the_given_threshold(table, capsys):
    assert (
        main(["evaluate", "--predictions", "table.csv", "--threshold", "0.4", "--out", "out"]) == 0
    )
    found = pd.read_csv("out/metrics.csv")
    expected = score_predictions(table.assign(threshold=0.4))
    assert found["kappa"].tolist() == pytest.approx(expected["kappa"].tolist())
    assert Path("out/report.html").is_file()
    assert "overall" in capsys.readouterr().out


def test_run_can_be_compared_with_another(table, capsys):
    main(["evaluate", "--predictions", "table.csv", "--out", "out"])
    page = Path("out/report.html").read_text()
    run = re.search(r"\b[0-9a-f]{32}\b", page)[0]
    assert len(fetch_predictions(run)) == 60
    capsys.readouterr()
    assert main(["compare", run, run]) == 0
    assert "+0.000" in capsys.readouterr().out


def test_options_of_the_report_are_obeyed(table):
    options = ["--by", "site", "--prevalence", "0.05", "--notes", "Labels by Anna."]
    assert main(["evaluate", "--predictions", "table.csv", "--out", "out", *options]) == 0
    assert set(pd.read_csv("out/by_site.csv")["value"]) == {"north", "south"}
    assert "Labels by Anna." in Path("out/model_card.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--predictions", "none.csv"], "expected a table of studies, got no such file"),
        (
            ["--predictions", "table.csv", "--threshold", "youden"],
            "expected a number as --threshold",
        ),
        (["--predictions", "table.csv", "--by", "age"], "expected columns age in the predictions"),
        (["--predictions", "unlabelled.csv"], "expected studies with a label and a score"),
    ],
)
def test_what_cannot_be_scored_is_named(table, words, message):
    table.assign(label=None).to_csv("unlabelled.csv")
    with pytest.raises(SystemExit, match=f"mura-skorch evaluate: .*{message}"):
        main(["evaluate", *words])


def test_a_model_is_not_opened_for_studies_without_labels(phantom_root):
    write_studies(read_studies(phantom_root).assign(label=pd.NA), "unlabelled.csv")
    with pytest.raises(SystemExit, match="expected labelled studies .* in unlabelled.csv, got"):
        main(["evaluate", "--model", "nowhere", "--data", "unlabelled.csv"])


@pytest.mark.parametrize(
    "words",
    [[], ["--model", "m"], ["--data", "d"], ["--predictions", "t.csv", "--device", "cpu"]],
)
def test_calls_of_neither_or_both_kinds_are_refused(words, capsys):
    with pytest.raises(SystemExit) as error:
        main(["evaluate", *words])
    assert error.value.code == 2
    assert "error: expected" in capsys.readouterr().err
