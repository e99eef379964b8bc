import itertools
from functools import cache

import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation.formatting import format_scores, score_texts
from mura_skorch.evaluation.published import (
    FOOTNOTE,
    OVERALL_COUNTS,
    OVERALL_MODEL,
    READERS,
    STUDY_COUNTS,
    TABLE_2,
    TEST_STUDIES,
    add_published,
    is_mura,
    published_counts,
    published_kappas,
)
from mura_skorch.metrics import kappa_interval, study_scores

TYPES = tuple(STUDY_COUNTS["valid"])
# Abnormal studies by type: the only numbers that fit all four readers and add up to 92.
ABNORMAL = dict(zip(TYPES, (11, 11, 16, 11, 15, 13, 15), strict=True))
# Studies of the 209 of paper v3: the only numbers that fit its intervals.
V3_STUDIES = TEST_STUDIES | {"XR_ELBOW": 30, "overall": 209}


@cache
def confusion_tables(n):
    """All confusion tables tp, fn, fp, tn of n studies, with their kappa and printed error."""
    tp, fn = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    tp, fn = tp[tp + fn <= n], fn[tp + fn <= n]
    normal = n - tp - fn
    tp, fn = np.repeat(tp, normal + 1), np.repeat(fn, normal + 1)
    starts = np.repeat(np.cumsum(normal + 1) - normal - 1, normal + 1)
    fp = np.arange(len(tp)) - starts
    tn = n - tp - fn - fp
    agreement = (tp + tn) / n
    chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / n**2
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = (agreement - chance) / (1 - chance)
        error = agreement * (1 - agreement) / (n * (1 - chance) ** 2)
    return np.stack([tp, fn, fp, tn]), kappa, error


def tables_behind(study_type, reader):
    """Tables that give the printed kappa and interval, to their three decimals: (n_tables, 4)."""
    n = (V3_STUDIES if reader == "v3_model" else TEST_STUDIES)[study_type]
    tables, kappa, error = confusion_tables(n)
    printed = TABLE_2[study_type][READERS.index(reader)]
    found = [kappa, kappa - 1.959964 * error, kappa + 1.959964 * error]
    near = [np.abs(a - b) < 0.0005 + 1e-9 for a, b in zip(found, printed, strict=True)]
    return tables[:, np.logical_and.reduce(near)].T


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("study_type", TABLE_2)
def test_each_printed_cell_has_a_confusion_table(study_type, reader):
    tables = tables_behind(study_type, reader)
    assert len(tables) > 0
    y_true, y_pred = np.repeat([1, 1, 0, 0], tables[0]), np.repeat([1, 0, 1, 0], tables[0])
    found = kappa_interval(y_true, y_pred, method="as-printed")
    printed = TABLE_2[study_type][READERS.index(reader)]
    np.testing.assert_allclose(found, printed, atol=0.0005 + 1e-9)


def test_published_test_sets_sum_to_207():
    for studies in (TEST_STUDIES, V3_STUDIES):
        assert sum(studies[name] for name in TYPES) == studies["overall"]


def test_abnormal_counts_fit_all_readers():
    fits = []
    for name in TYPES:
        behind = [tables_behind(name, reader)[:, :2].sum(axis=1) for reader in READERS[:4]]
        fits.append(set.intersection(*(set(abnormal.tolist()) for abnormal in behind)))
    total = OVERALL_COUNTS["tp"] + OVERALL_COUNTS["fn"]
    sums = [numbers for numbers in itertools.product(*fits) if sum(numbers) == total]
    assert sums == [tuple(ABNORMAL.values())]


