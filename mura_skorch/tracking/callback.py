"""MLflow tracking: a fit goes in, its parameters, epochs, data and model are on record."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Self

from skorch.callbacks import Callback

from mura_skorch.data.dataset import studies_of
from mura_skorch.evaluation.predictions import prediction_table
from mura_skorch.evaluation.summary import DESCRIPTION, validation_section, with_section
from mura_skorch.studies.columns import is_exploded, join_notes
from mura_skorch.tracking.artifacts import MODEL_ARTIFACT
from mura_skorch.tracking.loggable import is_finite
from mura_skorch.tracking.mlflow_model import save_mlmodel
from mura_skorch.tracking.nested import is_for_a_score, move_to_birthplace
from mura_skorch.tracking.params import settings_of
from mura_skorch.tracking.run import Run, status_of
from mura_skorch.utils.provenance import data_digest, git_commit, package_versions

__all__ = ["MlflowTracker", "on_record"]


class MlflowTracker(Callback):
    """Log a fit as an MLflow run.

    Parameters
    ----------
    run_id : str or Run, optional
        Log into this run. None: every fit opens its own, nested when a run is active, and
        `partial_fit` goes on in the fit's.
    parent_run_id : str, optional
        Parent of the run, for worker processes, where no run is active. None: a clone that
        scikit-learn sends to a worker is a child of the run it was made in; members of a
        ``BaggingClassifier`` with ``n_jobs`` are made in the worker, and need the id.
    run_name : str, optional
        Name of a new run. None means the study type, or "all" where there are several.
    log_model : bool or "auto", default="auto"
        Log the model, about 50 MB, when the fit ends. "auto" logs every model that is kept and
        none that a cross-validation or a search of scikit-learn fits only to score it; those
        runs carry the tag ``inner_fit``. The winner of a search, ``best_estimator_``, and the
        members of voting, stacking, calibration and bagging are kept.

    Attributes
    ----------
    run_ : Run
        The fit's run; ``run_.run_id`` is its MLflow id.
    """

    def __init__(
        self,
        run_id: str | Run | None = None,
        parent_run_id: str | None = None,
        run_name: str | None = None,
        log_model: bool | Literal["auto"] = "auto",
    ) -> None:
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        self.run_name = run_name
        self.log_model = log_model

    def initialize(self) -> Self:
        """Forget the last fit's run."""
        self.run_: Any = None
        self.settings_: dict[str, Any] | None = None
        self.is_resumed_ = self.has_begun_ = False
        self._logged: set[tuple[str, int]] = set()
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: all that a training needs to go on in a run is its id."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue in the run of a fit that was killed: a checkpoint is loaded, which names it."""
        self.is_resumed_ = True

    def send_missing(self, net: Any) -> None:
        """Send the epochs that the run lacks, and from now on nothing that it has."""
        logged = self.run_.logged_metrics()
        self._logged = logged or set()
        # Where nobody answers: all but the last epoch were sent, or kept, before the next began.
        for row in net.history if logged is not None else net.history[-1:]:
            self._log_metrics(_metrics(row), step=row["epoch"])

    def _log_metrics(self, metrics, step=0):
        missing = {key: v for key, v in metrics.items() if (key, step) not in self._logged}
        self.run_.log_metrics(missing, step=step)

    def on_train_begin(self, net: Any, X: Any = None, data: Any = None, **kwargs: Any) -> None:
        """Open the run, or take the given one; a resumed run gets the epochs that it lacks."""
        self.has_begun_ = True
        self.has_logged_data_ = False
        self.dataset_valid_ = None
        if isinstance(self.run_id, Run):
            self.run_ = self.run_id
        else:
            earlier = self.run_.run_id if self.run_ is not None else None
            if self.is_resumed_:
                earlier = net.run_id_
            self.run_ = Run(
                self.run_id or earlier,
                name=self.run_name or _type_name(X),
                parent_run_id=self.parent_run_id or move_to_birthplace(net),
                note=join_notes(X),
            ).open()
        net.run_id_ = self.run_.run_id
        self.is_inner_ = is_for_a_score()
        self.run_.set_tags(_tags(X) | ({"inner_fit": "true"} if self.is_inner_ else {}))
        self._log_settings(net)
        if self.is_resumed_ and data is not None:
            self.on_epoch_begin(net, dataset_train=data.train, dataset_valid=data.valid)
            self.send_missing(net)
            self.is_resumed_ = False

    def _log_settings(self, net):
        """Log what is set, and in a later call of `partial_fit` what is set anew."""
        try:
            settings = settings_of(net)
        except Exception as error:  # any failure of the bookkeeping spares the training
            settings = {"settings": f"not recorded, got {type(error).__name__}: {error}"}
        earlier, self.settings_ = self.settings_, settings
        if earlier is None and not self.is_resumed_:  # the run of a fit that goes on has them
            self.run_.log_params(settings)
        elif earlier is not None:
            begin = f"from_epoch_{len(net.history) + 1}"
            names = [n for n in earlier | settings if earlier.get(n, n) != settings.get(n, n)]
            self.run_.log_params({f"{begin}/{n}": settings.get(n, "default") for n in names})

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Log the parts of the data, once."""
        if self.has_logged_data_:
            return
        self.has_logged_data_ = True
        self.dataset_valid_ = dataset_valid
        for dataset, context in ((dataset_train, "training"), (dataset_valid, "validation")):
            if dataset is not None:
                table = prediction_table(studies_of(dataset))
                self.run_.log_dataset(
                    table, name=_type_name(table), digest=data_digest(table), context=context
                )
        bad_views = getattr(net, "bad_views_", None)
        if bad_views is not None and len(bad_views):
            text = bad_views.drop(columns="row").to_csv(index=False)
            self.run_.log_text(text, "bad_views.csv")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Log the epoch's numbers in one call."""
        row = net.history[-1]
        self._log_metrics(_metrics(row), step=row["epoch"])

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Log the best epoch, the validation predictions, the model."""
        best = [row for row in net.history if row.get("event_cp")]
        if best:
            self._log_metrics(_best_metrics(best[-1]))  # step 0, as test/...: MLflow draws bars
            self.run_.set_tags({"best_epoch": str(best[-1]["epoch"])})
            if self.dataset_valid_ is not None and not isinstance(self.run_id, str):
                section = validation_section(net.history, studies_of(self.dataset_valid_))
                self.run_.set_tags({DESCRIPTION: with_section(self.run_.note, section)})
        if self.dataset_valid_ is not None and any("valid_loss" in row for row in net.history):
            y_score = net.predict_proba(self.dataset_valid_)[:, 1]
            studies = studies_of(self.dataset_valid_)
            table = prediction_table(studies, y_score, threshold=net.threshold_)
            if is_exploded(studies):
                table = table.assign(level="view", view=studies["view"].to_numpy())
            self.run_.log_text(table.to_csv(index=False), "valid_predictions.csv")
        self._log_metrics({"threshold": net.threshold_})
        self.dataset_valid_ = None
        if not self.is_inner_ if self.log_model == "auto" else self.log_model:
            with tempfile.TemporaryDirectory() as folder:
                save_mlmodel(net, folder)
                self.run_.log_folder(folder, MODEL_ARTIFACT)

    def close(self, status: str, error: BaseException | None = None) -> None:
        """End the run, unless it is the caller's own; wait for what is on its way."""
        self.dataset_valid_ = None
        self.has_begun_ = False
        if self.run_ is not None and self.run_ is not self.run_id:
            self.run_.close(status, error)
        elif isinstance(self.run_, Run):
            self.run_.flush()


@contextmanager
def on_record(net: Any, X: Any) -> Iterator[None]:
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
        net.__dict__.pop("_birthplace_", None)  # no address of a server in pickles
    for tracker in trackers:
        if not tracker.has_begun_:
            continue
        tracker.close("KILLED" if net.interrupted_ else "FINISHED")
        if tracker.run_ is not None:
            net.run_id_ = tracker.run_.run_id  # a server may have been late to name it


def _type_name(studies):
    """Return the one study type of a table, or "all"."""
    names = studies["study_type"].unique()
    return str(names[0]) if len(names) == 1 else "all"


def _tags(studies):
    commit = git_commit()
    level = "view" if is_exploded(studies) else "study"
    tags = {"study_type": _type_name(studies), "level": level} | package_versions()
    return tags | ({"git_commit": commit} if commit else {})


def _best_metrics(row):
    """Return the validation figures of the best epoch: ``valid/kappa`` of ``valid_kappa``."""
    left_out = ("lr", "seconds", "views_per_second")
    return {
        f"valid/{name.removeprefix('valid_')}": value
        for name, value in _metrics(row).items()
        if name not in left_out and not name.startswith("train_")
    }


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
