"""The command line as its user meets it: what it answers, and what it says to mistakes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxlab.places import store_folder

COMMAND = [sys.executable, "-m", "cxlab.cli"]


def left_behind() -> list[str]:
    """Everything in the store's folder."""
    folder = store_folder()
    assert folder is not None
    return sorted(path.name for path in folder.rglob("*"))


def runs() -> list[Any]:
    from cxlab.tracking.store import store

    with store() as client:
        made = [item for item in client.search_experiments() if not item.name.startswith("ledger of ")]
        return list(client.search_runs([item.experiment_id for item in made]))


# What a training returns


def test_a_run_is_logged_registered_and_said_in_json(params_file: Path, cxlab: Callable[..., Any]) -> None:
    status, out, _ = cxlab("run", "churn", "--params", params_file, "--json")
    assert status == 0
    facts = json.loads(out)
    assert set(facts) >= {
        *("task", "run_id", "model", "version", "selected", "candidates", "metrics", "data", "seconds"),
        *("notebook", "report"),
    }
    assert set(facts["metrics"]) == {"roc_auc", "pr_auc", "log_loss", "brier", "ece", "lift"}
    for interval in facts["metrics"].values():
        assert interval["low"] <= interval["value"] <= interval["high"]
    assert set(facts["data"]) == {"path", "sha256", "rows"}
    assert facts["data"]["rows"] == 400
    assert set(facts["seconds"]) == {"total", "fit", "report"}
    assert facts["seconds"]["total"] > facts["seconds"]["fit"]
    assert "train_churn" in Path(facts["notebook"]).name
    assert FIGURE in Path(facts["notebook"]).read_text(encoding="utf-8")
    best = min(facts["candidates"], key=lambda row: row["metrics"]["log_loss"])
    assert best["metrics"]["roc_auc"] > 0.6

    logged = runs()
    assert {run.info.status for run in logged} == {"FINISHED"}
    parent = next(run for run in logged if run.info.run_id == facts["run_id"])
    assert parent.data.metrics["roc_auc"] == facts["metrics"]["roc_auc"]["value"]
    assert len(logged) == 1 + len(facts["candidates"])

    status, out, _ = cxlab("compare", "churn", "--json")
    assert status == 0
    rows = json.loads(out)["rows"]
    assert [row["run_id"] for row in rows] == [facts["run_id"]]
    keys = {"run_id", "version", "selected", "metric", "value", "low", "high", "difference", "diff_low", "diff_high"}
    assert set(rows[0]) >= {*keys, "verdict"}


FIGURE = "image/png"


# What every mistake says: a message, status 2, nothing written, no run


def _content(kind: str, table: pd.DataFrame) -> bytes:
    text = table.to_csv(index=False)
    return {
        "empty": b"",
        "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        "cut off": text[: int(len(text) * 0.6)].rsplit(",", 2)[0].encode(),
        "no rows": text.splitlines()[0].encode(),
        "one class": table.assign(churn="no").to_csv(index=False).encode(),
        "three values": table.assign(churn=["yes", "no", "maybe", "no"] * 100).to_csv(index=False).encode(),
        "no target": table.drop(columns="churn").to_csv(index=False).encode(),
        "outcome missing": table.assign(churn=[None, *table["churn"][1:]]).to_csv(index=False).encode(),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("empty", "is empty. Fetch it again, or name another file"),
        ("png", "is not a text file: it begins with b'\\x89PNG"),
        ("cut off", "looks cut off: its last line"),
        ("no rows", "has no rows, only 6 columns"),
        ("one class", "Target 'churn' has 1 values (no), must have 2. Use rows of both outcomes."),
        ("three values", "Target 'churn' has 3 values (maybe, no, yes), must have 2"),
        ("no target", "Column 'churn' is not in the data."),
        ("outcome missing", "Target 'churn' is missing in 1 of 400 rows"),
    ],
)
def test_a_bad_file(
    kind: str,
    says: str,
    params_file: Path,
    customers: Callable[..., pd.DataFrame],
    cxlab: Callable[..., Any],
) -> None:
    (params_file.parent / "customers.csv").write_bytes(_content(kind, customers()))
    status, out, err = cxlab("run", "churn", "--params", params_file, "--json")
    assert (status, out) == (2, "")
    assert says in err
    assert left_behind() == []


