"""The trials of a sweep that several processes share: asked, kept alive, retried, counted.

The processes share Optuna's storage, and a folder with a lock and the checkpoints. Optuna gives
heartbeats in ``Study.optimize`` alone, not for ``ask``. Its ``RetryFailedTrialCallback`` is not
used: a process that dies after it failed a trial, before it queues the retry, would lose the trial.
"""

import os
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mura_skorch.utils.text import printable, short_reason

__all__ = ["TrialQueue", "import_optuna", "quiet"]

SILENCE = 6  # heartbeats that a worker may miss before it counts as killed
DATABASE_WAIT = 60  # seconds to wait for a locked SQLite file
LOCK_WAIT = 600  # seconds to wait for another worker that asks for a trial or writes the report
PATIENCE = 300  # seconds to wait for a storage that does not answer
# Why a trial failed, where it was not killed.
ERROR, INTERRUPTED, HELD = "error", "interrupted", "held"


def import_optuna() -> Any:
    """Return Optuna.

    Raises
    ------
    ImportError
        It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "expected Optuna, which sweeps are made with, got none installed; "
            "pip install 'mura-skorch[sweep]'"
        ) from error
    return optuna


class TrialQueue:
    """The trials of a study in an Optuna storage, for one of the processes that share it.

    A trial that was killed or interrupted is retried: a new trial of Optuna, with a number of its
    own, gets its values and its attribute ``origin``, by which runs and checkpoints are named. The
    origins count from 0 without gaps.

    Parameters
    ----------
    url : str
        A database, such as ``sqlite:///sweep.db``.
    name : str
        Name of the study. It is made if it is missing.
    space : dict of str to optuna.distributions.BaseDistribution
        What `read_space` returns.
    folder : path
        A folder that all processes share.
    direction : {"minimize", "maximize"}, default="minimize"
        Which values are better.
    prune : {"none", "median"}, default="none"
        "median" ends trials that are worse than the median of earlier ones after as many steps.
    n_random : int, default=10
        Number of first trials that are drawn at random and never pruned.
    n_retries : int, default=2
        How often a trial whose process was killed is started again.
    heartbeat : int, default=10
        Seconds between the signs of life of a running trial. After six times as long without one
        it counts as killed.
    random_state : int, default=0
        Seed. One process draws the same values each time, however often it is interrupted.

    Attributes
    ----------
    study : optuna.Study
        The study.
    grace_period : int
        Seconds without a sign of life after which a trial counts as killed.
    lock : filelock.FileLock
        Held while a trial is asked for; a process that holds it may hold it again.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: dict[str, Any],
        folder: str | os.PathLike[str],
        *,
        direction: str = "minimize",
        prune: str = "none",
        n_random: int = 10,
        n_retries: int = 2,
        heartbeat: int = 10,
        random_state: int = 0,
    ) -> None:
        optuna = import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.n_random = n_random
        self.n_retries = n_retries
        self.heartbeat = heartbeat
        self.grace_period = SILENCE * heartbeat
        self.random_state = random_state
        self.lock = FileLock(Path(folder) / ".sweep.lock", timeout=LOCK_WAIT)
        self._held: set[int] = set()
        # Connections of before a server was away are found out before they are used.
        settings: dict[str, Any] = {"pool_pre_ping": True}
        if url.startswith("sqlite"):
            settings = {"connect_args": {"timeout": DATABASE_WAIT}}
        pruner = optuna.pruners.NopPruner()
        if prune == "median":
            pruner = optuna.pruners.MedianPruner(n_startup_trials=n_random, n_warmup_steps=2)
        # Two processes that make the tables of a new database at once disturb each other.
        with self.alone(), quiet(), _explained(url):
            self.storage = optuna.storages.RDBStorage(
                url,
                engine_kwargs=settings,
                heartbeat_interval=heartbeat,
                grace_period=self.grace_period,
            )
            self.study = optuna.create_study(
                storage=self.storage,
                study_name=name,
                direction=direction,
                pruner=pruner,
                load_if_exists=True,
            )
        self._study_id = self.storage.get_study_id_from_name(name)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock in a block.

        Raises
        ------
        TimeoutError
            Another process has held it for ten minutes.
        """
        try:
            self.lock.acquire()
        except Timeout as error:
            raise TimeoutError(
                f"expected {self.lock.lock_file} to be free within {LOCK_WAIT} seconds, got "
                "another worker that holds it; end the worker that hangs"
            ) from error
        try:
            yield
        finally:
            self.lock.release()

    def next(self, n_trials: int) -> Any:
        """Return the next trial to run, or None if there is none.

        Parameters
        ----------
        n_trials : int
            How many there may be, without retries.

        Returns
        -------
        optuna.trial.Trial or None

        Raises
        ------
        ConnectionError
            The database has not answered for five minutes. All methods may raise it.
        """
        return self._patiently(partial(self._next, n_trials))

    def _next(self, n_trials):
        optuna = import_optuna()
        with self.alone(), quiet():
            trials = self._take_stock()
            n_begun = len({trial.user_attrs.get("origin") for trial in trials} - {None})
            is_waiting = any(trial.state.name == "WAITING" for trial in trials)
            if n_begun >= n_trials and not is_waiting:
                return None
            # A seed per trial: equal seeds in several processes would draw equal values.
            self.study.sampler = optuna.samplers.TPESampler(
                seed=self.random_state + n_begun,
                n_startup_trials=self.n_random,
            )
            trial = self.study.ask(self.space)
            self.storage.record_heartbeat(self._id_of(trial))
            if "origin" not in trial.user_attrs:
                trial.set_user_attr("origin", n_begun)
            trial.set_user_attr("begun", True)
            return trial

    def _take_stock(self):
        """Fail the trials of killed processes, queue those to retry, and return all trials."""
        optuna = import_optuna()
        for trial in self._trials():
            # Whoever asked for it died within the lock, before its first sign of life.
            if trial.state.name == "RUNNING" and "begun" not in trial.user_attrs:
                self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        optuna.storages.fail_stale_trials(self.study)
        for origin, attempts in self.attempts().items():
            last = attempts[-1].user_attrs
            is_over = any(trial.state.name != "FAIL" for trial in attempts)
            n_killed = sum("reason" not in trial.user_attrs for trial in attempts)
            if is_over or last.get("reason") == ERROR or origin in self._held:
                continue
            if n_killed <= self.n_retries:
                self._retry(attempts[-1], origin)
        return self._trials()

    def _trials(self):
        return self._patiently(partial(self.study.get_trials, deepcopy=False))

    def attempts(self) -> dict[int, list[Any]]:
        """Return the trials of Optuna by their origin: first attempts and their retries."""
        found = defaultdict(list)
        for trial in self._trials():
            if "origin" in trial.user_attrs:
                found[trial.user_attrs["origin"]].append(trial)
        return dict(found)

    def _retry(self, trial, origin):
        kept = {"origin": origin}
        if run_id := trial.user_attrs.get("mlflow_run"):
            kept["mlflow_run"] = run_id
        self.study.enqueue_trial(trial.params, user_attrs=kept)

    def n_open(self) -> int:
        """Return how many trials are running or wait to be retried, here and elsewhere."""
        return sum(trial.state.name in ("RUNNING", "WAITING") for trial in self._trials())

    @contextmanager
    def alive(self, trial: Any) -> Iterator[None]:
        """Give signs of life for a trial while a block runs.

        Parameters
        ----------
        trial : optuna.trial.Trial
            What `next` returned.
        """
        # Optuna does this in `optimize` only; for `ask` and `tell` it has no hook.
        ended, trial_id = threading.Event(), self._id_of(trial)

        def beat():
            while not ended.wait(self.heartbeat):
                with suppress(Exception):  # a storage that is away may come back
                    self.storage.record_heartbeat(trial_id)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join(self.heartbeat)

    def tell(
        self, trial: Any, value: float | None = None, *, pruned: bool = False, reason: str = ""
    ) -> bool:
        """Record how a trial ended.

        Parameters
        ----------
        trial : optuna.trial.Trial
            What `next` returned.
        value : float, optional
            Its result. None means that it failed, unless it was pruned.
        pruned : bool, default=False
            Whether it was ended early.
        reason : {"", "error", "interrupted", "held"}, default=""
            Why it failed. One that was interrupted, or whose checkpoint another process held, is
            retried; one with an error is not.

        Returns
        -------
        bool
            False if the trial had been given up meanwhile, since this process was frozen for too
            long. Its result then waits in its checkpoint, and a retry collects it.
        """
        states = import_optuna().trial.TrialState
        state = states.FAIL
        if pruned:
            state, value = states.PRUNED, None
        elif value is not None:
            state = states.COMPLETE
        elif reason == HELD:
            self._held.add(trial.user_attrs["origin"])
        if reason:
            self.note(trial, reason=reason)
        told = self._patiently(
            partial(self.study.tell, trial, value, state=state, skip_if_finished=True)
        )
        if told.state == state:
            return True
        origin = told.user_attrs["origin"]
        with self.alone():
            if all(other.state.name == "FAIL" for other in self.attempts()[origin]):
                self._held.discard(origin)
                self._retry(told, origin)
        return False

    def note(self, trial: Any, **facts: Any) -> None:
        """Store facts about a trial, unless it was given up meanwhile.

        Parameters
        ----------
        trial : optuna.trial.Trial
            What `next` returned.
        **facts
            Values that JSON can represent, by name.
        """
        with suppress(import_optuna().exceptions.UpdateFinishedTrialError):
            for name, value in facts.items():
                self._patiently(partial(trial.set_user_attr, name, value))

    def _patiently(self, call: Callable[[], Any]) -> Any:
        """Call a function until the storage answers."""
        begin, wait = time.monotonic(), 1.0
        while True:
            try:
                return call()
            except _storage_errors() as error:
                if time.monotonic() - begin > PATIENCE:
                    raise ConnectionError(
                        f"expected the database to answer within {PATIENCE} seconds, got "
                        f"{short_reason(error.__cause__ or error)}; start the same command again "
                        "when it does"
                    ) from error
            time.sleep(wait)
            wait = min(2 * wait, 30.0)

    def _id_of(self, trial):
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, trial.number)


def _storage_errors():
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError, import_optuna().exceptions.StorageInternalError


@contextmanager
def _explained(url):
    """Raise ValueError where a database does not exist or answer, without its password."""
    from sqlalchemy.engine import make_url

    try:
        yield
    except (*_storage_errors(), ImportError) as error:
        with suppress(Exception):  # it may be no address at all
            url = make_url(url).render_as_string(hide_password=True)
        raise ValueError(
            "expected a database that answers, such as sqlite:///sweep.db, got "
            f"{printable(url)}: {short_reason(error.__cause__ or error)}"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore Optuna's warnings about the heartbeat: it is new, and is not given by `ask`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")
        warnings.simplefilter("ignore", import_optuna().exceptions.ExperimentalWarning)
        yield
