"""Notebooks, executed with parameters, judged by what they return.

A notebook returns facts with `record(...)`; `execute` runs it in a process of its own with papermill, shows how far
it is, and hands the facts back. Parameters that the notebook does not declare are refused before it starts.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxlab import errors
from cxlab.display import PROGRESS_FILE, plain
from cxlab.errors import CxlabError, NotebookError, listed, unknown

FACTS = "application/vnd.cxlab.facts+json"
TAG = "parameters"
PATIENCE = 4  # interrupts, five seconds apart, before a kernel is killed

Watch = Callable[[Mapping[str, Any]], None]


def record(**facts: Any) -> None:
    """Declares what a notebook found, as the output of its cell.

    Args:
        facts: Plain values; what is not a finite number is null. Calls add up.
    """
    from IPython.display import display

    lines = "\n".join(f"{key}: {value}" for key, value in facts.items() if not isinstance(value, dict | list))
    display({FACTS: plain(facts), "text/plain": lines or "recorded"}, raw=True)


@dataclass(frozen=True)
class Executed:
    """A notebook that ran.

    Attributes:
        path: The executed copy, with its outputs.
        facts: What it recorded.
    """

    path: Path
    facts: dict[str, Any]


def parameters_of(notebook: Path) -> dict[str, Any]:
    """The names and default values of a notebook's cell tagged `parameters`."""
    import ast

    import nbformat

    cells = [cell for cell in nbformat.read(notebook, as_version=4).cells if TAG in cell.metadata.get("tags", [])]
    if len(cells) != 1:
        raise NotebookError(f"{notebook.name} has {len(cells)} cells tagged {TAG!r}, must have one.")
    tree = ast.parse(cells[0].source)
    targets = [(node.targets[0], node.value) for node in tree.body if isinstance(node, ast.Assign)]
    return {target.id: ast.literal_eval(value) for target, value in targets if isinstance(target, ast.Name)}


def facts_of(notebook: Any) -> dict[str, Any]:
    """What a notebook's cells recorded, later ones over earlier ones."""
    facts: dict[str, Any] = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            facts |= output.get("data", {}).get(FACTS, {})
    return facts


def execute(notebook: Path, parameters: Mapping[str, Any], *, to: Path, watch: Watch | None = None) -> Executed:
    """Runs a notebook in a fresh kernel.

    Args:
        notebook: The file.
        parameters: Values for its cell tagged `parameters`, which must declare each of them.
        to: Where the executed copy goes; on a failure too, for a person to read.
        watch: Called with `label`, `text` and `fraction` as long steps report them.
    Raises:
        CxlabError: A parameter is not declared, or the notebook stopped at a mistake that a person can mend.
        KeyboardInterrupt: The user interrupted; the kernel has been told, and ended.
    """
    declared = parameters_of(notebook)
    for name, value in parameters.items():
        if name not in declared:
            raise NotebookError(f"{notebook.name}: {unknown('Parameter', name, declared)}")
        if not isinstance(value, type(declared[name])):
            wanted = type(declared[name]).__name__
            raise NotebookError(f"{notebook.name}: parameter {name} == {value!r}, must be of type {wanted}.")
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder) / "progress.jsonl"
        reports.touch()
        worker = _Worker(notebook, to, dict(parameters), reports)
        worker.start()
        try:
            _follow(worker, reports, watch)
        except KeyboardInterrupt:
            worker.interrupt()
            raise
    if worker.error is not None:
        raise _mendable(worker.error) from worker.error
    return Executed(to, facts_of(worker.result))


class _Worker(threading.Thread):
    """papermill on a thread of its own, so that Ctrl-C reaches us and not its event loop."""

    def __init__(self, notebook: Path, to: Path, parameters: dict[str, Any], reports: Path) -> None:
        super().__init__(daemon=True)
        self.job = (notebook, to, parameters)
        self.reports = reports
        self.result: Any = None
        self.error: Exception | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        import papermill
        from jupyter_core.utils import ensure_event_loop
        from traitlets.config import Config

        sockets = str(self.reports.with_name("kernel"))
        local = Config({"KernelManager": {"transport": "ipc", "ip": sockets}})  # only we can open them, unlike ports
        notebook, to, parameters = self.job
        os.environ[PROGRESS_FILE] = str(self.reports)
        try:
            self.result = papermill.execute_notebook(
                notebook, to, parameters, cwd=notebook.parent, progress_bar=False, kernel_name="python3", config=local
            )
        except Exception as error:  # noqa: BLE001 - handed to the thread that asked, which raises it
            self.error = error
        finally:
            os.environ.pop(PROGRESS_FILE, None)
            ensure_event_loop().close()  # this thread's, opened by papermill's kernel client
            self.ended.set()

    def interrupt(self) -> None:
        """Sends the kernel what a person's Ctrl-C would, again where compiled code swallowed it; at last ends it."""
        import psutil

        kernels = [child for child in psutil.Process().children() if "ipykernel" in " ".join(child.cmdline())]
        for what in (*[signal.SIGINT] * PATIENCE, signal.SIGKILL):
            for kernel in kernels:
                if kernel.is_running():
                    kernel.send_signal(what)
            if self.ended.wait(5):
                return


def _follow(worker: _Worker, reports: Path, watch: Watch | None) -> None:
    rest = ""
    with reports.open(encoding="utf-8") as file:
        while not worker.ended.wait(0.1):  # an interrupted join() may take a thread for dead
            *lines, rest = (rest + file.read()).split("\n")
            if watch is not None:
                for line in lines:
                    watch(json.loads(line))


def _mendable(error: Exception) -> Exception:
    """The kernel's exception as one of ours, if it was one of ours."""
    kind = getattr(errors, getattr(error, "ename", ""), None)
    if isinstance(kind, type) and issubclass(kind, CxlabError):
        return kind(error.evalue)  # type: ignore[attr-defined]
    return error


def require(facts: Mapping[str, Any], *names: str) -> None:
    """Stops where a notebook ended well but did not record what it must.

    Raises:
        NotebookError: A name is missing.
    """
    absent = [name for name in names if name not in facts]
    if absent:
        raise NotebookError(f"The notebook did not record {listed(absent)}; it recorded {listed(facts) or 'nothing'}.")
