"""By whose word: a named person, not the author, bound to one model and one report; and the record of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cxlab.digest import sha256_of
from cxlab.errors import BundleError, CxlabError, ParamsError
from cxlab.release import approval
from cxlab.release import history as histories
from cxlab.release.approval import GateError, approve, gate, reject, rollback
from cxlab.release.export import export
from cxlab.release.folder import read_manifest
from cxlab.release.gates import Calibrated, Decision, Fair, Gate, Parity, Verdict
from cxlab.release.history import history
from cxlab.release.scorer import load_bundle
from cxlab.release.verify import verify
from cxlab.tracking import registry
from cxlab.tracking.ledger import Ledger, read_ledger
from cxlab.tracking.registry import aliases_of
from cxlab.tracking.reports import report_of
from cxlab.tracking.store import store

Register = Callable[..., str]


@pytest.fixture
def open_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gate passes: these tests are about people."""
    monkeypatch.setattr(approval, "judge", lambda dossier: decision_of(dossier.name))


def decision_of(name: str, **statuses: Any) -> Decision:
    kinds: tuple[type[Gate], ...] = (Fair, Calibrated, Parity)
    return Decision(name, {kind: Verdict(statuses.get(kind.code, "pass"), 0.0, 0.0, "") for kind in kinds})


def entries(model: str) -> list[tuple[str, str, str]]:
    return [(item.what, item.who, item.version) for item in read_ledger(model).entries]


# --- a law: the alias, the ledger and the export always say the same


