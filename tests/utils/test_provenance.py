import os
import re
import subprocess

import pandas as pd
import pytest

from mura_skorch.evaluation import prediction_table
from mura_skorch.utils.provenance import (
    data_digest,
    git_commit,
    package_versions,
    processor_name,
    provenance,
)


@pytest.fixture
def table(studies):
    return prediction_table(studies)


def test_digest_survives_a_csv_file(table, tmp_path):
    table.to_csv(tmp_path / "table.csv", index=False)
    assert table["label"].isna().any(), "the unlabelled test split is in the table"
    assert data_digest(pd.read_csv(tmp_path / "table.csv")) == data_digest(table)


@pytest.mark.parametrize("column", ["study", "study_type", "patient", "label", "n_views"])
def test_digest_changes_with_every_column_and_row(table, column):
    changed = table.copy()
    other = {"label": 1 - table["label"].iloc[0], "n_views": 99}.get(column, "other")
    changed.loc[0, column] = other
    assert data_digest(changed) != data_digest(table)
    assert data_digest(table[1:]) != data_digest(table)


def test_digest_ignores_scores(table):
    assert data_digest(table.assign(score=0.5)) == data_digest(table)


def test_commit_is_that_of_the_folder(tmp_path):
    assert git_commit(tmp_path) is None
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(
        ["git", *who, "-C", tmp_path, "commit", "--quiet", "--allow-empty", "-m", "x"], check=True
    )
    assert len(git_commit(tmp_path)) == 40


def test_provenance_counts_studies_and_names_versions(table):
    facts = provenance(table)
    assert facts["Studies"] == str(len(table))
    assert facts["Patients"] == str(table["patient"].nunique())
    assert f"torch {package_versions()['torch']}" in facts["Versions"]
    assert facts["Digest of studies and labels"] == data_digest(table)


@pytest.mark.parametrize(
    ("slow", "said"), [("diff", "abc123, changes unknown"), ("rev-parse", None)]
)
def test_git_that_is_slow_ends_nothing(tmp_path, monkeypatch, slow, said):
    program = tmp_path / "git"
    program.write_text(f'#!/bin/sh\n[ "$3" = {slow} ] && exec sleep 30\necho abc123\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("mura_skorch.utils.provenance.PATIENCE", 0.5)
    assert git_commit(tmp_path) == said


def test_git_that_fails_to_compare_leaves_changes_open(tmp_path, monkeypatch):
    program = tmp_path / "git"
    program.write_text('#!/bin/sh\n[ "$3" = diff ] && exit 128\necho abc123\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert git_commit(tmp_path) == "abc123, changes unknown"


def test_machine_is_named_with_cores_and_memory(table):
    machine = provenance(table)["Machine"]
    assert machine.startswith(f"{processor_name()}, {os.cpu_count()} cores")
    assert hasattr(os, "sysconf") is False or re.search(r"\d GiB of memory", machine)
    assert "Python 3" in machine
