import mlflow
import pytest

from mura_skorch.tracking import run_link


@pytest.mark.parametrize(
    ("uri", "link"),
    [
        ("http://server:5000", "http://server:5000/#/runs/a1"),
        ("https://name:secret@server/mlflow/", "https://server/mlflow/#/runs/a1"),
        ("sqlite:///mlflow.db", None),
    ],
)
def test_run_is_linked_where_there_is_a_server(monkeypatch, uri, link):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: uri)
    assert run_link("a1") == link
    assert run_link(None) is None
