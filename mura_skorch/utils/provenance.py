"""Provenance: a table and the place of a run go in; digest, versions and commit come out."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch._version import __version__
from mura_skorch.utils.identity import count_patients, patient_keys

__all__ = ["data_digest", "git_commit", "package_versions", "provenance", "type_digests"]

PACKAGES = ("torch", "torchvision", "skorch", "scikit-learn")
PATIENCE = 10  # seconds for one answer of git
IDENTITY = ["study", "study_type", "patient", "label", "n_views"]


def data_digest(table):
    """Return a digest of the studies that a prediction table stands for.

    Parameters
    ----------
    table : DataFrame
        What `mura_skorch.evaluation.prediction_table` returns; of it ``study``, ``study_type``,
        ``patient``, ``label`` and ``n_views`` are read, of every row. Pixels are not.

    Returns
    -------
    str
        16 hexadecimal digits: the same for rows in another order, and after a round trip through a
        CSV file.

    Examples
    --------
    >>> data_digest(pd.DataFrame({"study": ["a", "b"], "label": [1, 0]}))
    '3b2d5e4254ea0f69'
    """
    columns = [name for name in IDENTITY if name in table]
    rows = table[columns].reset_index(drop=True)
    if "label" in rows:
        rows["label"] = pd.to_numeric(rows["label"]).astype("Int8")
    if "patient" in rows:
        rows["patient"] = patient_keys(rows["patient"], missing="")
    rows = rows.astype("string").fillna("").sort_values(columns)
    text = rows.to_csv(index=False, lineterminator="\n")
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def type_digests(studies):
    """Return a digest of the files of each study type, by which the same studies are known again.

    Parameters
    ----------
    studies : DataFrame
        A study table; ``study_type`` and ``views`` are read, and the sizes of the files.

    Returns
    -------
    dict of str to str
        By study type 16 hexadecimal digits: the same in any order of studies and views, and in any
        folder. No path or patient can be read from them.
    """
    files = [
        repr(sorted((os.path.basename(str(view)), _size(view)) for view in views))
        for views in studies["views"]
    ]
    by_type = pd.Series(files, dtype=object).groupby(studies["study_type"].astype(str).to_numpy())
    return {
        name: hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()[:16]
        for name, own in by_type
    }


def _size(view):
    try:
        return os.path.getsize(view)
    except (OSError, TypeError, ValueError):  # of a dataset that does not read files
        return None


def package_versions():
    """Return the versions of this package and of those that decide its numbers, by name."""
    return {"mura_skorch": __version__} | {name: version(name) for name in PACKAGES}


def git_commit(folder="."):
    """Return the commit of a folder's repository, and whether files differ from it, or None.

    Git that does not answer within seconds ends nothing: the commit is then without the word on
    changes, or None.
    """
    git = ["git", "-C", str(folder)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE}
    try:
        found = subprocess.run([*git, "rev-parse", "HEAD"], check=True, **options)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    commit = found.stdout.strip()
    try:
        changes = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False, **options)
    except (OSError, ValueError, subprocess.SubprocessError):  # a large repository, a slow disk
        return f"{commit}, changes unknown"
    words = {0: "", 1: " with changes"}
    return commit + words.get(changes.returncode, ", changes unknown")


def provenance(table):
    """Return what a reader needs to find a result again.

    Parameters
    ----------
    table : DataFrame
        A prediction table.

    Returns
    -------
    dict of str to str
        Studies and patients, the data's digest, date, command, versions, machine, and the commit
        where the current folder is in a repository.
    """
    facts = {"Studies": f"{len(table):,}"}
    if "patient" in table:
        facts["Patients"] = f"{count_patients(table['patient']):,}"
    facts |= {
        "Digest of studies and labels": data_digest(table),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": _command(),
        "Versions": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "Machine": f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    }
    commit = git_commit()
    return facts | ({"Commit": commit} if commit else {})


def _command():
    """Return the command line without folders, which are nobody's business."""
    if sys.argv[0] in ("", "-c"):
        return "interactive"
    return shlex.join(Path(word).name if os.sep in word else word for word in sys.argv)
