"""Callback that logs a fit as an MLflow run: parameters, epochs, data and model."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

from skorch.callbacks import Callback

from mura_skorch.data.dataset import studies_of
from mura_skorch.evaluation.predictions import prediction_table
from mura_skorch.evaluation.summary import DESCRIPTION, validation_section, with_section
from mura_skorch.phantoms.writing import MURA_TYPES
from mura_skorch.studies.columns import is_exploded, join_notes
from mura_skorch.tracking.clones import forget_origin, is_clone, origin_of, running_parent
from mura_skorch.tracking.mlflow_model import save_mlmodel
from mura_skorch.tracking.params import settings_of
from mura_skorch.tracking.run import TrackedRun, status_of
from mura_skorch.tracking.values import is_finite, metric_name
from mura_skorch.utils.provenance import data_digest, git_commit, package_versions

__all__ = [
    "MlflowTracker",
    "dataset_name",
    "log_fitted_model",
    "run_of",
    "study_tags",
    "tracked_fit",
]

MOST_NAMES = 3  # study types in the name of a run


class MlflowTracker(Callback):
    """Log a fit as an MLflow run.

    Parameters
    ----------
    run_id : str or TrackedRun, optional
        Log into this run. None: every fit opens its own, nested when a run is active, and
        `partial_fit` continues the fit's run.
    parent_run_id : str, optional
        Parent of the run. None means the active run, or for a clone the run that was active where
        scikit-learn cloned it, also in worker processes.
    run_name : str, optional
        Name of a new run. None means the study type; of several the first three, and "all" for
        all seven of MURA.
    log_model : bool, optional
        Log the model, about 50 MB, when the fit ends. None: unless the fit was pruned, or the
        estimator is a clone, such as the candidates of a search, the folds of a cross-validation
        and the members of a vote; `log_fitted_model` logs one of them afterwards.

    Attributes
    ----------
    run_ : TrackedRun
        The fit's run; ``run_.run_id`` is its MLflow id.
    """

    def __init__(
        self,
        run_id: str | TrackedRun | None = None,
        parent_run_id: str | None = None,
        run_name: str | None = None,
        log_model: bool | None = None,
    ) -> None:
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        self.run_name = run_name
        self.log_model = log_model

    def initialize(self) -> Self:
        """Forget the run of the last fit."""
        self.run_: Any = None
        self.settings_: dict[str, Any] | None = None
        self.dataset_valid_: Any = None
        self.data_valid_: tuple[str, str] | None = None  # name and digest
        self.is_resumed_ = self.has_begun_ = False
        self._logged: set[tuple[str, int]] = set()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a checkpoint has the id of the run."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Note that a checkpoint was loaded, which names the run to continue."""
        self.is_resumed_ = True

    def send_missing(self, net: Any) -> None:
        """Log the epochs that the run lacks; from now on log nothing that it has."""
        logged = self.run_.logged_metrics()
        self._logged = logged or set()
        # Without an answer: all but the last epoch were sent, or are in the spool.
        for row in net.history if logged is not None else net.history[-1:]:
            self._log_metrics(_metrics(row), step=row["epoch"])

    def _log_metrics(self, metrics, step=0):
        named = {metric_name(key): value for key, value in metrics.items()}  # as in the run
        missing = {key: value for key, value in named.items() if (key, step) not in self._logged}
        self.run_.log_metrics(missing, step=step)

    def on_train_begin(self, net: Any, X: Any = None, data: Any = None, **kwargs: Any) -> None:
        """Open the run, or use the given one; a resumed run gets the epochs that it lacks."""
        self.has_begun_ = True
        self.has_logged_data_ = False
        self.dataset_valid_ = None
        if isinstance(self.run_id, TrackedRun):
            self.run_ = self.run_id
        else:
            earlier = self.run_.run_id if self.run_ is not None else None
            if self.is_resumed_:
                earlier = net.run_id_
            origin = origin_of(net)
            self.run_ = TrackedRun(
                self.run_id or earlier,
                name=self.run_name or dataset_name(X),
                parent=self.parent_run_id or running_parent(origin),
                note=join_notes(X),
                origin=origin,
            ).open()
        net.run_id_ = self.run_.run_id
        self.run_.set_tags(study_tags(X) | ({"clone": "true"} if is_clone(net) else {}))
        self._log_settings(net)
        if self.is_resumed_ and data is not None:
            self.on_epoch_begin(net, dataset_train=data.train, dataset_valid=data.valid)
            self.send_missing(net)
            self.is_resumed_ = False

    def _log_settings(self, net):
        """Log the parameters, and in a later call of `partial_fit` those that changed."""
        try:
            settings = settings_of(net)
        except Exception as error:  # tracking must not stop a training
            settings = {"settings": f"not recorded, got {type(error).__name__}: {error}"}
        earlier, self.settings_ = self.settings_, settings
        if earlier is None and not self.is_resumed_:  # the run of a resumed fit has them
            self.run_.log_params(settings)
        elif earlier is not None:
            begin = f"from_epoch_{len(net.history) + 1}"
            names = [n for n in earlier | settings if earlier.get(n, n) != settings.get(n, n)]
            self.run_.log_params({f"{begin}/{n}": settings.get(n, "default") for n in names})

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Log the training and the validation part, once."""
        if self.has_logged_data_:
            return
        self.has_logged_data_ = True
        self.dataset_valid_ = dataset_valid
        self.data_valid_ = None
        for dataset, context in ((dataset_train, "training"), (dataset_valid, "validation")):
            if dataset is not None:
                table = prediction_table(studies_of(dataset))
                name, digest = dataset_name(table), data_digest(table)
                self.run_.log_dataset(table, name=name, digest=digest, context=context)
                if context == "validation":
                    self.data_valid_ = name, digest
        bad_views = getattr(net, "bad_views_", None)
        if bad_views is not None and len(bad_views):
            text = bad_views.drop(columns="row").to_csv(index=False)
            self.run_.log_text(text, "bad_views.csv")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Log the metrics of the epoch in one call."""
        row = net.history[-1]
        self._log_metrics(_metrics(row), step=row["epoch"])

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Log the best epoch, the validation predictions, the model."""
        best = [row for row in net.history if row.get("event_cp")]
        if best:
            self._log_metrics(_best_metrics(best[-1]))  # without a step: MLflow draws bars
            self.run_.set_tags({"best_epoch": str(best[-1]["epoch"])})
            if self.dataset_valid_ is not None and not isinstance(self.run_id, str):
                section = validation_section(net.history, studies_of(self.dataset_valid_))
                self.run_.set_tags({DESCRIPTION: with_section(self.run_.note, section)})
        if net.valid_predictions_ is not None:
            table = net.valid_predictions_.to_csv(index=False)
            self.run_.log_text(table, "valid_predictions.csv")
        self._log_metrics({"threshold": net.threshold_})
        if net.pruned_:
            self.run_.set_tags({"pruned": "true"})
        is_left_out = is_clone(net) or net.pruned_
        if self.log_model or (self.log_model is None and not is_left_out):
            try:
                _log_model(net, self.run_, self.data_valid_)
            except OSError as error:  # a full disk must not stop a training
                self.run_.warn(error)
        self.dataset_valid_ = None

    def close(self, status: str, error: BaseException | None = None) -> None:
        """End the run, unless it was given; wait for what is being sent."""
        self.dataset_valid_ = None
        self.has_begun_ = False
        if isinstance(self.run_id, TrackedRun):
            self.run_id.flush()
        elif self.run_ is not None:
            self.run_.close(status, error)


@contextmanager
def tracked_fit(net: Any, X: Any) -> Iterator[None]:
    """End the run of a fit as it ends: FINISHED, FAILED when it raises, KILLED when interrupted.

    A fit that raises before its training begins has a run, too.
    """
    trackers = [item for _, item in net.callbacks_ if isinstance(item, MlflowTracker)]
    try:
        yield
    except BaseException as error:
        for tracker in trackers:
            if not tracker.has_begun_:
                tracker.on_train_begin(net, X=X)
            tracker.close(status_of(type(error)), error)
        raise
    finally:
        forget_origin(net)
    for tracker in trackers:
        if not tracker.has_begun_:
            continue
        tracker.close("KILLED" if net.interrupted_ else "FINISHED")
        if tracker.run_ is not None:
            net.run_id_ = tracker.run_.run_id  # a slow server may have created it by now


def log_fitted_model(net: Any) -> None:
    """Log the model of a fit that logged none, such as the winner of a search, in its run.

    Parameters
    ----------
    net : MuraClassifier
        Fitted, with a ``run_id_``.

    Raises
    ------
    ValueError
        Its fit has no MLflow run.

    Examples
    --------
    >>> search.fit(train, train.label, groups=train.patient)  # doctest: +SKIP
    >>> log_fitted_model(search.best_estimator_)  # doctest: +SKIP
    """
    run = run_of(net)
    data = [item.data_valid_ for _, item in net.callbacks_ if isinstance(item, MlflowTracker)]
    _log_model(net, run, data[0] if data else None)
    run.release()


def run_of(model: Any) -> TrackedRun:
    """Return the run of a model's fit, also if the server has not given it an id yet.

    Raises
    ------
    ValueError
        There is none.
    """
    for _, callback in getattr(model, "callbacks_", []):
        if isinstance(callback, MlflowTracker) and callback.run_ is not None:
            return callback.run_
    run_id = getattr(model, "run_id_", None)
    if run_id is None:
        raise ValueError(
            f"expected a model whose fit has an MLflow run, got a {type(model).__name__} without; "
            "fit it without callbacks__mlflow=None, or pass a mura_skorch.tracking.TrackedRun"
        )
    return TrackedRun(run_id, note=getattr(model, "note_", None))


def dataset_name(studies: Any) -> str:
    """Return the study types of a table: up to three names, or "all" for MURA's seven."""
    names = sorted(map(str, studies["study_type"].unique()))
    if names == list(MURA_TYPES):
        return "all"
    more = [f"{len(names) - MOST_NAMES} more"] if len(names) > MOST_NAMES else []
    return ", ".join(names[:MOST_NAMES] + more)