@pytest.mark.parametrize("reader", READERS[:4])
def test_tables_of_types_sum_to_the_overall_cell(reader):
    def behind(name, abnormal):
        tables = tables_behind(name, reader)
        return {tuple(table) for table in tables.tolist() if sum(table[:2]) == abnormal}

    seven = itertools.product(*(behind(name, ABNORMAL[name]) for name in TYPES))
    sums = {tuple(map(sum, zip(*tables, strict=True))) for tables in seven}
    assert sums & behind("overall", 92)
    if reader == "paper_model":
        assert sums & behind("overall", 92) == {tuple(OVERALL_COUNTS.values())}


def test_overall_table_is_unique():
    tp, fn, fp, tn = tables_behind("overall", "paper_model").T
    fits = (np.abs(tp / (tp + fn) - OVERALL_MODEL["sensitivity"]) <= 0.0005) & (
        np.abs(tn / (tn + fp) - OVERALL_MODEL["specificity"]) <= 0.0005
    )
    found = np.stack([tp, fn, fp, tn])[:, fits].T.tolist()
    assert found == [list(OVERALL_COUNTS.values())]


def test_constants_are_frozen():
    with pytest.raises(TypeError):
        TABLE_2["XR_HAND"] = ()


def test_changing_a_returned_table_changes_no_later_one():
    for read in (published_kappas, published_counts):
        expected = read()
        read()["study_type"] = "XR_OTHER"
        pd.testing.assert_frame_equal(read(), expected)


def test_published_kappas_have_one_row_per_cell():
    kappas = published_kappas()
    assert len(kappas) == 40
    assert (kappas.kappa_low < kappas.kappa).all()
    assert (kappas.kappa < kappas.kappa_high).all()


# ---- is it MURA


def mura_like(types=TYPES, split="valid"):
    rows = [
        (split, name, label)
        for name in types
        for label, count in enumerate(STUDY_COUNTS["valid"][name])
        for _ in range(count)
    ]
    table = pd.DataFrame(rows, columns=["split", "study_type", "label"])
    return table.astype({"label": "Int8"})


@pytest.mark.parametrize("types", [TYPES, TYPES[:1], TYPES[2:5]])
def test_is_mura_accepts_any_types_in_any_order(types):
    assert is_mura(mura_like(types).sample(frac=1, random_state=0)) is True


def test_is_mura_ignores_the_train_split():
    train = mura_like(("XR_HAND",), "train")[:5]
    assert is_mura(pd.concat([mura_like(), train]))


def test_validation_counts_sum_to_1199():
    assert np.sum(list(STUDY_COUNTS["valid"].values()), axis=0).tolist() == [661, 538]
    assert np.sum(list(STUDY_COUNTS["train"].values()), axis=0).tolist() == [8280, 5177]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table[1:],
        lambda table: pd.concat([table, table[:1]]),
        lambda table: table.assign(label=1 - table.label),
        lambda table: table.assign(label=table.label.where(table.index != 0)),
        lambda table: pd.concat([table, table[:1].assign(label=pd.NA)]),
        lambda table: pd.concat([table, table[:1].assign(study_type="XR_KNEE")]),
        lambda table: table.assign(study_type="XR_HAND"),
        lambda table: table.assign(split="train"),
        lambda table: table[:0],
        lambda table: table.drop(columns="split"),
    ],
)
def test_other_counts_are_not_mura(change):
    assert is_mura(change(mura_like())) is False


# ---- beside the scores


@pytest.fixture(scope="module")
def scores():
    """Scores of the seven types, from random predictions."""
    table = mura_like()
    y_true = table.label.to_numpy(dtype=int)
    noise = np.random.default_rng(0).normal(size=len(table))
    y_score = np.clip(0.5 + 0.3 * (2 * y_true - 1) + 0.3 * noise, 0, 1)
    return study_scores(y_true, y_score, study_type=table.study_type)


def test_published_kappas_are_in_the_row_of_their_type(scores):
    beside = add_published(scores).set_index("study_type")
    assert beside.paper_model["XR_HUMERUS"] == 0.600
    assert beside.best_radiologist["XR_HAND"] == 0.927
    assert beside.loc["overall", ["paper_model", "best_radiologist"]].tolist() == [0.705, 0.778]


