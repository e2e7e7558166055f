"""What is installed, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from cxlab.errors import CxlabError
from cxlab.places import acting_person, home, store_folder, tracking_uri

CORE = ("jupyterlab", "lightgbm", "mlflow", "onnxruntime", "optuna", "pandas", "papermill", "scikit-learn", "skops")


class Finding(NamedTuple):
    """One thing looked at: `pass`, `fail` (with the remedy) or `info`."""

    code: str
    title: str
    status: Literal["pass", "fail", "info"]
    reason: str


def findings() -> list[Finding]:
    """All findings, what is needed first."""
    found = [_python(), *map(_package, CORE), _kernel(), _home(), _store()]
    return [
        *found,
        _encoder(),
        _mirror(),
        _person(),
        _telemetry(),
        _command("git", "runs then lack the commit they came from"),
    ]


def _python() -> Finding:
    good = (3, 11) <= sys.version_info[:2] < (3, 14)
    remedy = "" if good else "; cxlab needs 3.11 to 3.13: make clean, then make PYTHON=python3.12 run"
    return Finding("python", "Python", "pass" if good else "fail", f"{platform.python_version()}{remedy}")


def _package(name: str) -> Finding:
    try:
        return Finding(f"package_{name}", name, "pass", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(f"package_{name}", name, "fail", "not installed; run: make clean run")


def _kernel() -> Finding:
    there = importlib.util.find_spec("ipykernel") is not None
    reason = f"ipykernel in {sys.prefix}" if there else "ipykernel is not installed; run: make clean run"
    return Finding("kernel", "Notebook kernel", "pass" if there else "fail", reason)


def _home() -> Finding:
    try:
        return Finding("home", "Notebooks and params", "pass", str(home()))
    except CxlabError as error:
        return Finding("home", "Notebooks and params", "fail", str(error))


def _store() -> Finding:
    try:
        folder = store_folder()
    except CxlabError as error:
        return Finding("store", "Tracking store", "fail", str(error))
    if folder is None:
        return Finding("store", "Tracking store", "pass", tracking_uri())
    free = shutil.disk_usage(folder).free / 2**30
    enough = free > 0.5
    remedy = "" if enough else "; free some space, or set MLFLOW_TRACKING_URI to another disk"
    return Finding(
        "store", "Tracking store", "pass" if enough else "fail", f"{tracking_uri()}, {free:.1f} GiB free{remedy}"
    )


def _encoder() -> Finding:
    from cxlab.features.encoder import DEFAULT, available

    reason = available()
    return Finding(
        "encoder", "Sentence encoder", "info", f"{DEFAULT}, its weights as published" if reason is None else reason
    )


def _mirror() -> Finding:
    mirror = os.environ.get("CXLAB_DATA_MIRROR")
    if not mirror:
        return Finding(
            "mirror", "Data mirror", "info", "CXLAB_DATA_MIRROR is not set; cxlab data get asks the public address"
        )
    local = "://" not in mirror
    if local and not Path(mirror).is_dir():
        return Finding(
            "mirror", "Data mirror", "fail", f"CXLAB_DATA_MIRROR == {mirror!r} is no folder; correct or unset it"
        )
    return Finding("mirror", "Data mirror", "pass", mirror)


def _person() -> Finding:
    named = "CXLAB_USER" in os.environ
    return Finding(
        "person", "Acting person", "info", f"{acting_person()} ({'CXLAB_USER' if named else 'the system user'})"
    )


def _telemetry() -> Finding:
    off = os.environ.get("MLFLOW_DISABLE_TELEMETRY", "").lower() == "true"
    reason = "off for every library" if off else "MLFLOW_DISABLE_TELEMETRY is set to something else by you"
    return Finding("telemetry", "Telemetry", "pass" if off else "info", reason)


def _command(name: str, without: str) -> Finding:
    place = shutil.which(name)
    return Finding(name, name, "info", place or f"not found; {without}")
