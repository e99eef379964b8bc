"""The estimator: classify studies of radiographs as abnormal or normal."""

import logging
import os
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from skorch.callbacks import LRScheduler, PrintLog
from skorch.utils import is_dataset, to_numpy

from mura_skorch.calibration.operating_point import is_rule
from mura_skorch.calibration.threshold_mixin import ThresholdMixin, probabilities
from mura_skorch.callbacks.defaults import training_callbacks
from mura_skorch.callbacks.scoring import has_stopped_early, was_pruned
from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import StudyDataset, prepare_views, split_by_study, studies_of
from mura_skorch.data.splits import PatientSplit, TrainSplit, ValidStudies, as_split
from mura_skorch.data.transforms import Augment
from mura_skorch.data.unreadable import check_none_lost, warn_unreadable
from mura_skorch.distributed import count_processes
from mura_skorch.inference.engines import EngineSetting, PrecisionSetting
from mura_skorch.inference.export import export_classifier
from mura_skorch.inference.quantization import quantize
from mura_skorch.inspection.activation_maps import localize
from mura_skorch.inspection.training_distance import TrainingDistance
from mura_skorch.models.losses import StudyTypeBCE
from mura_skorch.models.serialization import note_of
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.studies.columns import join_notes
from mura_skorch.studies.validation import check_labelled, check_studies
from mura_skorch.tracking.artifacts import ModelSource
from mura_skorch.tracking.callback import MlflowTracker, tracked_fit
from mura_skorch.tracking.clones import remember_origin
from mura_skorch.tracking.params import is_place, settings_of
from mura_skorch.training import persistence
from mura_skorch.training.arithmetic import choose_arithmetic
from mura_skorch.training.checkpoint import TrainingCheckpoint, epochs_left, load_finished
from mura_skorch.training.fit_data import FitData, prepare_fit
from mura_skorch.training.fit_description import describe_fit
from mura_skorch.training.fit_end import fit_end
from mura_skorch.training.fit_record import FitRecord, recorded
from mura_skorch.training.html_repr import HtmlSummary
from mura_skorch.training.net import StudyNet
from mura_skorch.training.parameters import check_names, check_parameters, warn_of_maximum
from mura_skorch.training.sharing import lost_process_first
from mura_skorch.training.valid_scores import read_scores, score_rows
from mura_skorch.utils.arguments import is_default
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.signals import signals_as_exceptions

__all__ = ["MuraClassifier"]

_log = logging.getLogger(__name__)

# What stores an epoch, after all callbacks that may still change it. The checkpoint comes before
# the tracker, which continues the run that a loaded checkpoint names.
RECORDERS = (TrainingCheckpoint, MlflowTracker, PrintLog)
# What `set_params` only sets: skorch would make it anew at once, or fail to.
MADE_LATER = ("module", "criterion", "dataset", "iterator_train", "iterator_valid", "optimizer")