def test_add_published_does_not_change_its_argument(scores):
    before = scores.copy()
    beside = add_published(scores)
    pd.testing.assert_frame_equal(scores, before)
    pd.testing.assert_frame_equal(beside[scores.columns], before)


def test_partial_pool_has_no_published_kappa(scores):
    beside = add_published(scores.iloc[[0, 7]].reset_index(drop=True))
    assert beside.paper_model.isna().tolist() == [False, True]


def test_overall_row_alone_has_the_published_kappa(scores):
    assert add_published(scores.iloc[[7]]).paper_model.tolist() == [0.705]


def test_unknown_type_has_nan():
    scores = study_scores([0, 1, 1], [0.1, 0.9, 0.2], study_type=["XR_KNEE"] * 3)
    assert add_published(scores)[["paper_model", "best_radiologist"]].isna().all(axis=None)


def test_add_published_names_the_missing_column(scores):
    with pytest.raises(ValueError, match="expected a table with a column study_type"):
        add_published(scores.drop(columns="study_type"))


def test_footnote_names_the_paper_test_set():
    assert "207" in FOOTNOTE
    assert "another test set" in FOOTNOTE


# ---- as text


def test_text_has_one_line_per_row_within_100_columns(scores):
    text = format_scores(add_published(scores))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for name, kappa in zip(scores.study_type, scores.kappa, strict=True):
        (line,) = (line for line in lines if line.startswith(name))
        assert f" {kappa:.3f} ".replace(" 0.", " .") in line
    assert "another test set" in " ".join(lines)


def test_text_without_published_columns_has_no_footnote(scores):
    assert "*" not in format_scores(scores)


def test_interval_has_journal_format():
    table = np.repeat([1, 1, 0, 0], [75, 17, 13, 102]), np.repeat([1, 0, 1, 0], [75, 17, 13, 102])
    assert ".705 (.608, .803)" in format_scores(study_scores(*table))


@pytest.mark.parametrize(
    ("value", "text"), [(0.7049, ".705"), (1, "1.000"), (-0.25, "-.250"), (-0.0001, ".000")]
)
def test_figures_have_no_leading_zero(scores, value, text):
    assert score_texts(scores.assign(auroc=value))["AUROC"][0] == text


def test_nan_is_printed_as_na():
    texts = score_texts(study_scores([0, 0], [0.1, 0.2]))
    assert texts["kappa (95 % CI)"] == texts["AUROC"] == texts["sensitivity"] == ["n/a"]
    assert texts["specificity"] == ["1.000"]


def test_kappa_is_printed_with_undefined_interval(scores):
    texts = score_texts(scores.assign(kappa=0.5, kappa_low=np.nan))
    assert texts["kappa (95 % CI)"][0] == ".500 (n/a)"


def test_long_names_and_extreme_figures_fit_100_columns(scores):
    wide = scores.assign(
        study_type="metacarpophalangeal joint of the left hand",
        n=1_234_567,
        kappa=-0.5,
        kappa_low=-0.9,
        kappa_high=-0.1,
    )
    lines = format_scores(add_published(wide)).splitlines()
    assert max(map(len, lines)) <= 100
    assert "metacarpoph" in lines[2]


def test_status_replaces_missing_figures(scores):
    numbers = scores.select_dtypes("number").columns
    failed = scores.astype(dict.fromkeys(numbers, float))
    failed.loc[2, numbers] = np.nan
    failed["status"] = [None, "", "FAILED: out of memory\n" + "x" * 200, *["ok"] * 5]
    lines = format_scores(add_published(failed)).splitlines()
    (line,) = (line for line in lines if "FAILED: out of memory" in line)
    assert line.startswith("XR_FOREARM")
    assert max(map(len, lines)) <= 100
    assert not any("ok" in line.split() for line in lines)
