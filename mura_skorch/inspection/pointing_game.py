"""The pointing game: how often maps peak inside the boxes of lesions, compared with chance."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mura_skorch.metrics.intervals import N_RESAMPLES, bootstrap_counts, percentiles
from mura_skorch.utils.identity import patient_codes

__all__ = ["LEGEND", "pointing_scores"]

# Explanations of the columns, to print with a table of scores.
LEGEND = {
    "hits": "share of maps that peak inside the lesion's box, with its 95 % interval",
    "anywhere": "share that random points hit",
    "centre": "share that the centre of the view hits",
    "other_box": "share that the same peaks hit in boxes of other patients of the study type",
    "best": "share of boxes that contain the centre of a cell: the most such maps can hit",
    "gain": "hits minus other_box: more than knowing where lesions usually are",
}

BOX = ["x0", "y0", "x1", "y1"]


def pointing_scores(
    peaks: pd.DataFrame, cells: Sequence[int], *, random_state: int | np.random.Generator | None = 0
) -> pd.DataFrame:
    """Return how often maps peak inside the box of their lesion, and how often chance does.

    Parameters
    ----------
    peaks : DataFrame
        One row per view with a lesion: ``study_type``, ``patient``; ``called``, whether the view
        is predicted abnormal; the peak ``x``, ``y`` and the box ``x0``, ``y0``, ``x1``, ``y1`` as
        fractions of the view's width and height, x1 and y1 exclusive.
    cells : sequence of 2 int
        Height and width of the maps at their own resolution.
    random_state : int or numpy Generator, default=0
        Seed of the resamples.

    Returns
    -------
    DataFrame
        Rows: the views of abnormal studies, and those of them predicted abnormal. Columns:

        - ``views`` and ``n``, the rows' name and number of views;
        - ``hits``, ``hits_low``, ``hits_high``, the share of peaks in the box, without tolerance,
          and its 95 % interval over resamples of patients;
        - ``anywhere``, ``centre`` and ``other_box``, the shares reached by uniformly random points,
          by the view's centre, and by the same peaks in boxes of other patients of the study type,
          which is the value of knowing where lesions usually are;
        - ``best``, the share of boxes that contain the centre of a cell, the maximum for maps of
          this resolution;
        - ``gain``, ``gain_low``, ``gain_high``, hits minus other_box, paired.

        NaN means undefined.

    References
    ----------
    .. [1] Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, section 4.1.

    Examples
    --------
    >>> box = {"x0": [0.6, 0.1], "y0": [0.6, 0.1], "x1": [0.9, 0.4], "y1": [0.9, 0.4]}
    >>> peaks = pd.DataFrame(
    ...     {"study_type": "XR_HAND", "patient": ["a", "b"], "called": True}
    ...     | {"x": [0.75, 0.75], "y": [0.75, 0.75]} | box
    ... )
    >>> pointing_scores(peaks, (2, 2))[["views", "hits", "anywhere", "centre", "best"]].round(2)
                 views  hits  anywhere  centre  best
    0         abnormal   0.5      0.09     0.0   1.0
    1  called abnormal   0.5      0.09     0.0   1.0
    """
    rows, columns = np.indices(cells).reshape(2, -1)
    grid = pd.DataFrame({"x": (columns + 0.5) / cells[1], "y": (rows + 0.5) / cells[0]})
    inside = _inside(peaks, peaks)
    found = pd.DataFrame(
        {
            "hits": np.diag(inside),
            "anywhere": (peaks["x1"] - peaks["x0"]) * (peaks["y1"] - peaks["y0"]),
            "centre": _inside(pd.DataFrame({"x": [0.5], "y": [0.5]}), peaks)[0],
            "other_box": _mean_where(inside, _other_patients(peaks)),
            "best": _inside(grid, peaks).any(axis=0),
        },
        index=peaks.index,
        dtype=float,
    )
    found["gain"] = found["hits"] - found["other_box"]
    table: list[dict[str, object]] = []
    for name, part in (("abnormal", peaks.index), ("called abnormal", peaks.index[peaks.called])):
        row: dict[str, object] = {"views": name, "n": len(part)}
        for column, values in found.loc[part].items():
            row[str(column)] = values.mean()
            if column in ("hits", "gain"):
                ends = _interval(values, peaks.loc[part, "patient"], random_state)
                row[f"{column}_low"], row[f"{column}_high"] = ends
        table.append(row)
    return pd.DataFrame(table)


def _inside(points, boxes):
    """Return whether each point is in each box, bool of shape (n_points, n_boxes)."""
    x, y = (points[axis].to_numpy()[:, None] for axis in ("x", "y"))
    x0, y0, x1, y1 = boxes[BOX].to_numpy().T
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


def _other_patients(peaks):
    """Return whether pairs of views have one study type and two patients, a square bool array."""
    patient, study_type = patient_codes(peaks["patient"]), peaks["study_type"].to_numpy()
    return (patient != patient[:, None]) & (study_type == study_type[:, None])


def _mean_where(values, where):
    """Return the mean of each row over the entries in `where`, NaN if there are none."""
    n = where.sum(axis=1)
    return np.divide((values & where).sum(axis=1), n, out=np.full(len(n), np.nan), where=n > 0)


def _interval(values, patients, random_state):
    """Return the 95 % interval of a mean over resamples of patients."""
    totals = values.groupby(patient_codes(patients)).agg(["sum", "count"])
    totals = totals[totals["count"] > 0].to_numpy()  # an undefined value does not count as 0
    drawn = bootstrap_counts(lambda t: t[..., 0] / t[..., 1], totals, N_RESAMPLES, random_state)
    return percentiles(drawn, N_RESAMPLES)
