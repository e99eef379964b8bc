import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.stats import binomtest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    cohen_kappa_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from mura_skorch import metrics
from mura_skorch.metrics import (
    KappaInterval,
    calibration_bins,
    intervals,
    kappa_interval,
    kappa_score,
    study_scores,
    view_scores,
)

COLUMNS = [
    "study_type",
    "level",
    "n",
    "n_abnormal",
    "tp",
    "fn",
    "fp",
    "tn",
    *(f"{name}{end}" for name in metrics.METRICS[:-1] for end in ("", "_low", "_high")),
    "ece",
    "caution",
    "undefined",
]


def labels(tp, fn, fp, tn):
    """Labels and predictions with that confusion table."""
    return np.repeat([1, 1, 0, 0], [tp, fn, fp, tn]), np.repeat([1, 0, 1, 0], [tp, fn, fp, tn])


def width(found):
    return found.high - found.low


@pytest.fixture(scope="module")
def predictions():
    """Labels, probabilities, study types, patients of 240 studies."""
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 80, 240)
    y_true = rng.integers(0, 2, 240)
    y_score = np.clip(0.5 + 0.25 * (2 * y_true - 1) + 0.3 * rng.normal(size=240), 0, 1)
    study_type = np.array(["XR_WRIST", "XR_ELBOW", "XR_HAND"])[rng.integers(0, 3, 240)]
    return y_true, y_score, study_type, patient


# ---- the interval of kappa


def test_analytic_interval_reproduces_mchugh_on_the_published_table():
    found = kappa_interval(*labels(75, 17, 13, 102))
    assert np.round(found, 3).tolist() == [0.705, 0.608, 0.803]


def test_as_printed_interval_omits_the_square_root():
    found = kappa_interval(*labels(75, 17, 13, 102), method="as-printed")
    assert np.round(found, 3).tolist() == [0.705, 0.700, 0.710]


def test_bootstrap_of_independent_studies_is_near_the_analytic_interval():
    table = labels(75, 17, 13, 102)
    bootstrap = kappa_interval(*table, method="bootstrap", n_resamples=5000)
    np.testing.assert_allclose(bootstrap, kappa_interval(*table), atol=0.01)


@pytest.mark.parametrize("method", metrics.METHODS)
def test_interval_unpacks_into_ordered_values(method):
    kappa, low, high = found = kappa_interval(*labels(30, 5, 8, 40), method=method)
    assert isinstance(found, KappaInterval)
    assert low < kappa < high
    assert not found.zero_width


@pytest.mark.parametrize("table", [(30, 5, 8, 40), (1, 9, 3, 2), (1, 7, 5, 0), (3, 0, 4, 0)])
def test_kappa_equals_scikit_learn(table):
    y_true, y_pred = labels(*table)
    expected = cohen_kappa_score(y_true, y_pred, labels=[0, 1])
    assert kappa_score(y_true, y_pred) == pytest.approx(expected)
    assert kappa_interval(y_true, y_pred, method="as-printed").kappa == kappa_score(y_true, y_pred)


@pytest.mark.parametrize("method", metrics.METHODS)
def test_perfect_agreement_has_kappa_one_and_zero_width(method):
    with pytest.warns(RuntimeWarning, match="zero width"):
        found = kappa_interval([0, 1, 1, 0], [0, 1, 1, 0], method=method)
    assert found == (1, 1, 1)
    assert found.zero_width


def test_complete_disagreement_is_minus_one():
    with pytest.warns(RuntimeWarning, match="zero width"):
        assert kappa_interval([0, 1, 1, 0], [1, 0, 0, 1]) == (-1, -1, -1)


