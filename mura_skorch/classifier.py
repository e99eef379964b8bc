"""The estimator: study tables go in, probabilities of abnormality and fits on record come out."""

import logging
import os
import secrets
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from skorch.callbacks import LRScheduler
from skorch.utils import is_dataset, to_numpy

from mura_skorch.calibration.operating_point import is_rule
from mura_skorch.calibration.threshold_mixin import OperatingPointMixin, probabilities
from mura_skorch.callbacks.best_weights import BestWeights
from mura_skorch.callbacks.defaults import training_callbacks
from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import StudyDataset, base_of, is_cached, studies_of
from mura_skorch.data.images import check_views
from mura_skorch.data.splits import (
    PatientSplit,
    TrainSplit,
    ValidStudies,
    as_split,
    check_no_shared_patient,
)
from mura_skorch.data.transforms import Augment
from mura_skorch.data.unreadable import check_none_lost, count_bad_views, tell_bad_views, with_gaps
from mura_skorch.inspection.activation_maps import localize
from mura_skorch.models.densenet import StudyDenseNet
from mura_skorch.models.losses import StudyTypeBCE
from mura_skorch.models.serialization import note_of
from mura_skorch.studies.columns import join_notes
from mura_skorch.studies.validation import check_studies
from mura_skorch.tracking.callback import MlflowTracker, on_record
from mura_skorch.tracking.clones import remember_origin
from mura_skorch.training.fingerprint import digest_of
from mura_skorch.training.parameters import check_names, check_parameters
from mura_skorch.training.resume import ResumableNet, StateKeeper
from mura_skorch.utils.arguments import told
from mura_skorch.utils.identity import patient_keys, warn_of_lookalikes

__all__ = ["MuraClassifier"]

_log = logging.getLogger(__name__)

# Torch's random state belongs to the process: two threads that fit wait for each other, so that
# each draws what it draws alone.
ONE_FIT_AT_A_TIME = threading.RLock()
# Parts whose parameters wait until the part is made.
COUNT_LATER = ("module", "criterion", "dataset", "iterator_train", "iterator_valid")


def _renew_lock():
    """Make a forked process free to fit while a thread of its parent holds the lock."""
    global ONE_FIT_AT_A_TIME
    ONE_FIT_AT_A_TIME = threading.RLock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


