"""Report: a table of predictions goes in, a folder of tables, figures and one page comes out."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch.evaluation.evaluate import evaluate
from mura_skorch.evaluation.formatting import (
    decision_table,
    footnotes,
    probability_table,
    score_texts,
    shortcut_table,
    undefined_table,
)
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.evaluation.published import STUDY_COUNTS, is_mura
from mura_skorch.evaluation.reader_study import wide_kappas
from mura_skorch.plots import KappaDisplay, ReliabilityDisplay, RocDisplay, TrainingDisplay
from mura_skorch.report.case_review import Case
from mura_skorch.report.html import render_page
from mura_skorch.report.model_card import model_card, to_markdown
from mura_skorch.studies.columns import join_notes
from mura_skorch.utils.atomic import whole_folder
from mura_skorch.utils.identity import count_patients
from mura_skorch.utils.provenance import provenance
from mura_skorch.utils.text import number_text

__all__ = ["read_report", "write_report"]


def write_report(
    folder: str | os.PathLike[str],
    predictions: pd.DataFrame,
    *,
    view_predictions: pd.DataFrame | None = None,
    histories: Mapping[str, Any] | None = None,
    about: Mapping[str, str] | None = None,
    cases: Sequence[Case] = (),
    published: bool = False,
    failed: Mapping[str, str] | None = None,
    readers: Sequence[str] = (),
    gold: str | None = None,
    by: Sequence[str] = (),
    alerts: Sequence[str] = (),
    model: Sequence[str] = (),
    notes: Sequence[str] = (),
    title: str = "Evaluation",
) -> pd.DataFrame:
    """Score predictions; write tables, figures, model card and report.html.

    Every figure and table comes from `predictions`, `view_predictions` and `histories`, which are
    written beside them: ``write_report(other, **read_report(folder))`` draws them again without
    the model. Only the case review needs it.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    predictions : DataFrame
        A prediction table, see `mura_skorch.evaluation.prediction_table`.
    view_predictions : DataFrame, optional
        One row per view.
    histories : dict of str to list of dict, optional
        Epochs of each fit, by its name: ``{name: clf.history}``.
    about : dict of str to str, optional
        What was run on what; digest, versions and commit are added.
    cases : sequence of mura_skorch.report.Case, default=()
        Studies to look at.
    published : bool, default=False
        Set the paper's figures beside; for MURA alone, see
        `mura_skorch.evaluation.published.is_mura`.
    failed : dict of str to str, optional
        What to say of study types that have no predictions.
    readers, gold, by, alerts
        Columns of `predictions`, and remarks to put first, see `mura_skorch.evaluation.evaluate`.
    model : sequence of str, default=()
        What the model card says of the model, as `mura_skorch.report.judge` returns it.
    notes : sequence of str, default=()
        Sentences of your own for the model card: how the labels came about, whom the studies are
        of, what the model is for. What is known of MURA's labels is said where the scored studies
        are MURA's, by their counts, and nowhere else.
    title : str, default="Evaluation"
        Heading of the page.

    Returns
    -------
    DataFrame
        The scores at study level.

    Raises
    ------
    OSError
        The disk is full; what was in the folder before is whole.

    Examples
    --------
    >>> from mura_skorch.report.inputs import judge
    >>> found = judge(clf, test)  # doctest: +SKIP
    >>> write_report(  # doctest: +SKIP
    ...     "report",
    ...     found.predictions,
    ...     view_predictions=found.view_predictions,
    ...     cases=found.cases,
    ...     histories={"all": clf.history},
    ...     model=found.model,
    ...     notes=["Labels by two radiologists in consensus, from the images alone."],
    ... )
    """
    with whole_folder(folder) as new:
        if "label" not in predictions:  # readers alone
            predictions = predictions.assign(
                label=pd.array([pd.NA] * len(predictions), dtype="Int8")
            )
        epochs = _epochs(histories or {})
        facts = provenance(predictions)
        facts = {name: fact for name, fact in facts.items() if name not in (about or {})}
        settings: dict[str, Any] = {
            **{"title": title, "about": {**(about or {}), **facts}},
            **{"published": published, "failed": failed or {}},
            **{"readers": list(readers), "gold": gold, "by": list(by), "alerts": list(alerts)},
            **{"model": list(model), "notes": list(notes)},
        }
        inputs = {
            "predictions": predictions,
            "view_predictions": view_predictions,
            "epochs": epochs,
        }
        note = join_notes(predictions)
        _write(new, inputs, note)
        kept = settings | {"types": {name: _types(table) for name, table in inputs.items()}}
        (new / "report.json").write_text(json.dumps(kept, indent=2), encoding="utf-8")
        shown = settings.pop("about")
        for name in ("title", "model", "notes"):  # figures do not depend on them
            del settings[name]
        found = evaluate(predictions, view_predictions, **settings)
        _write(new, _tables(found), note)
        figures = _figures(found, predictions, epochs, published=published, note=note)
        for name, figure in figures.items():
            figure.savefig(new / f"{name}.png", dpi=150)
        card = model_card(
            found.studies,
            **{"model": model, "notes": notes, "about": shown, "note": note},
            is_mura=published or is_mura(predictions.assign(split="valid")),
            has_maps=any(view.overlay for case in cases for view in case.views),
        )
        (new / "model_card.md").write_text(to_markdown(card, title), encoding="utf-8")
        texts = score_texts(found.studies)
        scored = scored_rows(predictions)
        page = render_page(
            "report.html.jinja",
            **{
                "title": title,
                "note": note,
                "about": pd.DataFrame(shown.items(), columns=["item", "value"]),
            },
            **{"found": found, "figures": figures, "cases": cases, "card": card},
            summary=pd.DataFrame(texts),
            footnotes=footnotes,
            n_models=_n_models(found.studies),
            decision_table=decision_table,
            probability_table=probability_table,
            shortcut_table=shortcut_table(found.shortcuts),
            undefined_table=undefined_table,
            number_text=number_text,
            reader_table=None
            if found.readers is None
            else wide_kappas(found.readers).reset_index(names="study type"),
            operating_point=_operating_point(scored),
            n_patients=count_patients(scored["patient"]) if "patient" in scored else None,
        )
        (new / "report.html").write_text(page, encoding="utf-8")
    return found.studies


def read_report(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a report was made from.

    Parameters
    ----------
    folder : path
        Written by `write_report`.

    Returns
    -------
    dict
        Arguments of `write_report` but for the folder and the cases.
    """
    folder = Path(folder)
    if not (folder / "report.json").is_file():
        raise FileNotFoundError(
            f"expected a folder that write_report wrote, got {folder}: it has no report.json"
        )
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    for name, types in found.pop("types").items():
        found[name] = None
        if types is not None:
            file = folder / f"{name}.csv"
            found[name] = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])
    epochs = found.pop("epochs")
    if epochs is not None:
        fits = epochs.groupby("name", sort=False)
        found["histories"] = {name: rows.to_dict("records") for name, rows in fits}
    return found