def test_latin_1_semicolons_and_decimal_commas_are_read_as_what_they_are(
    params_file: Path, customers: Callable[..., pd.DataFrame], cxlab: Callable[..., Any]
) -> None:
    table = customers().replace({"region": {"north": "Düsseldorf"}})
    file = params_file.parent / "latin.csv"
    table.to_csv(file, index=False, sep=";", decimal=",", encoding="latin-1")
    status, out, _ = cxlab("data", "check", file, "--params", params_file, "--json")
    assert status == 0
    assert "fail" not in {check["status"] for check in json.loads(out)["checks"]}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "churn", "--set", "data.path=nowhere.csv"], "No file"),
        (["run", "churn", "--set", "data.path=."], "is a directory"),
        (["run", "churn", "--params", "nowhere.yaml"], "No params file"),
        (["run", "churn", "--set", "serch.trials=3"], "Key 'serch' is not known. Did you mean 'search'?"),
        (["run", "churn", "--set", "search.budget_s=0"], "search.budget_s == 0, must be greater than 0."),
        (["run", "churn", "--set", "search.budget_s=long"], "search.budget_s == 'long', must be a valid number"),
        (["run", "churn", "--set", "task=chrn"], "must be one of churn, intent, sequence. Did you mean 'churn'?"),
        (["run", "churn", "--set", "task=intent"], "churn.yaml is for the task 'intent', 02_train_churn is not."),
        (["run", "intent", "--params", "params/churn.yaml"], "Type cxlab run churn."),
        (["run", "intent", "--set", "data.text=null"], "data.text is missing; name the column that holds the words."),
        (["run", "intent", "--set", "data.text=txt"], "Column 'txt' is not in the data. Did you mean 'text'?"),
        (["run", "intent", "--set", "encoder=./nowhere"], "is neither known nor a folder, and none is fetched"),
        (["run", "intent", "--set", "encoder=all-MiniLM"], "Did you mean 'all-MiniLM-L6-v2'?"),
        (["run", "intent", "--set", "data.target=contact_id"], "8,142 values, must have at most 1,000"),
        (["run", "intent", "--set", "abstain.max_false_rejection=1"], "must be less than 1"),
        (["run", "chrun"], "No notebook 'chrun'."),
        (["run", "all", "--params", "x.yaml"], "--params names one notebook's file"),
        (["run", "churn", "--set", "data.path=catalog:ibm_telko"], "Did you mean 'ibm_telco'?"),
        (["run", "churn", "--set", "data.path=catalog:ibm_telco"], "cxlab data get ibm_telco"),
        (["run", "churn", "--set", "search.candidates=[logstic]"], "Did you mean 'logistic'?"),
        (["compare", "chrun"], "Model 'chrun' is not known. Did you mean 'churn'?"),
        (["compare", "churn"], "No finished run of 'churn' yet. Train one: cxlab run churn"),
        (["data", "get", "banking78"], "Did you mean 'banking77'?"),
        (["data", "check", "nowhere.csv"], "No file"),
    ],
)
def test_a_mistake_on_the_command_line(words: list[str], says: str, cxlab: Callable[..., Any]) -> None:
    status, out, err = cxlab(*words)
    assert (status, out) == (2, "")
    assert says in err
    assert runs() == [] or all(run.info.status == "FAILED" for run in runs())


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"said": ["where is my card"] * 40, "want": ["card"] * 40}, "has 1 value (card), must have 2 or more"),
        (
            {"said": ["my card", "a refund"] * 20, "want": ["card", "refund"] * 19 + ["card", "other"]},
            "1 of 3 classes have fewer than 10 rows in the data: other (1)",
        ),
        ({"said": ["my card", "a refund"] * 20, "want": ["card", None] * 20}, "is missing in 20 of 40 rows"),
    ],
)
def test_words_that_cannot_be_learnt_from(
    rows: dict[str, Any], says: str, tmp_path: Path, cxlab: Callable[..., Any]
) -> None:
    pd.DataFrame(rows).to_csv(tmp_path / "said.csv", index=False)
    data = f"data={{path: {tmp_path}/said.csv, text: said, target: want}}"
    status, out, err = cxlab("run", "intent", "--set", data)
    assert (status, out) == (2, "")
    assert says in err
    assert left_behind() == []


