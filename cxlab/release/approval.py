"""By whose word a model meets customers: gate, approve, reject, roll back, export, and the history of it all.

The ledger decides. An approval counts from the moment its entry is written; aliases, tags and the page follow it, and
where a process died in between the next act puts them right. Two people who act at once write for the same entry: one
wins (see `tracking/ledger.py`), the other's act is checked anew against what the first did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.digest import sha256_of
from cxlab.display import Result
from cxlab.errors import CxlabError, ParamsError, listed, unknown
from cxlab.evidence.page import Section, Text, rows, with_decision, without_customers
from cxlab.places import acting_person
from cxlab.release.bundle import write_bundle
from cxlab.release.dossier import Dossier, digest_of, open_dossier
from cxlab.release.gates import GATES, Decision, judge
from cxlab.release.scorer import MANIFEST, read_manifest
from cxlab.release.signing import sign, signing_key
from cxlab.tracking.ledger import Draft, Entry, Ledger, append, read_ledger
from cxlab.tracking.registry import CHAMPION, PREVIOUS, aliases_of, model_digest, point_aliases, version_of
from cxlab.tracking.reports import keep_page, report_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LATELY = 10  # approvals over which waivers are counted


def gate(model: str, version: str) -> Decision:
    """Asks every gate about a version; a verdict that differs from the last one goes into the ledger.

    Raises:
        CxlabError: The version, its report or its data can't be opened.
    """
    dossier = open_dossier(model, version)
    decision = judge(dossier)
    last = [entry for entry in dossier.ledger.of(dossier.version) if entry.what == "gated"][-1:]
    if [entry.facts["statuses"] for entry in last] != [decision.statuses]:
        said = f"blocked by {', '.join(decision.blocking)}" if decision.blocking else "nothing blocks"
        entry = Draft("gated", dossier.version, said, {"statuses": decision.statuses, **dossier.digests})
        append(model, lambda _: entry)
    return decision


class GateError(CxlabError):
    """Gates stand in the way of an approval.

    Attributes:
        decision: What they said.
        blocking: The codes that were not waived.
    """

    def __init__(self, decision: Decision, blocking: Sequence[str]) -> None:
        self.decision, self.blocking = decision, tuple(blocking)
        waivable = [item.code for item in GATES if item.code in blocking and item.waivable]
        fixed = [code for code in blocking if code not in waivable]
        said = f"{decision.name} is not approved: {', '.join(blocking)} did not pass."
        if fixed:
            said += f" {' and '.join(fixed)} can't be waived."
        super().__init__(said + (f" To waive one, say why: --waive {waivable[0]}=REASON" if waivable else ""))


def approve(model: str, version: str, *, reason: str, waive: Mapping[str, str] | None = None) -> Entry:
    """Lets a version meet customers, by the word of the acting person.

    Args:
        model: Its registered name.
        version: A number or an alias.
        reason: Why; goes into the ledger.
        waive: Reasons by the code of a gate that did not pass. They hold for this version alone.
    Raises:
        GateError: A gate blocks.
        CxlabError: The person trained it, the version is live already, or a waiver does not fit.
    """
    waived = {code: text.strip() for code, text in (waive or {}).items()}
    reason = _given(reason, "approve")
    settle(model)
    dossier = open_dossier(model, version)
    _check(dossier, dossier.ledger)
    decision = judge(dossier)
    _check_waivers(waived, decision)
    left = tuple(code for code in decision.blocking if code not in waived)
    if left:
        raise GateError(decision, left)
    for code, text in waived.items():
        facts = {"code": code, "status": decision.statuses[code], **dossier.digests}
        append(model, _checked(dossier, Draft("waived", dossier.version, f"{code}: {text}", facts)))
    told = {"statuses": decision.statuses, "waived": sorted(waived), **dossier.digests}
    ledger = append(model, _checked(dossier, Draft("approved", dossier.version, reason, told)))
    settle(model)
    keep_page(dossier.filed, with_decision(dossier.filed.page, decided(ledger, dossier.version, decision)))
    return ledger.entries[-1]


def reject(model: str, version: str, *, reason: str) -> Entry:
    """Says no to a version; an approval of it that stood is void from now on.

    Raises:
        CxlabError: It is live: roll back instead.
    """
    reason, (number, _) = _given(reason, "reject"), version_of(model, version)

    def draft(ledger: Ledger) -> Draft:
        if ledger.live() == number:
            raise ParamsError(f"{model} version {number} is live. Take it back: cxlab rollback {model} --reason TEXT")
        return Draft("rejected", number, reason)

    return append(model, draft).entries[-1]


def rollback(model: str, *, reason: str) -> Entry:
    """Brings back the champion before this one; the one left needs a new approval.

    Raises:
        CxlabError: Nothing is live, or no approved version came before.
    """
    reason = _given(reason, "roll back")
    settle(model)

    def draft(ledger: Ledger) -> Draft:
        live, before = ledger.live(), ledger.before()
        if live is None:
            raise ParamsError(f"No version of {model} is live, so there is nothing to roll back.")
        if before is None:
            raise ParamsError(
                f"No approved version of {model} came before version {live}; there is none to go back to."
            )
        _check_digests(ledger, before)
        return Draft("rolled_back", before, reason, {"from": live})

    ledger = append(model, draft)
    settle(model)
    return ledger.entries[-1]


def export(model: str, to: str | Path, *, version: str | None = None) -> Path:
    """Writes the bundle of an approved version: the champion, or the one given.

    Raises:
        CxlabError: The version is not approved, its approval is void, or its scores would differ.
    """
    to, ledger = Path(to), read_ledger(model)
    number = version_of(model, version)[0] if version is not None else ledger.live()
    if number is None:
        version_of(model, "1")
        raise ParamsError(
            f"No version of {model} is live. Approve one first: cxlab approve {model} VERSION --reason TEXT"
        )
    entry = _check_digests(ledger, number)
    dossier = open_dossier(model, number)
    key = signing_key()
    facts = {
        "model": model,
        "version": number,
        "task": dossier.subject.params.task,
        "run_id": _registered(ledger, number).facts["run_id"],
        "approval": {"who": entry.who, "time": entry.time, "reason": entry.reason, "hash": entry.hash},
        "ledger": {"length": ledger.length, "head": ledger.head},
        **dossier.digests,
    }

    def finish(folder: Path) -> None:
        if key is not None:
            sign(folder, key)
        told = {"manifest_sha256": sha256_of(folder / MANIFEST), "signed": key is not None}

        def draft(now: Ledger) -> Draft:
            _check_digests(now, number)
            return Draft("exported", number, to.name, told)

        append(model, draft)

    evidence = _evidence(dossier, ledger, entry)
    return write_bundle(dossier.subject, to, facts=facts, report=dossier.facts, evidence=evidence, finish=finish)


def _evidence(dossier: Dossier, ledger: Ledger, entry: Entry) -> dict[str, str]:
    """What goes with a bundle: aggregates alone, nothing of single customers."""
    facts = dossier.facts
    acts = [item for item in ledger.of(dossier.version) if item.what in ("waived", "approved")]
    approval = {"approved": _told(entry), "waived": [_told(item) for item in acts if item.what == "waived"]}
    pieces = {"report": facts, "fairness": facts["fairness"], "drift": facts["drift"]}
    pieces |= {"gates": entry.facts["statuses"], "approval": approval}
    texts = {f"{name}.json": json.dumps(piece, indent=1) + "\n" for name, piece in pieces.items()}
    page = with_decision(dossier.filed.page, decided(ledger, dossier.version, None))
    return texts | {"report.html": without_customers(page), "card.md": _card(dossier, entry)}


def _told(entry: Entry) -> dict[str, Any]:
    return {"who": entry.who, "time": entry.time, "reason": entry.reason, "facts": entry.facts, "hash": entry.hash}


def _card(dossier: Dossier, entry: Entry) -> str:
    """The model card: what it is for, how good, whom it treats differently, what is not known, who let it out."""
    waived = entry.facts["waived"]
    lines = [f"# {dossier.name}", ""]
    for line in dossier.facts["summary"]:
        question, _, answer = line.partition("? ")
        lines += [f"## {question}?", "", answer, ""]
    lines += [
        "## Who let it out?",
        "",
        f"Trained by {dossier.author}. Approved by {entry.who} on {entry.time}: {entry.reason}",
    ]
    lines += ["", f"Gates waived: {', '.join(waived) if waived else 'none'}.", ""]
    return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class History(Result):
    """What was done to a model's versions, and what is wrong with the record.

    Attributes:
        ledger: Every entry.
        problems: In the chain, its witnesses, the aliases, or the approval of what is live.
        live: The version that is, or was, live at the time asked for.
    """

    ledger: Ledger
    problems: tuple[str, ...]
    live: str | None

    title: ClassVar[str] = "History"

    @property
    def note(self) -> str:  # type: ignore[override]
        approved, waived = self.ledger.waivers()
        counted = f"{waived} of {approved} approvals waived a gate. " if approved else ""
        return f"{counted}{' '.join(self.problems) or self.ledger.note}"

    def frame(self) -> pd.DataFrame:
        """One row an entry: time, who, what, version, reason, hash, previous."""
        return self.ledger.frame().drop(columns="n")

    def plot(self) -> Axes:
        return self.ledger.plot()


def history(model: str, *, at: datetime | None = None, bundles: Sequence[str | Path] = ()) -> History:
    """The ledger of a model, checked against every witness.

    Args:
        model: Its registered name.
        at: What was live then; now by default. Without a zone it is UTC.
        bundles: Folders of exported bundles, which remember the ledger's head of their day.
    Raises:
        ParamsError: There is no such model.
    """
    ledger = read_ledger(model)
    if not ledger.entries and not ledger.problems:
        version_of(model, "1")
    problems = [*ledger.problems, *_strayed(model, ledger)]
    live = ledger.live()
    if live is not None and not ledger.problems:
        try:
            _check_digests(ledger, live)
        except CxlabError as error:
            problems.append(str(error))
    problems += [problem for folder in bundles for problem in _remembered(ledger, Path(folder))]
    return History(ledger, tuple(problems), ledger.live(at))


def _remembered(ledger: Ledger, folder: Path) -> list[str]:
    """What a bundle remembers otherwise."""
    manifest = read_manifest(folder)
    told, name = manifest.get("ledger", {}), folder.name
    if manifest.get("model") != ledger.model:
        return [f"Bundle {name} is of {manifest.get('model')!r}, not of {ledger.model!r}."]
    length, head = told.get("length", 0), told.get("head")
    if length > ledger.length:
        return [f"Bundle {name} remembers entry {length}, but the ledger ends at {ledger.length}: its end was removed."]
    if ledger.entries[length - 1].hash != head:
        return [f"Bundle {name} remembers another entry {length}: the ledger was rewritten."]
    return []


def _strayed(model: str, ledger: Ledger) -> list[str]:
    aliases, live = aliases_of(model), ledger.live()
    if aliases.get(CHAMPION) == live:
        return []
    there = aliases.get(CHAMPION, "nowhere")
    return [
        f"The alias champion points at {there}, the ledger says {live or 'nowhere'}: somebody moved it "
        "past cxlab, or an act died."
    ]


def settle(model: str) -> list[str]:
    """Points the aliases where the ledger says; tells which were elsewhere.

    Raises:
        StoreError: The ledger is broken.
    """
    ledger = read_ledger(model)
    if ledger.problems or not ledger.entries:
        return []
    return point_aliases(model, {CHAMPION: ledger.live(), PREVIOUS: ledger.before()})


def decided(ledger: Ledger, version: str, decision: Decision | None) -> Section:
    """The page's section on what was decided, with how often gates were waived."""
    approval = ledger.approval(version)
    parts: list[Any] = []
    if approval is not None:
        waived = approval.facts["waived"]
        said = f"Approved by {approval.who} on {approval.time[:16].replace('T', ' ')} UTC: {approval.reason}"
        parts += [Text(said), Text(f"Gates waived: {', '.join(waived) if waived else 'none'}.", loud=bool(waived))]
    parts.append(Text(waiver_count(ledger)))
    acts = [entry for entry in ledger.of(version) if entry.what == "waived"]
    if acts:
        frame = pd.DataFrame([{"waived": entry.reason, "by": entry.who, "when": entry.time} for entry in acts])
        parts.append(rows("Waivers of this version", frame))
    if decision is not None:
        parts.append(rows("Gates", decision.frame()))
    return Section("decision", "What was decided?", parts)


