"""Logistic regressions on frozen features: fitted by folds of patients, and as a classifier."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["N_FOLDS", "classifier_of_head", "fit_head"]

PENALTIES = {"logisticregression__C": [1e-4, 1e-3, 1e-2, 1e-1]}
N_FOLDS = 4  # of patients, to choose the penalty


def fit_head(features: np.ndarray, label: np.ndarray, patient: np.ndarray) -> GridSearchCV:
    """Return a logistic regression whose penalty is chosen by folds of patients.

    Parameters
    ----------
    features : ndarray of shape (n_studies, n_features)
        As `StudyEmbedder` returns them.
    label : ndarray of shape (n_studies,)
        1 abnormal, 0 normal.
    patient : ndarray of shape (n_studies,)
        Patients, of whom no fold shares one.

    Returns
    -------
    GridSearchCV
        Fitted, on standardised features and with balanced class weights.
    """
    head = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    search = GridSearchCV(
        head, PENALTIES, scoring="roc_auc", cv=StratifiedGroupKFold(N_FOLDS), error_score=0.5
    )
    with warnings.catch_warnings():
        # A fold of few patients may hold one class; its AUROC is then that of chance.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
        return search.fit(features, label, groups=patient)


def classifier_of_head(model: Any, head: GridSearchCV, study_types: Sequence[str]) -> Any:
    """Return a copy of a network whose last layer is a head, for maps and scores of views.

    Parameters
    ----------
    model : MuraClassifier
        That computed the features, ``model_`` of a `StudyEmbedder`.
    head : GridSearchCV
        What `fit_head` returned on them.
    study_types : sequence of str
        The types that the head was fitted on.

    Returns
    -------
    MuraClassifier
        The mean of its views' logits is the head's logit of a study.
    """
    scaler, regression = (step for _, step in head.best_estimator_.steps)
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - weight @ scaler.mean_
    clf = deepcopy(model)
    clf.study_types_ = sorted(study_types)
    with torch.no_grad():
        clf.module_.head.weight.copy_(torch.as_tensor(weight[None]))
        clf.module_.head.bias.copy_(torch.as_tensor([bias]))
    return clf
