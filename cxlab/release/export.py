"""An approved version as a bundle, with the evidence it was approved on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cxlab.digest import sha256_of
from cxlab.errors import ParamsError
from cxlab.evidence.page import with_decision, without_customers
from cxlab.release.bundle import write_bundle
from cxlab.release.dossier import Dossier, open_dossier, registered
from cxlab.release.folder import MANIFEST
from cxlab.release.history import decided, standing
from cxlab.release.signing import sign, signing_key
from cxlab.tracking.ledger import Draft, Entry, Ledger, append, read_ledger
from cxlab.tracking.registry import version_of


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
    entry = standing(ledger, number)
    dossier = open_dossier(model, number)
    key = signing_key()
    facts = {
        "model": model,
        "version": number,
        "task": dossier.subject.params.task,
        "run_id": registered(ledger, number).facts["run_id"],
        "approval": {"who": entry.who, "time": entry.time, "reason": entry.reason, "hash": entry.hash},
        "ledger": {"length": ledger.length, "head": ledger.head},
        **dossier.digests,
    }

    def finish(folder: Path) -> None:
        if key is not None:
            sign(folder, key)
        told = {"manifest_sha256": sha256_of(folder / MANIFEST), "signed": key is not None}

        def draft(now: Ledger) -> Draft:
            standing(now, number)
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
    pieces |= {"gates": entry.facts["gates"], "approval": approval}
    texts = {f"{name}.json": json.dumps(piece, indent=1) + "\n" for name, piece in pieces.items()}
    page = with_decision(dossier.filed.page, decided(ledger, dossier.version))
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