def _epochs(histories):
    """Return one table of the numbers of all epochs of all fits."""
    rows = [
        {"name": name, **{key: value for key, value in row.items() if key != "batches"}}
        for name, history in histories.items()
        for row in history
    ]
    return pd.DataFrame(rows) if rows else None


def _tables(found):
    """Return the tables to write, by the names of their files."""
    levels = [table for table in (found.studies, found.views) if table is not None]
    tables = {"metrics": pd.concat(levels, ignore_index=True), "shortcuts": found.shortcuts}
    by = {"by_" + re.sub(r"[^-.\w]", "_", name): table for name, table in found.by.items()}
    return tables | {"readers": found.readers} | by


def _figures(found, predictions, epochs, *, published, note):
    """Return the figures, by the names of their files."""
    figures = {"kappa": KappaDisplay(found.studies, note=note).plot().figure_}
    scored = scored_rows(predictions)
    if scored["label"].nunique() == 2:
        y_true, y_score = scored["label"].astype(int), scored["score"]
        thresholds = scored["threshold"].unique() if "threshold" in scored else [0.5]
        n_models = _n_models(found.studies)
        name = "model" if n_models == 1 else f"{n_models} models, pooled"
        figures["roc"] = RocDisplay.from_predictions(
            y_true,
            y_score,
            published=published and set(scored["study_type"]) == set(STUDY_COUNTS["valid"]),
            threshold=thresholds[0] if len(thresholds) == 1 else None,
            name=name,
            note=note,
        ).figure_
        reliability = ReliabilityDisplay(y_true, y_score, name=name, note=note)
        figures["reliability"] = reliability.plot().figure_
    if epochs is not None:
        figures["training"] = TrainingDisplay(epochs, note=note).plot().figure_
    return figures


def _n_models(scores):
    """Return how many models a table of scores pools in its last row."""
    return int(scores["n_models"].max()) if "n_models" in scores else 1


def _operating_point(scored):
    """Return above what, and by whose choice, studies are called abnormal; None without scores."""
    if not len(scored):
        return None
    thresholds = scored["threshold"] if "threshold" in scored else pd.Series([0.5])
    ends = [f"{end:.4g}".lstrip("0") or "0" for end in (thresholds.min(), thresholds.max())]
    several = f"thresholds from {ends[0]} to {ends[1]}"
    text = f"abnormal above {ends[0] if ends[0] == ends[1] else several}"
    chosen_by = scored["chosen_by"].dropna().unique() if "chosen_by" in scored else []
    return text + (f" ({'; '.join(chosen_by)})" if len(chosen_by) else "")


def _write(folder, tables, note):
    """Write tables, each with the caveat of the data on every row."""
    for name, table in tables.items():
        if table is not None:
            noted = table if note is None or "note" in table else table.assign(note=note)
            noted.to_csv(folder / f"{name}.csv", index=False)


def _types(table):
    """Return the types of a table's columns, which its CSV file does not tell; texts as str."""
    if table is None:
        return None
    numbers = table.select_dtypes(["number", "boolean"]).dtypes.astype(str).to_dict()
    return {name: numbers.get(name, "str") for name in table.columns}
