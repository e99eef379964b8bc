import re
from html.parser import HTMLParser

import jinja2
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mura_skorch.plots import style
from mura_skorch.report.html import _environment, bytes_uri, figure_uri, render_page

MACROS = '{% from "macros.html.jinja" import section, table, figure with context %}'
EVIL = "<script>alert('x')</script> & \"quoted\""


def render(source, **context):
    """Render a template given as a text."""
    return _environment().from_string(source).render(contents=[], **context)


def page(content, **context):
    source = f'{{% extends "page.html.jinja" %}}{MACROS}{{% block content %}}{content}'
    return render(source + "{% endblock %}", **{"title": "A page", "note": None, **context})


def table(frame, arguments=""):
    return render(f"{MACROS}{{{{ table(frame{arguments}) }}}}", frame=frame)


class Tags(HTMLParser):
    """Collect tags and check that they are nested."""

    VOID = ("meta", "img", "br", "wbr")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def of(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def drawn(n_points=5):
    figure = Figure(figsize=(3, 2))
    rng = np.random.default_rng(0)
    figure.add_subplot().scatter(*rng.random((2, n_points)), s=rng.random(n_points))
    return figure


# ---- the page


def test_page_is_well_formed_and_needs_no_network():
    text = page(
        "{{ table(frame, caption='c') }}{{ figure(drawn, alt='a') }}",
        frame=pd.DataFrame({"a": [1]}),
        drawn=drawn(),
        note="phantoms",
    )
    found = Tags(text)
    assert not found.of("script")
    assert not found.of("link")
    assert "@import" not in text
    sources = [a[key] for _, a in found.tags for key in ("src", "href") if key in a]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in text


def test_content_security_policy_allows_only_inline_styles_and_images():
    (policy,) = (m for m in Tags(page("")).of("meta") if "http-equiv" in m)
    assert policy["http-equiv"] == "Content-Security-Policy"
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["style-src"] == "'unsafe-inline'"
    assert rules["img-src"] == "data:"


def test_page_has_language_width_charset_and_one_heading():
    found = Tags(page(""))
    assert found.of("html") == [{"lang": "en"}]
    assert any(m.get("name") == "viewport" for m in found.of("meta"))
    assert {"charset": "utf-8"} in found.of("meta")
    assert len(found.of("h1")) == 1


def test_table_of_contents_links_each_section_by_a_unique_anchor():
    text = page(
        "".join(
            f"{{% call section('{t}') %}}text{{% endcall %}}"
            for t in ("Views per study", "ROC & more", "Views per study", "?!")
        )
    )
    found = Tags(text)
    links = [a["href"] for a in found.of("a") if "class" not in a]
    assert links == ["#views-per-study", "#roc-more", "#views-per-study-2", "#section"]
    assert [f"#{s['id']}" for s in found.of("section")] == links
    assert text.index("<nav") < text.index("<section")


def test_single_section_has_no_table_of_contents():
    assert "<nav" not in page("{% call section('Only') %}text{% endcall %}")


def test_note_is_above_the_title():
    text = render_page("page.html.jinja", title="T", note="phantoms: no clinical meaning")
    assert text.index('role="note">phantoms: no clinical meaning<') < text.index("<h1>")
    assert 'role="note"' not in render_page("page.html.jinja", title="T")


def test_all_texts_are_escaped():
    frame = pd.DataFrame({EVIL: [EVIL, 1]})
    text = page(
        "{% call section(evil) %}{{ evil }}{{ table(frame, caption=evil) }}"
        "{{ figure(uri, alt=evil, caption=evil) }}{% endcall %}",
        title=EVIL,
        note=EVIL,
        evil=EVIL,
        frame=frame,
        uri=bytes_uri(b"GIF89a", "image/gif"),
    )
    assert "<script" not in text
    assert '& "' not in text
    Tags(text)


def test_markup_in_a_cell_is_escaped():
    cell = _environment().from_string("<b>x</b>").render()
    from markupsafe import Markup

    assert "&lt;b&gt;" in table(pd.DataFrame({"a": [Markup(cell)]}))


def test_page_is_deterministic():
    frame = pd.DataFrame({"a": [1.5]})
    content = "{% call section('S') %}{{ table(frame) }}{{ figure(drawn, alt='') }}{% endcall %}"
    one, two = (page(content, frame=frame, drawn=drawn()) for _ in range(2))
    assert one == two


def test_missing_template_variable_raises():
    with pytest.raises(jinja2.UndefinedError, match="scores"):
        page("{{ scores }}")
    with pytest.raises(jinja2.TemplateNotFound):
        render_page("none.html.jinja", title="T")


def test_page_uses_the_colours_of_the_figures():
    text = page("")
    assert style.VERMILLION in text
    assert style.BLUE in text


# ---- tables


def test_table_has_headers_and_keyboard_scrolling():
    found = Tags(table(pd.DataFrame({"type": ["a", "b"], "n": [1, 2]}), ", caption='Counts'"))
    scopes = [th["scope"] for th in found.of("th")]
    assert scopes == ["col", "col", "row", "row"]
    assert len(found.of("td")) == 2
    (box,) = found.of("div")
    assert (box["tabindex"], box["role"], box["aria-label"]) == ("0", "region", "Counts")
    assert len(found.of("caption")) == 1


def test_long_keys_wrap_at_slashes_and_stay_escaped():
    text = table(pd.DataFrame({"study": ["valid/XR_WRIST/<b>/study1"], "kappa": ["a/b"]}))
    assert "valid/<wbr>XR_WRIST/<wbr>&lt;b&gt;/<wbr>study1" in text
    assert ">a/b<" in text


def test_addresses_become_links_where_asked_for():
    frame = pd.DataFrame({"item": ["run"], "value": ["a1 http://server/#/runs/a1 <b>"]})
    assert "<a href" not in table(frame)
    text = table(frame, ", links=true")
    assert '<a href="http://server/#/runs/a1" rel="' in text
    assert "<b>" not in text
    script = pd.DataFrame({"item": ["run"], "value": ["javascript://x%0aalert(1)"]})
    assert "<a href" not in table(script, ", links=true")


def test_row_headers_can_be_left_out():
    found = Tags(table(pd.DataFrame({"type": ["a"], "n": [1]}), ", row_header=false"))
    assert len(found.of("td")) == 2


@pytest.mark.parametrize(
    ("cells", "right"),
    [
        ([1, 2], True),
        ([0.5, np.nan], True),
        ([".705 (.608, .803)", "n/a"], True),
        (["12,251", ""], True),
        (["-.25", "91 %"], True),
        (["XR_WRIST", "1"], False),
        (["valid", "train"], False),
    ],
)
def test_numeric_columns_are_right_aligned(cells, right):
    text = table(pd.DataFrame({"name": ["a", "b"], "x": cells}))
    assert ('<td class="number">' in text) is right


def test_only_named_columns_are_right_aligned():
    frame = pd.DataFrame({"patient": ["00012"], "n": [3]})
    text = table(frame, ", numeric=['n'], row_header=false")
    assert "<td>00012</td>" in text
    assert '<td class="number">3</td>' in text


def test_numbers_are_formatted_and_strings_unchanged():
    frame = pd.DataFrame(
        {
            "a": ["0.5000", "x"],
            "b": [12251, 3],
            "c": [0.12345, np.nan],
            "d": [True, False],
            "e": pd.array([1, None], dtype="Int8"),
        }
    )
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", table(frame))[5:]
    assert cells == ["0.5000", "12,251", "0.123", "True", "1", "x", "3", "n/a", "False", "n/a"]


def test_empty_table_is_rendered():
    assert "<tbody>" in table(pd.DataFrame({"a": []}))


def test_overall_row_is_highlighted():
    assert table(pd.DataFrame({"type": ["XR_HAND", "overall"]})).count('class="total"') == 1


# ---- figures


def test_small_figure_is_svg_and_large_figure_is_png():
    assert figure_uri(drawn()).startswith("data:image/svg+xml;base64,")
    assert figure_uri(drawn(5000)).startswith("data:image/png;base64,")


@pytest.mark.parametrize("n_points", [5, 5000])
def test_figure_uri_is_deterministic(n_points):
    assert figure_uri(drawn(n_points)) == figure_uri(drawn(n_points))


def test_png_has_twice_the_resolution_of_the_page():
    import base64
    import io

    from PIL import Image

    data = base64.b64decode(figure_uri(drawn(5000)).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (2 * 288, 2 * 192)
    text = render(f"{MACROS}{{{{ figure(drawn, alt='dots') }}}}", drawn=drawn(5000))
    (image,) = Tags(text).of("img")
    assert (image["width"], image["alt"]) == ("288", "dots")


def test_wide_figure_scrolls_and_narrow_figure_does_not():
    for width, n_boxes in ((10, 1), (4, 0)):
        figure = Figure(figsize=(width, 2))
        text = render(f"{MACROS}{{{{ figure(drawn, alt='dots') }}}}", drawn=figure)
        assert len(Tags(text).of("div")) == n_boxes


def test_figure_uri_leaves_matplotlib_settings_unchanged():
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure_uri(drawn())
    assert dict(matplotlib.rcParams) == before
