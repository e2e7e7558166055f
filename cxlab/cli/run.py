"""`cxlab run`: executes notebooks and says what they found."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from cxlab.cli.shown import AsJson, Overrides, ParamsFile, emit, err, escaped, out, say, short, show
from cxlab.errors import CxlabError, ParamsError
from cxlab.params import TASKS, Params

OTHERS = {  # notebooks whose params file is of another kind, and who reads it
    "risk_scores": "cxlab.decide.risk:risk_params",
    "next_best_action": "cxlab.params.actions:load_actions",
    "signals_and_triggers": "cxlab.params.signals:load_signals",
}


def run(
    name: Annotated[str, typer.Argument(help="A task, a notebook's name, or all.")],
    params: ParamsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Execute a notebook with parameters, log it to MLflow and register what it trained.

    A task's name stands for its training notebook. The executed notebook hangs on the run. An interrupted search
    goes on when the same command is given again.
    """
    if name == "all":
        if params is not None:
            raise ParamsError("--params names one notebook's file; run all uses each task's own. Leave it out.")
        results = [_run(task, None, overrides or [], as_json) for task in TASKS]
        if as_json:
            emit({"runs": results})
        else:
            _say_next(results)
        return
    result = _run(name, params, overrides or [], as_json)
    if as_json:
        emit(result)
    elif "run_id" in result:
        _say_next([result])
    else:
        for key, value in result.items():
            if not isinstance(value, dict | list):
                say(f"{key}: {value}")


def _run(name: str, params_file: Path | None, overrides: list[str], quiet: bool) -> dict[str, Any]:
    from cxlab import notebooks
    from cxlab.params import load_params
    from cxlab.places import notebook

    started = time.monotonic()
    path = notebook(name)
    known = notebooks.parameters_of(path)
    if "params_file" not in known:
        if params_file is not None:
            raise ParamsError(
                f"{path.stem} reads no params file. Its parameters: {', '.join(known)}; --set gives them."
            )
        return _execute(path, _direct(overrides, known), started)
    own = [item for item in overrides if item.partition("=")[0] in known]
    overrides = [item for item in overrides if item not in own]
    file = params_file.absolute() if params_file else (path.parent / known["params_file"]).resolve()
    if path.stem.partition("_")[2] in OTHERS:
        _load(path.stem.partition("_")[2], file, overrides)
        told = {"params_file": str(file), "overrides": overrides, **_direct(own, known)}
        return _execute(path, told, started)
    params = load_params(file, overrides)
    trained = path.stem.partition("_train_")[2]
    if trained not in ("", params.task):
        raise ParamsError(
            f"{file.name} is for the task {params.task!r}, {path.stem} is not. Type cxlab run {params.task}."
        )
    _refuse_early(params, trains=bool(trained))
    if not quiet:
        err.print(f"Running [bold]{path.name}[/] with {escaped(short(file))} {escaped(' '.join(overrides))}".rstrip())
    told = {"params_file": str(file), "overrides": [_absolute(item) for item in overrides], **_direct(own, known)}
    return _execute(path, told, started)


def _execute(path: Path, told: Mapping[str, Any], started: float) -> dict[str, Any]:
    """Runs a notebook and completes what it recorded: the seconds in all, and where its executed copy is."""
    from cxlab import notebooks

    with tempfile.TemporaryDirectory() as folder, _bar(path.stem) as watch:
        copy = Path(folder) / path.name
        try:
            facts = notebooks.execute(path, told, to=copy, watch=watch).facts
        except CxlabError:
            raise
        except Exception:
            err.print(f"The notebook as far as it came: {escaped(_keep_without_run(copy))}")
            raise
        except KeyboardInterrupt:
            _close_abandoned()
            raise CxlabError("Interrupted. Finished trials are kept: the same command goes on from there.") from None
        if not path.stem.split("_", 1)[1].startswith("train_"):
            return facts | {"notebook": _keep_without_run(copy)}
        notebooks.require(facts, "run_id", "artifacts", "metrics", "report", "gates")
        facts["notebook"] = _keep(copy, facts)
    facts["report"] = facts["report"].removeprefix("file://")
    facts["seconds"]["total"] = round(time.monotonic() - started, 2)
    return facts


def _close_abandoned() -> None:
    """A kernel closes its run as killed; one that could not is made up for here."""
    from cxlab.tracking.runs import close_abandoned
    from cxlab.tracking.store import store

    with store() as client:
        close_abandoned(client)


def _load(name: str, file: Path, overrides: list[str]) -> None:
    """Stops where a params file of another kind does not fit, before a kernel starts."""
    import importlib

    module, _, loader = OTHERS[name].partition(":")
    getattr(importlib.import_module(module), loader)(file, overrides)