def waiver_count(ledger: Ledger) -> str:
    """How often this model's approvals needed a waiver, so that a team that always waives sees it."""
    approved = [entry for entry in ledger.entries if entry.what == "approved"]
    if not approved:
        return f"No version of {ledger.model} was approved yet."
    last = approved[-LATELY:]
    waived = sum(bool(entry.facts["waived"]) for entry in last)
    return f"{waived} of the last {len(last)} approvals of {ledger.model} waived a gate."


def _given(reason: str, act: str) -> str:
    if not reason.strip():
        raise ParamsError(f"reason == {reason!r}, must say why you {act}: it goes into the ledger.")
    return reason.strip()


def _checked(dossier: Dossier, draft: Draft) -> Any:
    """A draft that is checked again against whatever the ledger says when it is written."""

    def draw(ledger: Ledger) -> Draft:
        _check(dossier, ledger)
        return draft

    return draw


def _check(dossier: Dossier, ledger: Ledger) -> None:
    """Stops where the acting person may not approve, or nothing is left to approve."""
    person = acting_person()
    if person.strip().casefold() == dossier.author.strip().casefold():
        raise ParamsError(
            f"{person} trained {dossier.name}, so somebody else must approve it. Who acts is CXLAB_USER, else the "
            "system's user."
        )
    standing = ledger.approval(dossier.version)
    if standing is not None and ledger.live() == dossier.version:
        raise ParamsError(
            f"{dossier.name} was approved by {standing.who} on {standing.time} and is live. Nothing was changed."
        )


