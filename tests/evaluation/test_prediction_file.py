from pathlib import Path

import pandas as pd
import pytest

from mura_skorch.evaluation import evaluate, read_predictions, score_predictions

HEADER = "study,study_type,patient,label,y_score\n"


def write(text, name="table.csv"):
    Path(name).write_text(text)
    return name


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("column", ["score", "y_score"])
def test_scores_of_a_file_are_those_of_its_table(predictions, suffix, column):
    table = predictions.rename(columns={"score": column})
    if suffix == "csv":
        table.to_csv("table.csv", index=False)
    else:
        table.to_parquet("table.parquet")
    found = read_predictions(f"table.{suffix}")
    pd.testing.assert_frame_equal(score_predictions(found), score_predictions(predictions))
    assert found["decision"].tolist() == (predictions["score"] > 0.5).tolist()
    evaluate(found)


def test_ids_stay_texts_and_further_columns_get_their_types():
    rows = "0010,XR_HAND,007,abnormal,0.75,007,3,valid\n0011,XR_HAND,8,,,01,,train\n"
    found = read_predictions(write(HEADER.strip() + ",site,reader,split\n" + rows))
    assert found["study"].tolist() == ["0010", "0011"]
    assert found["patient"].tolist() == ["007", "8"]
    assert found["site"].tolist() == ["007", "01"]
    assert found["reader"].iloc[0] == 3
    assert found["label"].tolist() == found["decision"].tolist() == [1, pd.NA]


def test_threshold_of_the_call_goes_before_that_of_the_file():
    text = HEADER.strip() + ",threshold\ns1,XR_HAND,1,1,0.3,0.2\n"
    assert read_predictions(write(text))["decision"].tolist() == [1]
    assert read_predictions(write(text), threshold=0.4)["decision"].tolist() == [0]


def test_split_selects_rows():
    text = HEADER.strip() + ",split\ns1,XR_HAND,1,1,0.3,train\ns2,XR_HAND,1,1,0.3,test\n"
    assert read_predictions(write(text), split="test")["study"].tolist() == ["s2"]
    with pytest.raises(ValueError, match="expected a split among test, train, got 'valid'"):
        read_predictions(write(text), split="valid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("study,label,y_score\ns,1,1\n", ".*no study_type and no patient; name the columns"),
        (HEADER + "s1,XR_HAND,1,1,2.5\n", "line 2, column y_score: expected a probability"),
        (HEADER + "s1,XR_HAND,1,1,high\n", ".*got 'high'; a logit becomes one"),
        (HEADER + "s1,XR_HAND,1,2,0.5\n", "line 2, column label: expected 0 or normal"),
        (HEADER + 2 * "s1,XR_HAND,1,1,0.5\n", "line 3, column study: expected each study once"),
        (HEADER + "s1,XR_HAND,,1,0.5\n", "line 2, column patient: expected a value"),
    ],
)
def test_an_invalid_table_is_named_with_line_and_column(text, message):
    with pytest.raises(ValueError, match=f"/table.csv(, |: ){message}"):
        read_predictions(write(text))


def test_a_further_column_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="expected columns anna in the predictions"):
        read_predictions(write(HEADER + "s1,XR_HAND,1,1,0.5\n"), keep=["anna"])
