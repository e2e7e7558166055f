"""By whose word a model meets customers: gate, approve, reject, roll back.

The ledger decides. An approval counts from the moment its entry is written; aliases, tags and the page follow it, and
where a process died in between the next act puts them right. Two people who act at once write for the same entry: one
wins (see `tracking/ledger.py`), the other's act is checked anew against what the first did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cxlab.errors import CxlabError, ParamsError, unknown
from cxlab.evidence.page import with_decision
from cxlab.places import acting_person
from cxlab.release.dossier import Dossier, open_dossier
from cxlab.release.gates import GATES, Decision, judge
from cxlab.release.history import decided, settle, standing
from cxlab.tracking.ledger import Draft, Entry, Ledger, append
from cxlab.tracking.registry import version_of
from cxlab.tracking.reports import keep_page

if TYPE_CHECKING:
    pass

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
    _check_waivers(waived, decision, dossier)
    left = tuple(code for code in decision.blocking if code not in waived)
    if left:
        raise GateError(decision, left)
    for code, text in waived.items():
        facts = {"code": code, "status": decision.statuses[code], **dossier.digests}
        append(model, _checked(dossier, Draft("waived", dossier.version, f"{code}: {text}", facts)))
    told = {"gates": decision.figures, "waived": sorted(waived), **dossier.digests}
    ledger = append(model, _checked(dossier, Draft("approved", dossier.version, reason, told)))
    settle(model)
    keep_page(dossier.filed, with_decision(dossier.filed.page, decided(ledger, dossier.version)))
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
        standing(ledger, before)
        return Draft("rolled_back", before, reason, {"from": live})

    ledger = append(model, draft)
    settle(model)
    return ledger.entries[-1]


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


def _check_waivers(waived: Mapping[str, str], decision: Decision, dossier: Dossier) -> None:
    by_code = {item.code: item for item in GATES}
    for code, text in waived.items():
        if code not in by_code:
            raise ParamsError(unknown("Gate", code, by_code))
        if not text:
            raise ParamsError(f"The waiver of {code} has no reason; write --waive {code}=REASON.")
        if not by_code[code].waivable:
            raise ParamsError(
                f"{code} is never waived. See why it does not pass: cxlab gate {dossier.model} {dossier.version}"
            )
        if code not in decision.blocking:
            raise ParamsError(
                f"{code} does not block {decision.name} ({decision.statuses[code]}); leave its waiver out."
            )