def _direct(overrides: list[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a notebook's own parameters; those that are paths by default are relative to where one is."""
    import yaml

    told = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ParamsError(f"--set {override!r} has no value; write --set version=2.")
        value = yaml.safe_load(text)
        told[key] = str(value) if key == "version" else value
        path = key in ("current", "to", "page", "out") or str(known.get(key, "")).startswith("../")
        if path and isinstance(value, str):
            told[key] = str(Path(value).absolute())
    return told


def _refuse_early(params: Params, *, trains: bool) -> None:
    """What is wrong with the data stops here, before a kernel starts; events and experiments need but be there."""
    from cxlab.data.files import head
    from cxlab.data.table import locate
    from cxlab.features.table import load_table
    from cxlab.models.training import chosen_candidates, split_of, task_of
    from cxlab.places import store_folder

    store_folder()
    if params.events is not None or params.experiment is not None:
        head(locate(params.data.path), 1)
        return
    table = load_table(params)
    table.check_roles()
    task = task_of(params.task)
    if trains or task.split is None:
        chosen_candidates(task, params)
        split_of(table, params)


def _absolute(override: str) -> str:
    """Data paths in overrides are relative to where the command was given, not to the notebook."""
    from cxlab.params import PATHS, resolve_path

    key, _, value = override.partition("=")
    return f"{key}={resolve_path(value, Path.cwd())}" if key in PATHS and value else override


def _keep(executed: Path, facts: Mapping[str, Any]) -> str:
    from cxlab.tracking.artifacts import keep

    return keep(executed, facts["run_id"], facts["artifacts"], "notebook")


def _keep_without_run(executed: Path) -> str:
    """Notebooks that train nothing have no run; their executed copy lies beside the store."""
    from cxlab.places import home, store_folder

    folder = (store_folder() or home() / "mlruns") / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    return str(shutil.copy2(executed, folder / executed.name))


class _bar:  # noqa: N801 - reads as a function
    """One rich progress bar on stderr, fed by a notebook's reports; nothing where stderr is no terminal."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Callable[[Mapping[str, Any]], None]:
        text = TextColumn("{task.description}")
        self.progress = Progress(text, BarColumn(), TimeElapsedColumn(), console=err, transient=True)
        self.tasks: dict[str, TaskID] = {}
        if err.is_terminal:
            self.progress.start()
            self.tasks[""] = self.progress.add_task(f"{self.name}: starting", total=None)
        return self._show

    def _show(self, report: Mapping[str, Any]) -> None:
        if not err.is_terminal:
            return
        text = f"{report['label']} {report['text']}".strip()
        fraction = report["fraction"]
        if fraction >= 1:
            text, fraction = f"{self.name}: comparing, drawing, logging", None
        self.progress.update(self.tasks[""], description=text, completed=fraction, total=1.0 if fraction else None)

    def __exit__(self, *_: object) -> None:
        if err.is_terminal:
            self.progress.stop()


def _say_next(results: list[dict[str, Any]]) -> None:
    for facts in results:
        rows = [{"candidate": item["name"], **item["metrics"]} for item in facts["candidates"]]
        title = f"{facts['model']}: test part of {Path(facts['data']['path']).name}"
        show(title, rows, ["candidate", *facts["metrics"]])
        for line in _verdicts(facts):
            out.print(line, highlight=False)
        seconds = facts["seconds"]
        rest = seconds["total"] - seconds["fit"] - seconds["report"]
        fit = f"{seconds['fit']:.0f} s fitting {facts['trials']} trials"
        out.print(
            f"{seconds['total']:.0f} s in all: {fit}, {seconds['report']:.0f} s the report, {rest:.0f} s the rest."
        )
        for line in facts["summary"]:
            out.print(f"  {escaped(line)}", highlight=False)
        say(f"Report: {facts['report']}")
        say(f"Executed notebook: {facts['notebook']}")
        for line in _gates(facts):
            say(line)
        say("")
    say(f"Compare runs: cxlab compare {results[-1]['model']}. See them in MLflow: cxlab ui (or make ui).")


def _gates(facts: Mapping[str, Any]) -> list[str]:
    """What the gates said, and what to type next."""
    name, version, gates = facts["model"], facts["version"], facts["gates"]
    blocking = [code for code, status in gates.items() if status in ("fail", "cannot_tell")]
    told = "; ".join(f"{code}: {gates[code].replace('_', ' ')}" for code in blocking)
    said = f"Gates: {len(gates) - len(blocking)} of {len(gates)} let it pass" + (f"; {told}." if told else ".")
    return [
        f"{said} Why: cxlab gate {name} {version}",
        f"Next, by somebody who did not train it: CXLAB_USER=THEM cxlab approve {name} {version} --reason TEXT",
    ]


def _verdicts(facts: Mapping[str, Any]) -> list[str]:
    """What the comparison said on the selection metric, in sentences."""
    metric, name = facts["selection_metric"], f"{facts['model']} version {facts['version']}"
    lines = [f"Selected: [bold]{facts['selected']}[/], registered as {name} (challenger)."]
    words = {"worse": "is worse", "better": "is better", "cannot tell": "cannot be told apart from it"}
    for row in facts["comparison"]:
        if row["metric"] == metric:
            interval = f"95 % interval {row['diff_low']:+.4f} to {row['diff_high']:+.4f}"
            verdict = f"{row['candidate']} {words[row['verdict']]}"
            lines.append(f"  {verdict} ({metric} {row['difference']:+.4f}, {interval}).")
    return lines
