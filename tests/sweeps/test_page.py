import re

import optuna
import pandas as pd
import pytest

from mura_skorch.evaluation import choice_optimism
from mura_skorch.sweeps import SweepResult, write_sweep

NOTE = "phantoms: no clinical meaning"


def result_of(values, direction="minimize", **changes):
    """Return the result of a sweep; a value of None means a pruned trial."""
    study = optuna.create_study(direction=direction)
    rows = []
    for number, value in enumerate(values):
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-5, 1e-2, log=True)
        batch_size = trial.suggest_categorical("batch_size", [4, 8])
        pruned = optuna.trial.TrialState.PRUNED if value is None else None
        study.tell(trial, value, state=pruned)
        state = "complete" if value is not None else "pruned"
        rows.append((number, state, lr, batch_size, value))
    table = pd.DataFrame(rows, columns=["trial", "state", "lr", "batch_size", "value"])
    settings = {
        "recipe": 'MuraClassifier(module="<b>")',
        "comparison": "mura-skorch ablate",
        "about": {"Data": "drawn"},
        "note": NOTE,
    }
    return SweepResult(study, table, "valid_loss", len(values), **settings | changes)


@pytest.mark.parametrize(("direction", "best"), [("minimize", 2), ("maximize", 0)])
def test_best_trial_has_the_best_value(direction, best):
    assert result_of([0.9, None, 0.3, 0.4], direction).best["trial"] == best


def test_page_has_the_best_setting_the_figures_and_the_caution():
    scores = [[0.1, 0.9, 0.2, 0.8], [0.3, 0.6, 0.4, 0.7]]
    optimism = choice_optimism([0, 1, 0, 1], scores)
    result = result_of([0.9, 0.5, None, 0.3, 0.4], optimism=optimism)
    path = write_sweep("out", result, title="Sweep wrists")
    page = path.read_text()
    assert page.index(NOTE) < page.index("<h1>Sweep wrists</h1>")
    assert "5 of 5 trials: 4 complete, 1 pruned" in page
    assert "Trial 3 has valid_loss 0.3" in page
    assert "MuraClassifier(module=&#34;&lt;b&gt;&#34;)" in page
    assert "looks better than it is" in page
    assert "expected on other studies" in page
    assert page.count("<img ") == 2
    assert not re.search(r"<script|https?://", page)
    assert set(pd.read_csv("out/trials.csv")["note"]) == {NOTE}


def test_figures_of_equal_values_are_left_out():
    page = write_sweep("out", result_of([0.5, 0.5, 0.5])).read_text()
    assert "needs two complete trials with different values" in page
    assert page.count("<img ") == 1


def test_page_of_a_sweep_without_a_complete_trial_says_so():
    result = result_of([None, None])
    assert result.best is None
    page = write_sweep("out", result).read_text()
    assert "No trial is complete" in page
    assert "The best setting" not in page


def test_figures_do_not_change_the_style_of_others():
    import matplotlib

    before = dict(matplotlib.rcParams)
    write_sweep("out", result_of([0.1, 0.2]))
    assert dict(matplotlib.rcParams) == before


def test_re_estimate_takes_the_place_of_how_to_get_one():
    page = write_sweep("out", result_of([0.1, 0.2], re_estimate="Trained again: .4")).read_text()
    assert "Trained again: .4" in page
    assert "--re-estimate" not in page