@pytest.mark.parametrize("method", metrics.METHODS)
@pytest.mark.parametrize("y", [[], [0, 0, 0], [1, 1], [1]])
def test_kappa_of_a_single_class_is_nan(method, y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = kappa_interval(y, y, method=method)
        assert np.isnan(kappa_score(y, y))
    assert np.isnan(found).all()
    assert not found.zero_width


def test_kappa_of_constant_predictions_is_zero():
    assert kappa_score([0, 1, 0, 1], [1, 1, 1, 1]) == 0


def test_analytic_interval_stays_within_the_range_of_kappa():
    low = kappa_interval([0, 1, 1], [1, 0, 1])
    high = kappa_interval(*labels(5, 1, 0, 5))
    assert (low.low, high.high) == (-1, 1)


@pytest.mark.parametrize("method", ["analytic", "as-printed"])
def test_kappa_is_symmetric_in_classes_and_readers(method):
    y_true, y_pred = labels(30, 5, 8, 40)
    found = kappa_interval(y_true, y_pred, method=method)
    assert kappa_interval(1 - y_true, 1 - y_pred, method=method) == pytest.approx(found)
    assert kappa_interval(y_pred, y_true, method=method) == pytest.approx(found)


def test_bootstrap_is_symmetric_in_classes_up_to_noise():
    y_true, y_pred = labels(30, 5, 8, 40)
    options = {"method": "bootstrap", "n_resamples": 5000}
    swapped = kappa_interval(1 - y_true, 1 - y_pred, **options)
    assert swapped.kappa == kappa_interval(y_true, y_pred, **options).kappa
    assert swapped == pytest.approx(kappa_interval(y_true, y_pred, **options), abs=0.02)


def test_bootstrap_ignores_repeated_studies_of_a_patient():
    y_true, y_pred = labels(30, 5, 8, 40)
    once = kappa_interval(y_true, y_pred, method="bootstrap", groups=np.arange(83))
    again = kappa_interval(
        *(np.repeat(column, 4) for column in (y_true, y_pred)),
        method="bootstrap",
        groups=np.repeat(np.arange(83), 4),
    )
    assert again == pytest.approx(once)


def test_grouping_equal_studies_widens_the_interval_by_square_root_of_n():
    y_true, y_pred = (np.repeat(column, 4) for column in labels(30, 5, 8, 40))
    apart = kappa_interval(y_true, y_pred, method="bootstrap")
    together = kappa_interval(
        y_true, y_pred, method="bootstrap", groups=np.repeat(np.arange(83), 4)
    )
    assert width(together) == pytest.approx(2 * width(apart), rel=0.1)


def test_bootstrap_equals_drawing_single_patients(predictions):
    y_true, y_score, _, patient = predictions
    y_pred = (y_score > 0.5).astype(int)
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(patient == name) for name in np.unique(patient)]
    drawn = (
        np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        for _ in range(1000)
    )
    kappas = [cohen_kappa_score(y_true[part], y_pred[part]) for part in drawn]
    found = kappa_interval(y_true, y_pred, method="bootstrap", groups=patient, n_resamples=10_000)
    np.testing.assert_allclose(found[1:], np.quantile(kappas, [0.025, 0.975]), atol=0.02)


def test_bootstrap_does_not_depend_on_chunk_size(predictions, monkeypatch):
    y_true, y_score, _, patient = predictions
    found = kappa_interval(y_true, y_score > 0.5, method="bootstrap", groups=patient)
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 100)
    assert kappa_interval(y_true, y_score > 0.5, method="bootstrap", groups=patient) == found


def test_bootstrap_of_one_patient_has_no_interval():
    found = kappa_interval(*labels(3, 1, 1, 3), method="bootstrap", groups=["a"] * 8)
    assert found.kappa == 0.5
    assert np.isnan(found[1:]).all()


def test_bootstrap_drops_resamples_without_a_kappa():
    # Kappa is 0 where a resample draws only the false negative of the two abnormal studies, 1 where
    # it draws only the true positive, and undefined where it draws neither: 24, 24 and 13 %. If the
    # last counted as 0 or 1, an end of the 40 % interval would be 0 or 1, too.
    table = labels(tp=1, fn=1, fp=0, tn=30)
    found = kappa_interval(*table, method="bootstrap", confidence=0.4, n_resamples=10_000)
    assert 0 < found.low < found.kappa < found.high < 1


