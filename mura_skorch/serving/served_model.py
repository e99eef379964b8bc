"""Load the model of this folder: MLflow runs this file, which is saved next to the weights."""

from pathlib import Path

from mlflow.models import set_model

from mura_skorch.serving.model import StudyModel

set_model(StudyModel(Path(__file__).parent))
