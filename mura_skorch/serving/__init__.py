"""Serving: a fitted estimator goes in, an MLflow model that answers over HTTP comes out.

`docs/serving.md` shows the way from a fit to a request.
"""

from mura_skorch.ensemble import load_model
from mura_skorch.serving.registry import log_model

__all__ = ["load_model", "log_model"]
