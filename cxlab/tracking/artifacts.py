"""Files on a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mlflow import MlflowClient


def local_folder(artifact_uri: str) -> Path | None:
    """Where a run's files lie on this machine; None where they are remote."""
    parts = urlsplit(artifact_uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None


def fetched(client: MlflowClient, run_id: str, name: str) -> Path:
    """A file of a run: itself where it lies on this machine, else a copy that lives as long as the process."""
    folder = local_folder(client.get_run(run_id).info.artifact_uri)
    return Path(client.download_artifacts(run_id, name)) if folder is None else folder / name


def keep(file: Path, run_id: str, artifact_uri: str, folder: str) -> str:
    """Puts a file on a run and says where it is.

    Where artifacts lie on this machine the file is copied there, which is what MLflow would do, without the seconds
    that loading MLflow takes.

    Args:
        file: What to keep.
        run_id: The run.
        artifact_uri: The run's.
        folder: Within the run's artifacts.
    Returns:
        A path, or an address where artifacts are remote.
    """
    local = local_folder(artifact_uri)
    if local is None:
        from cxlab.tracking.store import store

        with store() as client:
            client.log_artifact(run_id, str(file), folder)
        return f"{artifact_uri}/{folder}/{file.name}"
    place = local / folder
    place.mkdir(parents=True, exist_ok=True)
    return str(shutil.copy2(file, place / file.name))
