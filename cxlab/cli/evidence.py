"""`cxlab compare`, `report` and `drift`: what is known of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxlab.cli.shown import AsJson, Model, Version, emit, out, say, show, span
from cxlab.display import records

if TYPE_CHECKING:
    from cxlab.evidence.drift import DriftReport
    from cxlab.evidence.sequence_transitions import TransitionDrift


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
    rows = records(board.frame())
    if as_json:
        emit({"task": task, "references": board.references, "rows": rows})
        return
    for row in rows:
        row["95 % interval"] = span(row["low"], row["high"])
        row["its interval"] = span(row["diff_low"], row["diff_high"])
    columns = ["model", "version", "selected", "data", "split", "metric", "value", "95 % interval"]
    show(f"Runs of {task}, newest first", rows, [*columns, "difference", "its interval", "verdict"])
    for reference in board.references:
        model, version, alias = (reference[key] for key in ("model", "version", "alias"))
        out.print(f"Differences of {model} are to version {version} ({alias}).", highlight=False)
    out.print(board.note, highlight=False)


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
        say(line)
    say(str(filed.path))


def drift(
    model: Model,
    version: Version,
    current: Annotated[Path, typer.Argument(help="A CSV or Parquet file with the model's columns, or a log of cases.")],
    as_json: AsJson = False,
) -> None:
    """Hold data against what a version learnt from. Exit 1 if anything that matters moved."""
    from cxlab.data.files import read_frame
    from cxlab.evidence.drift import drift_between
    from cxlab.evidence.sequence_drift import log_drift
    from cxlab.features.table import load_log
    from cxlab.tracking.registry import open_version
    from cxlab.tracking.reports import report_of

    subject, filed = open_version(model, version), report_of(model, version)
    transitions = None
    if subject.params.task == "sequence":
        found, transitions = log_drift(subject, load_log(subject.params, current), importance=filed.weights)
    else:
        threshold = None if subject.many else filed.facts["threshold"]["value"]
        found = drift_between(subject, read_frame(current)[0], importance=filed.weights, threshold=threshold)
    _show_drift(found, transitions, f"{current.name} against the training data of {subject.name}", as_json)
    raise typer.Exit(1 if found.moved or (transitions is not None and transitions.moved) else 0)


def _show_drift(found: DriftReport, transitions: TransitionDrift | None, title: str, as_json: bool) -> None:
    rows = records(found.frame())
    if as_json:
        values = {name: item._asdict() for name, item in found.estimated.values.items()}
        performance = None if found.performance is None else records(found.performance.frame())
        facts: dict[str, Any] = {"drift": rows, "estimated": values, "performance": performance, "moved": found.moved}
        if transitions is not None:
            facts |= {"transitions": records(transitions.frame()), "transitions_moved": transitions.moved}
        emit(facts)
        return
    columns = ["column", "verdict", "weight", "test", "p_adjusted", "missing_reference", "missing_current", "reason"]
    show(title, rows, columns)
    out.print(found.note, highlight=False)
    if transitions is not None:
        columns = ["event", "verdict", "n_train", "n_test", "p_adjusted", "size", "reason"]
        show("What comes after each event, training against now", records(transitions.frame()), columns)
        out.print(transitions.note, highlight=False)
    title = "Performance, estimated from the scores alone"
    show(title, records(found.estimated.frame()), ["metric", "value", "low", "high"])
    out.print(found.estimated.note, highlight=False)
