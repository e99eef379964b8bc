"""Serve fitted models over HTTP with MLflow.

`docs/how_to/serving.md` is the guide.
"""

from mura_skorch.ensemble import load_model
from mura_skorch.serving.registry import log_model

__all__ = ["load_model", "log_model"]
