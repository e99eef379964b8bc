"""Read the published tables that the package holds as CSV files next to this module."""

from functools import cache
from importlib import resources

import pandas as pd

__all__ = ["read_published"]


def read_published(name: str) -> pd.DataFrame:
    """Return a copy of a published table.

    Parameters
    ----------
    name : str
        File name without ``.csv``: "counts", "views_per_study", "table_2" or "hidden_test_set".
    """
    return _read(name).copy()


@cache
def _read(name: str) -> pd.DataFrame:
    with resources.files(__package__).joinpath(f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file)
