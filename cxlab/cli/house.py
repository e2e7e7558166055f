"""`cxlab ui`, `lab` and `doctor`: the rooms around the models."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cxlab.cli.shown import AsJson, emit, say, show


def ui(port: Annotated[int, typer.Option(help="On loopback.")] = 5000) -> None:
    """Open MLflow on our store."""
    from cxlab.places import tracking_uri
    from cxlab.tracking.store import store

    with store():
        pass
    uri = tracking_uri()
    say(f"MLflow on {uri}: http://127.0.0.1:{port} (Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    _become(command)


def _become(command: list[str], extra: Mapping[str, str] | None = None) -> NoReturn:
    """Another program takes this process over, so that what ends us ends it."""
    sys.stdout.flush()
    os.execve(command[0], command, os.environ | dict(extra or {}))


def lab(context: typer.Context) -> None:
    """Open JupyterLab at our notebooks; further options are JupyterLab's own."""
    from cxlab.places import home

    # JupyterLab asks its makers for news and updates; our settings leave both out.
    settings = os.pathsep.join(
        filter(None, [str(Path(__file__).parent.parent / "lab"), os.environ.get("JUPYTER_CONFIG_PATH")])
    )
    start = ["--LabApp.default_url=/lab/tree/notebooks/01_explore_data.ipynb", f"--ServerApp.root_dir={home()}"]
    command = [sys.executable, "-m", "jupyter", "lab", *start, *context.args]
    _become(command, {"JUPYTER_CONFIG_PATH": settings})


def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, what is missing, and what to do. Exit 1 if something needed is missing."""
    from cxlab.doctor import findings

    rows = [finding._asdict() for finding in findings()]
    if as_json:
        emit({"checks": rows})
    else:
        show("cxlab doctor", rows, ["status", "title", "reason"])
    raise typer.Exit(1 if any(row["status"] == "fail" for row in rows) else 0)
