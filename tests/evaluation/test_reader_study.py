import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from mura_skorch.evaluation import reader_kappas, wide_kappas
from mura_skorch.evaluation.published import OVERALL_COUNTS
from mura_skorch.metrics import kappa_interval


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)

    def noisy(share):
        return np.where(rng.random(200) < share, 1 - label, label)

    return pd.DataFrame(
        {
            "study_type": np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, 200)],
            "patient": [f"p{i}" for i in rng.integers(0, 90, 200)],
            "label": label,
            "decision": noisy(0.15),
            "ann": noisy(0.05),
            "bob": noisy(0.1),
            "cem": noisy(0.2),
        }
    )


READERS = ["ann", "bob", "cem"]


def row_of(kappas, reader, study_type="overall"):
    (row,) = kappas[(kappas.reader == reader) & (kappas.study_type == study_type)].to_dict(
        "records"
    )
    return row


def test_rows_are_types_times_readers_and_model(predictions):
    kappas = reader_kappas(predictions, READERS)
    assert kappas.study_type.unique().tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert kappas.reader.tolist() == [*READERS, "model"] * 3
    assert (kappas.undefined == "").all()
    assert ((kappas.low < kappas.kappa) & (kappas.kappa < kappas.high)).all()


def test_gold_column_is_the_reference(predictions):
    kappas = reader_kappas(predictions, READERS, gold="label")
    for reader, column in (("bob", "bob"), ("model", "decision")):
        row = row_of(kappas, reader)
        expected = cohen_kappa_score(predictions["label"], predictions[column])
        assert row["kappa"] == pytest.approx(expected)
        assert (row["n"], row["n_tied"], row["reference"]) == (200, 0, "label")
    found = kappa_interval(
        predictions["label"],
        predictions["bob"],
        method="bootstrap",
        groups=predictions["patient"],
    )
    row = row_of(kappas, "bob")
    assert (row["kappa"], row["low"], row["high"]) == found


def test_reader_is_compared_with_majority_of_others(predictions):
    kappas = reader_kappas(predictions, READERS)
    row = row_of(kappas, "ann")
    agree = predictions["bob"] == predictions["cem"]
    assert row["n"] == agree.sum()
    assert row["n_tied"] == (~agree).sum()
    expected = cohen_kappa_score(predictions.loc[agree, "ann"], predictions.loc[agree, "bob"])
    assert row["kappa"] == pytest.approx(expected)
    assert row["reference"] == "majority of the other readers"


def test_model_is_compared_with_majority_of_all(predictions):
    row = row_of(reader_kappas(predictions, READERS), "model")
    majority = (predictions[READERS].sum(axis=1) > 1).astype(int)
    assert row["kappa"] == pytest.approx(cohen_kappa_score(majority, predictions["decision"]))
    assert (row["n"], row["n_tied"]) == (200, 0)
    assert row["reference"] == "majority of all readers"


def test_adding_a_reader_does_not_change_gold_kappas(predictions):
    more = predictions.assign(dan=predictions["ann"])
    few, many = (
        reader_kappas(more, readers, gold="label") for readers in (READERS, [*READERS, "dan"])
    )
    assert row_of(few, "ann") == row_of(many, "ann")
    assert row_of(many, "dan") | {"reader": "ann"} == row_of(many, "ann")


def test_unread_studies_are_ignored(predictions):
    some = predictions.assign(ann=predictions["ann"].astype("Int8").mask(np.arange(200) < 50))
    row = row_of(reader_kappas(some, READERS, gold="label"), "ann")
    rest = predictions.iloc[50:]
    assert row["n"] == 150
    assert row["kappa"] == pytest.approx(cohen_kappa_score(rest["label"], rest["ann"]))
    unread = predictions.assign(ann=None)
    row = row_of(reader_kappas(unread, READERS, gold="label"), "ann")
    assert row["n"] == 0
    assert np.isnan(row["kappa"])
    assert row["undefined"] == "no studies"


def test_one_class_and_one_patient_are_nan_with_a_reason(predictions):
    alike = predictions.assign(ann=0, label=0)
    row = row_of(reader_kappas(alike, READERS, gold="label"), "ann")
    assert row["undefined"] == "reader and reference have one and the same class"
    alone = predictions.assign(patient="p")
    row = row_of(reader_kappas(alone, READERS), "ann")
    assert np.isnan(row["low"])
    assert not np.isnan(row["kappa"])
    assert "one patient" in row["undefined"]


