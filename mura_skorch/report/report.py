"""Write the report of a model: tables, figures, a model card and one HTML page."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
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
from mura_skorch.evaluation.robustness import robustness_scores
from mura_skorch.metrics.intervals import N_RESAMPLES
from mura_skorch.plots import KappaDisplay, ReliabilityDisplay, RocDisplay, TrainingDisplay
from mura_skorch.plots.training import epoch_table
from mura_skorch.report.case_review import map_text
from mura_skorch.report.checklists import checklist_count, fill_checklists, item_table
from mura_skorch.report.data_flow import data_flow_page
from mura_skorch.report.external import (
    external_figures,
    external_page,
    external_tables,
    take_external,
)
from mura_skorch.report.failures import failure_figures, failure_page, failure_tables
from mura_skorch.report.html import render_page
from mura_skorch.report.inputs import ReportInputs
from mura_skorch.report.model_card import (
    card_anchors,
    hub_metadata,
    model_card,
    recalibration,
    to_markdown,
)
from mura_skorch.report.robustness import Robustness, robustness_page
from mura_skorch.report.study_facts import FACTS, read_study_facts
from mura_skorch.report.triage_section import triage_section
from mura_skorch.studies.columns import join_notes
from mura_skorch.utils.atomic import whole_folder
from mura_skorch.utils.identity import count_patients
from mura_skorch.utils.provenance import provenance
from mura_skorch.utils.text import number_text

__all__ = ["read_report", "write_report"]

PNG_DPI = 150


def write_report(
    folder: str | os.PathLike[str],
    inputs: ReportInputs | pd.DataFrame,
    *,
    histories: Mapping[str, Any] | None = None,
    about: Mapping[str, str] | None = None,
    published: bool = False,
    failed: Mapping[str, str] | None = None,
    readers: Sequence[str] = (),
    gold: str | None = None,
    by: Sequence[str] = (),
    prevalence: Sequence[float] = (),
    notes: Sequence[str] = (),
    study_facts: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    title: str = "Evaluation",
) -> pd.DataFrame:
    """Score predictions and write tables, figures, model card and report.html.

    The tables are saved in the same folder. ``write_report(other, **read_report(folder))`` draws
    the report again without the model, except for the pictures of the case review.

    Parameters
    ----------
    folder : path
        Created if missing.
    inputs : ReportInputs or DataFrame
        What `mura_skorch.report.collect_predictions` returns, or a prediction table alone, see
        `mura_skorch.evaluation.prediction_table`.
    histories : dict of str to list of dict, optional
        Epochs of each fit by name: ``{name: clf.history}``.
    about : dict of str to str, optional
        What was run on which data. Digest, versions and commit are added.
    published : bool, default=False
        Add the paper's figures. For MURA only, see `mura_skorch.evaluation.published.is_mura`.
    failed : dict of str to str, optional
        Study types without predictions, with the reason.
    readers, gold, by
        Columns of the predictions, see `mura_skorch.evaluation.evaluate`.
    prevalence : sequence of float, default=()
        Shares of abnormal studies at the place of use, between 0 and 1, to give PPV and NPV at.
    notes : sequence of str, default=()
        Sentences for the model card: the source of the labels, the patients, the purpose of the
        model. The card describes MURA's labels only if the scored studies are MURA's.
    study_facts : path or mapping, optional
        What only the authors know, such as the ethics approval: a TOML file or its content, see
        `read_study_facts`. The reporting checklists name what is missing.
    title : str, default="Evaluation"
        Heading of the page.

    Returns
    -------
    DataFrame
        The scores at study level, see `mura_skorch.evaluation.score_predictions`.

    Raises
    ------
    OSError
        The disk is full, or there is no such file of study facts. An earlier report in `folder`
        stays intact.
    ValueError
        A study fact has an unknown name or is no text; or as `mura_skorch.evaluation.evaluate`.

    Examples
    --------
    >>> from mura_skorch.report import collect_predictions, write_report
    >>> inputs = collect_predictions(clf, test)  # doctest: +SKIP
    >>> write_report(  # doctest: +SKIP
    ...     "report",
    ...     inputs,
    ...     histories={"fit": clf.history},
    ...     notes=["Labels by two radiologists in consensus, from the images alone."],
    ... )
    """
    if isinstance(inputs, pd.DataFrame):
        inputs = ReportInputs(inputs)
    predictions, views = inputs.predictions, inputs.view_predictions
    if "label" not in predictions:  # a reader study without labels
        predictions = predictions.assign(label=pd.array([pd.NA] * len(predictions), dtype="Int8"))
    note = join_notes(predictions)
    about = _with_provenance(about or {}, predictions)
    epochs = epoch_table(histories or {})
    facts = read_study_facts(study_facts or {})
    scoring: dict[str, Any] = {
        "published": published,
        "failed": dict(failed or {}),
        "readers": list(readers),
        "gold": gold,
        "by": list(by),
        "prevalence": list(prevalence),
        "alerts": list(inputs.alerts),
    }
    texts = {
        "title": title,
        "about": about,
        "model": list(inputs.model),
        "notes": list(notes),
        "data": inputs.data,
        "study_facts": facts,
    }
    with whole_folder(folder) as new:
        tables = {"predictions": predictions, "view_predictions": views, "epochs": epochs}
        if inputs.robustness is not None:
            tables["robustness_predictions"] = inputs.robustness.predictions
        tables |= external_tables(inputs.external)
        _write_tables(new, tables, note)
        types = {name: _column_types(table) for name, table in tables.items()}
        settings = json.dumps({**texts, **scoring, "types": types}, indent=2)
        (new / "report.json").write_text(settings, encoding="utf-8")

        found = evaluate(predictions, views, **scoring)
        triage = triage_section(predictions, inputs.model)
        _write_tables(new, _score_tables(found, triage), note)
        figures = _figures(found, predictions, epochs, published=published, note=note)
        figures |= external_figures(inputs.external, note=note)
        data_flow = data_flow_page(
            inputs.data,
            predictions,
            found.studies,
            note=note,
            is_external=inputs.external is not None,
        )
        figures["flow"] = data_flow["figure"]
        robustness = _robustness(inputs.robustness, note)
        if robustness is not None:
            _write_tables(new, {"robustness": robustness["table"]}, note)
            figures["robustness"] = robustness["figure"]
        for name, figure in figures.items():
            figure.savefig(new / f"{name}.png", dpi=PNG_DPI)
        card = model_card(
            found.studies,
            model=inputs.model,
            notes=notes,
            about=about,
            note=note,
            is_mura=published or is_mura(predictions.assign(split="valid")),
            has_maps=any(view.overlay for case in inputs.cases for view in case.views),
            facts=facts,
        )
        metadata = hub_metadata(found.studies, title=title, about=about, note=note, facts=facts)
        (new / "model_card.md").write_text(to_markdown(card, title, metadata), encoding="utf-8")
        sections: list[tuple[str, str]] = []
        fill = partial(fill_checklists, card=card_anchors(card), facts=facts)
        scored = scored_rows(predictions)
        page = render_page(
            "report.html.jinja",
            title=title,
            note=note,
            contents=sections,
            about=pd.DataFrame(about.items(), columns=["item", "value"]),
            found=found,
            external=external_page(inputs.external),
            failures=failure_page(found.failures),
            triage=triage,
            figures=figures,
            forest=KappaDisplay(found.studies, note=note, with_table=False).plot().figure_,
            robustness=robustness,
            data_flow=data_flow,
            cases=inputs.cases,
            map_text=map_text(inputs.cases),
            card=card,
            card_anchors=card_anchors(card),
            fill_checklists=fill,
            checklist_count=checklist_count,
            facts_missing=[key for key in FACTS if key not in facts],
            recalibration=recalibration(inputs.model),
            summary=pd.DataFrame(score_texts(found.studies)),
            footnotes=footnotes,
            n_models=_n_models(found.studies),
            decision_table=decision_table,
            probability_table=probability_table,
            shortcut_table=shortcut_table(found.shortcuts),
            undefined_table=undefined_table,
            number_text=number_text,
            n_resamples=N_RESAMPLES,
            n_types=scored["study_type"].nunique(),
            reader_table=_reader_table(found.readers),
            operating_point=_operating_point(scored),
            n_patients=count_patients(scored["patient"]) if "patient" in scored else None,
        )
        (new / "report.html").write_text(page, encoding="utf-8")
        filled = {checklist.key: item_table(items) for checklist, items in fill(sections)}
        _write_tables(new, filled, note)
    return found.studies


def read_report(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read back the arguments that a report was written with.

    Parameters
    ----------
    folder : path
        Written by `write_report`.

    Returns
    -------
    dict
        Arguments of `write_report`, without the folder. The inputs have no cases, since their
        pictures need the model.

    Raises
    ------
    FileNotFoundError
        The folder holds no report.
    """
    folder = Path(folder)
    file = folder / "report.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"expected a folder written by write_report, got {folder} without report.json; pass "
            "the folder that holds report.html"
        )
    arguments = json.loads(file.read_text(encoding="utf-8"))
    tables = {
        name: _read_table(folder / f"{name}.csv", types)
        for name, types in arguments.pop("types").items()
    }
    moved = tables.pop("robustness_predictions", None)
    epochs = tables.pop("epochs")
    external = take_external(tables)
    if epochs is not None:
        fits = epochs.groupby("name", sort=False)
        arguments["histories"] = {name: rows.to_dict("records") for name, rows in fits}
    arguments["inputs"] = ReportInputs(
        **tables,
        model=arguments.pop("model"),
        alerts=arguments.pop("alerts"),
        external=external,
        data=arguments.pop("data", None),
        robustness=None if moved is None else Robustness(moved),
    )
    return arguments