def test_interval_of_perfect_agreement_has_zero_width_and_a_warning():
    with pytest.warns(RuntimeWarning, match="zero width"):
        found = kappa_interval(*labels(30, 0, 0, 1), method="bootstrap")
    assert found == (1, 1, 1)


def test_interval_is_nan_when_too_few_resamples_have_a_kappa(monkeypatch):
    monkeypatch.setattr(intervals, "MIN_DEFINED", 0.9)
    found = kappa_interval(*labels(30, 0, 0, 1), method="bootstrap")
    assert found.kappa == 1
    assert np.isnan(found[1:]).all()


def test_higher_confidence_widens_the_interval():
    table = labels(30, 5, 8, 40)
    for method in metrics.METHODS:
        narrow = kappa_interval(*table, method=method, confidence=0.8)
        assert width(narrow) < width(kappa_interval(*table, method=method, confidence=0.99))


def test_random_state_reproduces_the_interval():
    table = labels(30, 5, 8, 40)
    found = [kappa_interval(*table, method="bootstrap", random_state=s) for s in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"y_true": [0, 1, 2]}, "0 .normal. or 1 .abnormal., got 2 in row 2"),
        ({"y_true": [0, 1]}, "got lengths y_true 2, y_pred 3"),
        ({"y_true": [0, 1, np.nan]}, "leave out unlabelled studies"),
        ({"y_true": pd.Series([0, 1, None], dtype="Int8")}, "got (nan|<NA>) in row 2"),
        ({"y_true": ["0", "1", "1"]}, "got .*'0'.* in row 0"),
        ({"y_true": [[0], [1], [1]]}, r"got shape \(3, 1\)"),
        ({"y_pred": [0.1, 0.9, 0.4]}, "apply a threshold to probabilities"),
        ({"groups": ["a", "b"], "method": "bootstrap"}, "groups 2"),
        ({"groups": ["a", None, "b"], "method": "bootstrap"}, "missing values, got one in row 1"),
        ({"method": "exact"}, "expected method to be one of"),
        ({"confidence": 95}, "95 % is 0.95"),
        ({"n_resamples": 0}, "at least one resample"),
    ],
)
def test_kappa_interval_refuses_invalid_input(kwargs, message):
    with pytest.raises(ValueError, match=message):
        kappa_interval(**{"y_true": [0, 1, 1], "y_pred": [0, 1, 0]} | kwargs)


# ---- the table of scores


def test_scores_have_sorted_types_and_overall_last(predictions):
    y_true, y_score, study_type, patient = predictions
    scores = study_scores(y_true, y_score, study_type=study_type, groups=patient)
    assert list(scores.columns) == COLUMNS
    assert scores.study_type.tolist() == ["XR_ELBOW", "XR_HAND", "XR_WRIST", "overall"]
    counts = scores[["n", "n_abnormal", "tp", "fn", "fp", "tn"]]
    assert (counts.dtypes == "int64").all()
    assert (counts[:3].sum() == counts.iloc[3]).all()


def test_scores_equal_scikit_learn(predictions):
    y_true, y_score, study_type, _ = predictions
    scores = study_scores(y_true, y_score, study_type=study_type).set_index("study_type")
    for name, part in {"XR_HAND": study_type == "XR_HAND", "overall": slice(None)}.items():
        y, score, pred = y_true[part], y_score[part], y_score[part] > 0.5
        expected = {
            "kappa": cohen_kappa_score(y, pred),
            "auroc": roc_auc_score(y, score),
            "average_precision": average_precision_score(y, score),
            "brier": brier_score_loss(y, score),
            "f1": f1_score(y, pred),
            "ppv": precision_score(y, pred),
            "npv": precision_score(y, pred, pos_label=0),
            "sensitivity": recall_score(y, pred),
            "specificity": recall_score(y, pred, pos_label=0),
            "accuracy": accuracy_score(y, pred),
        }
        assert scores.loc[name, list(expected)].to_dict() == pytest.approx(expected)


