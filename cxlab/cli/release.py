"""`cxlab gate` to `cxlab serve`: how a model leaves the lab."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxlab.cli.shown import AsJson, Model, Version, emit, err, escaped, say, show
from cxlab.display import records
from cxlab.errors import ParamsError

if TYPE_CHECKING:
    from cxlab.release.gates import Decision
    from cxlab.tracking.ledger import Entry

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it goes into the ledger.")]
Bundle = Annotated[Path, typer.Argument(metavar="DIR", help="A bundle, as cxlab export writes it.")]
GATES = ["code", "title", "status", "value", "limit", "reason"]


def gate(model: Model, version: Version, as_json: AsJson = False) -> None:
    """Ask every gate about a version. Exit 1 unless all that apply pass."""
    from cxlab.release.approval import gate as ask

    decision = ask(model, version)
    if as_json:
        emit({"gates": records(decision.frame()), "blocking": list(decision.blocking)})
    else:
        _show(decision)
        say(f"Blocked by {', '.join(decision.blocking)}." if decision.blocking else f"Nothing blocks {decision.name}.")
    raise typer.Exit(1 if decision.blocking else 0)


def _show(decision: Decision) -> None:
    show(f"Gates of {decision.name}", records(decision.frame()), GATES)


def approve(
    model: Model,
    version: Version,
    reason: Reason,
    waive: Annotated[
        list[str] | None, typer.Option("--waive", metavar="CODE=REASON", help="Let it pass a gate, and say why.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Let a version meet customers, by your word. Exit 1 if a gate blocks; the one who trained it may not.

    Who acts is CXLAB_USER, else the system's user: a claim that goes into the ledger.
    """
    from cxlab.release.approval import GateError
    from cxlab.release.approval import approve as let_out

    try:
        entry = let_out(model, version, reason=reason, waive=dict(_waiver(item) for item in waive or []))
    except GateError as error:
        if as_json:
            emit({"approved": False, "gates": records(error.decision.frame()), "blocking": list(error.blocking)})
        else:
            _show(error.decision)
            err.print(escaped(str(error)), highlight=False)
        raise typer.Exit(1) from None
    _told(entry, as_json, f"It is the champion now. Export it: cxlab export {model} --to DIR", approved=True)


def _waiver(item: str) -> tuple[str, str]:
    code, equals, reason = item.partition("=")
    if not equals:
        raise ParamsError(f"--waive {item!r} has no reason; write --waive {item}=REASON.")
    return code.strip(), reason


def reject(model: Model, version: Version, reason: Reason, as_json: AsJson = False) -> None:
    """Say no to a version; an approval of it that stood is void."""
    from cxlab.release.approval import reject as refuse

    _told(refuse(model, version, reason=reason), as_json, "It can't be exported.")


def rollback(model: Model, reason: Reason, as_json: AsJson = False) -> None:
    """Bring back the champion before this one; the one left needs a new approval."""
    from cxlab.release.approval import rollback as bring_back

    _told(bring_back(model, reason=reason), as_json, "It is the champion again.")


def _told(entry: Entry, as_json: bool, then: str, **more: Any) -> None:
    if as_json:
        emit({**more, "entry": vars(entry)})
        return
    what = entry.what.replace("_", " ")
    say(f"Version {entry.version} {what} by {entry.who} on {entry.time}: {entry.reason}. {then}")


def history(
    model: Model,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="What was live then, as 2026-11-17T09:00.")] = None,
    bundle: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A bundle of the model, which remembers the ledger's head.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show who did what to a model's versions, and what is live. Exit 1 if the record is broken.

    A time without a zone is UTC. An unsigned chain can't show that somebody rewrote it together with all its witnesses.
    """
    from cxlab.release.history import history as look

    found = look(model, at=_time(at), bundles=bundle or ())
    rows = records(found.frame())
    if as_json:
        emit({"entries": rows, "live": found.live, "problems": list(found.problems)})
    else:
        for row in rows:
            row["hash"] = row["hash"][:12]
        show(f"History of {model}", rows, ["time", "who", "what", "version", "reason", "hash"])
        when = f"at {at}" if at else "now"
        say(f"Live {when}: {f'version {found.live}' if found.live else 'none'}.")
        say(found.note)
    raise typer.Exit(1 if found.problems else 0)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"--at {text!r} is no time; write 2026-11-17, or 2026-11-17T09:00+01:00.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def export(
    model: Model,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A folder that is not there yet.")],
    version: Annotated[str | None, typer.Option(help="An approved version; the champion unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the bundle of an approved version: a folder that anyone can verify and serve without us.

    It is signed where CXLAB_SIGNING_KEY names a private key (extra sign).
    """
    from cxlab.release.export import export as write
    from cxlab.release.folder import read_manifest

    folder = write(model, to, version=version)
    manifest = read_manifest(folder)
    if as_json:
        told = {key: manifest[key] for key in ("model", "version", "parity", "reasons", "ledger")}
        emit({"path": str(folder), "files": len(manifest["files"]), **told})
        return
    say(f"{model} version {manifest['version']} is in {folder}, {len(manifest['files'])} files.")
    say(f"Check it: cxlab verify {folder}. Score with it: cxlab score {folder} INPUT --out OUT")


