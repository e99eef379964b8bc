import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import compare_models
from mura_skorch.tracking import TrackedRun, fetch_predictions

SCRIPT = Path(__file__).parents[2] / "experiments" / "compare_runs.py"
compare_runs = SimpleNamespace(**runpy.run_path(str(SCRIPT)))
NOTE = "phantoms: no clinical meaning"


def table(gain, threshold=0.5):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 60)
    score = np.clip(0.5 + gain * (2 * label - 1) + 0.2 * rng.normal(size=60), 0, 1)
    return pd.DataFrame(
        {
            "study": [f"{i:03d}" for i in range(60)],
            "study_type": ["XR_HAND", "XR_WRIST"] * 30,
            "patient": [f"{i // 2:05d}" for i in range(60)],
            "label": label,
            "score": score,
            "threshold": threshold,
            "decision": (score > threshold).astype(int),
            "note": NOTE,
        }
    )


def log(**files):
    with TrackedRun(name="evaluation") as run:
        for file, content in files.items():
            run.log_text(content.to_csv(index=False), file.replace("__", "/") + ".csv")
    return run.run_id


@pytest.fixture(scope="module")
def runs(mlflow_store):
    """A poor and a good model's runs; the second has the table where single types have it."""
    return (
        log(report__predictions=table(0.05), valid_predictions=table(0.4)),
        log(test_predictions=table(0.3, threshold=0.45).iloc[::-1]),
    )


def test_two_runs_are_compared_at_their_own_thresholds(runs, tmp_path, capsys):
    out = tmp_path / "new" / "comparison.csv"
    assert compare_runs.main([*runs, "--out", str(out)]) == 0
    a, b = table(0.05), table(0.3)
    expected = compare_models(
        a["label"],
        a["score"],
        b["score"],
        study_type=a["study_type"],
        groups=a["patient"],
        threshold=(0.5, 0.45),
    )
    found = pd.read_csv(out, keep_default_na=False)
    assert set(found["run_a"]) == {runs[0]}
    assert set(found["note"]) == {NOTE}
    numbers = expected.select_dtypes("number")
    pd.testing.assert_frame_equal(found[numbers.columns], numbers)
    text = capsys.readouterr().out
    assert NOTE in text
    assert "McNemar" in text
    assert f"{expected.kappa_a.iloc[-1]:.3f}" in text
    rows = {words[0]: words for words in map(str.split, text.splitlines()) if len(words) > 9}
    hands, overall = rows["XR_HAND"], rows["overall"]
    assert hands[-1] == f"{expected.p_holm.iloc[0]:.2g}"
    assert overall[-2:] == [f"{expected.mcnemar_p.iloc[-1]:.2g}"] * 2
    assert "The 2 study types are 2 more tests" in text
    assert "Fewer than 50 patients, intervals likely too narrow: XR_HAND, XR_WRIST" in text


def test_pooled_models_are_reported(runs, capsys):
    pool = table(0.3).assign(scored_by=lambda t: t["study_type"])
    compare_runs.main([runs[0], log(report__predictions=pool), "--n-resamples", "50"])
    text = capsys.readouterr().out
    assert "B is 2 models, each on its own scale" in text
    assert "A is" not in text


def test_notes_of_both_runs_are_printed_and_written(runs, tmp_path, capsys):
    other = log(test_predictions=table(0.3).assign(note="a model of phantoms"))
    out = tmp_path / "comparison.csv"
    compare_runs.main([runs[0], other, "--out", str(out), "--n-resamples", "50"])
    both = f"{NOTE}; a model of phantoms"
    assert both in capsys.readouterr().out
    assert set(pd.read_csv(out)["note"]) == {both}


def test_different_studies_are_refused_without_common(runs, capsys):
    other = log(test_predictions=table(0.3).iloc[4:])
    with pytest.raises(SystemExit, match=r"4 only in A \(000, 001, 002, ...\), and 56 in both"):
        compare_runs.main([runs[0], other])
    assert compare_runs.main([runs[0], other, "--common", "--n-resamples", "50"]) == 0
    assert "Compared on 56 studies" in capsys.readouterr().out


def test_reported_predictions_take_precedence_over_test_predictions(runs):
    both = log(report__predictions=table(0.1), test_predictions=table(0.2))
    assert fetch_predictions(both)["score"].tolist() == table(0.1)["score"].tolist()
    named = fetch_predictions(both, "test_predictions.csv")
    assert named["score"].tolist() == table(0.2)["score"].tolist()


def test_numeric_study_keys_remain_str(runs):
    found = fetch_predictions(runs[0])
    assert found["patient"].iloc[0] == "00000"
    assert found["study"].iloc[1] == "001"


def test_validation_predictions_must_be_named(runs):
    run = log(valid_predictions=table(0.3), epochs=table(0.3))
    with pytest.raises(ValueError, match=r"these tables: epochs.csv, valid_predictions.csv; name"):
        fetch_predictions(run)
    assert len(fetch_predictions(run, "valid_predictions.csv")) == 60
    with pytest.raises(SystemExit, match="compare_runs: expected report/predictions.csv or test"):
        compare_runs.main([runs[0], run])


def test_validation_predictions_are_explained(runs, capsys):
    run = log(valid_predictions=table(0.3))
    arguments = [run, run, "--n-resamples", "50", "--table", "valid_predictions.csv"]
    assert compare_runs.main(arguments) == 0
    assert "the validation part of each fit, which selected its epoch" in capsys.readouterr().out
    assert compare_runs.main([*runs, "--n-resamples", "50"]) == 0
    assert "validation part" not in capsys.readouterr().out


def test_missing_run_is_named(runs):
    with pytest.raises(ValueError, match="expected the id of an MLflow run, got 'nonsense'"):
        fetch_predictions("nonsense")