def test_permuting_the_studies_changes_nothing(predictions):
    y_true, y_score, study_type, patient = predictions
    order = np.random.default_rng(1).permutation(len(y_true))
    pd.testing.assert_frame_equal(
        study_scores(y_true, y_score, study_type=study_type, groups=patient),
        study_scores(
            y_true[order], y_score[order], study_type=study_type[order], groups=patient[order]
        ),
    )


def test_row_of_a_type_does_not_depend_on_other_types(predictions):
    y_true, y_score, study_type, patient = predictions
    part = study_type == "XR_HAND"
    pooled = study_scores(y_true, y_score, study_type=study_type, groups=patient)
    alone = study_scores(y_true[part], y_score[part], groups=patient[part])
    pd.testing.assert_series_equal(
        pooled.iloc[1, 1:], alone.iloc[0, 1:], check_names=False, check_index_type=False
    )


def test_auto_interval_uses_bootstrap_only_with_patients(predictions):
    y_true, y_score, _, patient = predictions
    for groups, method in ((None, "analytic"), (patient, "bootstrap")):
        row = study_scores(y_true, y_score, groups=groups).iloc[0]
        expected = kappa_interval(y_true, y_score > 0.5, method=method, groups=groups)
        assert (row.kappa, row.kappa_low, row.kappa_high) == expected


def test_score_at_the_threshold_is_normal():
    scores = study_scores([1, 0, 1, 0], [0.5, 0.5, 0.50001, 0.2])
    assert scores.loc[0, ["tp", "fn", "fp", "tn"]].tolist() == [1, 1, 0, 2]
    lower = study_scores([1, 0, 1, 0], [0.5, 0.5, 0.50001, 0.2], threshold=0.4)
    assert lower.loc[0, ["tp", "fn", "fp", "tn"]].tolist() == [2, 0, 1, 1]


def test_undefined_metrics_are_nan_and_others_defined():
    scores = study_scores(
        [0, 0, 1, 0, 1], [0.1, 0.2, 0.7, 0.3, 0.4], study_type=["a", "a", "b", "b", "b"]
    )
    row = scores.iloc[0]
    assert row[["kappa", "kappa_low", "kappa_high", "auroc", "sensitivity"]].isna().all()
    assert row.specificity == row.accuracy == 1


@pytest.mark.filterwarnings("ignore:zero width")
def test_undefined_metrics_have_a_reason():
    def reasons(y_true, y_score, **options):
        return study_scores(y_true, y_score, **options).undefined.iloc[0]

    assert reasons([0, 1] * 5, [0.3, 0.7, 0.8, 0.2] * 2 + [0.1, 0.9]) == ""
    assert reasons([], []) == "every metric: no studies"
    assert view_scores([], []).undefined.iloc[0] == "every metric: no views"
    assert reasons([0, 0, 0], [0.1, 0.2, 0.3]).split("; ") == [
        "kappa: labels and decisions all of one class",
        "auroc: only one class",
        "average_precision: only one class",
        "sensitivity: no abnormal studies",
        "ppv: none called abnormal",
        "f1: none abnormal and none called abnormal",
    ]
    assert "specificity: no normal studies" in reasons([1, 1], [0.7, 0.8])
    assert "npv: none called normal" in reasons([1, 1], [0.7, 0.8])
    one = reasons([0, 1, 0, 1], [0.3, 0.7, 0.8, 0.2], groups=["a"] * 4)
    assert one == "resampled intervals: only one patient"
    assert "only one patient" in reasons([1], [0.4])
    rare = reasons([0] * 40 + [1], [0.1] * 20 + [0.7] * 20 + [0.8], n_resamples=100)
    assert rare == ""


def test_every_nan_has_a_reason():
    rng = np.random.default_rng(0)
    for n in range(1, 9):
        for patients in (None, rng.integers(0, 2, n)):
            y_true, y_score = rng.integers(0, 2, n), rng.random(n)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                row = study_scores(y_true, y_score, groups=patients, n_resamples=50).iloc[0]
            for name in metrics.METRICS[:-1]:
                ends = row[[f"{name}_low", f"{name}_high"]].isna()
                assert ends.all() == ends.any()
                named = name in row.undefined or "resampled intervals" in row.undefined
                assert named or not (ends.any() or pd.isna(row[name]))


