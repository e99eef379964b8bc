import numpy as np
import pandas as pd

from mura_skorch.score_tables import shortcut_table
from mura_skorch.shortcuts import shortcut_scores


def test_shortcuts_are_rows_of_types_columns_of_shortcuts_and_the_models_excess_overall(
    predictions,
):
    good = predictions.assign(
        score=0.2 + 0.6 * predictions["label"],
        mean_intensity=np.random.default_rng(0).normal(40, 9, 60),
    )
    good.loc[:2, "mean_intensity"] = np.nan
    scores = shortcut_scores(good, n_resamples=50)
    table = shortcut_table(scores).set_index("study type")
    assert table.index.tolist() == [*("XR_HAND", "XR_WRIST", "overall"), table.index[-1]]
    assert table["studies"].tolist() == ["40", "20", "60", ""]
    assert table["the study type"].tolist()[:2] == ["", ""]
    row = scores[scores["shortcut"] == "n_views"].iloc[-1]
    assert table["the number of views"].tolist()[2:] == [".500 (zero width)", ".500 (zero width)"]
    assert row["difference"] == 0.5
    assert table["the mean intensity"].str.split(") ", regex=False).str[1].tolist()[:3] == [
        *("of 38", "of 19", "of 57"),
    ]


def test_table_without_any_shortcut_is_empty():
    scores = shortcut_scores(pd.DataFrame({"label": [0, 1], "score": [0.1, 0.9]}))
    assert shortcut_table(scores).empty