def _with_provenance(about, predictions):
    """Return `about` with digest, versions and commit, unless it has them already."""
    added = {name: fact for name, fact in provenance(predictions).items() if name not in about}
    return {**about, **added}


def _score_tables(found, triage):
    """Return the tables of scores by file name."""
    levels = [table for table in (found.studies, found.views) if table is not None]
    tables = {"metrics": pd.concat(levels, ignore_index=True), "shortcuts": found.shortcuts}
    if found.readers is not None:
        tables["readers"] = found.readers
    tables |= failure_tables(found.failures)
    if triage is not None:
        tables["triage"] = triage.scores
    for name, table in found.by.items():
        tables["by_" + re.sub(r"[^-.\w]", "_", name)] = table
    return tables


def _robustness(robustness, note):
    """Return what the page shows of robustness; None without labelled predictions."""
    if robustness is None:
        return None
    scores = robustness_scores(robustness.predictions)
    if not len(scores):
        return None
    return {**robustness_page(robustness, scores, note=note), "table": scores}


def _reader_table(readers):
    """Return the kappas of readers with one column per reader; None without readers."""
    if readers is None:
        return None
    return wide_kappas(readers).reset_index(names="study type")


def _figures(found, predictions, epochs, *, published, note):
    """Return the figures by file name."""
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
        figures |= failure_figures(found.failures, name=name, note=note)
    if epochs is not None:
        figures["training"] = TrainingDisplay(epochs, note=note).plot().figure_
    return figures