class MuraClassifier(HtmlSummary, ThresholdMixin, StudyNet):
    """Classify studies of radiographs as abnormal or normal, by DenseNet-169 or another network.

    Every view of a study goes through the network; the study's probability is the mean over its
    views, unless `module__pooling` is another. The study is abnormal strictly above `threshold`.
    Each fit is an MLflow run.

    Parameters
    ----------
    module : class, default=StudyNetwork
        The network.
    module__backbone : str or callable, default="densenet169"
        A classification network of torchvision, "timm:" and a name of timm, or a function that
        returns a network with one output.
    module__weights : str, path or None, default="IMAGENET1K_V1"
        A name of the backbone's published weights (torchvision's, or a tag of timm), the path of a
        state dict, the folder of a model saved by `save` to fine-tune, or None for a random start.
    module__pooling : {"mean", "attention", "attention_additive", "max"}, default="mean"
        How the views of a study become one logit: by the mean of their probabilities, as in the
        paper, by a mean that learned attention weights, or by the largest. See `StudyNetwork`.
        Attention needs ``criterion__level="study"``.
    module__freeze : int, "backbone" or None, default=None
        Parts that are not trained: the first so many stages of the backbone, or all of it. See
        `StudyNetwork.stages`.
    module__augment : callable or None, default=Augment(degrees=10, flip=0.5)
        Varies training views: (N, 1, H, W) float to the same. If it takes an argument
        ``generator``, the fit passes its own. None does nothing.
    module__max_views : int or None, default=64
        Most views computed at a time in prediction, and most views of one study in training.
    module__memory_efficient : bool, default=False
        Gradient checkpointing: less memory, more time.
    module__compile : bool, default=False
        Compile the backbone in the first epoch of each process. Whether that makes a fit faster
        depends on the network and the machine: ``experiments/compile_backbone.py`` measures it.
        Compiling DenseNet-169 takes minutes, or seconds if torch's cache of compiled code
        (``TORCHINDUCTOR_CACHE_DIR``) has it. It needs a C++ compiler. It is not saved: a loaded
        model compiles only with ``load(folder, module__compile=True)``. skorch's own ``compile``
        is refused, since it renames all tensors.
    criterion : class, default=StudyTypeBCE
        The loss, its class weights fitted on the training part of each fit. `StudyTypeBCE` or a
        subclass. Or `torch.nn.BCEWithLogitsLoss` or a subclass, which gets only the logits and
        labels of the studies and weights no classes; `criterion__level` and `criterion__count` are
        ignored then.
    criterion__level : {"study", "view"}, default="study"
        Loss of the study's probability, or the paper's loss of each view.
    criterion__count : {"views", "studies"}, default="views"
        Unit of the class weights. The default, views in a loss of studies, does not balance the
        classes exactly: on MURA abnormal finger studies get .449 of the total weight, shoulders
        .519. ``"studies"`` balances studies. The paper's pair, ``level="view"`` and
        ``count="views"``, balances views.
    dataset : class, default=StudyDataset
        Reads studies from disk.
    dataset__image_size : int, default=224
        Height and width of a prepared view in pixels.
    dataset__cache : path or None, default=None
        Folder that stores prepared views, so that no image is decoded twice. None stores none.
        Views that are addresses, such as s3://bucket/image1.png, need one. See
        `mura_skorch.data.CachedViews`.
    optimizer : class or str, default=torch.optim.Adam
        As in the paper, with torch's betas (0.9, 0.999). A name such as "AdamW" means the class in
        `torch.optim`. Optimizers that evaluate a batch several times, such as LBFGS, are refused.
    lr : float, default=1e-4
        First learning rate. The callback `plateau` divides it by 10 when the validation loss has
        not improved for more than `callbacks__plateau__patience` = 1 epoch. The plateau ignores
        gains below a ten-thousandth of the loss (torch's ``threshold=1e-4``, relative). The best
        epoch is the one with the lowest loss, however small the gain. A schedule of your own
        replaces the plateau: ``callbacks=[LRScheduler(CosineAnnealingLR, T_max=10)]``.
        ``callbacks__plateau=None`` keeps the rate constant.
    batch_size : int, default=8
        Studies in a minibatch, with all their views.
    max_epochs : int, default=10
        Passes over the training part. The paper publishes neither this nor the patience. One epoch
        of patience tolerates the noise of a 10 % validation part. After ten epochs the rate has
        usually dropped at least twice. The best weights are restored in any case.
    train_split : callable, float, DataFrame, splitter or None, default=PatientSplit(0.1)
        Splits the table passed to `fit` into parts that share no patient. A share such as 0.2 means
        ``PatientSplit(0.2)``. A study table, or skorch's ``predefined_split(table)``, means
        ``ValidStudies(table)``, which validates on these studies. A splitter of scikit-learn, such
        as ``GroupKFold(5)``, gives its first fold by patient. None trains on everything, without
        best weights.
    iterator_train__shuffle : bool, default=True
        Draw the training studies in random order. ``iterator_train__sampler`` and
        ``iterator_train__batch_sampler`` take its place.
    iterator_train__collate_fn, iterator_valid__collate_fn : callable, default=StudyCollate()
        Joins studies into one batch.
    threshold : float, "youden" or "sensitivity=0.95", default=0.5
        Studies with a probability strictly above are abnormal. 0.5 as in the paper. A rule chooses
        the number on the validation part of each fit, after the last epoch, see
        `mura_skorch.calibration.choose_threshold`; the scores of the epochs then use 0.5. A
        sensitivity holds on the studies that chose the number; on others, about half of all models
        are below it.
    device : str, torch.device or None, default="auto"
        "auto" is "cuda" if a GPU is available and "cpu" otherwise. None leaves everything where it
        is, as in skorch.
    precision : {"auto", "float32", "bfloat16", "int8"}, default="auto"
        Arithmetic of the network. "auto" is bfloat16 on a GPU that has instructions for it. On a
        CPU it is bfloat16 if that trains and predicts at least 1.1 times as fast as float32: this
        is measured in about a second, once for each machine, number of threads and version of
        torch. The measurement also chooses the memory format and the number of threads. It is
        stored in ``~/.cache/mura_skorch/arithmetic`` (or in ``XDG_CACHE_HOME``) and reported at
        level INFO. A precision that is given is not measured; the environment variable
        ``MURA_SKORCH_PRECISION`` gives one instead of "auto". Each run, saved model and checkpoint
        records the choice, and a resumed fit keeps it. The pooling and the loss are always float32.
        "int8" is for predictions of a model that `quantize` has prepared, by OpenVINO; training
        then uses what "auto" chooses.
    engine : {"torch", "auto", "onnxruntime", "openvino"}, default="torch"
        What reads the views in predictions on a CPU; training always uses torch. "auto" takes the
        fastest that is installed among torch, ONNX Runtime and OpenVINO (the extra ``[fast]``),
        tried on drawn views, if it keeps their probabilities within 0.02 of torch in float32. With
        ``precision="auto"``, OpenVINO may use bfloat16. The first prediction exports the network,
        which takes seconds to half a minute. Maps, features and view weights come from the engine,
        too. `describe_engine` names the choice.
    accumulate : int, default=1
        Batches whose gradients are added before the optimizer steps, for devices whose memory
        holds no larger batch: ``batch_size=2, accumulate=4`` steps after 8 studies.
    fine_tune_after : int, default=0
        Number of first epochs in which only the new layers are trained: the last one, and the
        attention. After them, everything is that `module__freeze` does not freeze.
    flip_average : bool, default=False
        Average the logit of each view with that of its mirror image, wherever the network predicts:
        in predictions, maps, and the validation of each epoch. Training steps stay as they are,
        predictions take twice the time. The study's probability is the mean over its views as ever;
        a network with another pooling averages the study's logit, too. It may be set on a fitted
        model; a threshold or a calibration that was fitted without it should be fitted again.
    on_bad_view : {"raise", "skip"}, default="raise"
        How to handle unreadable images. "raise": an error names them. A file without header or end
        is found before training, other damage when an epoch reads it. "skip": every view is decoded
        before training. Unreadable views are left out, and studies without a readable view. A
        warning reports them; `bad_views_` and the run's ``bad_views.csv`` list them. A prediction
        pools the readable views; a study without any raises an error.
    max_bad_share : float, default=0.01
        Largest share of views, of the training or the validation table, that `fit` may leave out.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, shuffling and augmentation. On one CPU with the same precision,
        memory format and number of threads, which each run records, the same seed gives the same
        bits, with any number of loader workers. None draws a fresh seed. Torch's global random
        state is the same after a fit as before. Fits in several threads run side by side, unless a
        network draws by itself, as dropout does: these take turns. A network that draws without
        dropout or stochastic depth needs an attribute ``draws_randomly = True``.
    checkpoint_path : path or None, default=None
        File for a checkpoint after each epoch. A fit that was killed loses one epoch at most: the
        same fit with the same file continues, in the same MLflow run, and ends with the bits it
        would have had on that CPU. A finished fit is loaded, not trained again. Callbacks of your
        own need ``state_dict`` and ``load_state_dict``, see
        `mura_skorch.callbacks.StatelessCallback`. None writes no checkpoint. About 200 MB for
        DenseNet-169.
    **kwargs
        All other parameters of `skorch.NeuralNetBinaryClassifier`, such as ``callbacks``,
        ``verbose``, ``iterator_train__num_workers``, ``callbacks__mlflow=None``,
        ``callbacks__mlflow__run_id``, ``callbacks__plateau__patience``,
        ``callbacks__best__dirname`` or ``callbacks__ema__decay``, which validates and saves an
        average of the weights, see `mura_skorch.callbacks.WeightAverage`.

    Attributes
    ----------
    history : skorch.history.History
        One row per epoch. Losses of single minibatches are there for the last epoch only.
    study_types_ : list of str
        The study types that fit saw, sorted.
    seed_ : int
        The seed in use.
    n_features_in_ : int
        Number of columns of the fitted table, and ``feature_names_in_`` their names, for
        scikit-learn's meta-estimators. A prediction needs only ``study_type`` and ``views``; a
        loaded model names these.
    threshold_ : float
        The threshold in use: `threshold`, or the number that its rule chose.
    slope_, intercept_ : float
        1.0 and 0.0, or the line that `recalibrate` fitted, which calibrates the logits of studies
        and of views. Maps are not calibrated.
    prior_correction_ : bool
        Whether the effect of the class weights is subtracted from the logits, see `recalibrate`.
    run_id_ : str or None
        The MLflow run of the last fit.
    interrupted_ : bool
        Whether Ctrl-C ended the last fit. The first one waits until a finished epoch is recorded,
        and restores the best weights. A second one stops at once. SIGTERM ends the program with
        code 143 and the MLflow run as KILLED.
    pruned_ : bool
        Whether `mura_skorch.callbacks.Pruning` ended the last fit, in a sweep.
    n_processes_ : int
        Processes that computed the last fit together, see `mura_skorch.distributed`.
    training_distance_ : TrainingDistance or None
        What `measure_training` has learnt.
    triage_ : Triage or None
        The limits that `triage` has chosen.
    quantized_ : Quantized or None
        What `quantize` has made.
    scores_ : DataFrame or None
        The scores of the validation part with the weights that `fit` ended with, as of
        `mura_skorch.metrics.study_scores`: by study type and overall, at ``threshold_``. They chose
        the epoch, so they are too good for a report. Saved with the model. None without a
        validation part.
    valid_predictions_ : DataFrame or None
        The predictions that `scores_` is made of, as of `mura_skorch.evaluation.prediction_table`.
        None for a loaded model, since a saved one holds no ids.
    bad_views_ : DataFrame or None
        The views that the last fit left out, see `mura_skorch.data.drop_unreadable`; None with
        ``on_bad_view="raise"``.

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

    With scikit-learn, by patient (more in ``docs/how_to/scikit_learn.md``):

    >>> from sklearn.model_selection import GroupKFold, cross_validate
    >>> from mura_skorch.scoring import kappa_by_study_type
    >>> cross_validate(  # doctest: +SKIP
    ...     clf, studies, studies.label, groups=studies.patient, cv=GroupKFold(5),
    ...     scoring=kappa_by_study_type,
    ... )
    """

    def __init__(
        self,
        module: Callable[..., torch.nn.Module] = StudyNetwork,
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
        precision: PrecisionSetting = "auto",
        engine: EngineSetting = "torch",
        accumulate: int = 1,
        fine_tune_after: int = 0,
        flip_average: bool = False,
        on_bad_view: Literal["raise", "skip"] = "raise",
        max_bad_share: float = 0.01,
        random_state: int | np.random.RandomState | None = None,
        checkpoint_path: str | os.PathLike[str] | None = None,
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
            precision=precision,
            engine=engine,
            accumulate=accumulate,
            fine_tune_after=fine_tune_after,
            flip_average=flip_average,
            random_state=random_state,
            **kwargs,
        )
        self.on_bad_view = on_bad_view
        self.max_bad_share = max_bad_share
        self.checkpoint_path = checkpoint_path

    feature_names_in_: np.ndarray
    trained_patients_: set[str]  # keys of this process's calls: a saved model holds no ids
    validated_patients_: set[str]
    bad_views_: pd.DataFrame | None
    valid_predictions_: pd.DataFrame | None = None
    training_distance_: TrainingDistance | None = None
    record_: FitRecord

    seed_ = recorded("seed", "The seed in use.")
    study_types_ = recorded("study_types", "The study types that `fit` saw, sorted.")
    note_ = recorded("note", "Caveat of the data that the model was trained on, or None.")
    run_id_ = recorded("run_id", "The MLflow run of the last fit, or None.")
    interrupted_ = recorded("interrupted", "Whether Ctrl-C ended the last fit.")
    pruned_ = recorded("pruned", "Whether `Pruning` ended the last fit.")
    n_processes_ = recorded("n_processes", "Processes that computed the last fit together.")

    def update_record(self, **changes: Any) -> None:
        """Replace fields of the fit's record; nothing else writes it."""
        self.record_ = replace(vars(self).get("record_", FitRecord()), **changes)

    @property
    def scores_(self) -> pd.DataFrame | None:
        """The scores of the validation part; None without one."""
        return read_scores(self.record_.valid_scores)

    def take_valid_predictions(self, predictions: pd.DataFrame) -> None:
        """Keep the predictions on the validation part, and record their scores."""
        self.valid_predictions_ = predictions
        self.update_record(valid_scores=score_rows(predictions))

    # --- public methods --------------------------------------------------------------------

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
            Passed to the split and the network; those of this package take none.

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
            patient or a file, the threshold is a rule and there is no validation part, or the
            checkpoint is of a fit with other data or parameters, damaged, or of another version's
            format.
        BlockingIOError
            Another process trains with the same `checkpoint_path`.
        FloatingPointError
            The loss of a minibatch is not finite; its studies are named.
        MemoryError, torch.OutOfMemoryError
            Memory ran out; the settings to lower are named.
        RuntimeError
            A loader's worker was killed, or no epoch had a finite validation loss.

        Notes
        -----
        After an error in an epoch the weights of the best epoch before it are restored.
        """
        X, y = self._check_input(X, y, fit_params)
        if not self.warm_start or not self.initialized_:
            self.initialize()
        return self._train(X, y, fit_params)

    def partial_fit(
        self, X: pd.DataFrame, y: ArrayLike | None = None, classes: Any = None, **fit_params: Any
    ) -> Self:
        """Continue training with the weights, optimizer and MLflow run of the last call.

        Parameters and errors are those of `fit`; `classes` is ignored. The best weights of all
        calls are restored if they validate on the same studies under the same class weights,
        otherwise the best of this call. Class weights are counted on this call's training part;
        types that it lacks keep the earlier ones. The plateau starts to count again.
        """
        X, y = self._check_input(X, y, fit_params)
        if not self.initialized_:
            self.initialize()
        return self._train(X, y, fit_params)

    def _check_input(self, X, y, fit_params):
        """Return the checked table and labels; everything is checked before weights are fetched."""
        check_parameters(self)
        warn_of_maximum(self)
        _refuse(fit_params)
        table, labels = check_studies(X, y, for_fit=True)
        _refuse_opposite(X, y)
        return table, labels

    def _train(self, X, y, fit_params):
        """Train on a checked table. A checkpoint of the same fit is continued."""
        self.update_record(interrupted=False, pruned=False)
        # The MLflow run ends before `fit_end` marks the checkpoint as finished.
        with signals_as_exceptions(), fit_end(self), tracked_fit(self, X), lost_process_first():
            try:
                data = self._prepare(X, y, fit_params, self.trained_patients_)
            except KeyboardInterrupt:
                self.update_record(interrupted=True)
                return self
            is_comparable = self._begin(X, data)
            if load_finished(self, data):
                return self
            n_epochs_before = len(self.history)
            self.notify("on_train_begin", X=X, y=y, data=data, is_comparable=is_comparable)
            try:
                # skorch hands `data` to `get_split_datasets`, which ignores y.
                self.fit_loop(data, y, epochs_left(self, n_epochs_before), **fit_params)
            except KeyboardInterrupt:
                self.update_record(interrupted=not has_stopped_early(self))
            self.update_record(pruned=was_pruned(self))
            self.notify("on_train_end", X=X, y=y)
        return self

    def _prepare(self, X, y, split_params, trained_patients):
        """Return the data of a fit; nothing is changed."""
        return prepare_fit(
            X,
            y,
            make_dataset=self._make_dataset,
            split=self.split_,
            known_types=self.study_types_,
            trained_patients=trained_patients,
            rule=self.threshold if is_rule(self.threshold) else None,
            skip_unreadable=self.on_bad_view != "raise",
            max_bad_share=self.max_bad_share,
            **split_params,
        )

    def _begin(self, X: pd.DataFrame, data: FitData) -> bool:
        """Fit the loss to the training part, and record study types, note, digests and settings.

        Returns
        -------
        bool
            Whether validation losses compare with those of earlier calls: they are of the same
            studies under the same class weights.
        """
        # The loss keeps the weights of earlier types, which `study_types_` still names here.
        if hasattr(self.criterion_, "take_study_types"):
            self.criterion_.take_study_types(self.study_types_, data.study_types)
        # They belong to other weights.
        self.training_distance_ = self.quantized_ = self.valid_predictions_ = None
        earlier = self.record_.digests
        digests = {"validation": data.valid_digest}
        if self.checkpoint_path is not None:
            digests["training"] = data.train_digest
        self.update_record(
            study_types=data.study_types,
            note=join_notes(self.note_, X),
            digests=digests,
            arithmetic=asdict(self.arithmetic_) | {"threads": self.threads_},
            n_processes=count_processes(),
            fitted_on=describe_fit(X, data),
            valid_scores=[],
        )
        settings = {k: str(value) for k, value in settings_of(self).items() if not is_place(k)}
        self.update_record(settings=settings)
        before = self._class_weights(data.valid)
        if hasattr(self.criterion_, "fit_weights"):  # torch's own criteria have no such weights
            self.criterion_.fit_weights(*data.class_counts, data.study_types)
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.bad_views_ = data.unreadable
        patients = patient_keys(studies_of(data.train)["patient"])
        self.trained_patients_ = self.trained_patients_ | set(patients)
        if data.valid is not None:
            held_out = patient_keys(studies_of(data.valid)["patient"])
            self.validated_patients_ = self.validated_patients_ | set(held_out)
        is_same = earlier.get("validation") == data.valid_digest
        return is_same and before == self._class_weights(data.valid)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probabilities of normality and of abnormality of every study.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2), float32
            The second column is the mean over the study's views, or what another
            `module__pooling` makes of them. After `recalibrate` float64 and calibrated.
        """
        return self.predict_with_views(X)[0] if self.is_recalibrated_ else super().predict_proba(X)

    def predict_view_proba(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return the probability of abnormality of every view.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        list of ndarray of shape (n_views,), float32
            One array per study, in the order of the table and of its ``views``; NaN for skipped
            views. With mean pooling, the mean of the others is the study's probability; with
            attention, the mean weighted by `predict_view_weights`; with "max", the largest. After
            `recalibrate` float64: the logits of the study and of each view are calibrated by the
            same line, so that a mean of probabilities is no longer the study's.
        """
        return self.predict_with_views(X)[1]

    def predict_with_views(self, X: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the results of `predict_proba` and `predict_view_proba` from one pass.

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
        if self.is_recalibrated_:
            return probabilities(*self.logits_with_views(X))
        study_logits, view_logits, dataset = self._raw_logits(X)
        to_proba = self._get_predict_nonlinearity()
        proba = np.concatenate([to_numpy(to_proba(logit)) for logit in study_logits])
        of_views = torch.sigmoid(torch.cat(view_logits)).numpy()
        return proba, split_by_study(of_views, dataset, X)

    def logits_with_views(
        self, X: pd.DataFrame, *, prior_correction: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the calibrated logits of studies and views.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.
        prior_correction : bool, default=False
            As for `recalibrate`, for a model without a calibration of its own.

        Returns
        -------
        logit : ndarray of shape (n_studies,), float64
        view_logit : list of ndarray of shape (n_views,), float64
        """
        study_logits, view_logits, dataset = self._raw_logits(X)
        logit, of_views = (torch.cat(part).double().numpy() for part in (study_logits, view_logits))
        if self.prior_correction_ or (prior_correction and not self.is_recalibrated_):
            shift = self.prior_shift(studies_of(dataset)["study_type"])
            logit = logit - shift
            of_views = of_views - np.repeat(shift, studies_of(dataset)["views"].map(len))
        of_studies, of_views = self.calibrate_logit(logit), self.calibrate_logit(of_views)
        return of_studies, split_by_study(of_views, dataset, X)

    def prior_shift(self, study_types: Iterable[str] = ()) -> np.ndarray:
        """Return log(w1 / w0) of the class weights of study types, see `recalibrate`.

        Parameters
        ----------
        study_types : sequence of n_studies str
            The result is 0 for a type that training never saw.

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
        """Return the network's logits of studies and of views by batch, and their dataset."""
        self.check_is_fitted()
        dataset = self.get_dataset(X)
        return *zip(*self.forward_iter(dataset), strict=True), dataset

    def predict_view_weights(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return how much each view counts in its study's probability.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        list of ndarray of shape (n_views,), float32
            One array per study, in the order of the table and of its ``views``. It sums to 1; NaN
            for skipped views. With the poolings "mean" and "attention", the weighted mean of the
            views' probabilities is the study's, before `recalibrate`. With "attention_additive"
            the weighted mean of their logits is the study's, also after it. With "max" the view
            with the largest probability counts alone. With ``flip_average=True`` the weights are
            the mean of those of the views and of their mirror images, and these laws hold for
            the pooling "mean" only.

        Raises
        ------
        TypeError
            The network has no method ``view_weights``.
        """
        self.check_is_fitted()
        return self._of_views("view_weights", X, self.get_dataset(X))

    def embed_views(self, X: pd.DataFrame, *, bar: Any = None) -> list[np.ndarray]:
        """Return the features of every view: what the network's last layer reads.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read. Study types that training never
            saw are no reason for a warning here.
        bar : tqdm, optional
            A progress bar, advanced by the number of views of each batch.

        Returns
        -------
        list of ndarray of shape (n_views, n_features), float32
            One array per study, in the order of the table and of its ``views``; NaN for skipped
            views. The last layer, ``module_.head``, makes the views' logits of them.

        Raises
        ------
        TypeError
            The network has no method ``view_features``.

        See Also
        --------
        mura_skorch.features.StudyEmbedder : The same in a pipeline of scikit-learn, with a cache.
        """
        self.check_is_fitted()
        dataset = self.get_dataset(X) if is_dataset(X) else self._dataset_of(*check_studies(X))
        return self._of_views("view_features", X, dataset, bar)

    def embed(self, X: pd.DataFrame) -> np.ndarray:
        """Return the features of every study: the mean over its readable views.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, n_features), float32
        """
        return np.stack([np.nanmean(part, axis=0) for part in self.embed_views(X)])

    def measure_training(self, X: pd.DataFrame) -> Self:
        """Learn how the features of training studies spread, to notice studies unlike them.

        The result is saved with the model. It holds no study and no patient. A later `fit` or
        `partial_fit` forgets it.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            The study table that the model was fitted on, with ``patient``.

        Returns
        -------
        self

        See Also
        --------
        mura_skorch.inspection.TrainingDistance : What is measured and stored.
        """
        self.training_distance_ = TrainingDistance.fit(self.embed(X), X["patient"])
        return self

    def training_percentile(self, X: pd.DataFrame) -> np.ndarray:
        """Return how unlike the training studies each study is.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies,), float64
            Percent of the training studies that are nearer to the others than this study is. Above
            99 a study is unlike them: another kind of image, or another body part.

        Raises
        ------
        ValueError
            `measure_training` was not called.
        """
        self.check_is_fitted()
        if self.training_distance_ is None:
            raise ValueError(
                "expected a model that has measured its training studies, got one that has not; "
                "call measure_training(train) before you save it"
            )
        return self.training_distance_.percentile(self.embed(X))

    def quantize(
        self, X: pd.DataFrame, valid: pd.DataFrame | None = None, *, force: bool = False
    ) -> Self:
        """Prepare predictions in 8-bit integers, which ``precision="int8"`` then uses.

        The result is saved with the model, about a quarter of its size more. `quantized_` holds
        it, with the number of decisions that change and kappa before and after. A later `fit` or
        `partial_fit` forgets it. Needs the extra ``[fast]``.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            The study table that the model was fitted on, labelled. At most 300 views of its
            training part find the ranges of the integers.
        valid : DataFrame, optional
            Labelled studies of other patients, on which decisions are compared; `X` is then the
            training part alone. None means the validation part of the fit.
        force : bool, default=False
            Whether to accept more than 2 % changed decisions.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            The extra is not installed.
        ValueError
            More than 2 % of the decisions change, the network cannot be exported, or `valid` is
            None and the validation part of `X` is not that of the fit.

        Examples
        --------
        >>> clf.quantize(train).save("fast")  # doctest: +SKIP
        >>> MuraClassifier.load("fast", precision="int8")  # doctest: +SKIP
        """
        self.check_is_fitted()
        X, y = check_studies(X, for_fit=True)
        if valid is None:
            data = self._prepare(X, y, {}, trained_patients=set())  # it was trained on them
            if data.valid is None or data.valid_digest != self.record_.digests.get("validation"):
                raise ValueError(
                    "expected the table that the model was fitted on, whose validation part it "
                    "knows, got another table or train_split; pass the two parts, "
                    "quantize(train, valid)"
                )
            X, valid = studies_of(data.train), studies_of(data.valid)
        else:
            valid, labels = check_labelled(valid)
            valid = valid.assign(label=labels)
        self.quantized_ = quantize(self, X, valid, force=force)
        return self

    def _of_views(self, method, X, dataset, bar=None):
        """Return what a method of the network computes of every view, one array per study."""
        if not hasattr(self.module_, method):
            raise TypeError(
                f"expected a network with a method {method}, such as StudyNetwork, got "
                f"{type(self.module_).__name__}; give it {method}(views, view_mask, study_type)"
            )
        return split_by_study(self.pass_through(method, dataset, bar), dataset, X)

    def localize(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return class activation maps of every view: which pixels contribute to its logit.

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

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder, as safetensors and JSON.

        Parameters
        ----------
        folder : path
            Made if it is missing. Holds weights, study types, history, counts of the studies (also
            by sex, site and quartiles of the age, if the table has such columns) and the parameters
            that are numbers or strings; parameters that are objects are defaults after loading. An
            existing model is replaced, which a line in the log says.
        """
        persistence.save_classifier(self, folder)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as `save` does, without a line in the log."""
        persistence.write_classifier(self, folder)

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as an ONNX graph, with a program that predicts without torch.

        The program needs onnxruntime, Pillow and NumPy alone.

        Parameters
        ----------
        folder : path
            Made if it is missing. Gets ``model.onnx``, ``export.json``, ``predict.py`` and
            ``README.md``; those of an older export are replaced.

        Raises
        ------
        ImportError
            A package of the extra ``[export]`` is not installed.
        TypeError, ValueError
            The network cannot be exported, or not with equal results.

        See Also
        --------
        mura_skorch.inference.export_classifier : What is checked and refused.
        """
        export_classifier(self, folder)

    @classmethod
    def load(cls, source: ModelSource, **params: Any) -> Self:
        """Return a model that predicts as the saved one does.

        Parameters
        ----------
        source : path, str or mlflow.entities.Run
            A folder written by `save`, an MLflow run, its id, or a ``runs:/`` address.
        **params
            Parameters to use instead of the saved ones, such as ``device``.

        Returns
        -------
        MuraClassifier
            Or the subclass it is called on.

        Raises
        ------
        FileNotFoundError
            There is no saved model.
        ValueError
            It is damaged, foreign or of a later format.
        """
        return persistence.load_classifier(cls, source, params)

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Take the weights of a model that `save` wrote; all must fit."""
        self.training_distance_ = self.quantized_ = self.triage_ = None
        persistence.load_weights(self, folder)

    # --- hooks of skorch and scikit-learn --------------------------------------------------

    @property
    def _default_callbacks(self):
        recorders = [("training_checkpoint", TrainingCheckpoint()), ("mlflow", MlflowTracker())]
        given = vars(self).get("callbacks")
        pairs = given if isinstance(given, list) else []
        names = [item[0] for item in pairs if isinstance(item, list | tuple)]
        # The user's own schedule replaces the default one that has its name.
        return [
            pair
            for pair in [*training_callbacks(), *recorders]
            if pair[0] != "plateau" or "plateau" not in names
        ]

    def initialize_callbacks(self) -> Self:
        """Make the callbacks, in the order in which their hooks are called."""
        super().initialize_callbacks()
        self.callbacks_.sort(key=_recorder_rank)
        return self

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a fitted model keeps its weights, whatever is set.

        Parameters of datasets and loaders, ``module__max_views`` and ``module__augment`` take
        effect from the next call on. Other parameters of the module and the criterion, and another
        optimizer, take effect in the next `fit`.

        Raises
        ------
        ValueError
            There is no parameter of that name. Values are checked by `fit`.
        """
        check_names(self, params, known=vars(self))
        for key in list(params):
            if key.split("__")[0] in MADE_LATER and not key.startswith("optimizer__"):
                # skorch would replace a fitted network, criterion or optimizer by an untrained one,
                # and raises for datasets and loaders: it finds nothing to make anew.
                setattr(self, key, params.pop(key))
                name = key.removeprefix("module__")
                if name in ("max_views", "augment") and hasattr(self, "module_"):
                    setattr(self.module_, name, self.get_params_for("module").get(name))
            elif key.startswith("callbacks__") and params[key] is vars(self).get(key, self):
                del params[key]  # skorch fails to remove a callback that is removed already
        super().set_params(**params)
        if self.initialized_ and not params.keys().isdisjoint(("precision", "device")):
            self.compute_with(choose_arithmetic(self.precision, self.where_))
        if callbacks := getattr(self, "callbacks_", None):
            # skorch puts None in the place of a callback that is removed, and then calls its hooks.
            self.callbacks_ = [pair for pair in callbacks if pair[1] is not None]
        if self.initialized_ and any(key.startswith("callbacks") for key in params):
            self._replace_default_schedule()  # skorch has made all callbacks anew
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
        self.record_ = FitRecord(note=note_of(self.get_params_for("module").get("weights")))
        self.trained_patients_, self.validated_patients_ = set(), set()
        self.training_distance_ = self.quantized_ = None
        super().initialize()
        self.update_record(seed=self.random_.seed)
        self._replace_default_schedule()
        return self

    def _replace_default_schedule(self):
        """Remove the default schedule, plateau, if the user has passed another; log it."""
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

    def get_dataset(self, X: Any, y: ArrayLike | None = None) -> Any:
        """Return the dataset of a table to predict, with the study types of training."""
        if is_dataset(X):  # one of studies in memory is made for each classifier
            return prepare_views(X.dataset_for(self) if hasattr(X, "dataset_for") else X)
        X, y = check_studies(X, y)
        unseen = sorted(set(X["study_type"]) - set(self.study_types_))
        if unseen:
            warnings.warn(
                f"training never saw {', '.join(unseen)}; the prediction works, but nothing is "
                "known of its quality: evaluate it on labelled studies of that type",
                stacklevel=2,
            )
        return self._dataset_of(X, y)

    def _dataset_of(self, X, y=None):
        """Return the dataset of a checked table; every study has a readable view."""
        dataset = self._make_dataset(X, y, self.study_types_)
        if self.on_bad_view != "raise":
            check_none_lost(dataset.bad_views)
            warn_unreadable(dataset.bad_views)
        return dataset

    def _make_dataset(self, X, y, study_types):
        settings = self.get_params_for("dataset")
        if self.on_bad_view != "raise":  # a dataset of the user's own need not have the parameter
            settings["on_bad_view"] = self.on_bad_view
        return prepare_views(self.dataset(X, y, study_types=study_types, **settings))

    def get_split_datasets(
        self, X: Any, y: ArrayLike | None = None, **fit_params: Any
    ) -> tuple[Any, Any]:
        """Return the training and the validation part of a fit's data, or of a table.

        Parameters
        ----------
        X : FitData or DataFrame
            `fit` passes the data that it has prepared. A table is checked and split here.
        y : array-like of shape (n_studies,), optional
            Labels of the table.
        **fit_params
            Passed to the split.
        """
        if not isinstance(X, FitData):
            X, y = check_studies(X, y, for_fit=True)
            X = self._prepare(X, y, fit_params, self.trained_patients_)
        return X.train, X.valid

    @property
    def split_(self) -> Callable[..., Any] | None:
        """`train_split` as a callable, or None."""
        return as_split(self.train_split)

    @property
    def n_features_in_(self) -> int:
        """Number of columns of the table passed to the last call of `fit` or `partial_fit`."""
        return len(self.feature_names_in_)

    def _class_weights(self, dataset):
        """Return the class weights of the loss for the study types of a dataset."""
        weight = getattr(self.criterion_, "class_weight", None)
        if dataset is None or weight is None or len(weight) != len(self.study_types_) + 1:
            return None  # nothing is weighted, or nothing has been counted yet
        return weight[self._weight_rows(sorted(set(studies_of(dataset)["study_type"])))].tolist()

    def _weight_rows(self, study_types):
        """Return the row of the class weights for each type, the last one for unknown types."""
        rows = {name: row for row, name in enumerate(self.study_types_)}
        return [rows.get(name, -1) for name in study_types]

    def __repr__(self):
        """Return the parameters that differ from their defaults."""
        given = {
            name: value
            for name, value in self.get_params(deep=False).items()
            if not name.startswith("_") and not is_default(self, name, value)
        }
        with suppress(TypeError, ValueError):
            if isinstance(self.split_, ValidStudies):
                given["train_split"] = self.split_  # which does not show the rows of its table
        texts = (
            f"{name}={getattr(value, '__name__', repr(value))}" for name, value in given.items()
        )
        return f"{type(self).__name__}({', '.join(texts)})"


def _recorder_rank(pair):
    """Return the place of a named callback: 0 for all but those that record an epoch."""
    for rank, kind in enumerate(RECORDERS, start=1):
        if isinstance(pair[1], kind):
            return rank
    return 0


def _refuse(fit_params):
    """Raise for arguments that other estimators of scikit-learn take and this one does not."""
    remedies = {
        "groups": "pass them to cross_validate or a search; fit splits by X['patient'] itself",
        "sample_weight": "the loss weights classes by study type, see criterion__count",
    }
    for name in remedies.keys() & fit_params.keys():
        raise TypeError(f"expected X and y alone, got {name}: {remedies[name]}")


def _refuse_opposite(X, y):
    """Raise if y is the opposite of the table's labels in every row."""
    if y is None or "label" not in X:
        return
    known = pd.to_numeric(X["label"]).to_numpy(dtype=float, na_value=np.nan)
    if len(known) and (np.asarray(y, dtype=float).ravel() == 1 - known).all():
        raise ValueError(
            "expected y with 1 for abnormal, got the opposite of X['label'] in every row, as "
            "scikit-learn encodes the words abnormal and normal; pass 0 and 1"
        )
