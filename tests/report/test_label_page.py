import base64
import hashlib
import re
import shutil
import subprocess

import pytest

from mura_skorch.evaluation import apply_verdicts
from mura_skorch.report import Suspect, show_views, write_label_page

NOTE = "phantoms: no clinical meaning"


@pytest.fixture
def suspects(fitted, valid):
    rows = valid.iloc[:3]
    shown = show_views(fitted, rows["study_type"].tolist(), rows["views"].tolist(), max_views=2)
    return [
        Suspect(
            study=row.study,
            study_type=row.study_type,
            split="train",
            label=int(row.label),
            p_abnormal=0.97,
            is_issue=True,
            n_views=len(row.views),
            views=views,
            limit=limit,
        )
        for row, (views, limit) in zip(rows.itertuples(), shown, strict=True)
    ]


def page_of(suspects, **settings):
    settings = {"n_reviewed": 300, "n_issues": 12, "note": NOTE, **settings}
    write_label_page("review.html", suspects, **settings)
    with open("review.html", encoding="utf-8") as file:
        return file.read()


def test_page_shows_views_maps_and_both_probabilities(suspects):
    page = page_of(suspects)
    n_views = sum(len(suspect.views) for suspect in suspects)
    assert page.count('src="data:image/jpeg;base64,') == 2 * n_views
    assert page.count("abnormal .970, normal .030") == 3
    assert "3 of 300 studies" in page
    assert NOTE in page
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []


def test_reported_split_is_in_the_title(suspects):
    assert "<title>Label review</title>" in page_of(suspects)
    page = page_of(suspects, is_reported=True)
    assert "<title>Label review, with the labels of the reported split</title>" in page
    assert "makes that model look better than it is" in page


def test_no_label_but_the_one_under_review_is_shown(suspects):
    page = page_of(suspects)
    assert "_positive" in suspects[0].study or "_negative" in suspects[0].study
    seen = re.sub(
        r'data-study="[^"]*"', "", page
    )  # for the exported file, which a reader opens last
    assert "_positive" not in seen
    assert "_negative" not in seen
    assert f'data-study="{suspects[0].study}"' in page
    assert len(set(re.findall(r'type="radio" name="([^"]+)"', page))) == len(suspects)


def test_policy_allows_the_one_script_of_the_page_alone(suspects):
    page = page_of(suspects)
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'; base-uri" in page
    assert "innerHTML" not in script


def test_keys_are_escaped(suspects):
    (first, *_) = suspects
    hostile = Suspect(**{**vars(first), "study": '"><script>alert(1)</script>'})
    page = page_of([hostile])
    assert page.count("<script>") == 1


@pytest.mark.slow
def test_verdicts_noted_in_a_browser_are_applied(suspects, valid):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser is installed")
    page = page_of(suspects)
    # Choose as a reader does, before the page's own script counts.
    chosen = page.replace('value="wrong">', 'value="wrong" checked>', 1).replace(
        '<input type="text">', '<input type="text" value="a &quot;plate&quot;, see view 1">', 1
    )
    with open("chosen.html", "w", encoding="utf-8") as file:
        file.write(chosen)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    script = "\ndocument.body.dataset.csv = document.getElementById('text').value;"
    digest = re.search(r"sha256-([^']+)'", chosen)[1]
    (own,) = re.findall(r"<script>(.*?)</script>", chosen, flags=re.DOTALL)
    longer = own + script
    again = base64.b64encode(hashlib.sha256(longer.encode()).digest()).decode()
    with open("chosen.html", "w", encoding="utf-8") as file:
        file.write(chosen.replace(own, longer).replace(digest, again))
    found = subprocess.run(
        [*command, "chosen.html"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "1 of 3 with a verdict." in found.stdout
    csv = re.search(r'data-csv="(.*?)"', found.stdout, flags=re.DOTALL)[1]
    with open("verdicts.csv", "w", encoding="utf-8") as file:
        file.write(csv.replace("&quot;", '"'))
    corrected, counts = apply_verdicts(valid, "verdicts.csv")
    assert counts["wrong"] == 1
    changed = valid["study"][(corrected["label"] != valid["label"]).to_numpy()].tolist()
    assert changed == [suspects[0].study]
