import pickle
from functools import partial

import numpy as np
import pytest
from nets import tiny_classifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import cohen_kappa_score, get_scorer
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    LeaveOneGroupOut,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline

from mura_skorch import MuraEnsemble
from mura_skorch.metrics import kappa_score
from mura_skorch.scoring import kappa, kappa_by_study_type


class Counting(ClassifierMixin, BaseEstimator):
    """A classifier that says yes to the studies of a list, and counts how often it is asked."""

    classes_ = np.array([0, 1])

    def __init__(self, positive):
        self.positive = positive
        self.n_calls_ = 0

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        self.n_calls_ += 1
        return X["study"].isin(self.positive).astype(int).to_numpy()


def quick(**params):
    return tiny_classifier(**{"max_epochs": 1, **params})


def test_kappas_are_those_of_the_decisions_by_type(valid):
    model = Counting(valid["study"].iloc[[0, 3, 5, 9, 10]].tolist())
    y_pred = model.predict(valid)
    found = kappa_by_study_type(model, valid)
    assert model.n_calls_ == 2, "one prediction serves all figures"
    assert list(found) == ["kappa", "kappa/XR_HAND", "kappa/XR_WRIST"]
    y = valid["label"].to_numpy(dtype=int)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(y, y_pred))
    for name in ("XR_HAND", "XR_WRIST"):
        own = (valid["study_type"] == name).to_numpy()
        assert found[f"kappa/{name}"] == kappa_score(y[own], y_pred[own])
    assert kappa(model, valid, y) == found["kappa"]


def test_labels_may_be_of_any_kind(fitted, valid):
    y = valid["label"]
    kinds = [y, y.to_list(), y.to_numpy(dtype=int), y.astype(float), y.astype(bool)]
    assert len({kappa(fitted, valid, kind) for kind in kinds}) == 1
    found = [kappa_by_study_type(fitted, valid, kind) for kind in (*kinds, None)]
    assert all(scores == found[0] for scores in found)


def test_undefined_kappa_is_nan_without_a_warning(valid, recwarn):
    normal = valid[valid.label == 0]
    found = kappa_by_study_type(Counting([]), normal)
    assert np.isnan(list(found.values())).all()
    assert not recwarn.list


def test_each_fold_has_the_figures_of_every_type(train):
    found = cross_validate(
        Counting([]), train, train["label"], groups=train["study_type"], cv=LeaveOneGroupOut(),
        scoring=partial(kappa_by_study_type, study_types=["XR_HAND", "XR_WRIST"]),
    )  # fmt: skip
    assert np.isnan(found["test_kappa/XR_HAND"]).tolist() == [False, True]
    assert np.isnan(found["test_kappa/XR_WRIST"]).tolist() == [True, False]


def test_types_of_training_are_found_in_what_is_around_the_classifier(fitted, train, valid):
    search = GridSearchCV(
        make_pipeline(quick()), {"muraclassifier__lr": [1e-3]}, scoring=kappa, cv=GroupKFold(2)
    ).fit(train, train["label"], groups=train["patient"])
    hands = valid[valid.study_type == "XR_HAND"]
    for model in (
        fitted,
        make_pipeline(fitted),
        FrozenEstimator(fitted),
        MuraEnsemble.of([fitted]),
        search,
    ):
        found = kappa_by_study_type(model, hands)
        assert list(found) == ["kappa", "kappa/XR_HAND", "kappa/XR_WRIST"]
        assert np.isnan(found["kappa/XR_WRIST"])


def test_scorers_serve_as_scoring(train):
    by_patient = {"groups": train["patient"], "cv": GroupKFold(2), "error_score": "raise"}
    alone = cross_val_score(quick(), train, train["label"], scoring=kappa, **by_patient)
    mixed = cross_validate(
        quick(), train, train["label"], scoring={"k": kappa, "auc": "roc_auc"}, **by_patient
    )
    typed = cross_validate(quick(), train, scoring=kappa_by_study_type, **by_patient)
    assert alone.tolist() == mixed["test_k"].tolist() == typed["test_kappa"].tolist()
    search = GridSearchCV(
        quick(), {"lr": [1e-3, 1e-4]}, scoring=kappa_by_study_type, refit="kappa", cv=GroupKFold(2)
    ).fit(train, train["label"], groups=train["patient"])
    assert search.best_score_ == search.cv_results_["mean_test_kappa"].max()
    assert "mean_test_kappa/XR_WRIST" in search.cv_results_


def test_scorers_can_be_pickled_and_taken_by_get_scorer(fitted, valid):
    for scorer in (kappa, kappa_by_study_type):
        again = pickle.loads(pickle.dumps(scorer))
        y = valid["label"]
        assert get_scorer(again)(fitted, valid, y) == scorer(fitted, valid, y)


def test_scoring_without_labels_is_refused(fitted, valid):
    with pytest.raises(ValueError, match="expected y or a column label"):
        kappa_by_study_type(fitted, valid.drop(columns="label"))
