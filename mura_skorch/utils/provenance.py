"""Record where a result comes from: digests of data, package versions, git commit."""

import hashlib
import logging
import os
import platform
import shlex
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mura_skorch._version import __version__
from mura_skorch.utils.identity import count_patients, patient_keys
from mura_skorch.utils.remote import file_sizes

__all__ = [
    "conditions",
    "cpu_facts",
    "data_digest",
    "git_commit",
    "machine",
    "package_versions",
    "processor_name",
    "provenance",
    "type_digests",
]

_log = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "skorch", "scikit-learn")
INSTRUCTIONS = ("avx512_f", "avx512_bf16", "amx_bf16")
PATIENCE = 10  # seconds to wait for each git command
IDENTITY = ["study", "study_type", "patient", "label", "n_views"]


def data_digest(table):
    """Return a digest of the studies of a prediction table.

    Parameters
    ----------
    table : DataFrame
        As returned by `mura_skorch.evaluation.prediction_table`. The columns ``study``,
        ``study_type``, ``patient``, ``label`` and ``n_views`` are digested; pixels are not.

    Returns
    -------
    str
        16 hexadecimal digits. The order of rows does not matter, nor does a round trip through a
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
    """Return a digest of the files of each study type, to recognise the same studies later.

    Parameters
    ----------
    studies : DataFrame
        A study table. The names and sizes of the files in ``views`` are digested.

    Returns
    -------
    dict of str to str
        16 hexadecimal digits per study type. The order of studies and views does not matter, nor
        does their folder. No path or patient can be recovered from a digest.
    """
    sizes = iter(file_sizes(chain.from_iterable(studies["views"])))
    files = [
        repr(sorted((os.path.basename(str(view)), next(sizes)) for view in views))
        for views in studies["views"]
    ]
    by_type = pd.Series(files, dtype=object).groupby(studies["study_type"].astype(str).to_numpy())
    return {
        name: hashlib.sha256("\n".join(sorted(own)).encode()).hexdigest()[:16]
        for name, own in by_type
    }


def package_versions():
    """Return the versions of this package and of the packages that its results depend on."""
    return {"mura_skorch": __version__} | {name: version(name) for name in PACKAGES}


def git_commit(folder="."):
    """Return the commit of a folder's git repository, and whether files differ from it.

    Parameters
    ----------
    folder : path, default="."
        A folder in the repository.

    Returns
    -------
    str or None
        The commit, followed by " with changes" if files differ from it, or by ", changes unknown"
        if git did not answer within seconds. None without a repository or without git.
    """
    git = ["git", "-C", str(folder)]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE}
    commit, status = None, -1  # no answer
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, **options)
        commit = head.stdout.strip()
        changes = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False, **options)
        status = changes.returncode
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # A large repository or a slow disk must not end a fit.
        _log.debug("git did not answer: %s", error)
    if commit is None:
        return None
    return commit + {0: "", 1: " with changes"}.get(status, ", changes unknown")


def provenance(table):
    """Return what a reader needs to reproduce a result.

    Parameters
    ----------
    table : DataFrame
        A prediction table.

    Returns
    -------
    dict of str to str
        Numbers of studies and patients, digest of the data, date, command, versions, machine, and
        the commit if the current folder is in a git repository.
    """
    facts = {"Studies": f"{len(table):,}"}
    if "patient" in table:
        facts["Patients"] = f"{count_patients(table['patient']):,}"
    facts |= {
        "Digest of studies and labels": data_digest(table),
        "Date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Command": _command(),
        "Versions": ", ".join(f"{name} {found}" for name, found in package_versions().items()),
        "Machine": machine(),
    }
    commit = git_commit()
    if commit:
        facts["Commit"] = commit
    return facts


def _command():
    """Return the command line with folders removed, which may be private."""
    if sys.argv[0] in ("", "-c"):
        return "interactive"
    return shlex.join(Path(word).name if os.sep in word else word for word in sys.argv)


def machine() -> str:
    """Return processor, GPU, cores, memory, Python and system in one line."""
    parts = [processor_name(), f"{os.cpu_count()} cores"]
    with suppress(AttributeError, OSError, ValueError):  # Windows has no sysconf
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        parts.append(f"{memory / 2**30:.0f} GiB of memory")
    return (
        f"{', '.join(parts)}; Python {platform.python_version()}, {platform.system()} "
        f"{platform.machine()}"
    )


def cpu_facts() -> dict[str, str]:
    """Return what Linux knows of the first core, by its own names.

    Returns
    -------
    dict of str to str
        Elsewhere, and on ARM, ``model name`` is what Python knows.
    """
    facts: dict[str, str] = {}
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        facts = {name.strip(): value.strip() for name, _, value in pairs}
    return {"model name": platform.processor() or platform.machine()} | facts


def conditions(details: str) -> str:
    """Return what measured figures depend on, in one sentence for a record.

    Parameters
    ----------
    details : str
        What was measured, without a full stop.
    """
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return (
        f"{processor_name()}; {os.cpu_count()} cores, {torch.get_num_threads()} threads{load}; "
        f"{details}; Python {platform.python_version()}, {versions}; commit "
        f"{git_commit() or 'unknown'}."
    )


def processor_name() -> str:
    """Return the name of the processor, of the GPU if there is one, and what speeds up bfloat16."""
    names = [cpu_facts()["model name"]]
    if torch.cuda.is_available():
        names.append(torch.cuda.get_device_name())
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return ", ".join([*names, *(key for key in INSTRUCTIONS if has.get(key))])
