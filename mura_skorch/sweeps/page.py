"""The result of a sweep: a table, Optuna's figures, and a page with the best setting."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch.report.html import render_page
from mura_skorch.sweeps.trials import import_optuna, quiet

__all__ = ["SweepResult", "write_sweep"]

WIDTH, HEIGHT = 4.8, 3.4  # inches; on a phone the text remains readable
COMPLETE = "complete"
# What is shown of the optimism, and how it is called.
FIGURES = {"log_loss": "log loss", "kappa": "kappa"}


@dataclass(frozen=True)
class SweepResult:
    """What the page of a sweep shows.

    Attributes
    ----------
    study : optuna.Study
        For the figures.
    trials : DataFrame
        One row per setting: ``trial``, ``state``, the parameters by their short names, ``value``
        and whatever else is to be in the table. ``state`` is "complete" or another word.
    metric : str
        What ``value`` is, such as "valid_loss".
    n_trials : int
        How many settings were asked for.
    recipe : str
        Lines of Python that train the best setting; "" if there is none.
    comparison : str
        A command that compares it with the defaults.
    optimism : DataFrame or None
        What `mura_skorch.evaluation.choice_optimism` returns.
    re_estimate : str or None
        Figures of the best setting on studies that did not choose it, as a sentence.
    about : dict of str to str
        What was run on which data.
    note : str or None
        Caveat of the data.
    """

    study: Any
    trials: pd.DataFrame
    metric: str
    n_trials: int
    recipe: str = ""
    comparison: str = ""
    optimism: pd.DataFrame | None = None
    re_estimate: str | None = None
    about: dict[str, str] = field(default_factory=dict)
    note: str | None = None

    @property
    def best(self) -> pd.Series | None:
        """The row of the best complete trial, the first of equal ones, or None."""
        complete = self.trials[self.trials["state"] == COMPLETE]
        if complete.empty:
            return None
        is_loss = self.study.direction.name == "MINIMIZE"
        values = complete["value"].to_numpy(dtype=float)
        return complete.iloc[int(values.argmin() if is_loss else values.argmax())]


def write_sweep(
    folder: str | os.PathLike[str], result: SweepResult, *, title: str = "Sweep"
) -> Path:
    """Write ``trials.csv``, ``history.png``, ``importance.png`` and ``sweep.html``.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    result : SweepResult
        What to show.
    title : str, default="Sweep"
        Heading of the page.

    Returns
    -------
    Path
        Path of the page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    noted = {"note": result.note} if result.note else {}
    result.trials.assign(**noted).to_csv(folder / "trials.csv", index=False)
    figures = _figures(result)
    for name in ("history", "importance"):
        if name in figures:
            figures[name].savefig(folder / f"{name}.png", dpi=150)
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier call
    page = render_page(
        "sweep.html.jinja",
        title=title,
        note=result.note,
        result=result,
        table=_texts(result.trials),
        counts=_counts(result.trials),
        optimism=_optimism_texts(result.optimism),
        figures=figures,
    )
    path = folder / "sweep.html"
    path.write_text(page, encoding="utf-8")
    return path


def _figures(result):
    """Return Optuna's figures by name, without those that need more trials."""
    import matplotlib
    from matplotlib import pyplot as plt

    optuna = import_optuna()
    draw = optuna.visualization.matplotlib
    n_complete = int((result.trials["state"] == COMPLETE).sum())
    figures = {}
    with matplotlib.rc_context(), quiet():  # Optuna sets a style for good
        if n_complete:
            figures["history"] = draw.plot_optimization_history(
                result.study, target_name=result.metric
            ).figure
        if n_complete > 1:
            try:
                figures["importance"] = draw.plot_param_importances(
                    result.study,
                    evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                    target_name=result.metric,
                ).figure
            except (RuntimeError, ValueError):  # equal values, or parameters that do not vary
                plt.close()
        for figure in figures.values():
            figure.set_size_inches(WIDTH, HEIGHT)
            figure.set_layout_engine("constrained")
            if result.note:
                figure.suptitle(result.note, fontsize=9, fontweight="bold")
            plt.close(figure)  # it can still be drawn
    return figures


def _texts(trials):
    """Return the table as texts, numbers with four significant digits."""
    columns = {}
    for name in trials:
        if name == "error" and not trials[name].any():
            continue
        columns[str(name).replace("_", " ")] = [_text(value) for value in trials[name]]
    return pd.DataFrame(columns)


def _text(value):
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return "\N{EN DASH}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _counts(trials):
    """Return how many trials are in which state, as a text."""
    counts = trials["state"].value_counts(sort=False)
    return ", ".join(f"{number} {state}" for state, number in counts.items())


def _optimism_texts(optimism):
    if optimism is None:
        return None
    rows = optimism.loc[list(FIGURES)]
    return pd.DataFrame(
        {
            "figure": list(FIGURES.values()),
            "of the best, on the studies that chose it": map(_text, rows["best"]),
            "expected on other studies": map(_text, rows["corrected"]),
            "optimism": map(_text, rows["optimism"]),
        }
    )