@pytest.mark.parametrize(
    "words", [["rn"], ["run"], ["run", "churn", "--sett", "a=1"], ["compare", "churn", "--last", "0"]]
)
def test_wrong_usage_is_status_2(words: list[str], cxlab: Callable[..., Any]) -> None:
    status, _, err = cxlab(*words)
    assert status == 2
    assert "Traceback" not in err


def test_a_store_below_a_file(tmp_path: Path, cxlab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("I am a file")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    status, _, err = cxlab("run", "churn")
    assert status == 2
    assert "cannot be made: File exists. Set MLFLOW_TRACKING_URI." in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_store_of_a_kind_we_do_not_keep(cxlab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    status, _, err = cxlab("compare", "churn")
    assert status == 2
    assert "must be sqlite:///FILE or the address of an MLflow server" in err


def test_a_full_disk_closes_the_run_as_failed(params_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    from cxlab.data.table import read_table
    from cxlab.errors import StoreError
    from cxlab.models.training import train
    from cxlab.params import load_params
    from cxlab.tracking.runs import tracked

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MlflowClient, "log_artifacts", full)
    params = load_params(params_file, ["search.candidates=[prior]"])
    with pytest.raises(StoreError, match="no space is left on its disk"), tracked(params) as run:
        run.log(train(read_table(params.data), params))
    assert [item.info.status for item in runs()] == ["FAILED"]


def test_a_mistake_found_in_the_notebook_is_said_as_plainly(params_file: Path, cxlab: Callable[..., Any]) -> None:
    """Only training itself asks for the metric; its run is closed as failed."""
    status, _, err = cxlab("run", "churn", "--params", params_file, "--set", "search.metric=roc")
    assert status == 2
    assert "search.metric: Metric 'roc' is not known. Did you mean 'roc_auc'?" in err
    assert "Traceback" not in err
    assert [run.info.status for run in runs()] == ["FAILED"]


def test_ctrl_c_in_mid_search_closes_the_run_as_killed_and_the_search_goes_on(params_file: Path) -> None:
    words = [*COMMAND, "run", "churn", "--params", str(params_file), "--set", "search.budget_s=120", "--set"]
    with hearing_interrupts():
        process = subprocess.Popen(
            [*words, "search.trials=null"], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
    folder = store_folder()
    assert folder is not None
    wait_for(lambda: finished_trials(folder) >= 4, seconds=120)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Interrupted." in err
    assert "Traceback" not in err
    assert [run.info.status for run in runs()] == ["KILLED"]
    done = finished_trials(folder)

    resumed = subprocess.run(
        [*COMMAND, "run", "churn", "--params", str(params_file), "--set", f"search.trials={done + 1}", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    facts = json.loads(resumed.stdout)
    assert facts["trials"] == done + 1
    assert {run.info.status for run in runs()} == {"KILLED", "FINISHED"}
    assert finished_trials(folder) == 0, "a finished search is cleared away"


@contextmanager
def hearing_interrupts() -> Iterator[None]:
    """A suite that runs in the background would hand down that interrupts are ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def wait_for(happened: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def finished_trials(folder: Path) -> int:
    import sqlite3

    if not (folder / "search.db").exists():
        return 0
    connection = sqlite3.connect(folder / "search.db", timeout=30)
    try:
        return int(connection.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


def test_a_run_whose_process_was_killed_is_closed_by_the_next(params_file: Path) -> None:
    """SIGKILL leaves no time to close anything."""
    from cxlab.tracking.runs import close_abandoned
    from cxlab.tracking.store import store

    code = (
        "import os, signal, cxlab\n"
        f"params = cxlab.load_params({str(params_file)!r})\n"
        "with cxlab.tracked(params):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert [run.info.status for run in runs()] == ["RUNNING"]
    with store() as client:
        assert len(close_abandoned(client)) == 1
    assert [run.info.status for run in runs()] == ["KILLED"]


# The smaller commands


def test_help_is_quick_and_names_every_command() -> None:
    out = subprocess.run([*COMMAND, "--help"], check=True, capture_output=True, text=True).stdout
    for command in ("run", "compare", "data", "ui", "lab", "doctor"):
        assert command in out


def test_doctor_finds_nothing_missing_here_and_says_what_is(
    cxlab: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status, out, _ = cxlab("doctor", "--json")
    assert status == 0
    assert {row["status"] for row in json.loads(out)["checks"]} <= {"pass", "info"}
    monkeypatch.setenv("CXLAB_DATA_MIRROR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CXLAB_HOME", str(tmp_path))
    status, out, _ = cxlab("doctor", "--json")
    assert status == 1
    failed = {row["code"]: row["reason"] for row in json.loads(out)["checks"] if row["status"] == "fail"}
    assert set(failed) == {"mirror", "home"}
    assert "is no folder; correct or unset it" in failed["mirror"]


def test_data_list_names_licence_and_origin(cxlab: Callable[..., Any]) -> None:
    status, out, _ = cxlab("data", "list", "--json")
    rows = json.loads(out)["data"]
    assert status == 0
    assert len(rows) >= 8
    assert all(row["licence"] and row["kind"] for row in rows)


def test_data_check_says_no_with_status_1(params_file: Path, cxlab: Callable[..., Any]) -> None:
    file = params_file.parent / "customers.csv"
    frame = pd.read_csv(file)
    pd.concat([frame, frame.head(3)]).to_csv(file, index=False)
    status, out, _ = cxlab("data", "check", file, "--params", params_file, "--json")
    assert status == 1
    checks = {check["code"]: check for check in json.loads(out)["checks"]}
    assert checks["duplicate_rows"]["status"] == "fail"
    assert checks["duplicate_rows"]["rows"] == 3


# The report and drift of a version


@pytest.fixture
def version(params_file: Path, cxlab: Callable[..., Any]) -> dict[str, Any]:
    status, out, _ = cxlab("run", "churn", "--params", params_file, "--json")
    assert status == 0
    return dict(json.loads(out))


def test_report_and_drift_of_a_version(
    version: dict[str, Any], params_file: Path, customers: Callable[..., pd.DataFrame], cxlab: Callable[..., Any]
) -> None:
    status, out, _ = cxlab("report", "small", version["version"], "--json")
    facts = json.loads(out)
    assert status == 0
    assert {"path", "summary", "fairness", "drift", "importance"} <= set(facts)
    assert Path(facts["path"]).read_text(encoding="utf-8").startswith("<!doctype html>")

    same, moved = params_file.parent / "same.csv", params_file.parent / "moved.csv"
    customers(seed=1).to_csv(same, index=False)
    customers(seed=1).assign(calls=lambda frame: frame["calls"] + 5).to_csv(moved, index=False)
    status, out, _ = cxlab("drift", "small", "challenger", same, "--json")
    assert status == 0
    status, out, _ = cxlab("drift", "small", "challenger", moved, "--json")
    found = json.loads(out)
    assert status == 1
    assert found["drift"][0]["column"] == "calls" or found["drift"][0]["column"] == "(score)"
    assert set(found["estimated"]["roc_auc"]) == {"value", "low", "high"}

    mistakes = {
        ("report", "small", "9"): "small has no version '9'",
        ("report", "smal", "1"): "Did you mean 'small'?",
        ("drift", "small", "1", "nowhere.csv"): "No file",
        ("drift", "small", "1", str(other(params_file.parent, "columns"))): "lacks 4 of the model's 4 columns: calls",
        ("drift", "small", "1", str(other(params_file.parent, "rows"))): "has no rows",
    }
    for words, says in mistakes.items():
        status, out, err = cxlab(*words)
        assert (status, out) == (2, ""), words
        assert says in err
    (params_file.parent / "customers.csv").unlink()
    status, _, err = cxlab("drift", "small", "1", same)
    assert status == 2
    assert "The data that small version 1 learnt from are gone" in err


def other(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.csv"
    path.write_text({"columns": "a,b\n1,2\n", "rows": "calls,noise,plan,region\n"}[kind], encoding="utf-8")
    return path
