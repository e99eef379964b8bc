import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation.published import (
    READERS,
    STUDY_COUNTS,
    format_paper_table,
    paper_table,
    published_kappas,
)
from mura_skorch.metrics import study_scores

OWN = ["study_type", "n", "this_model", "this_model_low", "this_model_high"]


@pytest.fixture(scope="module")
def scores():
    """Scores of a made-up model on tables of the sizes of MURA's valid split."""
    counts = STUDY_COUNTS["valid"]
    study_type = [name for name, both in counts.items() for _ in range(sum(both))]
    y_true = np.concatenate([np.repeat([0, 1], both) for both in counts.values()])
    y_score = np.clip(np.random.default_rng(0).normal(0.3 + 0.4 * y_true, 0.2), 0, 1)
    return study_scores(y_true, y_score, study_type=study_type, n_resamples=20)


def test_paper_table_has_every_published_cell(scores):
    table = paper_table(scores).set_index("study_type")
    assert table.index[-1] == "overall"
    np.testing.assert_array_equal(table["this_model"], scores["kappa"])
    for row in published_kappas().itertuples():
        cell = table.loc[row.study_type, [row.reader, f"{row.reader}_low", f"{row.reader}_high"]]
        assert cell.tolist() == [row.kappa, row.kappa_low, row.kappa_high]
    assert table["footnote"].str.contains("other test sets").all()


def test_other_data_have_no_published_kappas(scores):
    assert list(paper_table(scores, published=False)) == OWN
    assert "paper" not in format_paper_table(paper_table(scores, published=False))


def test_partial_pool_is_not_compared(scores):
    table = paper_table(scores[scores.study_type != "XR_HAND"]).set_index("study_type")
    assert table.loc["overall", list(READERS)].isna().all()
    assert table.loc["XR_WRIST", list(READERS)].notna().all()


def test_text_fits_a_terminal_with_its_footnote(scores):
    undefined = pd.DataFrame({"study_type": ["XR_KNEE"], "n": [pd.NA]})
    text = format_paper_table(paper_table(pd.concat([undefined, scores])))
    assert max(map(len, text.splitlines())) <= 100
    assert ".931" in text
    assert "n/a" in text
    assert "other test sets" in text
