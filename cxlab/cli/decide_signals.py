"""`cxlab decide signals`: what would be sent, and what holds it back; over past events, or as they arrive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cxlab.cli.shown import AsJson, Overrides, emit, say, show
from cxlab.display import records


def signals(
    events: Annotated[
        Path, typer.Argument(metavar="FILE", help="Events in the contract's columns, CSV or Parquet, or a folder.")
    ],
    params: Annotated[
        Path | None, typer.Option("--params", metavar="FILE", help="params/signals.yaml unless given.")
    ] = None,
    overrides: Overrides = None,
    customers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Time zones, preferred channels, segments; one row a customer.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Every decision as a line of JSON.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and decide on what arrives, until stopped.")] = False,
    until_idle: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="Stop when nothing has come for S seconds.")
    ] = None,
    stop_after: Annotated[float | None, typer.Option(min=0, metavar="S", help="Stop after S seconds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Decide when to act first: nothing is sent here, but every decision is written down, with its reason.

    Over past events it shows what would have been sent. With --follow it decides within seconds on rows that are added
    to a CSV file, or files that come into a folder; with --out it can be stopped and goes on where it was.
    """
    from cxlab.decide.replay import replay
    from cxlab.errors import ParamsError
    from cxlab.params.signals import load_signals
    from cxlab.places import home

    if not follow and (until_idle is not None or stop_after is not None):
        raise ParamsError("--until-idle and --stop-after end --follow; add --follow, or leave them out.")
    told, _ = load_signals(params or home() / "params" / "signals.yaml", overrides or [])
    if follow:
        _follow(events, told, customers, out, until_idle, stop_after, as_json)
        return
    found = replay(events, told, customers=customers)
    if out is not None:
        found.write(out)
    if as_json:
        facts = {"rows": found.read.rows_in, "used": found.used, "quarantined": len(found.read.quarantine)}
        harm = records(found.harm())
        emit({**_told(found.decisions), **facts, "harm": harm, "out": _path(out), "notes": list(found.notes)})
        return
    table = found.guardrails()
    show(found.title, records(table), ["situation", "status", "guardrail", "decisions", "share"])
    say(found.note)
    for note in found.notes:
        say(note)
    say(f"Every decision: {out}" if out is not None else "Every decision, a line each: --out decisions.jsonl")


def _follow(
    events: Path,
    told: Any,
    customers: Path | None,
    out: Path | None,
    until_idle: float | None,
    stop_after: float | None,
    as_json: bool,
) -> None:
    from cxlab.decide.follow import Follower

    kept: list[dict[str, Any]] = []
    with Follower(events, told, customers=customers, out=out) as follower:
        try:
            for decisions in follower.run(until_idle_s=until_idle, stop_after_s=stop_after):
                if as_json:
                    kept += decisions
                    continue
                for item in decisions:
                    place = item["guardrail"] or item["channel"] or ""
                    who = item["customer"] or item["situation"]
                    say(f"{item['time']} {who} {item['action']} {item['status']} {place}: {item['reason']}")
        except KeyboardInterrupt:  # how following usually ends
            say("Stopped.")
        facts = {"rows": follower.rows_in, "late": follower.late, "quarantined": follower.quarantined}
    if as_json:
        emit({**_told(kept), **facts, "out": _path(out), "notes": list(follower.notes)})
        return
    counts = ", ".join(f"{count:,} {status}" for status, count in sorted(follower.counts.items()))
    say(f"{facts['rows']:,} rows, {facts['late']:,} of them late, {facts['quarantined']:,} in quarantine: {counts}.")


def _told(decisions: Any) -> Mapping[str, Any]:
    counts = Counter(item["status"] for item in decisions)
    return {"decisions": list(decisions), "counts": dict(sorted(counts.items()))}


def _path(out: Path | None) -> str | None:
    return None if out is None else str(out)
