import sys

import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import apply_verdicts, flip_labels, rank_suspects, review_curve


@pytest.fixture
def noisy():
    """Labels of which 5 % are flipped, scores of a good model, types that differ in difficulty."""
    rng = np.random.default_rng(0)
    study_type = np.repeat(["XR_HAND", "XR_WRIST"], 400)
    right = rng.integers(0, 2, 800)
    spread = np.where(study_type == "XR_HAND", 0.08, 0.14)
    score = np.clip(0.2 + 0.6 * right + spread * rng.normal(size=800), 0.01, 0.99)
    is_flipped = flip_labels(right, 0.05)
    return np.where(is_flipped, 1 - right, right), score, study_type, is_flipped


def test_most_of_the_first_suspects_are_wrong(noisy):
    label, score, study_type, is_flipped = noisy
    ranked = rank_suspects(label, score, study_type)
    assert sorted(ranked["row"]) == list(range(800))
    assert is_flipped[ranked["row"][:40]].mean() >= 0.9
    assert ranked["is_issue"].is_monotonic_decreasing
    assert is_flipped[ranked["row"][ranked["is_issue"]]].mean() > 0.8


def test_issues_are_those_of_cleanlab_within_each_type(noisy):
    from cleanlab.filter import find_label_issues

    label, score, study_type, _ = noisy
    ranked = rank_suspects(label, score, study_type)
    found = set(ranked["row"][ranked["is_issue"]])
    for name in ("XR_HAND", "XR_WRIST"):
        rows = np.flatnonzero(study_type == name)
        proba = np.column_stack([1 - score[rows], score[rows]])
        by_score = find_label_issues(
            label[rows], proba, return_indices_ranked_by="self_confidence", n_jobs=1
        )
        assert found & set(rows) == set(rows[by_score])
        own = ranked["row"][ranked["is_issue"] & ranked["row"].isin(rows)]
        assert own.tolist() == rows[by_score].tolist()


def test_order_of_studies_does_not_matter(noisy):
    label, score, study_type, _ = noisy
    order = np.random.default_rng(1).permutation(len(label))
    first = rank_suspects(label, score, study_type)
    again = rank_suspects(label[order], score[order], study_type[order])
    assert order[again["row"][:100]].tolist() == first["row"][:100].tolist()
    assert again.drop(columns="row").equals(first.drop(columns="row"))


def test_type_with_one_label_has_no_issue():
    ranked = rank_suspects([1, 1, 1, 0, 1], [0.1, 0.9, 0.8, 0.3, 0.7], ["A"] * 3 + ["B"] * 2)
    assert not ranked["is_issue"][ranked["row"] < 3].any()
    assert ranked["row"][0] == 0


def test_missing_cleanlab_is_said_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ImportError, match=r"pip install 'mura-skorch\[labels\]'"):
        rank_suspects([0, 1], [0.2, 0.9], ["A", "A"])


def test_flips_are_as_many_as_asked_for_and_the_same_for_a_seed():
    drawn = flip_labels([0, 1] * 500, 0.05, 3)
    assert drawn.sum() == 50
    assert np.array_equal(drawn, flip_labels([0, 1] * 500, 0.05, 3))
    assert not np.array_equal(drawn, flip_labels([0, 1] * 500, 0.05, 4))
    for share in (0, 0.5, -1):
        with pytest.raises(ValueError, match="a share above 0 and below"):
            flip_labels([0, 1], share)


def test_random_order_finds_its_share_on_average(noisy):
    is_flipped = noisy[-1]
    rng = np.random.default_rng(0)
    recalls = [review_curve(rng.permutation(is_flipped))["recall"] for _ in range(300)]
    expected = review_curve(is_flipped)["random_recall"]
    assert np.abs(np.mean(recalls, axis=0) - expected).max() < 0.03
    best = review_curve(sorted(is_flipped, reverse=True))
    assert best["precision"][39] == best["recall"][39] == 1


# --- verdicts --------------------------------------------------------------------------------


@pytest.fixture
def table():
    label = pd.array([0, 1, 0, 1], dtype="Int8")
    return pd.DataFrame({"study": ["a/1", "a/2", "b,1", "c"], "label": label, "split": "train"})


def written(text):
    with open("verdicts.csv", "w", encoding="utf-8") as file:
        file.write(text)
    return "verdicts.csv"


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_wrong_labels_are_corrected_in_a_copy(table, sign):
    rows = ["study,label,verdict,remark", '"a/1",0,wrong,"a plate"', "a/2,1,right,", "c,1,unsure,"]
    file = written("\ufeff" + "\n".join(row.replace(",", sign) for row in rows) + "\n")
    corrected, counts = apply_verdicts(table, file)
    assert corrected["label"].tolist() == [1, 1, 0, 1]
    assert table["label"].tolist() == [0, 1, 0, 1], "the source stays as it is"
    assert counts == {"right": 1, "wrong": 1, "unsure": 1}
    assert corrected.drop(columns="label").equals(table.drop(columns="label"))


def test_quoted_keys_and_rows_without_a_verdict_are_read(table):
    file = written(
        '"study","label","verdict","remark"\n"b,1","0","wrong",""\n"c","1","","see ""x"""\n'
    )
    corrected, _ = apply_verdicts(table.astype({"label": int}), file)
    assert corrected["label"].tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["study,label", "a/1,0"], "expected the columns study, label, verdict, got .*no verdict"),
        (["study,label,verdict", "a/9,0,wrong"], "studies of the table, got 1 unknown: a/9"),
        (["study,label,verdict", "c,1,wrong", "c,1,right"], "each study once, got 1 repeated: c"),
        (
            ["study,label,verdict", "c,1,flip"],
            "verdicts right, wrong, unsure or none, got 1 others",
        ),
        (["study,label,verdict", "c,0,wrong"], "labels as in the table, .*the labels have changed"),
        ([], "expected a CSV file"),
    ],
)
def test_wrong_files_are_refused(table, rows, message):
    with pytest.raises(ValueError, match=message):
        apply_verdicts(table, written("\n".join(rows)))


def test_missing_file_is_named(table):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv: expected a CSV file of verdicts"):
        apply_verdicts(table, "nowhere.csv")