def test_interval_with_too_few_resamples_is_named(monkeypatch):
    monkeypatch.setattr(intervals, "MIN_DEFINED", 0.9)
    scores = study_scores([0] * 10 + [1], [0.1] * 5 + [0.7] * 5 + [0.8])
    assert scores.auroc.notna().all()
    assert scores.auroc_low.isna().all()
    assert "interval of auroc: too few resamples have one" in scores.undefined.iloc[0]


def test_shares_have_wilson_intervals(predictions):
    y_true, y_score, _, patient = predictions
    row = study_scores(y_true, y_score, groups=patient).iloc[0]
    shares = {
        "sensitivity": (row.tp, row.tp + row.fn),
        "specificity": (row.tn, row.tn + row.fp),
        "ppv": (row.tp, row.tp + row.fp),
        "npv": (row.tn, row.tn + row.fn),
    }
    for name, (part, whole) in shares.items():
        expected = binomtest(part, whole).proportion_ci(method="wilson")
        assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(tuple(expected))


def test_threshold_may_differ_per_study():
    thresholds = np.array([0.95, 0.1, 0.5, 0.5])
    scores = study_scores([1, 1, 0, 0], [0.9, 0.2, 0.6, 0.4], threshold=thresholds)
    assert scores.loc[0, ["tp", "fn", "fp", "tn"]].tolist() == [1, 1, 1, 1]


def test_view_scores_differ_only_in_level(predictions):
    y_true, y_score, study_type, patient = predictions
    options = {"study_type": study_type, "groups": patient, "n_resamples": 50}
    studies, views = (score(y_true, y_score, **options) for score in (study_scores, view_scores))
    assert set(studies.level) == {"study"}
    assert set(views.level) == {"view"}
    pd.testing.assert_frame_equal(studies.drop(columns="level"), views.drop(columns="level"))


@pytest.mark.filterwarnings("ignore:zero width")
def test_calibration_error_is_distance_of_score_and_share():
    exact = study_scores([0, 0, 0, 1] * 10, [0.25] * 40)
    assert exact.ece.iloc[0] == pytest.approx(0)
    assert study_scores([0, 1] * 20, [0.9] * 40).ece.iloc[0] == pytest.approx(0.4)
    assert study_scores([0, 1] * 20, [0.0, 1.0] * 20).ece.iloc[0] == 0


def test_calibration_error_follows_its_definition(predictions):
    y_true, y_score, _, _ = predictions
    edges = np.append(np.arange(metrics.ECE_BINS) / metrics.ECE_BINS, 1.01)  # 1 is in the last bin
    parts = pd.DataFrame({"y": y_true, "p": y_score}).groupby(
        pd.cut(y_score, edges, right=False).codes
    )
    expected = (parts.size() * (parts.y.mean() - parts.p.mean()).abs()).sum() / len(y_true)
    assert study_scores(y_true, y_score).ece.iloc[0] == pytest.approx(expected)


def test_calibration_error_has_no_interval(predictions):
    assert "ece" in metrics.METRICS
    assert not {"ece_low", "ece_high"} & set(study_scores(*predictions[:2]))


def test_bins_include_their_lower_end_and_the_last_both_ends():
    n = metrics.ECE_BINS
    edges = np.arange(n + 1) / n
    bins = calibration_bins([1] * (n + 1), edges)
    assert bins.n_abnormal.tolist() == [1] * (n - 1) + [2]
    assert (bins.low == edges[:-1]).all()
    below = np.nextafter(edges[1:], 0)
    assert calibration_bins([0] * n, below).n_normal.tolist() == [1] * n
    assert calibration_bins([], []).mean_score.isna().all()


def test_bins_cover_all_studies_and_give_calibration_error(predictions):
    y_true, y_score, *_ = predictions
    bins = calibration_bins(y_true, y_score)
    n = bins.n_normal + bins.n_abnormal
    assert (bins.n_abnormal.sum(), n.sum()) == (y_true.sum(), len(y_true))
    gaps = (n * (bins.share_abnormal - bins.mean_score).abs()).sum() / n.sum()
    assert study_scores(y_true, y_score).ece.iloc[0] == pytest.approx(gaps)


