from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.evaluation import prediction_table, view_prediction_table, write_competition
from mura_skorch.report import collect_predictions
from mura_skorch.report.model_card import describe_model
from mura_skorch.studies import join_labels
from mura_skorch.studies.columns import COLUMNS, RESERVED


def test_view_table_has_one_row_per_view(fitted, valid):
    scores = fitted.predict_view_proba(valid)
    table = view_prediction_table(valid, scores, threshold=0.3)
    assert list(table) == [
        *("study", "study_type", "patient", "label", "view", "score", "threshold", "note")
    ]
    assert len(table) == valid["views"].map(len).sum()
    np.testing.assert_array_equal(table["score"], np.concatenate(scores))
    assert table["threshold"].eq(0.3).all()
    assert table["view"].min() == 1
    means = table.groupby("study", sort=False)["score"].mean()
    assert means.index.tolist() == valid["study"].tolist()
    np.testing.assert_allclose(means, fitted.predict_proba(valid)[:, 1], atol=1e-6)
    assert not table.astype(str).apply(lambda column: column.str.contains("png")).any(axis=None)


def test_view_scores_of_wrong_length_are_refused(valid):
    with pytest.raises(ValueError, match="expected a score for each of"):
        view_prediction_table(valid, [[0.5]] * len(valid))


def test_competition_file_round_trips(valid):
    predictions = prediction_table(valid, np.linspace(0, 1, len(valid)))
    write_competition(predictions, "predictions.csv")
    lines = Path("predictions.csv").read_text().splitlines()
    assert lines[0] == f"MURA-v1.1/{predictions['study'][0]}/,0"
    assert len(lines) == len(valid)
    back = join_labels(valid, "predictions.csv")
    assert back["label"].tolist() == predictions["decision"].tolist()
    assert pd.api.types.is_integer_dtype(predictions["decision"])


@pytest.mark.parametrize(
    "name", ["score", "threshold", "decision", "n_views", "note", "height", "scored_by"]
)
def test_reserved_column_names_are_refused(valid, name):
    table = valid.assign(**{name: 7})
    with pytest.raises(ValueError, match=f"not called {name}, which are reserved.*to own_{name}"):
        prediction_table(table, [0.5] * len(valid), keep=["split", name])


def test_every_column_of_collected_predictions_is_reserved(fitted, valid):
    found = collect_predictions(fitted, valid, n_cases=0)
    assert {*found.predictions, *found.view_predictions} <= RESERVED | set(COLUMNS)


def test_collected_predictions_describe_the_model(fitted, valid):
    """A loss or network of one's own is told by its own words, and by no others."""
    told = " ".join(collect_predictions(fitted, valid, n_cases=0).model)
    assert "Network: TinyNet. The study network with a DenseNet of four layers." in told
    assert "DenseNet-169" not in told
    assert "training began with random weights" in told
    assert "Loss: StudyTypeBCE. Binary cross-entropy" in told
    assert "count views, level study" in told
    assert "Trained on the study types XR_HAND, XR_WRIST." in told
    both = describe_model(MuraEnsemble.of([fitted, fitted]))
    assert both[0] == "The mean probability of 2 models."
    assert both[1:] == describe_model(fitted)


def test_study_without_a_score_has_no_decision(valid):
    table = prediction_table(valid[:3], [0.9, float("nan"), 0.1])
    assert table["decision"].tolist() == [1, pd.NA, 0]
    with pytest.raises(ValueError, match=f"none on 1, such as {table['study'][1]}"):
        write_competition(table, "predictions.csv")
    assert not Path("predictions.csv").exists()


def test_decision_survives_float32_and_csv_round_trip(valid):
    score = np.full(len(valid), 0.3, dtype=np.float32)
    table = prediction_table(valid, score, threshold=0.3)
    assert table["score"].dtype == np.float64
    table.to_csv("table.csv", index=False)
    back = pd.read_csv("table.csv")
    again = prediction_table(valid, back["score"], threshold=0.3)["decision"]
    assert table["decision"].tolist() == again.tolist() == [1] * len(valid)
    assert ((back["score"] > back["threshold"]) == table["decision"].astype(bool)).all()