def test_a_model_s_life_is_told_by_the_ledger(
    register: Register, open_gates: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = register("life"), register("life")
    assert (one, two) == ("1", "2")
    with pytest.raises(ParamsError, match=r"No version of life is live. Approve one first"):
        export("life", tmp_path / "none")
    approve("life", one, reason="better than nothing")
    between = datetime.now(UTC)
    approve("life", "challenger", reason="better than one")
    assert aliases_of("life") == {"challenger": "2", "champion": "2", "previous": "1"}
    assert history("life").live == "2"
    assert history("life", at=between).live == "1"
    assert history("life", at=between - timedelta(days=7)).live is None

    folder = export("life", tmp_path / "two")
    assert read_manifest(folder)["version"] == "2"
    assert read_manifest(export("life", tmp_path / "one", version="1"))["version"] == "1"

    rollback("life", reason="complaints doubled")
    assert aliases_of("life") == {"challenger": "2", "champion": "1"}
    assert history("life", bundles=[folder]).live == "1"
    assert history("life", bundles=[folder]).problems == ()
    with pytest.raises(ParamsError, match=r"2 is not approved. It was rolled back by bob: complaints doubled"):
        export("life", tmp_path / "again", version="2")
    with pytest.raises(ParamsError, match=r"came before version 1; there is none to go back to"):
        rollback("life", reason="again")
    approve("life", two, reason="mended the texts")
    assert history("life").live == "2"
    assert [what for what, _, _ in entries("life")] == [
        *("registered", "registered", "approved", "approved", "exported", "exported", "rolled_back", "approved")
    ]


# --- who may, and what for


def test_the_author_may_not_whatever_the_spelling(
    register: Register, open_gates: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register("own", author="Ann Example")
    for name in ("Ann Example", " ann example "):
        monkeypatch.setenv("CXLAB_USER", name)
        with pytest.raises(ParamsError, match=r"trained own version 1, so somebody else must approve it"):
            approve("own", version, reason="it is mine")
    assert [what for what, _, _ in entries("own")] == ["registered"]
    assert "champion" not in aliases_of("own")


@pytest.mark.parametrize("reason", ["", "  "])
def test_no_act_goes_without_a_reason(register: Register, open_gates: None, reason: str) -> None:
    for act in (lambda: approve("x", "1", reason=reason), lambda: reject("x", "1", reason=reason)):
        with pytest.raises(ParamsError, match=r"must say why you"):
            act()


def test_gates_block_unless_waived_by_code_with_a_reason(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register("gated")
    said = decision_of("gated version 1", fair="cannot_tell")
    monkeypatch.setattr(approval, "judge", lambda _: said)
    with pytest.raises(GateError, match=r"fair did not pass. To waive one, say why: --waive fair=REASON") as refused:
        approve("gated", version, reason="fine")
    assert refused.value.blocking == ("fair",)
    for waive, message in [
        ({"fiar": "x"}, "Gate 'fiar' is not known. Did you mean 'fair'"),
        ({"fair": " "}, "The waiver of fair has no reason"),
        ({"parity": "x"}, "parity is never waived"),
        ({"calibrated": "x"}, "calibrated does not block"),
    ]:
        with pytest.raises(ParamsError, match=message):
            approve("gated", version, reason="fine", waive=waive)
    entry = approve("gated", version, reason="fine", waive={"fair": "small groups, watched monthly"})
    assert entry.facts["waived"] == ["fair"]
    assert [what for what, _, _ in entries("gated")] == ["registered", "waived", "approved"]
    assert history("gated").note.startswith("1 of 1 approvals waived a gate.")
    page = report_of("gated", version).page
    assert "small groups, watched monthly" in page
    assert "Gates when it was approved" in page
    assert entry.facts["gates"]["fair"] == {"status": "cannot_tell", "value": 0.0, "limit": 0.0}
    assert "1 of the last 1 approvals of gated waived a gate." in page

    other = register("gated")  # a waiver holds for its version alone
    with pytest.raises(GateError):
        approve("gated", other, reason="as before")


def test_what_can_t_be_waived_is_said(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register("off")
    monkeypatch.setattr(approval, "judge", lambda _: decision_of("off version 1", parity="fail"))
    with pytest.raises(GateError, match=r"parity did not pass. parity can't be waived.$"):
        approve("off", version, reason="fine")


def test_gated_is_entered_when_the_verdict_is_new(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    version = register("asked")
    for status in ("pass", "pass", "fail"):
        monkeypatch.setattr(approval, "judge", lambda _, s=status: decision_of("asked version 1", fair=s))
        gate("asked", version)
    assert [what for what, _, _ in entries("asked")] == ["registered", "gated", "gated"]


# --- bound to this model and this report


def test_a_changed_report_voids_the_approval(register: Register, open_gates: None, tmp_path: Path) -> None:
    version = register("bound")
    approve("bound", version, reason="fine")
    facts = report_of("bound", version).path.with_name("report.json")
    tree = json.loads(facts.read_text())
    facts.write_text(json.dumps(tree))  # another rendering of the same facts
    assert history("bound").problems == ()
    tree["metrics"]["roc_auc"]["value"] = 0.99
    facts.write_text(json.dumps(tree))
    assert "The approval of bound version 1 is void: its report changed" in history("bound").problems[0]
    with pytest.raises(CxlabError, match=r"is void: its report changed after bob approved it"):
        export("bound", tmp_path / "b")
    with pytest.raises(CxlabError, match=r"is not the one that was registered: its facts differ"):
        gate("bound", version)
    assert not (tmp_path / "b").exists()


def test_a_changed_model_voids_the_approval(register: Register, open_gates: None, tmp_path: Path) -> None:
    version = register("swapped")
    approve("swapped", version, reason="fine")
    with store() as client:
        path = registry._skops_file(client.get_model_version("swapped", version).source)
    path.write_bytes(path.read_bytes() + b"x")
    assert "its model changed" in history("swapped").problems[0]
    with pytest.raises(CxlabError, match=r"its model changed after bob approved it"):
        export("swapped", tmp_path / "b")


# --- no, and two at once


def test_rejected_is_not_exported_and_live_is_not_rejected(
    register: Register, open_gates: None, tmp_path: Path
) -> None:
    one, two = register("no"), register("no")
    approve("no", one, reason="fine")
    reject("no", two, reason="no use for it")
    with pytest.raises(ParamsError, match=r"2 is not approved. It was rejected by bob: no use for it"):
        export("no", tmp_path / "b", version=two)
    with pytest.raises(ParamsError, match=r"version 1 is live. Take it back: cxlab rollback no"):
        reject("no", one, reason="changed my mind")


def test_of_two_approvers_one_wins_and_the_other_is_told(register: Register, lab_store: str) -> None:
    version = register("race")
    code = (
        "import sys; from cxlab.release import approval, gates\n"
        "approval.judge = lambda d: gates.Decision(d.name, {gates.Fair: gates.Verdict('pass', 0.0, 0.0, '')})\n"
        f"approval.approve('race', '{version}', reason='fine')"
    )
    env = os.environ | {"MLFLOW_TRACKING_URI": lab_store}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=env | {"CXLAB_USER": who}, stderr=subprocess.PIPE, text=True)
        for who in ("carl", "dora")
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    won = [process.returncode == 0 for process in started]
    assert sum(won) == 1
    winner = ("carl", "dora")[won.index(True)]
    told = [text for text, first in zip(said, won, strict=True) if not first]
    assert all(f"race version 1 was approved by {winner}" in text for text in told)
    assert [(what, who) for what, who, _ in entries("race")] == [("registered", "ann"), ("approved", winner)]
    assert history("race").problems == ()


# --- what died in between


def test_an_approval_that_died_before_the_alias_is_put_right(
    register: Register, open_gates: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register("died")
    real = histories.point_aliases
    calls = []

    def dies(*args: Any) -> list[str]:
        calls.append(args)
        if len(calls) > 1:  # the first settles what was before
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(histories, "point_aliases", dies)
    with pytest.raises(KeyboardInterrupt):
        approve("died", version, reason="fine")
    monkeypatch.setattr(histories, "point_aliases", real)
    assert history("died").problems == (
        "The alias champion points at nowhere, the ledger says 1: somebody moved it past cxlab, or an act died.",
    )
    with pytest.raises(ParamsError, match=r"was approved by bob .* and is live"):
        approve("died", version, reason="fine")
    assert history("died").problems == ()


def test_an_alias_moved_by_hand_is_named(register: Register, open_gates: None) -> None:
    one, two = register("moved"), register("moved")
    approve("moved", one, reason="fine")
    with store() as client:
        client.set_registered_model_alias("moved", "champion", two)
    assert history("moved").problems[0].startswith("The alias champion points at 2, the ledger says 1")


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.0, 1.6])
def test_an_export_killed_at_any_moment_leaves_nothing_or_a_whole_bundle(
    register: Register, open_gates: None, lab_store: str, tmp_path: Path, seconds: float
) -> None:
    name = f"killed{seconds}".replace(".", "_")
    approve(name, register(name), reason="fine")
    to = tmp_path / "bundle"
    code = (
        "import cxlab.release.export as a; print('go', flush=True)\n"
        f"a.export({name!r}, {str(to)!r}); print('done', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | {"MLFLOW_TRACKING_URI": lab_store},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "go\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not to.exists() or verify(to).ok
    assert history(name).problems == ()
    if not to.exists():
        export(name, to)  # what the dead one left is no obstacle, and is removed
    assert verify(to).ok
    assert [path.name for path in tmp_path.iterdir() if path.name != "bundle"] == []


@pytest.mark.parametrize("seconds", [0.5, 1.5])
def test_an_approval_killed_at_any_moment_is_whole_or_not_there(
    register: Register, open_gates: None, lab_store: str, seconds: float
) -> None:
    name = f"shot{seconds}".replace(".", "_")
    version = register(name)
    code = (
        "import cxlab.release.approval as a; from cxlab.release import gates\n"
        "a.judge = lambda d: gates.Decision(d.name, {gates.Fair: gates.Verdict('pass', 0.0, 0.0, '')})\n"
        f"print('go', flush=True); a.approve({name!r}, {version!r}, reason='fine')"
    )
    env = os.environ | {"MLFLOW_TRACKING_URI": lab_store, "CXLAB_USER": "carl"}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "go\n"
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    told = history(name)
    assert not told.ledger.problems
    approved = told.live == version
    if approved:
        with pytest.raises(ParamsError, match=r"was approved by carl .* and is live"):
            approve(name, version, reason="fine")
    else:
        assert "champion" not in aliases_of(name)
        approve(name, version, reason="fine")
    assert history(name).problems == ()
    assert aliases_of(name)["champion"] == version


# --- the bundle says who let it out


def test_a_bundle_holds_its_approval_and_nothing_of_single_customers(
    register: Register, open_gates: None, tmp_path: Path
) -> None:
    version = register("out")
    approve("out", version, reason="fine <b>indeed</b>")
    folder = export("out", tmp_path / "out-1")
    manifest = read_manifest(folder)
    ledger = read_ledger("out")
    assert manifest["approval"]["who"] == "bob"
    assert manifest["ledger"] == {"length": 2, "head": ledger.entries[1].hash}
    assert ledger.entries[-1].facts["manifest_sha256"] == sha256_of(folder / "manifest.json")
    page = (folder / "evidence" / "report.html").read_text()
    assert "Approved by bob" in page
    assert "fine &lt;b&gt;indeed" in page
    assert "The customer with the highest score" in report_of("out", version).page
    assert "The customer with the highest score" not in page
    assert "Contribution of" not in page
    assert "Approved by bob" in (folder / "evidence" / "card.md").read_text()
    assert set(json.loads((folder / "evidence" / "gates.json").read_text())["fair"]) == {"status", "value", "limit"}
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"c00001" not in everything  # a customer's id
    assert str(Path.cwd()).encode() not in everything
    assert load_bundle(folder).name == "out version 1"


def test_a_bundle_remembers_the_ledger(register: Register, open_gates: None, tmp_path: Path) -> None:
    version = register("memory")
    approve("memory", version, reason="fine")
    folder = export("memory", tmp_path / "b")
    ledger = read_ledger("memory")
    assert histories._remembered(ledger, folder) == []
    cut = replace(ledger, entries=ledger.entries[:1])
    assert "remembers entry 2, but the ledger ends at 1: its end was removed" in histories._remembered(cut, folder)[0]
    other = replace(ledger, entries=(ledger.entries[0], replace(ledger.entries[1], hash="0" * 64)))
    assert "remembers another entry 2: the ledger was rewritten" in histories._remembered(other, folder)[0]
    assert "is of 'memory', not of 'x'" in histories._remembered(Ledger("x"), folder)[0]


def test_a_taken_destination_is_refused_and_left_alone(register: Register, open_gates: None, tmp_path: Path) -> None:
    version = register("taken")
    approve("taken", version, reason="fine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("x")
    with pytest.raises(BundleError, match=r"exists. Name a folder that is not there yet"):
        export("taken", tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["mine.txt"]
    assert "exported" not in [what for what, _, _ in entries("taken")]


def test_an_unknown_model_is_named(register: Register) -> None:
    version = register("known")
    for act in (
        lambda: gate("knwon", version),
        lambda: history("knwon"),
        lambda: export("knwon", "x"),
        lambda: approve("knwon", version, reason="x"),
        lambda: reject("knwon", version, reason="x"),
    ):
        with pytest.raises(ParamsError, match=r"No registered model 'knwon'. Did you mean 'known'"):
            act()
