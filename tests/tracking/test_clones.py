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
from mura_skorch.tracking import log_fitted_model

HELPERS = str(Path(__file__).parents[1] / "helpers")
GRID = {"lr": [1e-3, 1e-4]}


def tracked(**params):
    return tiny_classifier(**{"callbacks__mlflow__run_name": None, "max_epochs": 1, **params})


@pytest.fixture
def experiment(restored_store):
    """A new MLflow experiment, the active one during the test."""
    return mlflow.set_experiment(f"inner-{time.time_ns()}").experiment_id


def fits_of(experiment):
    """Return (parent, is a clone, has a model) of the runs of an experiment not called mine."""
    runs = mlflow.search_runs([experiment], output_format="list")
    models = mlflow.search_logged_models([experiment], output_format="list")
    with_model = {model.source_run_id for model in models}
    return [
        (
            run.data.tags.get("mlflow.parentRunId"),
            "clone" in run.data.tags,
            run.info.run_id in with_model,
        )
        for run in runs
        if run.info.run_name != "mine" and run.info.status == "FINISHED"
    ]


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_candidates_are_children_without_models_and_the_winner_is_logged_by_a_call(
    experiment, train, valid, n_jobs
):
    search = GridSearchCV(tracked(), GRID, cv=GroupKFold(2), n_jobs=n_jobs, error_score="raise")
    with mlflow.start_run(run_name="mine") as mine:
        search.fit(train, train["label"], groups=train["patient"])
    parent = mine.info.run_id
    assert fits_of(experiment) == [(parent, True, False)] * 5
    log_fitted_model(search.best_estimator_)
    assert sorted(fits_of(experiment)) == [(parent, True, False)] * 4 + [(parent, True, True)]
    (model,) = mlflow.search_logged_models([experiment], output_format="list")
    assert model.source_run_id == search.best_estimator_.run_id_
    assert "valid/kappa" in {metric.key for metric in model.metrics}
    assert {metric.dataset_name for metric in model.metrics} == {"XR_HAND, XR_WRIST"}
    for source in (search.best_estimator_.run_id_, model.model_uri):
        loaded = MuraClassifier.load(source, module=TinyNet)
        assert np.array_equal(loaded.predict_proba(valid), search.predict_proba(valid))


@pytest.mark.slow
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


WORKER = """
import pickle, sys
import pandas as pd
assert not any("MLFLOW" in name for name in __import__("os").environ)
with open("clone.pkl", "rb") as file:
    pickle.load(file).fit(pd.read_pickle("train.pkl"))
"""


@pytest.mark.slow
def test_fit_in_a_worker_that_was_started_elsewhere_is_a_child_on_the_same_server(
    experiment, train, tmp_path
):
    train.to_pickle("train.pkl")
    environment = {key: text for key, text in os.environ.items() if "MLFLOW" not in key}
    environment["PYTHONPATH"] = os.pathsep.join([HELPERS, *sys.path])
    with mlflow.start_run(run_name="mine") as mine:
        Path("clone.pkl").write_bytes(pickle.dumps(clone(tracked())))
        subprocess.run([sys.executable, "-c", WORKER], env=environment, check=True)
    assert fits_of(experiment) == [(mine.info.run_id, True, False)]
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_without_an_active_run_the_fits_have_no_parent(experiment, train, n_jobs):
    cross_val_predict(
        tracked(), train, train["label"], groups=train["patient"], cv=GroupKFold(2), n_jobs=n_jobs
    )
    assert fits_of(experiment) == [(None, True, False)] * 2


def test_fits_that_choose_a_threshold_log_no_models(experiment, train):
    folds = list(GroupKFold(2).split(train, groups=train["patient"]))
    TunedThresholdClassifierCV(tracked(), cv=folds).fit(train, train["label"])
    assert fits_of(experiment) == [(None, True, False)] * 3


def test_clones_and_voters_log_no_models_unless_asked(experiment, train):
    clone(tracked()).fit(train)
    VotingClassifier([("a", tracked())], voting="soft").fit(train, train["label"])
    assert fits_of(experiment) == [(None, True, False)] * 2
    clone(tracked(callbacks__mlflow__log_model=True)).fit(train)
    assert sorted(fits_of(experiment), key=str)[-1] == (None, True, True)


@pytest.mark.parametrize("log_model", [True, False])
def test_choice_of_the_user_holds_for_clones_too(experiment, train, log_model):
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
    assert fits_of(experiment) == [(None, True, False)]


def test_fitted_clone_is_pickled_without_the_address_of_a_server(experiment, train, mlflow_store):
    with mlflow.start_run(run_name="mine"):
        net = clone(tracked())
        assert mlflow_store.encode() in pickle.dumps(net)
        net.fit(train)
    assert mlflow_store.encode() not in pickle.dumps(net)


def test_origin_of_a_clone_is_no_parameter():
    net = tracked()
    assert clone(net).get_params(deep=False).keys() == net.get_params(deep=False).keys()
    assert repr(clone(net)) == repr(net)


def test_address_with_a_password_stays_out_of_clones(restored_store):
    mlflow.set_tracking_uri("http://reader:secret@127.0.0.1:1")
    assert b"secret" not in pickle.dumps(clone(tracked()))


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
        "PYTHONPATH": os.pathsep.join([HELPERS, *sys.path]),
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
