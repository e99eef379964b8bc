"""These tests fail when a new MLflow starts its server in another way."""

import sys
from importlib.util import find_spec, module_from_spec
from unittest.mock import Mock

import pytest
from mlflow.pyfunc import scoring_server

from mura_skorch.serving import mlflow_hooks
from mura_skorch.serving.mlflow_hooks import (
    APP_MODULE,
    DECORATOR,
    is_server_starting,
    replace_handler,
)


async def handler(request):
    raise NotImplementedError


@pytest.fixture(autouse=True)
def restored_decorator(monkeypatch):
    monkeypatch.setattr(scoring_server, DECORATOR, getattr(scoring_server, DECORATOR))


def test_mlflow_starts_the_module_that_is_looked_for():
    command, _ = scoring_server.get_cmd("model")
    assert command.split()[-1] == f"{APP_MODULE}:app"


def test_server_is_starting_only_while_its_module_is_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, APP_MODULE, raising=False)
    assert not is_server_starting()
    module = module_from_spec(find_spec(APP_MODULE))
    monkeypatch.setitem(sys.modules, APP_MODULE, module)
    assert is_server_starting()
    module.app = "made"
    assert not is_server_starting()


def test_replaced_handler_answers_invocations_and_nothing_else():
    before = {route.path: route.endpoint for route in scoring_server.init(Mock()).routes}
    replace_handler(handler)
    after = {route.path: route.endpoint for route in scoring_server.init(Mock()).routes}
    assert after["/invocations"] is handler
    assert before["/invocations"] is not handler
    assert set(after) == set(before)
    assert list(after.values()).count(handler) == 1


@pytest.mark.parametrize("name", ["mlflow.pyfunc.scoring_server.gone", "mlflow.gone.app"])
def test_mlflow_without_the_module_is_refused(monkeypatch, name):
    monkeypatch.setattr(mlflow_hooks, "APP_MODULE", name)
    with pytest.raises(RuntimeError, match=f"expected the module {name}, got MLflow .* install"):
        is_server_starting()


def test_mlflow_without_the_decorator_is_refused(monkeypatch):
    monkeypatch.delattr(scoring_server, DECORATOR)
    with pytest.raises(RuntimeError, match=f"expected the decorator {DECORATOR} .* install"):
        replace_handler(handler)


def test_decorator_around_another_function_is_refused():
    replace_handler(handler)
    with pytest.raises(RuntimeError, match="around a handler of the parameter request"):
        getattr(scoring_server, DECORATOR)(lambda model, data: None)
