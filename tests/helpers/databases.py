"""MLflow databases that exist already: MLflow takes seconds to make the tables of a new one."""

import functools
import shutil
import sqlite3
import tempfile
from pathlib import Path

import mlflow


@functools.cache
def _template():
    """Return an empty database of the installed version of MLflow."""
    file = Path(tempfile.mkdtemp()) / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


def database(folder, name="mlflow.db", artifacts=None):
    """Put an empty MLflow database into a folder, if there is none; return its address.

    ``artifacts`` is where those of the experiment Default go, a folder next to it by default.
    """
    file = Path(folder) / name
    if not file.exists():
        shutil.copyfile(_template(), file)
        with sqlite3.connect(file) as connection:
            connection.execute(
                "UPDATE experiments SET artifact_location = ?",
                [artifacts or str(Path(folder) / "mlruns" / "0")],
            )
        connection.close()
    return f"sqlite:///{file}"
