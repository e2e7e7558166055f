"""Where things lie, and who acts. No heavy library is needed to know."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cxlab.errors import ParamsError, StoreError, nearest


def home() -> Path:
    """The folder that holds `notebooks/`, `params/` and `mlruns/`: `CXLAB_HOME`, else the checkout."""
    chosen = os.environ.get("CXLAB_HOME")
    root = Path(chosen).absolute() if chosen else Path(__file__).parent.parent
    if not (root / "notebooks").is_dir():
        raise ParamsError(
            f"No folder 'notebooks' in {root}. cxlab works in a checkout: clone it, or set CXLAB_HOME to one."
        )
    return root


def notebook(name: str) -> Path:
    """A notebook of ours by its name, with or without its number: `train_churn` is `02_train_churn.ipynb`.

    Raises:
        ParamsError: None has that name.
    """
    known = {path.stem.split("_", 1)[-1]: path for path in sorted((home() / "notebooks").glob("[0-9]*_*.ipynb"))}
    for key in (name, f"train_{name}", name.removesuffix(".ipynb").split("_", 1)[-1]):
        if key in known:
            return known[key]
    raise ParamsError(f"No notebook {name!r}.{nearest(name, known)} Notebooks: {', '.join(known)}.")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else SQLite under `mlruns/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlruns' / 'mlflow.db'}"


def store_folder() -> Path | None:
    """The folder of a SQLite store, made if need be; None where the store is a server.

    Raises:
        StoreError: The folder cannot be made or written.
    """
    uri = tracking_uri()
    if uri.startswith(("http://", "https://", "databricks", "postgresql", "mysql", "mssql")):
        return None
    if not uri.startswith("sqlite:///"):
        raise StoreError(f"MLFLOW_TRACKING_URI == {uri!r}, must be sqlite:///FILE or the address of an MLflow server.")
    folder = Path(unquote(urlsplit(uri).path)[1:] if uri.startswith("sqlite:////") else uri[10:]).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The store's folder {folder} cannot be made: {error.strerror}. Set MLFLOW_TRACKING_URI."
        ) from None
    if not os.access(folder, os.W_OK):
        raise StoreError(f"The store's folder {folder} cannot be written. Set MLFLOW_TRACKING_URI to another place.")
    return folder


def private_folder() -> Path:
    """Where the key of pseudonyms and marks of the forgotten lie: beside the store, in `mlruns/` if it is a server."""
    return store_folder() or home() / "mlruns"


def acting_person() -> str:
    """`CXLAB_USER`, else the operating system's user: a claim, not a proof."""
    return os.environ.get("CXLAB_USER") or getpass.getuser()


def hold(file: int) -> bool:
    """Whether no other process holds an open file; then this one does, until it closes it. On Windows: True."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def this_process() -> str:
    """A name for this process that others on this machine can check."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(process: str) -> bool:
    """Whether a process named by `this_process` has ended. On another machine it can't be told: False."""
    host, _, pid = process.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
