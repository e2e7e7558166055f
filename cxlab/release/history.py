"""What was done to a model's versions, what is live, and whether the record can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.display import Result
from cxlab.errors import CxlabError, ParamsError, listed
from cxlab.evidence.page import Section, Text, rows
from cxlab.release.dossier import digest_of
from cxlab.release.folder import read_manifest
from cxlab.tracking.ledger import Entry, Ledger, read_ledger
from cxlab.tracking.registry import CHAMPION, PREVIOUS, aliases_of, model_digest, point_aliases, version_of
from cxlab.tracking.reports import report_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LATELY = 10  # approvals over which waivers are counted


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
            standing(ledger, live)
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


def decided(ledger: Ledger, version: str) -> Section:
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
    if approval is not None:
        gates = pd.DataFrame([{"gate": code, **found} for code, found in approval.facts["gates"].items()])
        parts.append(rows("Gates when it was approved", gates))
    return Section("decision", "What was decided?", parts)


def waiver_count(ledger: Ledger) -> str:
    """How often this model's approvals needed a waiver, so that a team that always waives sees it."""
    approved = [entry for entry in ledger.entries if entry.what == "approved"]
    if not approved:
        return f"No version of {ledger.model} was approved yet."
    last = approved[-LATELY:]
    waived = sum(bool(entry.facts["waived"]) for entry in last)
    return f"{waived} of the last {len(last)} approvals of {ledger.model} waived a gate."


def standing(ledger: Ledger, version: str) -> Entry:
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
