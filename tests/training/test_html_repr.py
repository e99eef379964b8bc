import mlflow
import pytest
from nets import tiny_classifier
from sklearn import config_context

from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.training.html_repr import summary_html


def test_fitted_model_shows_scores_run_and_caveat(fitted, monkeypatch):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "http://server:5000")
    monkeypatch.setattr(fitted, "record_", fitted.record_)
    fitted.update_record(run_id="a1")
    html = fitted._repr_mimebundle_()["text/html"]
    kappa = f"{fitted.scores_['kappa'].iloc[-1]:.3f}".replace("0.", ".")
    assert kappa in html
    assert 'href="http://server:5000/#/runs/a1"' in html
    assert "phantoms: no clinical meaning" in html
    assert "sk-top-container" in html  # scikit-learn's own diagram is below
    assert "mura-fit" in fitted._repr_html_()


def test_model_that_is_not_fitted_shows_the_diagram_alone():
    html = tiny_classifier()._repr_mimebundle_()["text/html"]
    assert "sk-top-container" in html
    assert "mura-fit" not in html


def test_names_are_escaped(fitted, monkeypatch):
    monkeypatch.setattr(fitted, "record_", fitted.record_)
    rows = [
        {**row, "study_type": "<script>alert(1)</script>"} for row in fitted.record_.valid_scores
    ]
    fitted.update_record(valid_scores=rows, note="<b>note</b>", run_id='"><i>')
    assert summary_html(fitted)
    for text in ("<script>", "<b>", "<i>"):
        assert text not in summary_html(fitted)


def test_what_is_wrong_with_the_record_does_not_stop_the_display(fitted, monkeypatch):
    monkeypatch.setattr(fitted, "record_", fitted.record_)
    fitted.update_record(valid_scores=[{"study_type": "overall"}])
    assert "sk-top-container" in fitted._repr_mimebundle_()["text/html"]


def test_members_of_an_ensemble_have_a_row_each(fitted):
    html = MuraEnsemble.of([fitted, fitted])._repr_mimebundle_()["text/html"]
    assert "Mean probability of 2 models." in html
    assert "<th>model 2</th>" in html


def test_display_as_text_stays_text(fitted):
    with config_context(display="text"):
        assert set(fitted._repr_mimebundle_()) == {"text/plain"}
        with pytest.raises(AttributeError):
            fitted._repr_html_  # noqa: B018, a property that raises