# ---- few patients, and the mean of the types


def test_rows_with_few_patients_have_a_caution(predictions):
    y_true, y_score, study_type, patient = predictions
    scores = study_scores(y_true[:60], y_score[:60], study_type=["a"] * 49 + ["b"] * 11)
    assert scores.caution.tolist() == ["fewer than 50 studies"] * 2 + [""]
    scores = study_scores(y_true, y_score, study_type=study_type, groups=patient % 49)
    assert set(scores.caution) == {"fewer than 50 patients"}
    assert study_scores(y_true, y_score, groups=patient).caution.tolist() == [""]
    assert view_scores(y_true[:9], y_score[:9]).caution.tolist() == ["fewer than 50 views"]
    assert study_scores([], []).caution.tolist() == [""]


def test_mean_of_types_is_the_mean_of_rows(predictions):
    y_true, y_score, study_type, patient = predictions
    options = {"study_type": study_type, "groups": patient}
    scores = study_scores(y_true, y_score, **options, mean_of_types=True)
    types, mean = scores[:3], scores.iloc[3]
    assert scores.study_type.tolist()[3:] == [metrics.MEAN_OF_TYPES, metrics.OVERALL]
    for name in metrics.METRICS:
        assert mean[name] == pytest.approx(types[name].mean())
    assert mean.n == len(y_true)
    assert mean.undefined == ""
    rest = scores.drop(index=3).reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, study_scores(y_true, y_score, **options))


def test_mean_of_types_interval_equals_drawing_single_patients(predictions):
    y_true, y_score, study_type, patient = predictions
    options = {"study_type": study_type, "groups": patient}
    mean = study_scores(y_true, y_score, **options, mean_of_types=True).iloc[3]
    right = (y_score > 0.5) == y_true
    rng = np.random.default_rng(1)
    rows = [np.flatnonzero(patient == name) for name in np.unique(patient)]
    means = []
    for _ in range(1000):
        drawn = np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        parts = [drawn[study_type[drawn] == name] for name in np.unique(study_type)]
        ranks = [stats.rankdata(y_score[part])[y_true[part] == 1] for part in parts]
        sizes = [(y_true[part].sum(), (1 - y_true[part]).sum()) for part in parts]
        areas = [
            (rank.sum() - a * (a + 1) / 2) / (a * n)
            for rank, (a, n) in zip(ranks, sizes, strict=True)
        ]
        found = [right[part] for part in parts]
        hits = [right[part][y_true[part] == 1] for part in parts]
        means.append([np.mean([np.mean(share) for share in shares]) for shares in (found, hits)])
        means[-1].append(np.mean(areas))
    ends = np.quantile(means, [0.025, 0.975], axis=0).T
    for name, expected in zip(("accuracy", "sensitivity", "auroc"), ends, strict=True):
        assert [mean[f"{name}_low"], mean[f"{name}_high"]] == pytest.approx(expected, abs=0.02)


def test_mean_of_types_is_robust_to_different_scales():
    """Two models, each perfect on its type, each on a scale of its own."""
    y_true, study_type = [0, 0, 1, 1] * 2, ["a"] * 4 + ["b"] * 4
    y_score = [0.01, 0.02, 0.03, 0.04, 0.91, 0.92, 0.93, 0.94]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        scores = study_scores(y_true, y_score, study_type=study_type, mean_of_types=True)
    assert scores.auroc.tolist() == [1, 1, 1, 0.75]


@pytest.mark.filterwarnings("ignore:zero width")
def test_mean_of_types_is_undefined_if_a_type_is(predictions):
    y_true, y_score, study_type, patient = predictions
    y_true = np.where(study_type == "XR_HAND", 0, y_true)
    options = {"study_type": study_type, "groups": patient, "mean_of_types": True}
    mean = study_scores(y_true, y_score, **options).iloc[3]
    assert np.isnan(mean[["auroc", "auroc_low", "auroc_high"]].astype(float)).all()
    assert "auroc: not defined for XR_HAND" in mean.undefined
    assert mean.accuracy_low < mean.accuracy < mean.accuracy_high
    alone = study_scores(y_true, y_score, mean_of_types=True)
    assert alone.study_type.tolist() == ["overall"]


