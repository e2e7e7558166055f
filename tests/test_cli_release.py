"""A model leaves the lab by the command line: what each command answers, and what it says to mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Call = Callable[..., tuple[int, str, str]]


def test_the_whole_path(
    register: Callable[..., str], cxlab: Call, tmp_path: Path, customers: Callable[..., pd.DataFrame], monkeypatch: Any
) -> None:
    version = register("path")  # trained by ann; bob acts
    status, out, _ = cxlab("gate", "path", version, "--json")
    gates = json.loads(out)["gates"]
    assert set(gates[0]) == {"code", "title", "status", "value", "limit", "reason"}
    blocking = [gate["code"] for gate in gates if gate["status"] in ("fail", "cannot_tell")]
    assert status == (1 if blocking else 0)
    assert set(blocking) <= {"fair", "calibrated", "no_leak", "explained", "drift_understood"}

    monkeypatch.setenv("CXLAB_USER", "ann")
    status, _, said = cxlab("approve", "path", version, "--reason", "mine")
    assert (status, "ann trained path version 1, so somebody else must approve it" in said) == (2, True)
    monkeypatch.setenv("CXLAB_USER", "bob")

    status, out, said = cxlab("approve", "path", version, "--reason", "fine")
    if blocking:
        assert status == 1
        assert f"{blocking[0]}" in said
        waivers = [word for code in blocking for word in ("--waive", f"{code}=a small table, for a test")]
        status, out, said = cxlab("approve", "path", version, "--reason", "fine", *waivers)
    assert status == 0, said
    assert "It is the champion now" in out

    folder = tmp_path / "bundle"
    status, out, _ = cxlab("export", "path", "--to", folder, "--json")
    assert status == 0
    assert json.loads(out)["parity"]["largest"] < 1e-5
    status, out, _ = cxlab("verify", folder, "--json")
    assert (status, json.loads(out)["ok"]) == (0, True)

    rows = customers(50, seed=3)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    status, out, _ = cxlab("score", folder, tmp_path / "rows.csv", "--out", tmp_path / "out.csv", "--reasons", "2")
    assert (status, "50 rows in" in out) == (0, True)
    assert pd.read_csv(tmp_path / "out.csv").columns.tolist() == ["id", "score", "decision", "reason_1", "reason_2"]
    rows.assign(calls="many").to_csv(tmp_path / "odd.csv", index=False)
    status, out, _ = cxlab("score", folder, tmp_path / "odd.csv", "--out", tmp_path / "odd_out.csv", "--json")
    assert (status, json.loads(out)["bad"]) == (1, 50)
    assert "calls == 'many', must be a number." in (tmp_path / "odd_out.bad.csv").read_text()

    (folder / "model.onnx").write_bytes(b"x")
    status, out, _ = cxlab("verify", folder)
    assert (status, "model.onnx differs." in out) == (1, True)
    status, _, said = cxlab("score", folder, tmp_path / "rows.csv", "--out", tmp_path / "no.csv")
    assert (status, "is not what was exported" in said, (tmp_path / "no.csv").exists()) == (2, True, False)

    status, out, _ = cxlab("history", "path", "--json")
    told = json.loads(out)
    assert status == 0
    assert set(told["entries"][0]) == {"time", "who", "what", "version", "reason", "hash", "previous"}
    assert (told["live"], told["problems"]) == ("1", [])
    assert json.loads(cxlab("history", "path", "--at", "2020-01-01", "--json")[1])["live"] is None
    status, _, said = cxlab("rollback", "path", "--reason", "it was a test")
    assert (status, "none to go back to" in said) == (2, True)

    two = register("path")
    monkeypatch.setenv("CXLAB_USER", "bob")
    status, out, _ = cxlab("reject", "path", two, "--reason", "one is enough")
    assert (status, "rejected by bob" in out) == (0, True)
    status, _, said = cxlab("export", "path", "--version", two, "--to", tmp_path / "two")
    assert (status, "version 2 is not approved. It was rejected by bob: one is enough" in said) == (2, True)
    assert not (tmp_path / "two").exists()


def test_the_server_answers_and_ends(exported: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cxlab.cli",
        "serve",
        str(exported),
        "--port",
        "0",
        "--log",
        str(tmp_path / "l.csv"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" on ")[1].split(" ")[0]
        body = json.dumps({"row": {"calls": 9, "noise": 0, "plan": "basic", "region": "north"}}).encode()
        asked = urllib.request.Request(f"{address}/score", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            found = json.load(answer)
        server.send_signal(signal.SIGTERM)
    assert server.returncode == 0
    assert found["scores"][0]["score"] > 0.9
    assert len((tmp_path / "l.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gate", "nothing", "1"), "No registered model 'nothing'"),
        (
            ("approve", "x", "1", "--reason", "y", "--waive", "fair"),
            "--waive 'fair' has no reason; write --waive fair=",
        ),
        (("history", "x", "--at", "last Tuesday"), "--at 'last Tuesday' is no time; write 2026-11-17"),
        (("verify", "nowhere"), "nowhere is no folder"),
        (("serve", "nowhere"), "nowhere is no bundle: it has no manifest.json"),
        (("score", "nowhere", "a.csv", "--out", "b.csv"), "nowhere is no bundle"),
        (("approve", "x", "1"), "Missing option '--reason'"),
        (("score", "nowhere", "a.csv", "--out", "b.csv", "--reasons", "-1"), "Invalid value for '--reasons'"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_with_status_2(cxlab: Call, words: tuple[str, ...], says: str) -> None:
    status, out, said = cxlab(*words)
    assert (status, out) == (2, "")
    assert says in said.replace("│ ", "").replace(" │", "")