def _best_metrics(row):
    """Return the validation metrics of the best epoch: ``valid/kappa`` for ``valid_kappa``."""
    left_out = ("lr", "seconds", "views_per_second")
    return {
        f"valid/{name.removeprefix('valid_')}": value
        for name, value in _metrics(row).items()
        if name not in left_out and not name.startswith("train_")
    }


def _log_model(net, run, data_valid):
    with tempfile.TemporaryDirectory() as folder:
        save_mlmodel(net, folder)
        run.log_model(folder, data_valid)


def study_tags(studies: Any) -> dict[str, str]:
    """Return the tags of a run on a study table: its types, its level, versions and commit."""
    commit = git_commit()
    level = "view" if is_exploded(studies) else "study"
    tags = {"study_type": dataset_name(studies), "level": level} | package_versions()
    return tags | ({"git_commit": commit} if commit else {})


def _metrics(row):
    """Return the numbers of a history row under the names that every run shares."""
    left_out = {"epoch", "batches", "dur", "train_batch_count", "valid_batch_count"}
    metrics = {
        name: value
        for name, value in row.items()
        if name not in left_out and not name.endswith("_best") and not name.startswith("event_")
    }
    metrics |= {"lr": row.get("event_lr"), "seconds": row.get("dur")}
    return {name: value for name, value in metrics.items() if is_finite(value)}
