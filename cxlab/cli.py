"""The command line: parse, call, print. Heavy libraries load inside the command that needs them.

Exit status: 0 done; 1 a check said no; 2 the input or the usage is wrong, or the run was interrupted.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from cxlab.errors import CxlabError, ParamsError
from cxlab.params import TASKS, Params

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    name="cxlab",
    help="Train, compare and track models of customer experience, from notebooks and from here.",
    epilog="Every command answers --help. Start with: cxlab run all",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="The catalogue of public data sets, and the quality of a file.", no_args_is_help=True)
app.add_typer(data_app, name="data")

out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, soft_wrap=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else there.")]
ParamsFile = Annotated[
    Path | None, typer.Option("--params", metavar="FILE", help="A params file; params/NAME.yaml unless given.")
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One value over the file's, as search.trials=20.")
]


def main() -> None:
    """The entry point: mistakes of the user end with a message and status 2, never a traceback."""
    try:
        app()
    except CxlabError as error:
        _stop(str(error))


def _stop(message: str) -> NoReturn:
    err.print(f"[bold red]cxlab:[/] {_plain(message)}", highlight=False)
    sys.exit(2)


def _plain(text: str) -> str:
    return text.replace("[", r"\[")


def emit(facts: Mapping[str, Any]) -> None:
    """Exactly one JSON object on stdout; what is not a number is null."""

    def clean(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if hasattr(value, "item"):
            value = value.item()
        return None if isinstance(value, float) and not math.isfinite(value) else value

    print(json.dumps(clean(facts), allow_nan=False, default=str))


def show(title: str, rows: Iterable[Mapping[str, Any]], columns: list[str]) -> None:
    """A table for people."""
    table = Table(title=title, title_justify="left", header_style="bold", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    out.print(table)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return _plain(f"{value:.4f}" if isinstance(value, float) else str(value))


def _range(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None or math.isnan(low) else f"{low:.4f} to {high:.4f}"


@app.command()
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
                out.print(_plain(f"{key}: {value}"), highlight=False)


def _run(name: str, params_file: Path | None, overrides: list[str], quiet: bool) -> dict[str, Any]:
    from cxlab import notebooks
    from cxlab.params import load_params
    from cxlab.places import home, notebook

    started = time.monotonic()
    path = notebook(name)
    if "params_file" not in notebooks.parameters_of(path):
        return _execute(path, _direct(overrides), started)
    key = path.stem.split("_", 1)[1].removeprefix("train_")
    default = home() / "params" / f"{key}.yaml"
    file = (
        params_file.absolute() if params_file else (default if default.exists() else home() / "params" / "churn.yaml")
    )
    _refuse_early(load_params(file, overrides))
    if not quiet:
        err.print(f"Running [bold]{path.name}[/] with {_plain(_short(file))} {_plain(' '.join(overrides))}".rstrip())
    return _execute(path, {"params_file": str(file), "overrides": [_absolute(item) for item in overrides]}, started)


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
            err.print(f"The notebook as far as it came: {_plain(_keep_without_run(copy))}")
            raise
        except KeyboardInterrupt:
            _close_abandoned()
            raise CxlabError("Interrupted. Finished trials are kept: the same command goes on from there.") from None
        if not path.stem.split("_", 1)[1].startswith("train_"):
            return facts | {"notebook": _keep_without_run(copy)}
        notebooks.require(facts, "run_id", "artifacts", "metrics", "report")
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


def _direct(overrides: list[str]) -> dict[str, Any]:
    """Values for a notebook that has parameters of its own and no params file."""
    import yaml

    told = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ParamsError(f"--set {override!r} has no value; write --set version=2.")
        value = yaml.safe_load(text)
        told[key] = str(value) if key == "version" else value
        if key == "current" and value:
            told[key] = str(Path(value).absolute())
    return told


def _refuse_early(params: Params) -> None:
    """What is wrong with the data stops here, before a kernel starts and a run is opened."""
    from cxlab.data.table import read_table
    from cxlab.places import store_folder

    store_folder()
    table = read_table(params.data)
    table.check_roles()
    table.outcome()


def _absolute(override: str) -> str:
    """Data paths in overrides are relative to where the command was given, not to the notebook."""
    from cxlab.params import resolve_path

    key, _, value = override.partition("=")
    return f"{key}={resolve_path(value, Path.cwd())}" if key in ("data.path", "data.test_path") and value else override


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
            out.print(f"  {_plain(line)}", highlight=False)
        out.print(f"Report: {_plain(facts['report'])}", highlight=False)
        out.print(f"Executed notebook: {_plain(facts['notebook'])}\n", highlight=False)
    out.print("Compare runs: cxlab compare churn. See them in MLflow: cxlab ui (or make ui).", highlight=False)


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


@app.command()
def compare(
    task: Annotated[str, typer.Argument(help="A task, or a registered model's name.")],
    metric: Annotated[
        str | None, typer.Option(help="What to show; the task's own unless given; all for every one.")
    ] = None,
    last: Annotated[int, typer.Option(min=1, help="How many of the newest runs.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show runs side by side, each with its paired difference to the champion.

    Before there is a champion, the challenger (the newest version) takes its place.
    """
    from cxlab.tracking.leaderboard import compare as compare_runs

    board = compare_runs(task, metric=metric, last=last)
    rows = _records(board.frame())
    if as_json:
        emit({"task": task, "references": board.references, "rows": rows})
        return
    for row in rows:
        row["95 % interval"] = _range(row["low"], row["high"])
        row["its interval"] = _range(row["diff_low"], row["diff_high"])
    columns = ["model", "version", "selected", "data", "split", "metric", "value", "95 % interval"]
    show(f"Runs of {task}, newest first", rows, [*columns, "difference", "its interval", "verdict"])
    for reference in board.references:
        model, version, alias = (reference[key] for key in ("model", "version", "alias"))
        out.print(f"Differences of {model} are to version {version} ({alias}).", highlight=False)
    out.print(board.note, highlight=False)