# ---- the bootstrap of scores


def resampled(y_true, y_score, codes, weights):
    return intervals.RankedScores(y_true, y_score, codes).areas(weights)


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_weighted_areas_equal_areas_of_drawn_rows(decimals, predictions):
    y_true, y_score, _, patient = predictions
    y_score = y_score.round(decimals)  # ties
    codes = np.unique(patient, return_inverse=True)[1]
    n_groups = codes.max() + 1
    for weights in intervals.draw_groups(n_groups, 5, 0, n_rows=len(codes)):
        assert (weights.sum(axis=1) == n_groups).all()
        areas = np.transpose(resampled(y_true, y_score, codes, weights))
        for found, drawn in zip(areas, weights[:, codes].astype(int), strict=True):
            y, score = np.repeat(y_true, drawn), np.repeat(y_score, drawn)
            expected = roc_auc_score(y, score), average_precision_score(y, score)
            assert tuple(found) == pytest.approx(expected)


def test_areas_with_unit_weights_are_point_estimates(predictions):
    y_true, y_score, _, patient = predictions
    scores = study_scores(y_true, y_score, groups=patient)
    codes = np.unique(patient, return_inverse=True)[1]
    areas = resampled(y_true, y_score, codes, np.ones((1, codes.max() + 1)))
    assert np.ravel(areas) == pytest.approx(scores.loc[0, ["auroc", "average_precision"]].tolist())


def test_areas_of_single_class_resample_are_nan():
    areas = resampled(np.array([0, 1]), np.array([0.2, 0.7]), np.arange(2), 2 * np.eye(2))
    assert np.isnan(areas).all()


BOOTSTRAPPED = ("kappa", "auroc", "average_precision", "accuracy", "f1", "brier")


def test_repeating_studies_does_not_narrow_intervals(predictions):
    y_true, y_score, _, patient = predictions
    once = study_scores(y_true, y_score, groups=patient)
    columns = (np.repeat(column, 3) for column in (y_true, y_score))
    again = study_scores(*columns, groups=np.repeat(patient, 3))
    names = [f"{name}{end}" for name in BOOTSTRAPPED for end in ("", "_low", "_high")]
    names.append("ece")
    np.testing.assert_allclose(again.loc[0, names].tolist(), once.loc[0, names].tolist())


def test_scores_do_not_depend_on_chunk_size(predictions, monkeypatch):
    y_true, y_score, _, patient = predictions
    found = study_scores(y_true, y_score, groups=patient)
    monkeypatch.setattr(intervals, "CHUNK_CELLS", 1000)
    pd.testing.assert_frame_equal(study_scores(y_true, y_score, groups=patient), found)


@pytest.mark.parametrize("grouped", [True, False])
def test_order_of_studies_does_not_change_resamples(grouped, predictions):
    y_true, y_score, _, patient = predictions
    y_score = y_score.round(1)
    order = np.random.default_rng(1).permutation(len(y_true))
    found, permuted = (
        study_scores(
            y_true[rows], y_score[rows], groups=patient[rows] if grouped else None, n_resamples=50
        )
        for rows in (np.arange(len(y_true)), order)
    )
    pd.testing.assert_frame_equal(found, permuted, rtol=1e-12)


