"""Training curves: losses and kappa by epoch."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import pandas as pd

from mura_skorch.plots.style import GREY, NOTE, SERIES, plain_texts
from mura_skorch.utils.members import members_of

__all__ = ["TrainingDisplay", "epoch_table"]


class TrainingDisplay:
    """Losses and kappa by epoch, one colour per fit, with a ring around the selected epoch.

    Parameters
    ----------
    epochs : DataFrame
        One row per fit and epoch: ``name`` of the fit, ``epoch`` from 1, ``train_loss`` and, with
        validation data, ``valid_loss`` and ``valid_kappa``. Fits on single views have
        ``valid_view_kappa``, which is drawn instead and labelled. The selected epoch is the last
        whose weights were kept (``event_cp``), or else the last with ``valid_loss_best``, or the
        one with the lowest ``valid_loss``.
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    axes_ : ndarray of shape (2,) of matplotlib Axes
        Losses and kappas.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.plots import TrainingDisplay
    >>> epochs = pd.DataFrame({"name": "XR_HAND", "epoch": [1, 2], "train_loss": [0.4, 0.3]})
    >>> TrainingDisplay(epochs).plot().axes_[0].get_ylabel()
    'loss'
    """

    def __init__(self, epochs: pd.DataFrame, note: str | None = None) -> None:
        self.epochs = epochs
        self.note = note

    @classmethod
    def from_histories(
        cls, histories: Mapping[str, Iterable[Mapping[str, Any]]], *, note: str | None = None
    ) -> Self:
        """Draw the epochs of several fits.

        Parameters
        ----------
        histories : dict of str to list of dict
            Epochs of each fit by its name: ``{name: clf.history}``.
        note : str or None, default=None
            As for the class.

        Returns
        -------
        TrainingDisplay
            The display, drawn.
        """
        epochs = epoch_table(histories)
        if epochs is None:
            raise ValueError(
                "expected the epochs of at least one fit, got none; fit the classifier first"
            )
        return cls(epochs, note=note).plot()

    @classmethod
    def from_estimator(cls, estimator: Any) -> Self:
        """Draw the epochs of a fitted classifier, or of each member of an ensemble.

        Parameters
        ----------
        estimator : MuraClassifier or MuraEnsemble
            Fitted or loaded.

        Returns
        -------
        TrainingDisplay
            The display, drawn, with the caveat of the training data as its note.

        Raises
        ------
        ValueError
            No epoch was run.

        Examples
        --------
        >>> TrainingDisplay.from_estimator(clf).figure_  # doctest: +SKIP
        """
        members = members_of(estimator)
        names = ["fit"] if len(members) == 1 else [f"model {i + 1}" for i in range(len(members))]
        histories = {name: net.history for name, net in zip(names, members, strict=True)}
        return cls.from_histories(histories, note=estimator.note_)

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure of 10 by 3.6 inches.

        Returns
        -------
        TrainingDisplay
            The display itself, with `axes_` and `figure_`.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        self.figure_ = Figure(figsize=(10, 3.6), layout="constrained")
        self.axes_ = self.figure_.subplots(1, 2)
        fits = list(self.epochs.groupby("name", sort=False))
        kappa, axis = "valid_kappa", "Cohen's kappa, validation"
        if "valid_view_kappa" in self.epochs:
            kappa, axis = "valid_view_kappa", f"{axis} (view level)"
        for i, (name, rows) in enumerate(fits):
            # More fits than colours differ by their markers.
            marker = "os^Dv"[i // len(SERIES) % 5]
            style: dict[str, Any] = {"color": SERIES[i % len(SERIES)], "marker": marker}
            style |= {"markersize": 3.5, "linewidth": 1.5}
            self.axes_[0].plot(rows["epoch"], rows["train_loss"], **style, linestyle=":")
            for ax, column in zip(self.axes_, ("valid_loss", kappa), strict=True):
                if column in rows:
                    ax.plot(rows["epoch"], rows[column], **style, label=name)
                    best = rows.loc[_selected(rows)]
                    ring: dict[str, Any] = {"markerfacecolor": "none", "markersize": 10}
                    ring |= {"marker": "o", "markeredgecolor": style["color"], "linestyle": "none"}
                    ax.plot(best["epoch"], best[column], **ring)
        for ax, label in zip(self.axes_, ("loss", axis), strict=True):
            ax.set(xlabel="epoch", ylabel=label)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.spines[["top", "right"]].set_visible(False)
        kinds: list[dict[str, Any]] = [
            {"linestyle": ":", "label": "training"},
            {"label": "validation"},
        ]
        if "valid_loss" in self.epochs:
            ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none"}
            kinds.append({**ring, "linestyle": "none", "label": "selected epoch"})
        for kind in kinds:
            self.axes_[0].plot([], [], color=GREY, **kind)
        handles = self.axes_[0].get_legend_handles_labels()
        self.axes_[0].legend(
            *(part[-len(kinds) :] for part in handles), frameon=False, fontsize=8, loc="best"
        )
        if len(fits) > 1:
            self.figure_.legend(
                *self.axes_[1].get_legend_handles_labels(),
                loc="outside right center",
                frameon=False,
                fontsize=8,
            )
        if self.note:
            self.figure_.suptitle(self.note, x=0.01, ha="left", **NOTE)
        return self


def epoch_table(histories: Mapping[str, Iterable[Mapping[str, Any]]]) -> pd.DataFrame | None:
    """Return one table with the epochs of all fits, without their batches; None without any."""
    rows = [
        {"name": name, **{key: value for key, value in row.items() if key != "batches"}}
        for name, history in histories.items()
        for row in history
    ]
    return pd.DataFrame(rows) if rows else None


def _selected(rows):
    """Return the label of the selected epoch in a list; empty without validation losses."""
    if "valid_loss" not in rows or rows["valid_loss"].isna().all():
        return []
    for flag in ("event_cp", "valid_loss_best"):
        best = rows.index[rows[flag].eq(True)] if flag in rows else []
        if len(best):
            return [best[-1]]
    return [rows["valid_loss"].idxmin()]