def _n_models(scores):
    """Return how many models the last row of a score table pools."""
    return int(scores["n_models"].max()) if "n_models" in scores else 1


def _operating_point(scored):
    """Describe the threshold and how it was chosen; None without scores."""
    if not len(scored):
        return None
    thresholds = scored["threshold"] if "threshold" in scored else pd.Series([0.5])
    low, high = (f"{end:.4g}".lstrip("0") or "0" for end in (thresholds.min(), thresholds.max()))
    text = f"abnormal above {low}"
    if low != high:
        text = f"abnormal above thresholds from {low} to {high}"
    chosen_by = scored["chosen_by"].dropna().unique() if "chosen_by" in scored else []
    return text + (f" ({'; '.join(chosen_by)})" if len(chosen_by) else "")


def _write_tables(folder, tables, note):
    """Write tables as CSV files, with the note of the data on every row."""
    for name, table in tables.items():
        if table is not None:
            if note is not None and "note" not in table:
                table = table.assign(note=note)
            table.to_csv(folder / f"{name}.csv", index=False)


def _read_table(file, types):
    """Read a table with the column types it was written with; None if there was none."""
    if types is None:
        return None
    return pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])


def _column_types(table):
    """Return the column types, which a CSV file does not store; text columns are str."""
    if table is None:
        return None
    numbers = table.select_dtypes(["number", "boolean"]).dtypes.astype(str).to_dict()
    return {name: numbers.get(name, "str") for name in table.columns}