@pytest.mark.slow
def test_patient_bootstrap_has_nominal_coverage_unlike_study_bootstrap():
    """Patients whose four studies are alike; the truth is the mean over very many patients."""
    rng = np.random.default_rng(0)

    def sample(n_patients):
        y_true = np.repeat(rng.integers(0, 2, n_patients), 4)
        signal = np.repeat(0.8 * rng.normal(size=n_patients), 4) + 0.3 * rng.normal(
            size=4 * n_patients
        )
        y_score = 1 / (1 + np.exp(-(signal + 1.2 * y_true - 0.6)))
        return y_true, y_score, np.repeat(np.arange(n_patients), 4)

    truth = study_scores(*sample(20_000)[:2], n_resamples=1).iloc[0]
    names = ["auroc", "average_precision", "brier", "accuracy"]
    covered = {True: np.zeros(4), False: np.zeros(4)}
    for _ in range(100):
        y_true, y_score, patient = sample(60)
        for grouped, count in covered.items():
            groups = patient if grouped else None
            row = study_scores(y_true, y_score, groups=groups, n_resamples=200).iloc[0]
            count += [row[f"{m}_low"] <= truth[m] <= row[f"{m}_high"] for m in names]
    assert (covered[True] >= 88).all(), covered
    assert (covered[False] <= 80).all(), covered


def test_scores_of_a_split_of_seven_types_have_eight_defined_rows():
    rng = np.random.default_rng(0)
    y_true, y_score = rng.integers(0, 2, 1199), rng.random(1199)
    study_type, patient = rng.integers(0, 7, 1199).astype(str), rng.integers(0, 783, 1199)
    scores = study_scores(y_true, y_score, study_type=study_type, groups=patient)
    assert len(scores) == 8
    assert scores.undefined.eq("").all()


def test_scores_of_no_studies_are_nan():
    scores = study_scores([], [])
    assert scores.n.tolist() == [0]
    assert scores.loc[0, "kappa":"ece"].isna().all()


def test_zero_width_warning_names_the_rows():
    with pytest.warns(
        RuntimeWarning, match="zero width of the interval of kappa of a, overall"
    ) as caught:
        study_scores([0, 1], [0.1, 0.9], study_type=["a", "a"])
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_scores_accept_columns_of_a_study_table():
    table = pd.DataFrame({"study_type": [*"babababa"], "patient": [*"pqrrstuv"]}).assign(
        study_type=lambda table: table.study_type.astype("category"),
        label=pd.array([1, 0, 0, 1, 1, 0, 1, 1], dtype="Int8"),
    )
    y_score = pd.Series([0.9, 0.6, 0.2, 0.8, 0.3, 0.7, 0.6, 0.4])
    scores = study_scores(table.label, y_score, study_type=table.study_type, groups=table.patient)
    assert scores.n.tolist() == [4, 4, 8]
    assert scores.n_abnormal.tolist() == [2, 3, 5]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"y_score": [0.1, 0.9]}, "got lengths y_true 3, y_score 2"),
        ({"study_type": ["a", "b"]}, "study_type 2"),
        ({"groups": ["a"]}, "groups 1"),
        ({"y_true": [0, 1, 3]}, "got 3 in row 2"),
        ({"y_score": [0.1, np.nan, 0.3]}, "got nan in row 1"),
        ({"y_score": [0.1, 0.2, 1.5]}, "got 1.5 in row 2; pass probabilities"),
        ({"y_score": [-0.1, 0.2, 0.5]}, "got -0.1 in row 0"),
        ({"y_score": np.full((3, 2), 0.5)}, r"\[:, 1\]"),
        ({"study_type": ["a", None, "b"]}, "study_type without missing values"),
        ({"groups": ["a", np.nan, "b"]}, "groups without missing values"),
        ({"study_type": ["a", "overall", "b"]}, "rename that type"),
        ({"study_type": ["a", "mean of types", "b"]}, "rename that type"),
        ({"interval": "exact"}, "expected interval to be one of"),
        ({"threshold": 2}, "expected a threshold"),
        ({"threshold": [0.5, 0.5, np.nan]}, "got nan in row 2"),
        ({"threshold": [0.5, 0.5]}, "one for each of the 3 rows"),
        ({"n_resamples": 0}, "at least one resample"),
    ],
)
def test_study_scores_refuses_invalid_input(kwargs, message):
    with pytest.raises(ValueError, match=message):
        study_scores(**{"y_true": [0, 1, 1], "y_score": [0.1, 0.9, 0.4]} | kwargs)
