import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import joblib
import mlflow
import numpy as np
import pytest
from nets import TinyNet, tiny_classifier
from sklearn.base import clone
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline

from mura_skorch import MuraClassifier

GRID = {"lr": [1e-3, 1e-4]}


def tracked(**params):
    return tiny_classifier(**{"callbacks__mlflow__run_name": None, "max_epochs": 1, **params})


@pytest.fixture
def experiment(restored_store):
    """A new MLflow experiment, the active one during the test."""
    return mlflow.set_experiment(f"inner-{time.time_ns()}").experiment_id


def fits_of(experiment):
    """Return (parent, inner, has a model) of the runs of an experiment, but for one called mine."""
    client = mlflow.MlflowClient()
    runs = mlflow.search_runs([experiment], output_format="list")
    return [
        (
            run.data.tags.get("mlflow.parentRunId"),
            "inner_fit" in run.data.tags,
            any(item.path == "model" for item in client.list_artifacts(run.info.run_id)),
        )
        for run in runs
        if run.info.run_name != "mine" and run.info.status == "FINISHED"
    ]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_candidates_are_children_without_models_and_the_winner_has_one(
    experiment, train, valid, n_jobs
):
    search = GridSearchCV(tracked(), GRID, cv=GroupKFold(2), n_jobs=n_jobs, error_score="raise")
    with mlflow.start_run(run_name="mine") as mine:
        search.fit(train, train["label"], groups=train["patient"])
    parent = mine.info.run_id
    expected = [(parent, False, True)] + [(parent, True, False)] * 4
    assert sorted(fits_of(experiment)) == sorted(expected)
    loaded = MuraClassifier.load(search.best_estimator_.run_id_, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), search.predict_proba(valid))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_folds_in_workers_are_children_of_the_active_run(experiment, train, backend):
    with (
        joblib.parallel_config(backend, n_jobs=2),
        mlflow.start_run(run_name="mine") as mine,
    ):
        cross_validate(
            make_pipeline(tracked()), train, train["label"], groups=train["patient"],
            cv=GroupKFold(6), error_score="raise",
        )  # fmt: skip  # six: joblib clones the later ones in another thread
    assert fits_of(experiment) == [(mine.info.run_id, True, False)] * 6


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_without_an_active_run_the_fits_have_no_parent(experiment, train, n_jobs):
    cross_val_predict(
        tracked(), train, train["label"], groups=train["patient"], cv=GroupKFold(2), n_jobs=n_jobs
    )
    assert fits_of(experiment) == [(None, True, False)] * 2


def test_fits_that_choose_a_threshold_are_inner_and_the_last_is_not(experiment, train):
    folds = list(GroupKFold(2).split(train, groups=train["patient"]))
    TunedThresholdClassifierCV(tracked(), cv=folds).fit(train, train["label"])
    assert sorted(fits_of(experiment), key=str) == sorted(
        [(None, True, False)] * 2 + [(None, False, True)], key=str
    )


def test_clones_and_voters_that_are_kept_log_their_models(experiment, train):
    clone(tracked()).fit(train)
    VotingClassifier([("a", tracked())], voting="soft").fit(train, train["label"])
    assert fits_of(experiment) == [(None, False, True)] * 2


@pytest.mark.parametrize("log_model", [True, False])
def test_choice_of_the_user_holds_for_inner_fits_too(experiment, train, log_model):
    net = tracked(callbacks__mlflow__log_model=log_model)
    cross_validate(net, train, groups=train["patient"], cv=GroupKFold(2), error_score="raise")
    net.fit(train)
    found = [has_model for _, _, has_model in fits_of(experiment)]
    assert found == [log_model] * 3


def test_clone_from_a_pickle_is_no_child_of_a_run_that_has_ended(experiment, train):
    with mlflow.start_run(run_name="mine"):
        kept = pickle.dumps(clone(tracked()))
    with joblib.parallel_config("threading", n_jobs=2):
        joblib.Parallel()([joblib.delayed(pickle.loads(kept).fit)(train)])
    assert fits_of(experiment) == [(None, False, True)]


def test_birthplace_is_no_parameter():
    net = tracked()
    assert clone(net).get_params(deep=False).keys() == net.get_params(deep=False).keys()
    assert repr(clone(net)) == repr(net)


@pytest.mark.slow
def test_normal_work_in_a_new_folder_gives_no_warning(train, tmp_path):
    train.to_pickle("train.pkl")
    script = tmp_path / "work.py"
    script.write_text(
        "import joblib, pandas as pd\n"
        "from nets import tiny_classifier\n"
        "from mura_skorch.scoring import kappa\n"
        "from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate\n"
        "if __name__ == '__main__':\n"
        "    train = pd.read_pickle('train.pkl')\n"
        "    clf = tiny_classifier(max_epochs=1, verbose=1, callbacks__mlflow__run_name=None)\n"
        "    clf.fit(train).predict(train)\n"
        "    by_patient = dict(cv=GroupKFold(2), n_jobs=2, scoring=kappa)\n"
        "    groups = train.patient\n"
        "    cross_validate(clf, train, train.label, groups=groups, **by_patient)\n"
        "    search = GridSearchCV(clf, {'lr': [1e-3]}, **by_patient)\n"
        "    search.fit(train, train.label, groups=groups)\n"
        "    joblib.dump(search, 'search.joblib')\n"
        "    joblib.load('search.joblib').predict(train)\n",
        encoding="utf-8",
    )
    environment = {
        **os.environ,
        "PYTHONWARNINGS": "error",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path]),
    }
    environment.pop("MLFLOW_TRACKING_URI")
    found = subprocess.run(
        [sys.executable, script.name],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    # MLflow's logger says that it makes a database, on stderr.
    said = [line for line in found.stderr.splitlines() if " INFO mlflow" not in line]
    assert said == []
