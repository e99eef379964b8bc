"""Describe a run in Markdown: the sections with scores that MLflow shows first."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mura_skorch.evaluation.formatting import score_texts
from mura_skorch.metrics import OVERALL
from mura_skorch.utils.text import number_text, printable

__all__ = ["DESCRIPTION", "scores_section", "validation_section", "with_section"]

DESCRIPTION = "mlflow.note.content"  # MLflow's tag of a run's description
TEST, VALIDATION = "### Test", "### Validation"
LONGEST = 7500  # characters; MLflow takes 8000


def scores_section(scores: pd.DataFrame, report: str | None = None) -> str:
    """Return the section with the final scores and the location of the report.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` returns.
    report : str, optional
        Path of the report among the run's artifacts.
    """
    texts = score_texts(scores)
    # MLflow folds long descriptions: the first line must say the most.
    title = ", ".join(f"{name} {column[-1]}" for name, column in list(texts.items())[1:4])
    where = [f"Report: `{report}`, under Artifacts."] if report else []
    return "\n\n".join([f"{TEST}: {title}", *where, _table(texts)])


def validation_section(history: Sequence[Mapping[str, Any]], studies: pd.DataFrame) -> str:
    """Return the section with the scores of the best epoch, by study type.

    Parameters
    ----------
    history : sequence of dict
        Epochs of a fit; ``event_cp`` marks the best.
    studies : DataFrame
        The validation part; ``study_type`` is read.
    """
    best = [row for row in history if row.get("event_cp")][-1]
    kind, unit = ("view_", "views") if "valid_view_kappa" in best else ("", "studies")
    name = f"valid_{kind}kappa"
    types = studies["study_type"].astype(str).tolist()
    counts = {name: types.count(name) for name in sorted(set(types))}
    rows = {}
    if len(counts) > 1:
        for key, n in counts.items():
            rows[key] = n, best.get(f"{name}/{key.replace('/', '_')}", float("nan"))
    rows[OVERALL] = len(studies), best.get(name, float("nan"))
    table = {
        "study type": list(rows),
        unit: [str(n) for n, _ in rows.values()],
        "kappa": [number_text(kappa) for _, kappa in rows.values()],
    }
    figures = {"loss": "valid_loss", "accuracy": f"valid_{kind}acc"}
    text = ", ".join(f"{word} {number_text(best[k])}" for word, k in figures.items() if k in best)
    title = f"{VALIDATION}, best epoch {best['epoch']} of {len(history)}"
    return "\n\n".join([title, _table(table), f"{text}. These {unit} chose the epoch."])


def with_section(description: str | None, section: str) -> str:
    r"""Add a section to a description, or replace it; test comes first.

    Examples
    --------
    >>> with_section("a note", "### Validation, best epoch 1 of 2")
    'a note\n\n### Validation, best epoch 1 of 2'
    >>> with_section("a note\n\n### Validation", "### Test")
    'a note\n\n### Test\n\n### Validation'
    """
    parts = re.split(r"(?m)^(?=### )", description or "")
    note, earlier = parts[0].strip(), [part.strip() for part in parts[1:]]
    kind = TEST if section.startswith(TEST) else VALIDATION
    sections = [section, *(part for part in earlier if not part.startswith(kind))]
    sections.sort(key=lambda part: not part.startswith(TEST))
    if note:
        sections.insert(0, note)
    return "\n\n".join(sections)[:LONGEST]


def _table(columns):
    """Format columns of texts as a Markdown table."""
    lines = [list(columns), ["---"] + ["--:"] * (len(columns) - 1)]
    lines += [list(row) for row in zip(*columns.values(), strict=True)]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text):
    """Escape a table cell."""
    return printable(text).replace("|", r"\|")
