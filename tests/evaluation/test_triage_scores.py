import numpy as np
import pytest
from scipy.stats import binomtest

from mura_skorch.evaluation import share_interval, triage_scores
from mura_skorch.evaluation.triage_scores import doubt_table, triage_table
from mura_skorch.report import ReportInputs, read_report, write_report


@pytest.fixture
def triaged(predictions):
    """Sixty studies of thirty patients, a third of each answer."""
    answers = np.array(["normal", "abnormal", "look yourself"])[np.arange(60) // 2 % 3]
    return predictions.assign(
        triage=answers, triage_error_rate=0.05, view_disagreement=np.linspace(0, 1, 60)
    )


@pytest.mark.parametrize(("part", "n"), [(0, 60), (3, 60), (60, 60), (1, 7)])
def test_interval_is_wilsons(part, n):
    low, high = share_interval(part / n, n)
    expected = binomtest(part, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_interval_of_no_case_is_undefined():
    assert np.isnan(share_interval(np.nan, 0)).all()


def test_counts_and_shares_are_those_of_the_answers(triaged):
    scores = triage_scores(triaged)
    assert scores["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    overall = scores.iloc[-1]
    answer, label = triaged["triage"], triaged["label"]
    assert overall["n_false_negatives"] == ((answer == "normal") & (label == 1)).sum() == 10
    assert overall["n_false_positives"] == ((answer == "abnormal") & (label == 0)).sum() == 10
    assert overall["look_yourself"] == pytest.approx(1 / 3)
    assert overall["called_normal_of_abnormal"] == pytest.approx(10 / 30)
    counts = ["n_called_normal", "n_called_abnormal", "n_look_yourself", "n_false_negatives", "n"]
    assert (scores.iloc[:2][counts].sum() == scores.iloc[2][counts]).all()


def test_intervals_count_patients_and_not_studies(triaged):
    overall = triage_scores(triaged).iloc[-1]
    assert overall["n_patients"] == 30
    ends = overall[["look_yourself_low", "look_yourself_high"]].tolist()
    assert ends == pytest.approx(share_interval(1 / 3, 30))
    alone = triage_scores(triaged.drop(columns="patient")).iloc[-1]
    assert alone["look_yourself_high"] < overall["look_yourself_high"]


def test_rate_without_an_error_has_an_interval(triaged):
    right = triaged.assign(triage=np.where(triaged["label"] == 1, "abnormal", "normal"))
    overall = triage_scores(right).iloc[-1]
    assert overall["called_normal_of_abnormal"] == 0
    assert overall["called_normal_of_abnormal_high"] > 0.1
    assert "0 of 30" in triage_table(triage_scores(right)).to_string()


def test_unlabelled_studies_and_missing_labels_are_left_out(triaged):
    partly = triaged.assign(label=triaged["label"].astype("Int8").mask(triaged.index < 40))
    assert triage_scores(partly).iloc[-1]["n"] == 20
    normal = triage_scores(triaged[triaged["label"] == 0])
    assert normal["called_normal_of_abnormal"].isna().all()
    assert "n/a" in triage_table(normal).to_string()


def test_signs_of_doubt_are_counted_by_answer(triaged):
    table = doubt_table(triaged, unlike_percentile=99).set_index("answer")
    assert "unlike the training studies" not in table
    assert table.loc["normal", "views further apart than .5"] == "10 of 20"
    unlike = triaged.assign(training_percentile=np.where(triaged.index < 2, 99.5, 50))
    table = doubt_table(unlike, unlike_percentile=99).set_index("answer")
    assert table["unlike the training studies"].tolist() == ["2", "0", "0"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_section_is_drawn_again_without_the_model(triaged, tmp_path):
    inputs = ReportInputs(triaged, model=["Triage: a promise.", "Triage of XR_HAND: limits."])
    write_report(tmp_path / "first", inputs)
    write_report(tmp_path / "again", **read_report(tmp_path / "first"))
    for name in ("report.html", "triage.csv", "predictions.csv"):
        texts = [(tmp_path / folder / name).read_text() for folder in ("first", "again")]
        assert texts[0] == texts[1]
    assert (
        "Triage of XR_HAND: limits." in texts[0]
        or "Triage of XR_HAND: limits." in (tmp_path / "again" / "report.html").read_text()
    )


def test_report_without_a_triage_has_no_such_section(predictions, tmp_path):
    write_report(tmp_path, predictions)
    assert "Triage" not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "triage.csv").exists()


def test_missing_columns_are_named(predictions):
    with pytest.raises(ValueError, match="expected columns triage, triage_error_rate"):
        triage_scores(predictions)
