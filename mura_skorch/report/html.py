"""Render tables and figures as one HTML file that needs no network."""

import base64
import io
import numbers
import re
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mura_skorch._version import __version__
from mura_skorch.plots import style

__all__ = ["bytes_uri", "figure_uri", "render_page", "template_text"]

TEMPLATES = Path(__file__).parent / "templates"
SVG_LIMIT = 400_000  # bytes; larger figures (many points, or images) are embedded as PNG
CSS_DPI = 96  # CSS pixels per inch, as defined by CSS
PHONE_WIDTH = 640  # CSS pixels; a wider figure scrolls on a narrower screen
PNG_SCALE = 2  # image pixels per CSS pixel, for dense screens and for print
# A cell that counts as a number: .705 (.608, .803), 12,251, 91 %, n/a.
_NUMBER = re.compile(r"([-+\u2212]?[.\d].*|n/a(?:\n.*)?|[-\u2013]|)", re.DOTALL)


def render_page(template, *, title, note=None, contents=None, **context):
    """Render a template of this package that extends ``page.html.jinja``.

    Parameters
    ----------
    template : str
        Name of a file in the folder ``templates`` next to this module.
    title : str
        Title of the page, also its first heading.
    note : str or None, default=None
        Caveat in a coloured banner at the top, such as "phantoms: no clinical meaning".
    contents : list or None, default=None
        Filled with the anchor and the title of each section of the page.
    **context
        Further variables of the template. All text is escaped; a missing variable raises.

    Returns
    -------
    str
        One HTML file without links to other files or dates, so that the same context gives the same
        text. It has no script unless the template adds one. Write it in UTF-8.

    Raises
    ------
    jinja2.TemplateNotFound, jinja2.UndefinedError
        The template does not exist, or uses a variable that `context` lacks.

    Notes
    -----
    A new template fills the block ``content``. ``section`` also adds its heading to the table of
    contents, ``table`` takes a DataFrame, and ``figure`` takes a matplotlib Figure or a data URI::

        {% extends "page.html.jinja" %}
        {% from "macros.html.jinja" import section, table, figure with context %}
        {% block content %}
        {% call section("Scores") %}
          {{ table(scores, caption="Validation studies", numeric=["kappa"]) }}
          {{ figure(forest, alt="Forest plot of kappas", caption="Kappa by study type.") }}
        {% endcall %}
        {% endblock %}

    Further blocks: ``lead`` (below the title), ``style`` (more CSS), ``footer``, and ``script``
    with ``script_policy``, the digest that lets it run. Classes: ``cards`` (a grid of boxes),
    ``views`` (images in a row), ``callout`` (a framed remark).

    Examples
    --------
    >>> from mura_skorch.report.html import render_page
    >>> page = render_page("page.html.jinja", title="Wrists & hands", note="phantoms")
    >>> "<h1>Wrists &amp; hands</h1>" in page
    True
    """
    contents = [] if contents is None else contents
    page = _environment().get_template(template)
    return page.render(title=title, note=note, contents=contents, **context)


def figure_uri(figure):
    """Return a figure as a data URI: SVG, or PNG at twice the size if the SVG would be large.

    Parameters
    ----------
    figure : matplotlib Figure
        It is not closed, and need not be managed by pyplot.

    Returns
    -------
    str
        ``data:image/svg+xml;base64,...``, with text drawn as outlines so that no font is needed,
        or ``data:image/png;base64,...``. The same figure gives the same text.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from mura_skorch.report.html import figure_uri
    >>> figure_uri(Figure(figsize=(1, 1)))[:30]
    'data:image/svg+xml;base64,PD94'
    """
    import matplotlib

    # By default each file holds the date and random ids, so that no two are equal.
    with matplotlib.rc_context({"svg.hashsalt": "mura_skorch", "svg.fonttype": "path"}):
        data = _encode(figure, format="svg", metadata={"Date": None, "Creator": None})
    if len(data) <= SVG_LIMIT:
        return bytes_uri(data, "image/svg+xml")
    data = _encode(figure, format="png", dpi=PNG_SCALE * CSS_DPI, metadata={"Software": None})
    return bytes_uri(data, "image/png")


def bytes_uri(data: bytes, mime: str) -> str:
    """Return bytes as a data URI, which embeds a file in a page.

    Parameters
    ----------
    data : bytes
        Content of the file.
    mime : str
        MIME type, such as "image/png" or "text/csv".

    Returns
    -------
    str

    Examples
    --------
    >>> from mura_skorch.report.html import bytes_uri
    >>> bytes_uri(b"study,label", "text/csv")
    'data:text/csv;base64,c3R1ZHksbGFiZWw='
    """
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def template_text(name):
    """Return a template that holds no variables, such as a script, as it is."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _environment():
    """Return the Jinja environment with the helpers that the macros use."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"colour": style, "version": __version__, "free_anchor": _free_anchor}
    environment.filters |= {"cells": _cells, "image": _image, "breakable": _breakable}
    return environment


def _free_anchor(title, contents):
    """Return an unused link anchor for a title: "Views per study" gives views-per-study."""
    anchor = wanted = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
    taken, number = {name for name, _ in contents}, 2
    while anchor in taken:
        anchor, number = f"{wanted}-{number}", number + 1
    return anchor


def _cells(frame, numeric=None):
    """Return headers and rows of a table as pairs (text, is right-aligned)."""
    texts = [[_text(value) for value in frame[column]] for column in frame.columns]
    if numeric is None:
        right = [all(map(_NUMBER.fullmatch, column)) for column in texts]
    else:
        right = [column in numeric for column in frame.columns]
    return {
        "headers": list(zip(map(str, frame.columns), right, strict=True)),
        "rows": [list(zip(row, right, strict=True)) for row in zip(*texts, strict=True)],
    }


def _text(value):
    """Format a cell: 12,251 or 0.705 or n/a; strings stay unchanged."""
    if isinstance(value, str):
        return str(value)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return "n/a"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return str(value)
    return f"{value:,}" if isinstance(value, numbers.Integral) else f"{value:,.3f}"


def _breakable(text):
    """Return a text that may wrap after the slashes of a long key or path."""
    pieces = str(text).split("/")
    return Markup("/<wbr>").join(pieces) if len(pieces) > 2 else text


def _image(source):
    """Return the URI and, for a figure, its width in CSS pixels and whether it scrolls."""
    if isinstance(source, str):
        return {"uri": source, "width": None, "wide": False}
    width = round(source.get_figwidth() * CSS_DPI)
    return {"uri": figure_uri(source), "width": width, "wide": width > PHONE_WIDTH}


def _encode(figure, **settings):
    """Return the bytes that savefig writes."""
    file = io.BytesIO()
    figure.savefig(file, **settings)
    return file.getvalue()