def _check_waivers(waived: Mapping[str, str], decision: Decision) -> None:
    by_code = {item.code: item for item in GATES}
    for code, text in waived.items():
        if code not in by_code:
            raise ParamsError(unknown("Gate", code, by_code))
        if not text:
            raise ParamsError(f"The waiver of {code} has no reason; write --waive {code}=REASON.")
        if not by_code[code].waivable:
            raise ParamsError(
                f"{code} is never waived. See why it does not pass: cxlab gate {' '.join(_words(decision))}"
            )
        if code not in decision.blocking:
            raise ParamsError(
                f"{code} does not block {decision.name} ({decision.statuses[code]}); leave its waiver out."
            )


def _words(decision: Decision) -> list[str]:
    return decision.name.split(" version ")


def _registered(ledger: Ledger, version: str) -> Entry:
    return next(entry for entry in ledger.of(version) if entry.what == "registered")


def _check_digests(ledger: Ledger, version: str) -> Entry:
    """The approval that stands, of just this model and just this report.

    Raises:
        CxlabError: There is none, or the model or the report changed since.
    """
    if ledger.problems:
        raise ParamsError(
            f"The ledger of {ledger.model} is broken: {ledger.problems[0]} See: cxlab history {ledger.model}"
        )
    entry, name = ledger.approval(version), f"{ledger.model} version {version}"
    if entry is None:
        acts = [item for item in ledger.of(version) if item.what == "rejected"]
        left = [item for item in ledger.entries if item.what == "rolled_back" and item.facts.get("from") == version]
        why = [f"{item.what.replace('_', ' ')} by {item.who}: {item.reason}" for item in (*acts, *left)][-1:]
        said = f" It was {why[0]}" if why else ""
        raise ParamsError(f"{name} is not approved.{said} See what blocks it: cxlab gate {ledger.model} {version}")
    changed = [
        what
        for what, now in (
            ("model", model_digest(ledger.model, version)),
            ("report", digest_of(report_of(ledger.model, version).facts)),
        )
        if entry.facts[f"{what}_sha256"] != now
    ]
    if changed:
        raise ParamsError(
            f"The approval of {name} is void: its {listed(changed)} changed after {entry.who} approved it."
        )
    return entry
