import numpy as np
import pandas as pd
import pytest

from mura_skorch.predictions import beside_pooled, join_notes, prediction_table
from mura_skorch.published import FOOTNOTE, format_scores
from mura_skorch.report import final_metrics, score_predictions, write_results


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = np.array([0, 1] * 30)
    return pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(60)],
            "study_type": ["XR_HAND", "XR_HAND", "XR_WRIST"] * 20,
            "patient": [f"p{i // 2}" for i in range(60)],
            "label": label,
            "n_views": 2,
            "score": np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.2, 60), 0, 1),
        }
    )


def test_results_are_a_table_a_figure_and_the_predictions(predictions, tmp_path):
    scores = write_results(predictions, tmp_path / "out")
    assert scores["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert scores["n"].tolist() == [40, 20, 60]
    found = pd.read_csv(tmp_path / "out" / "results.csv")
    pd.testing.assert_frame_equal(found, scores, check_dtype=False)
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == 60
    assert (tmp_path / "out" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_failed_types_keep_a_row_that_says_why(predictions):
    scores = score_predictions(predictions, failed={"XR_ELBOW": "FAILED: no such file"})
    names = ["XR_ELBOW", "XR_HAND", "XR_WRIST", "overall"]
    assert scores["study_type"].tolist() == names
    assert "FAILED: no such file" in format_scores(scores).splitlines()[2]


def test_nothing_but_failures_is_still_a_table(tmp_path):
    scores = write_results(
        beside_pooled([]), tmp_path, failed={"XR_HAND": "FAILED: a", "XR_WRIST": "FAILED: b"}
    )
    assert scores["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert "FAILED: b" in format_scores(scores)
    assert np.isnan(final_metrics(scores)["test/kappa"])


def test_pooled_model_stands_beside_the_models_of_single_types(predictions):
    perfect = predictions.assign(pooled_score=predictions["label"] * 0.8)
    scores = score_predictions(perfect)
    assert scores["pooled_model"].tolist() == [1, 1, 1]
    assert "pooled" in format_scores(scores).splitlines()[0]
    assert FOOTNOTE.split()[0] not in format_scores(scores)


def test_studies_without_an_own_model_keep_the_pooled_models_score(predictions):
    hands = predictions[predictions.study_type == "XR_HAND"]
    both = beside_pooled([hands], predictions)
    assert both["pooled_score"].notna().all()
    assert both["score"].notna().sum() == len(hands)
    assert beside_pooled([], predictions)["score"].isna().all()


def test_published_kappas_come_with_their_footnote(predictions):
    text = format_scores(score_predictions(predictions, published=True))
    assert "paper*" in text
    assert " ".join(text.split()).endswith(" ".join(FOOTNOTE.split()))


def test_prediction_table_keeps_no_path(studies):
    table = prediction_table(studies, np.zeros(len(studies)))
    columns = ["study", "study_type", "patient", "label", "n_views"]
    columns += ["score", "threshold", "decision", "note"]
    assert table.columns.tolist() == columns
    assert join_notes(studies) == "phantoms: no clinical meaning"
    assert join_notes(studies.drop(columns="note")) is None
