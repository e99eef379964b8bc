"""How many studies an interval of a wanted width needs."""

import math

__all__ = ["studies_needed"]


def studies_needed(n: int, low: float, high: float, *, half_width: float = 0.05) -> float:
    """Return the number of studies at which an interval reaches a half-width.

    Parameters
    ----------
    n : int
        Studies that gave the interval.
    low, high : float
        Its ends.
    half_width : float, default=0.05
        Half of the wanted width.

    Returns
    -------
    float
        A whole number; NaN if the interval is undefined or has no width.

    Raises
    ------
    ValueError
        `half_width` is not above 0.

    Notes
    -----
    The width of an interval falls with the square root of the number of studies, so that
    n (w / h)^2 studies take the half-width w to h. That assumes other studies like these: the same
    kappa, share of abnormal studies and number of studies per patient. For the analytic interval of
    :func:`mura_skorch.metrics.kappa_interval` it is the textbook sample size [1]_.

    References
    ----------
    .. [1] Donner and Eliasziw, "A goodness-of-fit approach to inference procedures for the kappa
       statistic: confidence interval construction, significance-testing and sample size
       estimation", Statistics in Medicine 11, 1992.

    Examples
    --------
    >>> from mura_skorch.metrics import studies_needed
    >>> studies_needed(200, 0.6, 0.8)  # half as wide: four times as many
    800.0
    """
    if not half_width > 0:
        raise ValueError(f"expected half_width above 0, got {half_width!r}; 0.05 is plus or minus")
    reached = (high - low) / 2
    if not reached > 0:  # or NaN
        return math.nan
    needed = n * (reached / half_width) ** 2
    return float(math.ceil(round(needed, 6)))  # no study more for a rounding error