def test_model_type_and_patient_are_optional(predictions):
    kappas = reader_kappas(predictions[READERS], READERS)
    assert kappas.reader.tolist() == READERS
    assert kappas.study_type.tolist() == ["overall"] * 3


@pytest.mark.parametrize(
    ("change", "readers", "gold", "message"),
    [
        ({}, ["ann", "zoe"], None, "expected columns zoe in the predictions"),
        ({}, ["ann"], None, "at least two readers, or a gold column, got only ann; pass gold"),
        ({}, [], "label", "at least one reader"),
        ({}, ["ann", "ann"], None, "each once"),
        ({"model": 0}, ["ann", "model"], None, "no reader called .model.* rename the column"),
        ({}, ["ann", "bob"], "bob", "and gold bob: a reader always agrees with itself"),
        ({"ann": "abnormal"}, READERS, None, "expected ann to be 0 .* 'abnormal' in row 0"),
        ({"ann": 0.5}, READERS, None, "got 0.5 in row 0"),
    ],
)
def test_reader_kappas_refuses_invalid_input(predictions, change, readers, gold, message):
    with pytest.raises(ValueError, match=message):
        reader_kappas(predictions.assign(**change), readers, gold=gold)


def test_model_kappa_uses_studies_and_reference_of_the_reader(predictions):
    row = row_of(reader_kappas(predictions, READERS), "ann")
    agree = predictions["bob"] == predictions["cem"]
    expected = cohen_kappa_score(predictions.loc[agree, "bob"], predictions.loc[agree, "decision"])
    assert row["model_kappa"] == pytest.approx(expected)
    assert row["model_low"] < row["model_kappa"] < row["model_high"]
    model = row_of(reader_kappas(predictions, READERS), "model")
    assert model["model_kappa"] == model["kappa"]
    alone = reader_kappas(predictions[READERS], READERS)
    assert alone["model_kappa"].isna().all()
    assert not wide_kappas(alone).map(lambda text: "model" in text).any(axis=None)


def test_wide_table_shows_studies_and_ties(predictions):
    kappas = reader_kappas(predictions, READERS)
    wide, row = wide_kappas(kappas), row_of(kappas, "ann")
    assert not wide.map(lambda text: "*" in text).any(axis=None)
    lines = wide.loc["overall", "ann"].splitlines()
    assert lines[1] == f"{row['n']} studies, {row['n_tied']} ties"
    assert lines[2].startswith("model .")
    assert wide.loc["overall", "model"].splitlines()[1:] == ["200 studies"]


def test_wide_table_does_not_rank_different_studies(predictions):
    some = predictions.assign(
        ann=predictions["ann"].where(np.arange(200) < 100),
        bob=predictions["bob"].where(np.arange(200) >= 100),
    ).drop(columns="decision")
    kappas = reader_kappas(some, ["ann", "bob"], gold="label")
    assert kappas[kappas.study_type == "overall"][["n", "n_common"]].to_numpy().tolist() == [
        [100, 0],
        [100, 0],
    ]
    assert not wide_kappas(kappas).map(lambda text: "*" in text).any(axis=None)


def test_wide_table_marks_the_best_kappa_of_common_studies(predictions):
    kappas = reader_kappas(predictions, READERS, gold="label")
    wide = wide_kappas(kappas)
    assert wide.index.tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert wide.columns.tolist() == [*READERS, "model"]
    for study_type, row in wide.iterrows():
        best = kappas[kappas.study_type == study_type].set_index("reader")["kappa"].idxmax()
        assert [name for name, text in row.items() if "*" in text] == [best]
        assert not any("model" in text for text in row)


def test_wide_table_reproduces_the_paper_cell():
    tp, fn, fp, tn = (OVERALL_COUNTS[cell] for cell in ("tp", "fn", "fp", "tn"))
    gold, decision = (
        np.repeat([1, 1, 0, 0], [tp, fn, fp, tn]),
        np.repeat([1, 0, 1, 0], [tp, fn, fp, tn]),
    )
    kappas = reader_kappas(pd.DataFrame({"gold": gold, "paper": decision}), ["paper"], gold="gold")
    assert wide_kappas(kappas).loc["overall", "paper"].startswith(".705 (.6")


def test_wide_table_without_defined_kappa_has_no_mark():
    kappas = reader_kappas(pd.DataFrame({"a": [0, 0], "b": [0, 0]}), ["a", "b"])
    assert wide_kappas(kappas).loc["overall"].tolist() == ["n/a\n2 studies"] * 2
    with pytest.raises(ValueError, match="pass what reader_kappas returns"):
        wide_kappas(kappas.drop(columns="low"))
