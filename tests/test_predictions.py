from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mura_skorch.labels import join_labels
from mura_skorch.predictions import prediction_table, view_prediction_table, write_competition


def test_one_row_for_each_view_under_its_study(fitted, valid):
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


def test_view_scores_of_other_studies_are_refused(valid):
    with pytest.raises(ValueError, match="expected a score for each of"):
        view_prediction_table(valid, [[0.5]] * len(valid))


def test_competition_file_comes_back_as_labels(valid):
    predictions = prediction_table(valid, np.linspace(0, 1, len(valid)))
    write_competition(predictions, "predictions.csv")
    lines = Path("predictions.csv").read_text().splitlines()
    assert lines[0] == f"MURA-v1.1/{predictions['study'][0]}/,0"
    assert len(lines) == len(valid)
    back = join_labels(valid, "predictions.csv")
    assert back["label"].tolist() == predictions["decision"].tolist()
    assert pd.api.types.is_integer_dtype(predictions["decision"])