class MuraClassifier(OperatingPointMixin, ResumableNet):
    """DenseNet-169 that tells abnormal studies of radiographs from normal ones.

    Every view of a study goes through the network; the study's probability is the mean over its
    views, and the study is abnormal strictly above `threshold`. Each fit is an MLflow run.

    Parameters
    ----------
    module : class, default=StudyDenseNet
        The network.
    module__weights : str, path or None, default="IMAGENET1K_V1"
        A torchvision name, the path of a DenseNet-169 state dict, the folder of a model saved by
        `save` to fine-tune, or None for a random start.
    module__augment : callable or None, default=Augment(degrees=10, flip=0.5)
        Varies training views; None leaves them as they are.
    module__max_views : int or None, default=64
        Most views computed at a time in prediction, and most views of one study in training.
    module__memory_efficient : bool, default=False
        Gradient checkpointing: less memory, more time.
    criterion : class, default=StudyTypeBCE
        The loss, its class weights fitted on the training part of each fit. `StudyTypeBCE` or a
        subclass; or `torch.nn.BCEWithLogitsLoss` or a subclass, which gets the logits and labels
        of the studies alone and weights no classes. `criterion__level` and `criterion__count` do
        not count then.
    criterion__level : {"study", "view"}, default="study"
        Loss of the study's mean probability, or the paper's loss of each view.
    criterion__count : {"views", "studies"}, default="views"
        What the class weights count. The default, views in a loss of studies, does not balance the
        classes exactly: on MURA abnormal finger studies get .449 of the total weight, shoulders
        .519. ``"studies"`` balances studies, and the paper's pair, level and count of views,
        balances views.
    dataset : class, default=StudyDataset
        Reads studies from disk.
    dataset__image_size : int, default=224
        Height and width of a prepared view in pixels.
    dataset__cache : path or None, default=None
        Folder in which prepared views are kept, so that no image is decoded twice; None keeps
        none. See `mura_skorch.data.ViewCache`.
    optimizer : class or str, default=torch.optim.Adam
        As in the paper, with torch's betas (0.9, 0.999). A name such as "AdamW" is that of a class
        in `torch.optim`. Optimizers that evaluate a batch several times, such as LBFGS, are
        refused.
    lr : float, default=1e-4
        First learning rate. The callback `plateau` divides it by 10 when the validation loss has
        not improved for more than `callbacks__plateau__patience` = 1 epoch. Gains of less than a
        ten-thousandth of the loss do not count there (torch's ``threshold=1e-4``, relative), though
        the epoch with the lowest loss is the best one however small the gain. A schedule of one's
        own replaces it: ``callbacks=[LRScheduler(CosineAnnealingLR, T_max=10)]``.
        ``callbacks__plateau=None`` leaves the rate as it is.
    batch_size : int, default=8
        Studies in a minibatch, with all their views.
    max_epochs : int, default=10
        Passes over the training part. The paper publishes neither this nor the patience. One
        epoch of patience lets the noise of a 10 % validation part pass; after ten epochs the rate
        has usually dropped at least twice, and the best weights come back in any case.
    train_split : callable, float, DataFrame, splitter or None, default=PatientSplit(0.1)
        Divides what `fit` is given into parts that share no patient. A share such as 0.2 stands for
        ``PatientSplit(0.2)``; a study table, or skorch's ``predefined_split(table)``, for
        ``ValidStudies(table)``, which validates on these studies. Of a splitter of scikit-learn,
        such as ``GroupKFold(5)``, the first fold by patient is taken. None trains on everything,
        without best weights.
    iterator_train__shuffle : bool, default=True
        Draw the training studies in random order. ``iterator_train__sampler`` and
        ``iterator_train__batch_sampler`` take its place.
    iterator_train__collate_fn, iterator_valid__collate_fn : callable, default=StudyCollate()
        Joins studies into one batch.
    threshold : float, "youden" or "sensitivity=0.95", default=0.5
        Studies with a probability strictly above are abnormal. 0.5 as in the paper; a rule
        chooses the number on the validation part of each fit, after its last epoch, see
        `mura_skorch.calibration.choose_threshold`. The scores of the epochs are made with
        0.5 then. A sensitivity holds on the studies that chose the number; on others, about half
        of all models are below it.
    device : str, torch.device or None, default="auto"
        "auto" is "cuda" where a GPU answers and "cpu" elsewhere. None leaves everything where it
        is, as in skorch.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the network; "auto" is bfloat16 where the device has instructions for it.
        The pooling and the loss are always float32.
    accumulate : int, default=1
        Batches whose gradients are added before the optimizer steps, for devices whose memory
        holds no larger batch: ``batch_size=2, accumulate=4`` steps after 8 studies.
    on_bad_view : {"raise", "skip"}, default="raise"
        What becomes of views that cannot be read. "raise": an error names them; those whose header
        or end is missing before training, those with damage within when an epoch comes to them.
        "skip": every view is decoded before; bad ones are left out, and so is a study that `fit`
        has no other view of. They are told in a warning and listed in `bad_views_` and in the run's
        ``bad_views.csv``. A prediction is the mean of the other views; for a study without any it
        raises.
    max_bad_share : float, default=0.01
        Most views, of the training or the validation table, that `fit` may leave out.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, shuffling and augmentation. On one CPU with the same number of
        threads, the same seed gives the same bits, with any number of loader workers. None
        draws a fresh seed. Torch's global random state is left as it was.
    state_file : path or None, default=None
        File in which the whole state of the fit is kept after each epoch, so that a fit that was
        killed costs one epoch at most: the same fit with the same file goes on, in the same
        MLflow run, and ends with the bits it would have had on that CPU. A finished fit is not
        trained again. Callbacks of one's own are kept by the attributes that end in an
        underscore, or by ``state_dict`` and ``load_state_dict`` where they have them. None keeps
        none. About 200 MB for DenseNet-169.
    **kwargs
        All other parameters of `skorch.NeuralNetBinaryClassifier`, such as ``callbacks``,
        ``verbose``, ``iterator_train__num_workers``, ``callbacks__mlflow=None``,
        ``callbacks__mlflow__run_id``, ``callbacks__plateau__patience`` or
        ``callbacks__best__dirname``.

    Attributes
    ----------
    history : skorch.history.History
        One row per epoch, every epoch of the fit; losses of single minibatches of the last epoch
        alone.
    study_types_ : list of str
        The study types that fit saw, sorted.
    seed_ : int
        The seed in use.
    n_features_in_ : int
        Number of columns of the table that was fitted, and ``feature_names_in_`` their names, for
        scikit-learn's meta-estimators. A prediction needs ``study_type`` and ``views`` alone; they
        are what a loaded model names.
    threshold_ : float
        The threshold in use: `threshold`, or what its rule has chosen.
    slope_, intercept_ : float
        1.0 and 0.0, or what `recalibrate` has fitted: the line that calibrates the logits of
        studies and of views. Maps stay as the network gives them.
    prior_correction_ : bool
        Whether `recalibrate` takes what the class weights have added off the logits.
    run_id_ : str or None
        The MLflow run of the last fit.
    interrupted_ : bool
        Whether Ctrl-C ended the last fit. The first one lets the epoch's record be finished and
        brings the best weights back; a second one stops at once. SIGTERM ends the program with
        code 143, its MLflow run as KILLED.
    bad_views_ : DataFrame or None
        The views that the last fit left out, see `mura_skorch.data.leave_out`; None where it
        was to raise.

    References
    ----------
    .. [1] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957.

    Examples
    --------
    >>> from mura_skorch import MuraClassifier, read_studies
    >>> studies = read_studies("MURA-v1.1")  # doctest: +SKIP
    >>> clf = MuraClassifier().fit(studies[studies.split == "train"])  # doctest: +SKIP
    >>> clf.predict_proba(studies[studies.split == "valid"])[:, 1]  # doctest: +SKIP

    With scikit-learn, by patient (more in ``docs/scikit_learn.md``):

    >>> from sklearn.model_selection import GroupKFold, cross_validate
    >>> from mura_skorch.scoring import kappa_by_study_type
    >>> cross_validate(  # doctest: +SKIP
    ...     clf, studies, studies.label, groups=studies.patient, cv=GroupKFold(5),
    ...     scoring=kappa_by_study_type,
    ... )
    """

    def __init__(
        self,
        module: Callable[..., torch.nn.Module] = StudyDenseNet,
        *,
        module__weights: str | os.PathLike[str] | None = "IMAGENET1K_V1",
        module__augment: Callable[[torch.Tensor], torch.Tensor] | None = Augment(),  # noqa: B008, stateless
        criterion: Callable[..., torch.nn.Module] = StudyTypeBCE,
        criterion__level: Literal["study", "view"] = "study",
        criterion__count: Literal["views", "studies"] = "views",
        dataset: Callable[..., torch.utils.data.Dataset[Any]] = StudyDataset,
        dataset__image_size: int = 224,
        optimizer: Callable[..., torch.optim.Optimizer] | str = torch.optim.Adam,
        lr: float = 1e-4,
        batch_size: int = 8,
        max_epochs: int = 10,
        train_split: TrainSplit = PatientSplit(0.1),  # noqa: B008, stateless
        iterator_train__shuffle: bool = True,
        iterator_train__collate_fn: Callable[..., Any] = StudyCollate(),  # noqa: B008, stateless
        iterator_valid__collate_fn: Callable[..., Any] = StudyCollate(),  # noqa: B008, stateless
        threshold: float | str = 0.5,
        device: str | torch.device | None = "auto",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        accumulate: int = 1,
        on_bad_view: Literal["raise", "skip"] = "raise",
        max_bad_share: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        state_file: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            module,
            module__weights=module__weights,
            module__augment=module__augment,
            criterion=criterion,
            criterion__level=criterion__level,
            criterion__count=criterion__count,
            dataset=dataset,
            dataset__image_size=dataset__image_size,
            optimizer=optimizer,
            lr=lr,
            batch_size=batch_size,
            max_epochs=max_epochs,
            train_split=train_split,
            iterator_train__shuffle=iterator_train__shuffle,
            iterator_train__collate_fn=iterator_train__collate_fn,
            iterator_valid__collate_fn=iterator_valid__collate_fn,
            threshold=threshold,
            device=device,
            **kwargs,
        )
        self.precision = precision
        self.accumulate = accumulate
        self.on_bad_view = on_bad_view
        self.max_bad_share = max_bad_share
        self.random_state = random_state
        self.state_file = state_file

    study_types_: list[str]
    feature_names_in_: np.ndarray
    trained_patients_: set[str]  # keys of this process's calls: a saved model holds no ids
    note_: str | None
    valid_digest_: str | None

    # --- what a user calls -----------------------------------------------------------------

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None, **fit_params: Any) -> Self:
        """Train from the start.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table: ``study_type``, ``patient``, ``views``, and ``label`` unless `y` is
            given.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``X["label"]``.
        **fit_params
            skorch sends them to the split and the network; those here take none.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            `X` is no DataFrame, ``groups`` or ``sample_weight`` is given, or a parameter is of a
            wrong type.
        ValueError
            A parameter is unknown or out of range, a column is missing, a label is not 0 or 1, an
            image cannot be read, patients cannot be split, training and validation share a
            patient or a file, the threshold is a rule and nothing is held out to choose it on, or
            `state_file` is of a fit with other data or parameters, damaged, or of another
            version's format.
        BlockingIOError
            Another process trains with the same `state_file`.
        FloatingPointError
            The loss of a minibatch is not finite; its studies are named.
        MemoryError, torch.OutOfMemoryError
            Memory ran out; the settings to lower are named.
        RuntimeError
            A loader's worker was killed, or no epoch had a finite validation loss.

        Notes
        -----
        After an error in an epoch the weights of the best epoch before are back.
        """
        check_parameters(self)
        _refuse(fit_params)
        check_studies(X, y, for_fit=True)  # before the weights are fetched
        _refuse_opposite(X, y)
        return super().fit(X, y, **fit_params)

    def partial_fit(
        self, X: pd.DataFrame, y: ArrayLike | None = None, classes: Any = None, **fit_params: Any
    ) -> Self:
        """Train on, with the weights, optimizer and MLflow run of the last call.

        Parameters and errors are those of `fit`; `classes` is ignored. The best weights of earlier
        calls come back where none of this one are better, if both validate on the same studies
        under the same class weights; otherwise the best of this call do. The class weights are
        those of this call's training part; types that it lacks keep the earlier ones. The plateau
        begins to count anew.
        """
        check_parameters(self)
        _refuse(fit_params)
        X, y = check_studies(X, y, for_fit=True)
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        if not self.initialized_:
            self.initialize()
        study_types = sorted({*self.study_types_, *X["study_type"]})
        if hasattr(self.criterion_, "take_study_types"):
            self.criterion_.take_study_types(self.study_types_, study_types)
        self.study_types_ = study_types
        self.note_ = join_notes(self.note_, X)
        try:
            with self.kept() as is_finished, self._own_random_state():
                if is_finished:
                    self.get_split_datasets(X, y)  # takes the state up
                    return self
                with on_record(self):
                    return super().partial_fit(X, y, classes, **fit_params)
        except Exception as error:
            for _, callback in self.callbacks_:
                if isinstance(callback, BestWeights):
                    callback.take_back(self, error)
            raise
        finally:
            for _, callback in self.callbacks_:
                if isinstance(callback, BestWeights):
                    callback.remove_temporary()

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probabilities of normality and of abnormality of every study.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2), float32
            The second column is the mean over the study's views; float64, on the calibrated scale,
            after `recalibrate`.
        """
        return self.predict_with_views(X)[0] if self.is_rescaled_ else super().predict_proba(X)

    def predict_view_proba(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return the probability of abnormality of every view.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        list of ndarray of shape (n_views,), float32
            One array per study, in the order of the table and of its ``views``; NaN where a view
            was skipped. The mean of the others is the study's probability. After `recalibrate`
            float64: then the logits of the study and of each view are calibrated alike, and the
            mean over the views is no longer the study's probability.
        """
        return self.predict_with_views(X)[1]

    def predict_with_views(self, X: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return what `predict_proba` and `predict_view_proba` do, of one pass.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        proba : ndarray of shape (n_studies, 2), float32
        view_proba : list of ndarray of shape (n_views,), float32
            Both float64 after `recalibrate`.
        """
        if self.is_rescaled_:
            return probabilities(*self.logits_with_views(X))
        study_logits, view_logits, dataset = self._raw_logits(X)
        to_proba = self._get_predict_nonlinearity()
        proba = np.concatenate([to_numpy(to_proba(logit)) for logit in study_logits])
        of_views = torch.sigmoid(torch.cat(view_logits)).numpy()
        return proba, self._by_study(of_views, dataset, X)

    def logits_with_views(
        self, X: pd.DataFrame, *, prior_correction: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the logits of studies and views, on the calibrated scale.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.
        prior_correction : bool, default=False
            As for `recalibrate`, of a model that has no calibration of its own.

        Returns
        -------
        logit : ndarray of shape (n_studies,), float64
        view_logit : list of ndarray of shape (n_views,), float64
        """
        study_logits, view_logits, dataset = self._raw_logits(X)
        logit, of_views = (torch.cat(part).double().numpy() for part in (study_logits, view_logits))
        if self.prior_correction_ or (prior_correction and not self.is_rescaled_):
            shift = self.prior_shift(studies_of(dataset)["study_type"])
            logit = logit - shift
            of_views = of_views - np.repeat(shift, studies_of(dataset)["views"].map(len))
        return self.rescale(logit), self._by_study(self.rescale(of_views), dataset, X)

    def prior_shift(self, study_types: Iterable[str] = ()) -> np.ndarray:
        """Return log(w1 / w0) of the class weights of study types, see `recalibrate`.

        Parameters
        ----------
        study_types : sequence of n_studies str
            0 for a type that training never saw.

        Returns
        -------
        ndarray of shape (n_studies,), float64

        Raises
        ------
        ValueError
            The loss has no class weights.
        """
        weight = getattr(self.criterion_, "class_weight", None)
        if weight is None:
            raise ValueError(
                "expected a loss with class weights, such as StudyTypeBCE, to correct the prior "
                f"of, got {type(self.criterion_).__name__}; pass prior_correction=False"
            )
        normal, abnormal = weight.cpu().double().numpy().T
        return np.log(abnormal / normal)[self._weight_rows(study_types)]

    def _raw_logits(self, X):
        """Return the network's logits of studies and of views, by batch, and their dataset."""
        self.check_is_fitted()
        dataset = self.get_dataset(X)
        return *zip(*self.forward_iter(dataset), strict=True), dataset

    def _by_study(self, of_views, dataset, X):
        """Return one array per study of what was made of all views."""
        ends = studies_of(dataset)["views"].map(len).cumsum().to_numpy()
        bad_views = None if dataset is X else getattr(dataset, "bad_views", None)
        return with_gaps(np.split(of_views, ends[:-1]), bad_views)

    def localize(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return class activation maps of every view: where its logit comes from.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        list of ndarray of shape (n_views, h, w), float32
            One array per study, in the order of the table and of its ``views``, in logits. A
            map's mean plus the bias of the network's last layer is the view's logit.

        See Also
        --------
        mura_skorch.inspection.localize : The maps explained, and how they are resized.
        """
        return localize(self, X)

    # --- where the rooms are joined to skorch ----------------------------------------------

    @property
    def _default_callbacks(self):
        *scores, table = training_callbacks()
        found = [*scores, ("state", StateKeeper()), ("mlflow", MlflowTracker()), table]
        given = vars(self).get("callbacks")
        pairs = given if isinstance(given, list) else []
        names = [item[0] for item in pairs if isinstance(item, list | tuple)]
        # A schedule of one's own that is called as the default one is in its place.
        return [pair for pair in found if pair[0] != "plateau" or "plateau" not in names]

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a fitted model keeps its weights, whatever is set.

        Parameters of datasets and loaders, ``module__max_views`` and ``module__augment`` count from
        the next call on, other ones of the module and the criterion, and another optimizer, from
        the next `fit`.

        Raises
        ------
        ValueError
            There is no parameter of that name. Values are checked by `fit`.
        """
        check_names(self, params, known=vars(self))
        for key in list(params):
            if key == "optimizer" or key.split("__")[0] in COUNT_LATER:
                # skorch would make the network anew, or look in vain for what to make anew.
                setattr(self, key, params.pop(key))
                name = key.removeprefix("module__")
                if name in ("max_views", "augment") and hasattr(self, "module_"):
                    setattr(self.module_, name, self.get_params_for("module").get(name))
            elif key.startswith("callbacks__") and params[key] is vars(self).get(key, self):
                del params[key]  # as it is: skorch fails to take out what is out already
        super().set_params(**params)
        if callbacks := getattr(self, "callbacks_", None):
            # skorch would call those that are taken out.
            self.callbacks_ = [pair for pair in callbacks if pair[1] is not None]
        if self.initialized_ and any(key.startswith("callbacks") for key in params):
            self._let_own_schedule_replace_plateau()
        return self

    def __sklearn_clone__(self):
        """Return a clone that knows the MLflow run it was made in, for workers that see none."""
        clone = super().__sklearn_clone__()
        remember_origin(clone, self)
        return clone

    def initialize(self) -> Self:
        """Make network, loss, optimizer and callbacks anew."""
        check_parameters(self)
        self.reset_operating_point()
        self.study_types_ = []
        self.note_ = note_of(self.get_params_for("module").get("weights"))
        self.run_id_ = None
        self.interrupted_ = False
        self.trained_patients_ = set()
        self.valid_digest_ = None
        super().initialize()
        self._let_own_schedule_replace_plateau()
        return self

    def _let_own_schedule_replace_plateau(self):
        """Take the default plateau out where the user has passed a schedule; say it."""
        default = dict(self.get_default_callbacks())
        own = [n for n, c in self.callbacks_ if n not in default and isinstance(c, LRScheduler)]
        is_default = "plateau" in default and not vars(self).get("callbacks__plateau")
        if own and is_default and "plateau" in dict(self.callbacks_):
            self.callbacks_ = [pair for pair in self.callbacks_ if pair[0] != "plateau"]
            _log.log(
                logging.WARNING if self.verbose else logging.INFO,
                "%s replaces the default schedule, plateau; to have both, pass "
                "callbacks__plateau=LRScheduler(...), too",
                " and ".join(own),
            )

    def initialize_module(self) -> Self:
        """Make the network from this estimator's seed."""
        seed = self.random_state
        if isinstance(seed, np.random.RandomState):
            seed = seed.randint(2**31)
        self.seed_ = secrets.randbits(31) if seed is None else int(seed)
        self.rng_state_ = torch.Generator().manual_seed(self.seed_).get_state()
        with self._own_random_state():
            super().initialize_module()
        return self

    @contextmanager
    def _own_random_state(self):
        """Run with this estimator's random stream in the place of torch's global one."""
        with ONE_FIT_AT_A_TIME, torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.rng_state_)
            yield
            self.rng_state_ = torch.get_rng_state()

    def get_dataset(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Return the studies of a checked table, their types coded as in training."""
        if is_dataset(X):  # one of studies in memory is made for each classifier
            return X.dataset_for(self) if hasattr(X, "dataset_for") else X
        X, y = check_studies(X, y)
        unseen = sorted(set(X["study_type"]) - set(self.study_types_))
        if unseen:
            warnings.warn(
                f"training never saw {', '.join(unseen)}; the prediction works, but nothing is "
                "known of its quality: evaluate it on labelled studies of that type",
                stacklevel=2,
            )
        dataset = self._dataset_of(X, y)
        if self.on_bad_view != "raise":
            check_none_lost(dataset.bad_views)
            tell_bad_views(dataset.bad_views)
        return dataset

    def _dataset_of(self, X, y):
        settings = self.get_params_for("dataset")
        if self.on_bad_view != "raise":  # datasets of one's own need not know of it
            settings["on_bad_view"] = self.on_bad_view
        return self.dataset(X, y, study_types=self.study_types_, **settings)

    def get_split_datasets(
        self, X: Any, y: ArrayLike | None = None, **fit_params: Any
    ) -> tuple[Any, Any]:
        """Split, check the parts, and fit the loss on the training part alone."""
        if self.on_bad_view != "raise" and not is_dataset(X):
            X = self._dataset_of(X, y)
            _, y = check_studies(X.studies, for_fit=True)  # both classes must be left
        train, valid = self._divide(self.get_dataset(X, y), y, fit_params)
        if valid is None and is_rule(self.threshold):
            raise ValueError(
                f"expected validation data to choose the threshold by {self.threshold!r} on, got "
                "none; pass a number, or a train_split"
            )
        parts = [train] if valid is None else [train, valid]
        self.bad_views_ = None
        if self.on_bad_view != "raise":
            self.bad_views_ = count_bad_views(map(base_of, parts), self.max_bad_share)
        if valid is not None:
            check_no_shared_patient(train, valid)
            self._check_never_trained_on(valid)
        self.trained_patients_ |= set(patient_keys(studies_of(train)["patient"]))
        # A cache has read its images, and so has what skips bad ones.
        unread = [part for part in parts if not is_cached(part) and self.bad_views_ is None]
        check_views(chain.from_iterable(chain(*(studies_of(part)["views"] for part in unread))))
        table = studies_of(train)
        code = pd.Categorical(table["study_type"], categories=self.study_types_).codes
        label, n_views = table["label"].to_numpy(dtype=int), table["views"].map(len).to_numpy()
        before = self._weights_of(valid)
        if hasattr(self.criterion_, "fit_weights"):  # torch's own criteria have no such weights
            self.criterion_.fit_weights(code.astype(int), label, n_views, self.study_types_)
        self._compare_on(valid, is_weighted_alike=before == self._weights_of(valid))
        self.take_up(train, valid)
        return train, valid

    def _divide(self, dataset, y, fit_params):
        """Return the training and the validation part of a dataset; the latter may be None."""
        if self.split_ is None:
            return dataset, None
        parts = self.split_(dataset, y, **fit_params)
        if not isinstance(parts, tuple | list) or len(parts) != 2:
            raise TypeError(
                "expected train_split to return a pair, the training part and the validation part "
                f"or None, got {told(parts)}"
            )
        return parts

    @property
    def split_(self) -> Callable[..., Any] | None:
        """What divides the studies: `train_split` in the form of a callable, or None."""
        return as_split(self.train_split)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the table that the last call of `fit` or `partial_fit` got."""
        return len(self.feature_names_in_)

    def _weights_of(self, studies):
        """Return the class weights that the loss has for the types of a dataset."""
        weight = getattr(self.criterion_, "class_weight", None)
        if studies is None or weight is None or len(weight) != len(self.study_types_) + 1:
            return None  # nothing is weighted, or nothing has been counted yet
        return weight[self._weight_rows(sorted(set(studies_of(studies)["study_type"])))].tolist()

    def _weight_rows(self, study_types):
        """Return the row of the class weights for each type, the last for those never seen."""
        rows = {name: row for row, name in enumerate(self.study_types_)}
        return [rows.get(name, -1) for name in study_types]

    def _compare_on(self, valid, *, is_weighted_alike):
        """Let what an earlier call found best count only where the losses can be compared.

        They can on the same studies under the same class weights.
        """
        earlier, self.valid_digest_ = self.valid_digest_, digest_of(valid)
        if self.history and (earlier != self.valid_digest_ or not is_weighted_alike):
            for _, callback in self.callbacks_:
                if hasattr(callback, "forget_best"):
                    callback.forget_best()

    def _check_never_trained_on(self, valid):
        """Raise where an earlier call of `partial_fit` has trained on patients held out now."""
        keys = set(patient_keys(studies_of(valid)["patient"]))
        if self.trained_patients_:
            warn_of_lookalikes(self.trained_patients_ | keys)
        known = self.trained_patients_ & keys
        if known:
            raise ValueError(
                f"expected to validate on patients that the model was never trained on, got "
                f"{len(known):,} that an earlier call was; pass train_split=ValidStudies(table) "
                "with the same table at every call, or None"
            )

    def __repr__(self):
        """Return the parameters that differ from their defaults."""
        default = type(self)().get_params(deep=False)
        given = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if name != "_params_to_validate"
            and (name not in default or repr(value) != repr(default[name]))
        }
        with suppress(TypeError, ValueError):
            if isinstance(self.split_, ValidStudies):
                given["train_split"] = self.split_  # which does not show the rows of its table
        texts = (
            f"{name}={getattr(value, '__name__', repr(value))}" for name, value in given.items()
        )
        return f"{type(self).__name__}({', '.join(texts)})"


def _refuse(fit_params):
    """Raise for what scikit-learn's estimators take beside X and y, and this one does not."""
    remedies = {
        "groups": "pass them to cross_validate or a search; fit splits by X['patient'] itself",
        "sample_weight": "the loss weights classes by study type, see criterion__count",
    }
    for name in remedies.keys() & fit_params.keys():
        raise TypeError(f"expected X and y alone, got {name}: {remedies[name]}")


def _refuse_opposite(X, y):
    """Raise where y says the opposite of the table in every row."""
    if y is None or "label" not in X:
        return
    known = pd.to_numeric(X["label"]).to_numpy(dtype=float, na_value=np.nan)
    if len(known) and (np.asarray(y, dtype=float).ravel() == 1 - known).all():
        raise ValueError(
            "expected y with 1 for abnormal, got the opposite of X['label'] in every row, as "
            "scikit-learn encodes the words abnormal and normal; pass 0 and 1"
        )
