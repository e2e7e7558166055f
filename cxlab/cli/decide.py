"""`cxlab decide`: from what was measured to what is to be done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cxlab.cli.decide_experiment import experiment
from cxlab.cli.decide_signals import signals
from cxlab.cli.shown import AsJson, Overrides, emit, say, show, span
from cxlab.display import records

app = typer.Typer(help="From what was measured to what is to be done.", no_args_is_help=True)
app.command()(signals)
app.command()(experiment)


@app.command()
def risk(
    file: Annotated[Path, typer.Argument(help="One row a call: CSV or Parquet.")],
    params: Annotated[
        Path | None, typer.Option("--params", metavar="FILE", help="Rules; params/risk_score.yaml unless given.")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A row a call: its risk and the rule that decided.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score calls for risk in technology and operations: the share with at least one high-risk indicator.

    Rules, units, columns and segments are in params/risk_score.yaml. A score is high-risk calls over the calls of which
    that can be told; what was not measured is counted beside it. Then what raises the risk beyond luck.
    """
    from cxlab.data.files import read_frame
    from cxlab.decide.risk import assess, risk_params, risk_scores
    from cxlab.decide.risk_rules import writable
    from cxlab.decide.root_causes import root_causes

    if out is not None:
        writable(out)
    calls = assess(read_frame(file)[0], risk_params(params, overrides or ()))
    scores, causes = risk_scores(calls), root_causes(calls)
    if out is not None:
        calls.write(out)
    if as_json:
        facts = {"scores": records(scores.frame()), "causes": records(causes.frame())}
        version = {"rules_version": calls.params.version, "unmeasured": calls.unmeasured, "absent": calls.absent}
        emit({**facts, **version, "tested": causes.tested, "path": None if out is None else str(out)})
        return
    rows = records(scores.frame())
    for row in rows:
        row["95 % interval"] = span(row["low"], row["high_bound"])
    columns = ["area", "group", "calls", "high", "share", "95 % interval", "rule", "not_measured"]
    show(scores.title, rows, columns)
    say(scores.note)
    found = records(causes.frame())
    if found:
        show(causes.title, found, ["area", "cause", "calls", "high", "share", "expected", "ratio", "attributable"])
    else:
        say("No segment or condition raises the risk beyond luck.")
    say(causes.note)
