"""Shortcuts: how well the label is predicted without looking at a bone."""

import warnings

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from mura_skorch.evaluation.predictions import check_columns
from mura_skorch.metrics.checks import check_binary, check_scores
from mura_skorch.metrics.intervals import RankedScores, draw_groups, percentiles
from mura_skorch.metrics.tables import OVERALL, type_parts
from mura_skorch.utils.identity import patient_codes
from mura_skorch.utils.text import number_text

__all__ = ["SHORTCUTS", "is_constant", "shortcut_alert", "shortcut_scores"]

# Shortcut -> the columns of a prediction table that it uses.
SHORTCUTS = {
    "n_views": ["n_views"],
    "study_type": ["study_type"],
    "mean_intensity": ["mean_intensity"],
    "size": ["height", "width"],
}
WORDS = {
    "n_views": "the number of views",
    "study_type": "the study type",
    "mean_intensity": "the mean intensity",
    "size": "the size of the views",
}
FIGURES = [
    "auroc",
    "low",
    "high",
    "model_auroc",
    "difference",
    "difference_low",
    "difference_high",
]
DECIMALS = 6  # of log-odds: smaller differences are within the tolerance of the solver


def shortcut_scores(
    predictions: pd.DataFrame,
    *,
    n_splits: int = 5,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """Return the AUROC of shortcuts alone, and by how much the model exceeds it.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with `label` and `score`, and any of `n_views`, `study_type`,
        `mean_intensity`, and `height` with `width`. Folds and resamples never split a `patient`;
        without that column each study is its own patient. A row without a label, a score or the
        value of a shortcut is left out for that shortcut.
    n_splits : int, default=5
        Folds of the cross-validation; fewer if fewer patients have one of the labels.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Seed of folds and resamples.

    Returns
    -------
    DataFrame
        For each study type (sorted, then "overall") one row per shortcut with its columns present;
        the study type is a shortcut overall only. Columns: `study_type`, `shortcut`, `n` (studies);
        `auroc` with `low` and `high`; `model_auroc` on the same studies; `difference` (model minus
        shortcut, or minus .5 if that is larger) with `difference_low` and `difference_high`;
        `includes_zero` (nullable boolean); `undefined`, the reason for NaN, else "".

    Raises
    ------
    ValueError
        `label` or `score` is missing or invalid, a study type is missing or called "overall", or
        `n_splits` is less than 2.

    Warns
    -----
    UserWarning
        Once, if the interval of a difference includes 0 or lies below it: see `shortcut_alert`.

    Notes
    -----
    Each shortcut is a logistic regression on the one-hot study type, or on the standardised numbers
    with their squares and product, so that the dependence need not be monotonic. Cross-validation
    is by patient. The regression of a study type is fitted on the studies of that type: a shortcut
    that works in one type and in reverse in another cancels out over all types, but a network that
    recognises the type can use it. Intervals are 95 % percentiles of a bootstrap over patients,
    with the same resamples for model and shortcut; the regressions are not refitted.

    The AUROC is the mean over folds, weighted by their pairs of an abnormal and a normal study:
    only studies scored by the same regression are ranked against each other. Pooling all folds
    gives an AUROC that is too low [1]_ [2]_ [3]_: a fold with many abnormal studies leaves few for
    training, so its regression gives all its studies low log-odds. Resamples are averaged in the
    same way.

    A shortcut unrelated to the label has an AUROC on either side of .5 by chance. In
    cross-validation it tends to fall below: what is frequent in the training part is rare in the
    part left out. Below .5 it is as useless as at .5. `difference` is therefore the model's AUROC
    minus the larger of the shortcut's and .5, in each resample too.

    Intervals are not adjusted for their number. A table of seven study types has 25, of which one
    may miss the true value by chance; read the rows over all study types first.

    :func:`mura_skorch.exploration.explore_studies` shows another AUROC for the number of views: it
    ranks studies by the number itself, without a regression.

    References
    ----------
    .. [1] Parker, Guenter and Bedo, "Stratification bias in low signal microarray studies", BMC
       Bioinformatics 8, 2007.
    .. [2] Forman and Scholz, "Apples-to-apples in cross-validation studies", ACM SIGKDD
       Explorations 12, 2010.
    .. [3] Airola et al., "An experimental comparison of cross-validation techniques for estimating
       the area under the ROC curve", Computational Statistics & Data Analysis 55, 2011.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.shortcuts import shortcut_scores
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "patient": range(40),
    ...         "label": [0, 1] * 20,
    ...         "n_views": [2] * 40,
    ...         "score": [0.1, 0.8] * 20,
    ...     }
    ... )
    >>> shortcut_scores(predictions)[["shortcut", "n", "auroc", "difference"]]
      shortcut   n  auroc  difference
    0  n_views  40    0.5         0.5
    """
    check_columns(predictions, ["label", "score"])
    if n_splits < 2:
        raise ValueError(f"expected at least 2 folds, got n_splits={n_splits!r}")
    # Sorted, so that the order of the rows does not change the folds.
    keys = [name for name in ("study", "patient", "score") if name in predictions]
    table = predictions.sort_values(keys, kind="stable") if len(predictions) else predictions
    rows = []
    for study_type, part in type_parts(table.get("study_type"), len(table)).items():
        for name, needed in SHORTCUTS.items():
            if not set(needed) <= set(table) or (study_type != OVERALL and name == "study_type"):
                continue
            used = table[part].dropna(subset=["label", "score", *needed])
            features = used[needed].astype(str if name == "study_type" else float)
            rows.append(
                {"study_type": study_type, "shortcut": name, "n": len(used)}
                | _row(used, features, n_splits, n_resamples, random_state)
            )
    names = ["study_type", "shortcut", "n", *FIGURES, "includes_zero", "undefined"]
    scores = pd.DataFrame(rows, columns=names)
    low, high = scores["difference_low"].to_numpy(float), scores["difference_high"].to_numpy(float)
    scores["includes_zero"] = pd.array((low <= 0) & (high >= 0), dtype="boolean")
    scores.loc[np.isnan(low), "includes_zero"] = pd.NA
    if alert := shortcut_alert(scores):
        warnings.warn(alert, UserWarning, stacklevel=2)
    return scores


def shortcut_alert(scores: pd.DataFrame) -> str | None:
    """Describe shortcuts that predict the label about as well as the model, the worst first.

    Parameters
    ----------
    scores : DataFrame
        What :func:`shortcut_scores` returns.

    Returns
    -------
    str or None
        Two or three sentences. None if the model exceeds every shortcut: the intervals of all
        differences lie above 0. Constants, such as the study type of a table of one type, are
        ignored.
    """
    rows = scores[~is_constant(scores) & (scores["difference_low"] <= 0)]
    if rows.empty:
        return None
    overall = rows["study_type"] == OVERALL
    candidates = rows[overall] if overall.any() else rows
    worst = candidates.sort_values("difference", kind="stable").iloc[0]
    verdict = "is not clearly better than"
    if worst["difference_high"] < 0:
        verdict = "predicts worse than"
    where = "" if worst["study_type"] == OVERALL else f" in {worst['study_type']}"
    shortcut_auroc = number_text(worst["auroc"])
    if worst["auroc"] < 0.5:
        shortcut_auroc += ", counted as .5,"
    sentences = [
        f"The model {verdict} {WORDS[worst['shortcut']]} alone{where}: AUROC "
        f"{number_text(worst['model_auroc'])} against {shortcut_auroc} on {worst['n']:,} studies."
    ]
    types = [name for name in scores["study_type"].unique() if name != OVERALL]
    if others := _other_shortcuts(rows.drop(index=worst.name), types):
        named = " or ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
        sentences.append(f"Nor is it clearly better than {named}.")
    sentences.append(
        "It may not look at the bones: see the table of shortcuts, and train or test on more "
        "studies."
    )
    return " ".join(sentences)


def is_constant(scores: pd.DataFrame) -> pd.Series:
    """Return which shortcuts have one value for all studies: AUROC .5 in every resample.

    Parameters
    ----------
    scores : DataFrame
        What :func:`shortcut_scores` returns.

    Returns
    -------
    Series of bool
    """
    return (scores["low"] == 0.5) & (scores["high"] == 0.5)


def _other_shortcuts(rows, types):
    """Name the shortcuts of rows, with their study types if they are not overall."""
    named = []
    for shortcut, own in rows.groupby("shortcut", sort=False):
        in_types = [name for name in types if name in set(own["study_type"])]
        if (own["study_type"] == OVERALL).any():
            named.append(WORDS[shortcut])
        elif len(types) > 1:  # the row of a single type repeats the overall row
            where = "each study type" if in_types == types else ", ".join(map(str, in_types))
            named.append(f"{WORDS[shortcut]} (in {where})")
    return named


def _row(used, features, n_splits, n_resamples, random_state):
    """Score one shortcut."""
    y_true = check_binary(used["label"], "label")
    y_score = check_scores(used["score"], "score")
    codes = np.arange(len(used))
    if "patient" in used:
        codes = patient_codes(used["patient"])
    empty = dict.fromkeys(FIGURES, np.nan)
    if len(np.unique(y_true)) < 2:
        why = "only one class" if len(used) else "no studies"
        return empty | {"undefined": f"auroc: {why}"}
    model_auroc = float(roc_auc_score(y_true, y_score))
    n_folds = min(n_splits, *(len(np.unique(codes[y_true == label])) for label in (0, 1)))
    if n_folds < 2:
        why = "auroc: fewer than two patients with either label, no cross-validation"
        return empty | {"model_auroc": model_auroc, "undefined": why}
    fold, log_odds = _cross_validate(features, y_true, codes, n_folds, random_state)
    folds = FoldedScores(y_true, log_odds, codes, fold)
    n_groups = int(np.max(codes)) + 1
    auroc = float(folds.auroc(np.ones((1, n_groups)))[0])
    if np.isnan(auroc):
        why = "auroc: no fold of the cross-validation has both classes"
        return empty | {"model_auroc": model_auroc, "undefined": why}
    ranked = RankedScores(y_true, y_score, codes)
    drawn = [
        (ranked.areas(weights)[0], folds.auroc(weights))
        for weights in draw_groups(n_groups, n_resamples, random_state, n_rows=len(used))
    ]
    model, alone = (np.concatenate(chunks) for chunks in zip(*drawn, strict=True))
    low, high = percentiles(alone, n_resamples)
    ends = percentiles(model - np.maximum(alone, 0.5), n_resamples)
    figures = (auroc, low, high, model_auroc, model_auroc - max(auroc, 0.5), *ends)
    undefined = "intervals: too few resamples have both classes" if np.isnan(low) else ""
    return dict(zip(FIGURES, figures, strict=True)) | {"undefined": undefined}


class FoldedScores:
    """Scores of a cross-validation, ranked within each fold."""

    def __init__(self, y_true, y_score, groups, fold):
        parts = [fold == k for k in np.unique(fold)]
        self.folds = [
            (RankedScores(y_true[part], y_score[part], groups[part]), y_true[part], groups[part])
            for part in parts
            if len(np.unique(y_true[part])) == 2
        ]

    def auroc(self, weights):
        """Return the mean AUROC under weights of shape (n_resamples, n_groups).

        Folds are weighted by their pairs of an abnormal and a normal study; NaN without any pair.
        """
        right = pairs = np.zeros(len(weights))
        for ranked, y_true, groups in self.folds:
            drawn = weights[:, groups]
            n_abnormal = drawn @ y_true
            n_pairs = n_abnormal * (drawn.sum(axis=1) - n_abnormal)
            right = right + n_pairs * np.nan_to_num(ranked.areas(weights)[0])
            pairs = pairs + n_pairs
        return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _cross_validate(features, y_true, codes, n_folds, random_state):
    """Return each study's fold, and its log-odds from the regression on the other folds."""
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in features.dtypes):
        steps = [StandardScaler(), PolynomialFeatures(include_bias=False), StandardScaler()]
    else:
        steps = [OneHotEncoder(handle_unknown="ignore")]
    pipeline = make_pipeline(*steps, LogisticRegression())
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=random_state)
    fold, log_odds = np.zeros(len(y_true), dtype=int), np.zeros(len(y_true))
    for k, (train, test) in enumerate(folds.split(features, y_true, codes)):
        fold[test] = k
        if len(np.unique(y_true[train])) < 2:
            continue  # a regression needs both classes
        pipeline.fit(features.iloc[train], y_true[train])
        log_odds[test] = np.round(pipeline.decision_function(features.iloc[test]), DECIMALS)
    return fold, log_odds
