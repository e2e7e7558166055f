"""The one place where MLflow is set up: our store, its artifacts beside it, and no chatter."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cxlab.errors import StoreError
from cxlab.places import store_folder, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

FULL = "no space is left on its disk. Free some, or set MLFLOW_TRACKING_URI to another place"


def quiet() -> None:
    """MLflow without chatter; to be called before it loads."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def store() -> Iterator[MlflowClient]:
    """A client on our store, which is made if need be; what goes wrong with it is said as a `StoreError`."""
    folder = store_folder()
    quiet()
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    quiet()  # loading, MLflow sets its loggers anew
    mlflow.set_tracking_uri(tracking_uri())
    mlflow.set_registry_uri(tracking_uri())
    where = folder or tracking_uri()
    try:
        yield mlflow.MlflowClient()
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"The store at {where} failed: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    text = str(error)
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in text:
        return FULL
    return (text.strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def experiment_id(client: MlflowClient, name: str) -> str:
    """The experiment of a use case, made with its artifacts beside the store."""
    found = client.get_experiment_by_name(name)
    if found is None:
        tags = {"mlflow.experimentKind": "custom_model_development"}  # MLflow then opens it at its runs
        return client.create_experiment(name, artifact_location=artifact_root(name), tags=tags)
    if found.lifecycle_stage != "active":
        raise StoreError(
            f"Experiment {name!r} is deleted in MLflow; restore it there, or use another name in the params."
        )
    return str(found.experiment_id)


def artifact_root(name: str) -> str | None:
    folder = store_folder()
    return None if folder is None else (Path(folder) / "artifacts" / name).as_uri()
