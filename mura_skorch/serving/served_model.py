"""Served model: MLflow runs this file, which it keeps beside the weights, to load them."""

from pathlib import Path

from mlflow.models import set_model

from mura_skorch.serving.model import StudyModel

set_model(StudyModel(Path(__file__).parent))
