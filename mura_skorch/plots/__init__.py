"""Displays, as in scikit-learn: numbers in, matplotlib figures out.

Matplotlib is imported by the methods that draw, so that importing this package costs nothing.
"""

from mura_skorch.plots.kappa import KappaDisplay

__all__ = ["KappaDisplay"]