Model = Annotated[str, typer.Argument(help="A registered model's name.")]
Version = Annotated[str, typer.Argument(help="A version's number, or an alias such as challenger.")]


@app.command()
def report(model: Model, version: Version, as_json: AsJson = False) -> None:
    """Show where a version's review is, and its summary.

    The page needs no network: open it in a browser, print it, send it.
    """
    from cxlab.tracking.reports import report_of

    filed = report_of(model, version)
    if as_json:
        emit({"path": str(filed.path), **filed.facts})
        return
    for line in filed.facts["summary"]:
        out.print(_plain(line), highlight=False)
    out.print(_plain(str(filed.path)), highlight=False)


@app.command()
def drift(
    model: Model,
    version: Version,
    current: Annotated[Path, typer.Argument(help="A CSV or Parquet file with the model's columns.")],
    as_json: AsJson = False,
) -> None:
    """Hold data against what a version learnt from. Exit 1 if anything that matters moved."""
    from cxlab.data.files import read_frame
    from cxlab.evidence.drift import drift_between
    from cxlab.tracking.registry import open_version
    from cxlab.tracking.reports import report_of

    frame, _ = read_frame(current)
    subject, filed = open_version(model, version), report_of(model, version)
    threshold = filed.facts["threshold"]["value"]
    found = drift_between(subject, frame, importance=filed.weights, threshold=threshold)
    rows = _records(found.frame())
    if as_json:
        values = {name: item._asdict() for name, item in found.estimated.values.items()}
        performance = None if found.performance is None else _records(found.performance.frame())
        emit({"drift": rows, "estimated": values, "performance": performance, "moved": found.moved})
    else:
        columns = [
            "column",
            "verdict",
            "weight",
            "test",
            "p_adjusted",
            "missing_reference",
            "missing_current",
            "reason",
        ]
        show(f"{current.name} against the training data of {subject.name}", rows, columns)
        out.print(found.note, highlight=False)
        show(
            "Performance, estimated from the scores alone",
            _records(found.estimated.frame()),
            ["metric", "value", "low", "high"],
        )
        out.print(found.estimated.note, highlight=False)
    raise typer.Exit(1 if found.moved else 0)


@data_app.command("list")
def data_list(as_json: AsJson = False) -> None:
    """List the public data sets that cxlab knows, with licence and origin."""
    from cxlab.data.catalog import Catalogue

    rows = _records(Catalogue().frame())
    if as_json:
        emit({"data": rows})
        return
    show("Data sets", rows, ["name", "title", "rows", "kind", "licence", "fetched"])
    out.print("Fetch one: cxlab data get NAME. Then data.path: catalog:NAME in a params file.")


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="A name that `cxlab data list` shows.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Where to put it; the user's cache unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a data set and verify its SHA-256; from CXLAB_DATA_MIRROR first, if it is set."""
    from cxlab.data import catalog

    paths = [str(path) for path in catalog.get(name, to)]
    if as_json:
        emit({"name": name, "paths": paths})
        return
    for path in paths:
        out.print(_plain(path), highlight=False)
    err.print(f"Licence: {_plain(catalog.entry(name).licence)}", highlight=False)


@data_app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file.")],
    params: ParamsFile = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check a file against the roles that a params file gives its columns. Exit 1 if a check fails."""
    from cxlab.data.quality import check
    from cxlab.data.table import read_table
    from cxlab.params import load_params
    from cxlab.places import home

    source = params or home() / "params" / "churn.yaml"
    loaded = load_params(source, [*(overrides or []), f"data.path={file.absolute()}"])
    quality = check(read_table(loaded.data))
    rows = _records(quality.frame())
    if as_json:
        emit({"path": str(file), "checks": rows})
    else:
        show(f"Checks of {file.name} with {source.name}", rows, ["status", "title", "rows", "reason"])
    raise typer.Exit(1 if quality.failed else 0)


@app.command()
def ui(port: Annotated[int, typer.Option(help="On loopback.")] = 5000) -> None:
    """Open MLflow on our store."""
    from cxlab.places import tracking_uri
    from cxlab.tracking.store import store

    with store():
        pass
    uri = tracking_uri()
    out.print(f"MLflow on {_plain(uri)}: http://127.0.0.1:{port} (Ctrl-C ends it)", highlight=False)
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


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open JupyterLab at our notebooks; further options are JupyterLab's own."""
    from cxlab.places import home

    # JupyterLab asks its makers for news and updates; our settings leave both out.
    settings = os.pathsep.join(
        filter(None, [str(Path(__file__).parent / "lab"), os.environ.get("JUPYTER_CONFIG_PATH")])
    )
    start = ["--LabApp.default_url=/lab/tree/notebooks/01_explore_data.ipynb", f"--ServerApp.root_dir={home()}"]
    command = [sys.executable, "-m", "jupyter", "lab", *start, *context.args]
    _become(command, {"JUPYTER_CONFIG_PATH": settings})


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, what is missing, and what to do. Exit 1 if something needed is missing."""
    from cxlab.doctor import findings

    rows = [finding._asdict() for finding in findings()]
    if as_json:
        emit({"checks": rows})
    else:
        show("cxlab doctor", rows, ["status", "title", "reason"])
    raise typer.Exit(1 if any(row["status"] == "fail" for row in rows) else 0)


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


if __name__ == "__main__":
    main()
