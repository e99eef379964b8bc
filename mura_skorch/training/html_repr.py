"""Show a fitted model in a notebook: its validation scores and its MLflow run."""

import logging
from collections.abc import Iterable
from html import escape
from typing import Any

from mura_skorch.evaluation.formatting import footnotes, score_texts
from mura_skorch.metrics import OVERALL
from mura_skorch.tracking.experiment import run_link
from mura_skorch.utils.members import members_of
from mura_skorch.utils.text import interval_text, number_text

__all__ = ["HtmlSummary", "summary_html"]

_log = logging.getLogger(__name__)

# Colours of the notebook, so that it is readable on a light and on a dark page.
STYLE = (
    ".mura-fit{color:inherit;background:transparent;font-family:sans-serif;font-size:13px;"
    "margin-bottom:8px;overflow-x:auto}"
    ".mura-fit p{margin:2px 0}"
    ".mura-fit table{border-collapse:collapse;margin:4px 0;color:inherit}"
    ".mura-fit th,.mura-fit td{padding:2px 8px;text-align:right;color:inherit;"
    "background:transparent;border:0;border-bottom:1px solid rgba(128,128,128,.5)}"
    ".mura-fit th:first-child{text-align:left}"
)


class HtmlSummary:
    """Put the scores and the run of a fitted model above scikit-learn's diagram of it.

    ``_repr_mimebundle_`` and ``_repr_html_`` are the names that notebooks ask for. scikit-learn
    defines both and has no hook to add to them.
    """

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] = _safe_summary(self) + bundle["text/html"]
        return dict(bundle)

    @property
    def _repr_html_(self) -> Any:
        diagram = super()._repr_html_  # type: ignore[misc]  # raises where diagrams are off
        return lambda: _safe_summary(self) + diagram()


def _safe_summary(model):
    """Return the summary, "" if there is none: a cell of a notebook must show the model anyway."""
    try:
        return summary_html(model)
    except Exception as error:
        _log.debug("no summary for the notebook: %s", error)
        return ""


def summary_html(model: Any) -> str:
    """Return the scores of the validation part and the MLflow run of a fitted model as HTML.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        It need not be fitted.

    Returns
    -------
    str
        "" for a model that is not fitted. All texts are escaped.
    """
    members = [net for net in members_of(model) if getattr(net, "initialized_", False)]
    members = [net for net in members if len(net.history)]
    if not members:
        return ""
    parts = []
    if notes := list(dict.fromkeys(net.note_ for net in members if net.note_)):
        parts.append(f"<p><strong>{escape('; '.join(notes))}</strong></p>")
    if len(members) == 1:
        parts += _of_one(members[0])
    else:
        parts.append(f"<p>Mean probability of {len(members)} models.</p>")
        parts.append(_table(*_of_several(members)))
    return f'<style>{STYLE}</style><div class="mura-fit">{"".join(parts)}</div>'


def _of_one(net):
    """Return the parts of one classifier."""
    scores, epochs = net.scores_, f"{len(net.history)} epochs"
    if kept := [row["epoch"] for row in net.history if row.get("event_cp")]:
        epochs = f"Weights of epoch {kept[-1]} of {len(net.history)}"
    found = [f"<p>{epochs}. {_run_html(net)}</p>"]
    if scores is None:
        return [*found, "<p>No scores: there was no validation part.</p>"]
    texts = score_texts(scores)
    found.append("<p>Validation part, which chose the epoch:</p>")
    found.append(_table(texts, zip(*texts.values(), strict=True)))
    return found + [f"<p>{escape(note)}</p>" for note in footnotes(scores)]


def _of_several(members):
    """Return header and rows of the classifiers of an ensemble."""
    rows = []
    for number, net in enumerate(members, start=1):
        cells = ["n/a"] * 3
        if (scores := net.scores_) is not None:
            overall = scores.set_index("study_type").loc[OVERALL]
            ends = (overall["kappa"], overall["kappa_low"], overall["kappa_high"])
            cells = [str(overall["n"]), interval_text(*ends), number_text(overall["auroc"])]
        rows.append([f"model {number}", *cells, _Html(_run_html(net))])
    return ["", "studies", "kappa (95 % CI), validation", "AUROC", "run"], rows


class _Html(str):
    """A text that is HTML already."""


def _run_html(net):
    """Return the run as HTML, linked if there is a server."""
    if net.run_id_ is None:
        return "No MLflow run."
    text, link = escape(str(net.run_id_)), run_link(net.run_id_)
    if link is not None:
        text = f'<a href="{escape(link)}" target="_blank" rel="noopener noreferrer">{text}</a>'
    return f"MLflow run {text}."


def _table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a table; the first cell of a row is its header."""

    def cell(tag, text):
        return f"<{tag}>{text if isinstance(text, _Html) else escape(str(text))}</{tag}>"

    head = "".join(cell("th", text) for text in headers)
    body = "".join(
        "<tr>" + "".join(cell("td" if i else "th", text) for i, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
