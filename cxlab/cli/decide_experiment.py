"""`cxlab decide experiment`: plan an experiment, read it out, and keep what was decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxlab.cli.shown import AsJson, Overrides, emit, err, escaped, say, show, span
from cxlab.display import records
from cxlab.errors import ParamsError

if TYPE_CHECKING:
    from cxlab.decide.readout import Readout
    from cxlab.params import Params


def experiment(
    file: Annotated[str, typer.Argument(metavar="FILE", help="One row a customer, CSV or Parquet; or catalog:NAME.")],
    params: Annotated[Path, typer.Option("--params", metavar="FILE", help="Params with an experiment section.")],
    write_plan: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="Plan instead: FILE is the past, OUT the plan, which is never changed."),
    ] = None,
    decide: Annotated[
        str | None, typer.Option(metavar="WORD", help="Keep a decision: expand, adjust, stop or 'roll back'.")
    ] = None,
    arm: Annotated[str | None, typer.Option(help="Which arm is decided about, where there are several.")] = None,
    reason: Annotated[str, typer.Option(help="Why; with --decide.")] = "",
    learnt: Annotated[str, typer.Option(help="What is known now that was not before; with --decide.")] = "",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read an experiment out: sample ratio, effects with intervals, guardrails, segments, and what the rule would do.

    Intervals are those of one look where a plan says so and its end is reached; else they hold at any look. Exit 1 if
    the arms have not the planned sizes, or something known before tells them.
    """
    told = _params(params, file, overrides or [])
    if write_plan is not None:
        _plan(told, write_plan, as_json=as_json)
        return
    from cxlab.decide.readout import readout

    found = readout(told)
    facts = found.facts()
    if decide is not None:
        from cxlab.decide.decisions import settle

        entry = settle(found, decide, reason=reason, learnt=learnt, arm=arm)
        facts["decided"] = {"decision": decide, "arm": entry.facts["arm"], "who": entry.who, "time": entry.time}
    if as_json:
        emit(facts)
    else:
        _shown(found)
        if decide is not None:
            say(f"Kept in the ledger: {decide}, by {facts['decided']['who']}.")
    for line in found.notes if as_json else ():
        err.print(escaped(line), highlight=False)
    raise typer.Exit(0 if found.trusted else 1)


def _params(path: Path, file: str, overrides: list[str]) -> Params:
    """The params with this file as their data; a file that has no name takes its own."""
    from cxlab.params import CATALOG, load_params
    from cxlab.params.files import read_yaml

    where = file if file.startswith(CATALOG) else str(Path(file).absolute())
    given = [f"data.path={json.dumps(where)}", *overrides]
    tree = read_yaml(path)
    if "name" not in tree:
        given.append(f"name={json.dumps(path.stem)}")
    if tree.get("experiment") is None and not any(item.startswith("experiment.") for item in overrides):
        raise ParamsError(
            f"{path.name} has no experiment section; it says which column is the arm, which arm the control, which "
            "metric decides. See params/experiment.yaml."
        )
    return load_params(path, given)


def _plan(params: Params, out: Path, *, as_json: bool) -> None:
    from cxlab.data.table import read_table
    from cxlab.decide.decisions import announce
    from cxlab.decide.plans import plan

    written = plan(params, read_table(params.data).frame)
    written.write(out)
    announce(written)
    if as_json:
        facts = {"customers": written.customers, "days": written.days, "detectable": records(written.frame())}
        emit({"plan": str(out), "sha256": written.sha256, **facts})
        return
    show("What could be seen", records(written.frame()), ["customers", "days", "detectable"])
    say(f"{written.note} {out} is in the ledger; name it as experiment.plan.")


def _shown(found: Readout) -> None:
    show(found.srm.title, records(found.srm.frame()), ["arm", "n", "share", "planned"])
    rows = [{**row, "interval": span(row["low"], row["high"])} for row in records(found.frame())]
    columns = ["name", "arm", "role", "n", "value", "difference", "interval", "p", "verdict"]
    show(found.title, rows, columns)
    if len(found.segments):
        by = [{**row, "interval": span(row["low"], row["high"])} for row in records(found.segments)]
        show(
            f"{found.said.primary}, by segment",
            by,
            ["segment", "group", "arm", "n", "difference", "interval", "verdict"],
        )
    for name, (told, why) in found.recommendations().items():
        say(f"{name}: the rule would {told}. {why}")
    say(found.note)