def verify(
    folder: Bundle,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="The public key it should be signed with.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a bundle is what was exported, byte by byte, and scores its golden rows alike. Exit 1 if not."""
    from cxlab.release.verify import as_json as told
    from cxlab.release.verify import verify as check

    found = check(folder, key=key)
    if as_json:
        emit(told(found))
    else:
        for problem in found.problems:
            say(problem)
        say(found.note)
    raise typer.Exit(0 if found.ok else 1)


def score(
    folder: Bundle,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="CSV (plain or gzipped) or Parquet.")],
    to: Annotated[Path, typer.Option("--out", metavar="OUT", help="CSV or Parquet, by its suffix.")],
    reasons: Annotated[int, typer.Option(min=0, max=20, metavar="K", help="Reasons a row at most.")] = 0,
    consents: Annotated[
        Path | None, typer.Option(metavar="EVENTS", help="Events that tell what customers permit; others are left out.")
    ] = None,
    params: Annotated[
        Path | None, typer.Option("--params", metavar="FILE", help="Whose events section says how to read EVENTS.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score a file: one row out for each row in, in order. Exit 1 if rows could not be read.

    Where the rows are events there is one row out for each case, in the order in which they are first named; rows may
    come in any order. An answer that the training log is too short to tell is empty.
    With --consents, customers who do not permit the purpose in the params now, or were forgotten, are in no output.
    Rows that cannot be read keep their place without a score, and are repeated in OUT.bad.csv with their line and
    what is wrong.
    A decision of "review" means that the score is too near the threshold to tell, and a person should decide; of words,
    "abstained" that no intent is sure enough to act on.
    """
    from cxlab.release.score import score_file
    from cxlab.release.scorer import load_bundle
    from cxlab.release.sequence_scorer import LONGEST

    permits = None
    if consents is not None:
        from cxlab.data.admit import admit
        from cxlab.params import load_events
        from cxlab.places import home

        told, zone = load_events(params or home() / "params" / "churn.yaml")
        permits = admit(consents, told, timezone=zone)
    elif params is not None:
        raise ParamsError("--params says how to read --consents EVENTS; give both or neither.")
    found = score_file(load_bundle(folder), source, to, reasons=reasons, permits=permits)
    if as_json:
        side = None if found.side is None else str(found.side)
        counts = {"rows": found.rows, "left_out": found.left_out, "bad": found.bad, "seconds": found.seconds}
        if found.cut:
            counts["cut"] = found.cut
        emit({**counts, "out": str(found.out), "side": side})
    else:
        say(f"{found.rows:,} rows in {found.seconds:.1f} s: {found.out}")
        if found.cut:
            say(f"{found.cut:,} events were not looked at: a case keeps its latest {LONGEST:,}.")
        if found.left_out:
            say(f"{found.left_out:,} rows were left out: their customers do not permit it.")
        if found.side is not None:
            say(f"{found.bad:,} rows could not be read; why is in {found.side}")
    raise typer.Exit(1 if found.bad else 0)


def serve(
    folder: Bundle,
    port: Annotated[int, typer.Option(help="Where to listen.")] = 8000,
    host: Annotated[str, typer.Option(help="Other than loopback needs a token in CXLAB_SERVE_TOKEN.")] = "127.0.0.1",
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A CSV of what was asked and answered; cxlab drift reads it.")
    ] = None,
    log_ids: Annotated[bool, typer.Option("--log-ids", help="Write the customers' ids into it as well.")] = False,
) -> None:
    """Answer scores over HTTP: /score, the Open Inference Protocol under /v2, /docs, /health, /metrics.

    Where CXLAB_SERVE_TOKEN is set, every call but /health needs it. Of what customers say no log keeps a word.
    """
    from cxlab.serving.server import serve as answer

    answer(folder, host=host, port=port, log=log, log_ids=log_ids)
