"""Triage for classifiers of studies: limits from local studies, answers, signs of doubt."""

import warnings
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.calibration.triage import (
    Triage,
    fit_triage,
    patients_needed,
    study_keys,
    view_disagreement,
)
from mura_skorch.studies.validation import check_labelled
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.members import trained_patients_of
from mura_skorch.utils.provenance import type_digests

__all__ = ["TriageMixin"]


class TriageMixin:
    """What lets a classifier of studies answer "look yourself".

    The class it is mixed into has ``predict_with_views``, ``threshold_`` and forgets `triage_`
    whenever its weights or its probabilities change.

    Attributes
    ----------
    triage_ : Triage or None
        The limits that `triage` has chosen.
    """

    triage_: Triage | None = None
    predict_proba: Any
    predict_with_views: Any
    threshold_: Any

    def triage(
        self, studies: pd.DataFrame, y: ArrayLike | None = None, *, error_rate: float = 0.05
    ) -> Self:
        """Return a copy that calls a study normal or abnormal only at a promised error rate.

        No weight and no probability changes; `predict` and the threshold stay as they are. The copy
        can be saved, loaded and served, and this model stays as it is.

        Parameters
        ----------
        studies : DataFrame of n_studies rows
            Labelled studies of the place of use, with ``patient``. They must hold no patient of the
            training, and none that is reported afterwards. Those that `recalibrate` was called with
            may be used again.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``studies["label"]``.
        error_rate : float, default=0.05
            Of the abnormal studies of a type at most this share is called normal, and of the normal
            ones at most this share abnormal.

        Returns
        -------
        Copy of this model

        Raises
        ------
        ValueError
            There is no column ``patient``, a patient is one of the training, the error rate is not
            above 0 and below 1, or no study type has enough patients of each label: 19 for 0.05,
            see `mura_skorch.calibration.patients_needed`.

        Warns
        -----
        UserWarning
            Some study types have too few patients: all their studies are left to a reader.

        See Also
        --------
        predict_triage : The answers.
        mura_skorch.calibration.Triage : What exactly is promised, and what breaks it.

        Notes
        -----
        Of each patient one study of a type and label is used, drawn by a hash of its key, since
        several studies of a patient resemble each other. A saved model stores no patients: only a
        model that was fitted in this process can refuse those of the training. If local patients
        have the ids of other people in the training, give them other ids.

        Call it with the engine and the precision that will be used, and again after `recalibrate`.

        Examples
        --------
        >>> local_clf = clf.triage(local, error_rate=0.05)  # doctest: +SKIP
        >>> local_clf.predict_triage(new)["triage"]  # doctest: +SKIP
        """
        patients_needed(error_rate)  # refuses a wrong one before anything is predicted
        studies, labels = check_labelled(studies, y)
        if "patient" not in studies:
            raise ValueError(
                "expected a column patient in the local studies, one study of each counts; got "
                f"{', '.join(map(str, studies.columns))}; add it"
            )
        self._refuse_trained_patients(studies["patient"])
        model = deepcopy(self)
        found = fit_triage(
            labels,
            model.predict_proba(studies)[:, 1],
            studies["study_type"],
            studies["patient"],
            study_keys(studies),
            error_rate=error_rate,
            threshold=self.threshold_,
        )
        if found.closed_types:
            warnings.warn(found.describe()[-2], stacklevel=2)
        model.triage_ = replace(found, chosen_on=type_digests(studies))
        return model

    def predict_triage(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return the triage of every study, with two signs of doubt.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        DataFrame of n_studies rows
            With the index of `X`: ``triage``, "normal", "abnormal" or "look yourself"; ``reason``
            of "look yourself", else None; ``probability``; ``view_disagreement``, the largest minus
            the smallest probability of the study's views, NaN for a single view;
            ``training_percentile``, see `MuraClassifier.training_percentile`, NaN if
            `MuraClassifier.measure_training` was not called. The last two do not change the answer.

        Raises
        ------
        ValueError
            `triage` was not called.
        """
        if self.triage_ is None:
            raise ValueError(
                "expected a model with limits for triage, got one without; call triage with "
                "labelled local studies, and use the model that it returns"
            )
        proba, view_proba = self.predict_with_views(X)
        answers = self.triage_.decide(proba[:, 1], X["study_type"])
        percentile = np.full(len(X), np.nan)
        if getattr(self, "training_distance_", None) is not None:
            percentile = self.training_percentile(X)  # type: ignore[attr-defined]
        pairs = zip(answers, X["study_type"], strict=True)
        return pd.DataFrame(
            {
                "triage": answers,
                "reason": pd.Series(
                    [self.triage_.reason(*pair) for pair in pairs], X.index, dtype=object
                ),
                "probability": proba[:, 1],
                "view_disagreement": view_disagreement(view_proba),
                "training_percentile": percentile,
            },
            index=X.index,
        )

    def _refuse_trained_patients(self, patients):
        """Raise ValueError if the model, or a member of it, was trained on one of the patients."""
        if known := sorted(trained_patients_of(self) & set(patient_keys(patients))):
            raise ValueError(
                f"expected local studies of patients that the model was not trained on, got "
                f"{len(known):,} of the training, such as {known[0]}; leave them out. If they are "
                "other people with equal ids, rename them: studies.assign(patient='local ' + "
                "studies['patient'].astype(str))"
            )
