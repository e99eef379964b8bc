"""Describe what a fit was given, for a record that a saved model carries."""

from typing import Any

from mura_skorch.data.dataset import base_of, studies_of
from mura_skorch.evaluation.characteristics import describe_studies, digest_of
from mura_skorch.studies.columns import is_exploded
from mura_skorch.studies.read_counts import read_counts
from mura_skorch.utils.identity import patient_keys

__all__ = ["describe_fit"]


def describe_fit(X: Any, data: Any) -> dict[str, Any]:
    """Count what a fit was given, left out, trained on and validated on.

    Parameters
    ----------
    X : DataFrame or Dataset
        What `fit` was given, checked.
    data : FitData
        Its parts.

    Returns
    -------
    dict
        What JSON can hold:

        - ``read``: the counts that the table carries from its reader;
        - ``given`` and ``digest``: the number of studies, and what identifies them;
        - ``unreadable_views`` and ``unreadable_studies``: what was left out;
        - ``parts``: by name, what `describe_studies` returns;
        - ``is_exploded``: whether the studies are single views, from `explode_views`;
        - ``is_separate``: whether the validation part is a table of its own;
        - ``n_shared``: patients in both parts, counted.
    """
    parts = {"training": data.train} | ({} if data.valid is None else {"validation": data.valid})
    patients = [set(patient_keys(studies_of(part)["patient"])) for part in parts.values()]
    bad_views = data.unreadable
    lost = [] if bad_views is None else bad_views["study"][bad_views["study_left_out"]]
    given = studies_of(X)
    return {
        "read": read_counts(given),
        "given": len(given),
        "digest": digest_of(given),
        "unreadable_views": 0 if bad_views is None else len(bad_views),
        "unreadable_studies": len(set(lost)),
        "parts": {name: describe_studies(studies_of(part)) for name, part in parts.items()},
        "is_exploded": is_exploded(given),
        "is_separate": data.valid is not None and base_of(data.valid) is not base_of(data.train),
        "n_shared": len(set.intersection(*patients)) if len(patients) > 1 else 0,
    }
