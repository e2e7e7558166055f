"""The ledger: whole when it is left alone, broken in words when it is touched, and one history for all who write."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException

from cxlab.errors import CxlabError, ParamsError, StoreError
from cxlab.tracking import ledger as module
from cxlab.tracking.ledger import GENESIS, HEAD, KINDS, Draft, Entry, Ledger, append, read_ledger
from cxlab.tracking.store import store

START = datetime(2026, 11, 22, 8, tzinfo=UTC)
NUMBERS = itertools.count(1)

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
drafts = st.builds(
    Draft,
    st.sampled_from(KINDS),
    st.sampled_from(["1", "2", "3"]),
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=5), plain, max_size=3),
)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for this file: making one takes seconds."""
    return tmp_path_factory.mktemp("ledgers") / "mlflow.db"


@pytest.fixture(autouse=True)
def shared(own_places: None, database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    yield


def a_model(name: str = "churn {}") -> str:
    """A registered model of its own, with three versions."""
    model = name.format(next(NUMBERS))
    with store() as client:
        client.create_registered_model(model)
        for _ in range(3):
            client.create_model_version(model, source="file:///nowhere/x")
    return model


def add(model: str, what: str = "approved", version: str = "1", reason: str = "Better.", **facts: Any) -> Ledger:
    return append(model, lambda _: Draft(what, version, reason, facts))


def history(*steps: str) -> Ledger:
    """A ledger of steps an hour apart: `approved 1`, `rejected 1`, `rolled_back 2>1`."""
    entries = []
    for n, step in enumerate(steps):
        what, version = step.split()
        left, _, back = version.rpartition(">")
        moment = module._stamp(START + timedelta(hours=n))
        facts = {"from": left} if left else {}
        entries.append(Entry(n + 1, moment, "tester", what, back, "", facts, GENESIS, f"{n + 1:064d}"))
    return Ledger("churn", tuple(entries))


def chain(items: list[Draft]) -> tuple[Ledger, dict[str, str]]:
    """A ledger and what the store would hold of it, made without a store."""
    ledger, raw = Ledger("churn"), {}
    for item in items:
        entry, text = module._written(ledger, item, "tester")
        raw[f"{entry.n:06d}"] = text
        ledger = Ledger("churn", (*ledger.entries, entry))
    return ledger, raw


def witness(ledger: Ledger, n: int) -> dict[str, str]:
    return {module.THE_MODEL: f"{n}:{ledger.entries[n - 1].hash if n else GENESIS}"}


def tag(model: str) -> str | None:
    with store() as client:
        held: str | None = client.get_registered_model(model).tags.get(HEAD)
        return held


@given(st.lists(drafts, max_size=4))
@settings(max_examples=6)
def test_what_was_appended_reads_back_equal(items: list[Draft]) -> None:
    model = a_model()
    written = Ledger(model)
    for item in items:
        written = append(model, lambda _, item=item: item)  # type: ignore[misc]
    found = read_ledger(model)
    assert found == written
    assert (found.problems, found.length) == ((), len(items))
    assert [Draft(entry.what, entry.version, entry.reason, entry.facts) for entry in found.entries] == items
    assert tag(model) == (f"{found.length}:{found.head}" if items else None)


@given(st.lists(drafts, max_size=6), st.data())
def test_a_chain_is_whole_whichever_entry_its_witness_remembers(items: list[Draft], data: st.DataObject) -> None:
    ledger, raw = chain(items)
    n = data.draw(st.integers(0, len(items)))
    shuffled = dict(data.draw(st.permutations(list(raw.items()))))
    assert module._verify(shuffled, witness(ledger, n)) == (ledger.entries, ())


@given(st.lists(drafts, min_size=1, max_size=4), st.data())
@settings(max_examples=200)
def test_a_changed_character_is_found(items: list[Draft], data: st.DataObject) -> None:
    ledger, raw = chain(items)
    key = data.draw(st.sampled_from(sorted(raw)))
    at = data.draw(st.integers(0, len(raw[key]) - 1))
    other = data.draw(st.text(max_size=2).filter(lambda text: text != raw[key][at]))
    raw[key] = raw[key][:at] + other + raw[key][at + 1 :]
    _, problems = module._verify(raw, witness(ledger, ledger.length))
    assert any(f"Entry {int(key)} " in problem for problem in problems)


@given(st.lists(drafts, min_size=2, max_size=6), st.data())
def test_a_removed_a_swapped_and_a_cut_entry_are_found(items: list[Draft], data: st.DataObject) -> None:
    ledger, raw = chain(items)
    one, two = data.draw(st.lists(st.sampled_from(sorted(raw)), min_size=2, max_size=2, unique=True))
    removed = {key: text for key, text in raw.items() if key != one}
    swapped = raw | {one: raw[two], two: raw[one]}
    cut = {key: text for key, text in raw.items() if key < one}
    for touched in (removed, swapped, cut, {}):
        assert module._verify(touched, witness(ledger, ledger.length))[1]


@given(st.lists(drafts, min_size=1, max_size=4), st.data())
def test_a_chain_hashed_anew_is_told_by_any_later_witness(items: list[Draft], data: st.DataObject) -> None:
    ledger, _ = chain(items)
    n = data.draw(st.integers(0, len(items) - 1))
    other, raw = chain([*items[:n], Draft("gated", "1", "Not so."), *items[n + 1 :]])
    assert module._verify(raw, witness(other, other.length))[1] == ()  # what an unsigned chain cannot show
    for later in range(n + 1, ledger.length + 1):
        says = f"The registered model remembers another entry {later}: the ledger was rewritten."
        assert module._verify(raw, witness(ledger, later))[1] == (says,)


@given(st.lists(st.sampled_from(["approved 1", "approved 2", "rolled_back 2>1", "rejected 1", "gated 3"]), max_size=8))
def test_live_answers_at_every_time_in_between(steps: list[str]) -> None:
    ledger = history(*steps)
    assert ledger.live(START - timedelta(microseconds=1)) is None
    for n in range(len(steps)):
        until = Ledger("churn", ledger.entries[: n + 1])
        for minutes in (0, 1, 59):
            moment = START + timedelta(hours=n, minutes=minutes)
            assert ledger.live(moment) == until.live() == ledger.live(moment.replace(tzinfo=None))
            assert ledger.live(moment.astimezone(timezone(timedelta(hours=-7)))) == until.live()


@pytest.mark.parametrize(
    ("steps", "live", "before", "approved"),
    [
        ([], None, None, ""),
        (["registered 1", "gated 1"], None, None, ""),
        (["approved 1"], "1", None, "1"),
        (["approved 1", "approved 1"], "1", None, "1"),
        (["approved 1", "approved 2"], "2", "1", "12"),
        (["approved 1", "approved 2", "rolled_back 2>1"], "1", None, "1"),
        (["approved 1", "approved 2", "approved 3", "rolled_back 3>2"], "2", "1", "12"),
        (["approved 1", "approved 2", "approved 3", "rolled_back 3>2", "rolled_back 2>1"], "1", None, "1"),
        (["approved 1", "approved 2", "approved 3", "rolled_back 3>1"], "1", None, "12"),
        (["approved 1", "approved 2", "approved 3", "rejected 2"], "3", "1", "13"),
        (["approved 1", "approved 2", "approved 3", "rejected 2", "rolled_back 3>1"], "1", None, "1"),
        (["approved 1", "approved 2", "rejected 1"], "2", None, "2"),
        (["approved 1", "approved 2", "rejected 1", "approved 1"], "1", "2", "12"),
        (["approved 1", "approved 2", "rolled_back 2>1", "approved 2"], "2", "1", "12"),
        (["approved 1", "approved 2", "approved 1", "rolled_back 1>2"], "2", None, "2"),
        (["rejected 1"], None, None, ""),
    ],
)
def test_live_before_and_approval(steps: list[str], live: str | None, before: str | None, approved: str) -> None:
    ledger = history(*steps)
    assert (ledger.live(), ledger.before()) == (live, before)
    assert "".join(version for version in "123" if ledger.approval(version)) == approved


def test_an_approval_is_the_entry_that_gave_it() -> None:
    ledger = history("approved 1", "approved 2", "rolled_back 2>1")
    assert ledger.approval("1") == ledger.entries[0]
    assert ledger.of("2") == ledger.entries[1:2]


def test_a_result_has_a_frame_a_plot_and_shows_its_problems() -> None:
    ledger = history("registered 1", "approved 1", "approved 10", "approved 2", "rolled_back 2>10")
    assert list(ledger.frame()) == ["n", "time", "who", "what", "version", "reason", "hash", "previous"]
    assert len(ledger.frame()) == ledger.length
    ax = ledger.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["version 1", "version 2", "version 10"]
    assert np.asarray(ax.lines[0].get_ydata())[1:].tolist() == [0, 2, 1, 2]
    assert Ledger("churn").frame().empty
    Ledger("churn").plot()
    assert "Entry 2 is missing." in Ledger("churn", ledger.entries, ("Entry 2 is missing.",))._repr_html_()
    assert "not signed" in ledger._repr_html_()


def test_waivers_are_counted_with_their_denominator() -> None:
    given_up: list[dict[str, Any]] = [{"waived": []}, {"waived": ["fairness"]}, {}, {"waived": ["drift", "size"]}]
    ledger, _ = chain([Draft("approved", "1", "", facts) for facts in given_up] + [Draft("waived", "1", "")])
    assert ledger.waivers() == (4, 2)


def test_a_model_without_a_ledger_has_an_empty_one() -> None:
    assert read_ledger("nobody's") == Ledger("nobody's")
    assert read_ledger(a_model()).head == GENESIS


def test_an_entry_says_who_when_and_what_came_before() -> None:
    model = a_model()
    first, second = add(model, "registered"), append(model, lambda _: Draft("gated", "2", "Ran."), who="anna")
    assert [entry.who for entry in second.entries] == ["tester", "anna"]
    assert [entry.previous for entry in second.entries] == [GENESIS, first.head]
    assert second.entries[0].time <= second.entries[1].time
    with store() as client:
        assert client.get_model_version(model, "1").tags[HEAD] == f"1:{first.head}"
        assert client.get_model_version(model, "2").tags[HEAD] == tag(model) == f"2:{second.head}"


@pytest.mark.parametrize("name", ["it's {}", 'say "{}"', "both ' and \" {}", "100 % _{}", "back\\slash {}\\"])
def test_a_name_may_have_quotes(name: str) -> None:
    model = a_model(name)
    assert add(model, version="3") == read_ledger(model)


def test_time_never_runs_backwards_though_clocks_differ() -> None:
    ahead = Ledger("churn", (Entry(1, "2999-01-01T00:00:00.000000Z", "x", "gated", "1", "", {}, GENESIS, "0" * 64),))
    (one, text), (two, other) = (module._written(ahead, Draft("gated", "1", ""), "tester") for _ in range(2))
    assert one.time == two.time == "2999-01-01T00:00:00.000000Z"
    assert text != other  # or MLflow would take both for the same, and two writers would win one number


@pytest.mark.parametrize(
    ("draft", "says"),
    [
        (Draft("approved", "1", "x" * 2001), "reason has 2001 characters, must have at most 2000. Shorten it"),
        (Draft("approved", "1", "", {"a": "x" * 6000}), r"entry has 6\d+ characters, must have at most 6000. Shorten"),
        (Draft("aproved", "1", ""), "Kind 'aproved' is not known. Did you mean 'approved'?"),
        (Draft("approved", "9", ""), "has no version '9'. Versions: 1, 2, 3."),
        (Draft("approved", "challenger", ""), "has no version 'challenger'"),
        (Draft("approved", "1", "", {"auc": float("nan")}), "must be plain JSON"),
        (Draft("approved", "1", "", {"when": START}), "must be plain JSON"),
        (Draft("approved", "1", "\ud800"), "must be plain JSON in UTF-8"),
    ],
)
def test_a_draft_that_does_not_fit_leaves_no_trace(draft: Draft, says: str) -> None:
    model = a_model()
    with pytest.raises(ParamsError, match=says):
        append(model, lambda _: draft)
    with store() as client:
        assert client.get_experiment_by_name(f"ledger of {model}") is None
    assert tag(model) is None


def test_the_longest_reason_is_kept_whole() -> None:
    model = a_model()
    add(model, reason="\U0001f600" * 2000)
    assert read_ledger(model).entries[0].reason == "\U0001f600" * 2000


def test_a_model_that_is_not_registered_gets_no_ledger() -> None:
    with pytest.raises(ParamsError, match=r"'nobody' has no version '1'\. Versions: none yet; train one"):
        add("nobody")
    with store() as client:
        assert client.get_experiment_by_name("ledger of nobody") is None


def with_new(**changes: str) -> Callable[[str], str]:
    """Changes fields of an entry and hashes it anew."""

    def edit(text: str) -> str:
        fields = json.loads(text) | changes
        return module.canonical(fields | {"hash": module._digest(Entry(**fields))}).decode()

    return edit


@pytest.mark.parametrize(
    ("n", "edit", "says"),
    [
        (2, lambda text: text.replace("Better", "Worse"), ["Entry 2 was edited: its hash does not match its content."]),
        (2, lambda text: text.replace(":", ": ", 1), ["Entry 2 was edited: it is not written as the ledger writes."]),
        (2, lambda text: text[:-1], ["Entry 2 was edited: it cannot be read as an entry."]),
        (2, lambda text: "[" * 5000, ["Entry 2 was edited: it cannot be read as an entry."]),
        (2, lambda text: "null", ["Entry 2 was edited: it cannot be read as an entry."]),
        (2, lambda text: text.replace('"n":2', '"n":"2"'), ["Entry 2 was edited: it cannot be read as an entry."]),
        (2, with_new(reason="No."), ["Entry 3 does not follow entry 2", "Version 2 remembers another entry 2"]),
        (
            3,
            with_new(reason="No."),
            ["Version 3 remembers another entry 3", "registered model remembers another entry 3"],
        ),
        (3, with_new(what="blessed"), ["Entry 3 says that 'blessed' was done, must be one of registered, gated"]),
        (3, with_new(time="1999-01-01T00:00:00.000000Z"), ["Entry 3 is dated before entry 2"]),
        (2, None, ["Entry 2 is missing.", "Version 2 remembers another entry 2"]),
        (3, None, ["registered model remembers entry 3, but the ledger ends at 2: its end was removed."]),
    ],
)
def test_an_edited_value_is_named(database: Path, n: int, edit: Callable[[str], str] | None, says: list[str]) -> None:
    model, run = three_entries()
    with sqlite3.connect(database) as db:
        where = "where run_uuid = ? and key = ?"
        (text,) = db.execute(f"select value from params {where}", (run, f"00000{n}")).fetchone()
        if edit is None:
            db.execute(f"delete from params {where}", (run, f"00000{n}"))
        else:
            db.execute(f"update params set value = ? {where}", (edit(text), run, f"00000{n}"))
    db.close()
    broken(model, says)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update params set key = '000007' where run_uuid = :run and key = '000003'", ["Entries 3 to 6 are missing."]),
        ("update params set key = '3' where run_uuid = :run and key = '000003'", ["Parameter '3' is no entry"]),
        ("update params set key = '000000' where run_uuid = :run and key = '000001'", ["Entry 1 is missing."]),
        (
            "update params set value = (select value from params where run_uuid = :run and key = '000003')"
            " where run_uuid = :run and key = '000002'",
            ["Entry 2 says that it is entry 3: the entries were renumbered or reordered."],
        ),
        ("delete from params where run_uuid = :run", ["remembers entry 3, but the ledger ends at 0"]),
        ("delete from registered_model_tags where name = :model", ["is gone or lost its tag cxlab.ledger.head"]),
        (
            "update registered_model_tags set value = 'x' where name = :model",
            ["The registered model has a tag cxlab.ledger.head that is no witness: 'x'."],
        ),
        (
            "update model_version_tags set value = '1:' || substr(value, 3) where name = :model and version = 2",
            ["Version 2 remembers another entry 1: the ledger was rewritten."],
        ),
        ("update experiments set name = 'x' || :model where name = 'ledger of ' || :model", ["The ledger is gone"]),
        ("delete from experiment_tags where value = :model", ["is no ledger of ours: its tag cxlab.ledger is not"]),
    ],
)
def test_an_edit_elsewhere_is_named(database: Path, statement: str, says: list[str]) -> None:
    model, run = three_entries()
    with sqlite3.connect(database) as db:
        assert db.execute(statement, {"run": run, "model": model}).rowcount
    db.close()
    broken(model, says)


def three_entries() -> tuple[str, str]:
    """A model with an entry for each version, and its ledger's run."""
    model = a_model()
    for version in "123":
        add(model, version=version)
    assert read_ledger(model).problems == ()
    with store() as client:
        (run,) = client.search_runs([client.get_experiment_by_name(f"ledger of {model}").experiment_id])
        assert (run.info.status, run.info.run_name) == ("FINISHED", f"ledger of {model}")
        return model, run.info.run_id


def broken(model: str, says: list[str]) -> None:
    problems = read_ledger(model).problems
    for text in says:
        assert any(text in problem for problem in problems), problems
    with pytest.raises(StoreError, match="is broken; restore it from a backup") as error:
        add(model)
    assert all(text in str(error.value) for text in says)
    assert read_ledger(model).problems == problems


def test_what_mlflow_itself_can_delete_is_named_and_restored() -> None:
    model, run = three_entries()
    with store() as client:
        experiment = client.get_run(run).info.experiment_id
        client.delete_run(run)
        broken(model, ["or its run is deleted in MLflow; restore it there."])
        client.restore_run(run)
        assert read_ledger(model).problems == ()
        client.delete_experiment(experiment)
        broken(model, ["or its run is deleted in MLflow; restore it there."])
        client.restore_experiment(experiment)
        assert read_ledger(model).problems == ()
        client.delete_model_version(model, "2")
        assert read_ledger(model).problems == ()
        second = client.create_run(experiment).info.run_id
        client.log_param(second, "000001", "{}")
        broken(model, ["has 2 runs, must have one; the oldest was read."])
        client.delete_registered_model(model)
    problems = read_ledger(model).problems
    assert any("The registered model is gone or lost its tag" in text for text in problems)


def test_an_experiment_without_its_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT", 0.1)
    model = a_model()
    with store() as client:
        experiment = client.create_experiment(f"ledger of {model}", tags={"cxlab.ledger": model})
        with pytest.raises(StoreError, match=f"'ledger of {model}' has no run after 0.1 s: .* Rename that empty"):
            add(model)
        client.rename_experiment(experiment, f"left over of {model}")
    assert add(model) == read_ledger(model)


def test_a_writer_killed_before_its_witness_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._remember

    def killed(client: Any, model: str, n: int, digest: str) -> None:
        if n in (1, 3):
            raise KeyboardInterrupt
        real(client, model, n, digest)

    monkeypatch.setattr(module, "_remember", killed)
    model = a_model()
    for n, held in enumerate(["0:", "2:", "2:", "4:"], start=1):
        if n in (1, 3):
            with pytest.raises(KeyboardInterrupt):
                add(model, version="2")
        else:
            add(model, version="2")
        assert str(tag(model)).startswith(held)
        assert (read_ledger(model).length, read_ledger(model).problems) == (n, ())


def test_a_slow_writer_does_not_turn_the_witness_back() -> None:
    model, _ = three_entries()
    with store() as client:
        module._remember(client, model, 1, read_ledger(model).entries[0].hash)
    assert str(tag(model)).startswith("3:")


def test_a_first_entry_that_comes_while_we_read_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    model, real = a_model(), MlflowClient.get_registered_model

    def overtaken(self: Any, name: str) -> Any:
        monkeypatch.setattr(MlflowClient, "get_registered_model", real)
        found = real(self, name)
        add(model)
        return found

    monkeypatch.setattr(MlflowClient, "get_registered_model", overtaken)
    ledger = read_ledger(model)
    assert (ledger.length, ledger.problems) == (1, ())


def test_an_answer_that_was_lost_adds_no_second_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    real, calls = MlflowClient.log_param, []

    def answerless(self: Any, *args: Any) -> Any:
        calls.append(real(self, *args))
        if len(calls) < 3:
            raise MlflowException("(sqlite3.OperationalError) database is locked")

    monkeypatch.setattr(MlflowClient, "log_param", answerless)
    model = a_model()
    assert add(model).length == read_ledger(model).length == 1
    assert len(calls) == 3


def test_a_lock_is_waited_for_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    calls = []

    def locked() -> None:
        calls.append(1)
        raise MlflowException("(sqlite3.OperationalError) database is locked")

    with pytest.raises(MlflowException, match="database is locked"):
        module._patiently(locked)
    assert len(calls) == module.LOCKED_TRIES


def test_of_two_approvers_at_once_one_is_refused() -> None:
    model, both_drafted = a_model(), threading.Barrier(2)
    asked: dict[str, int] = {"anna": 0, "ben": 0}

    def approve(who: str) -> str:
        def draft(ledger: Ledger) -> Draft:
            asked[who] += 1
            if ledger.approval("1"):
                raise CxlabError(f"Version 1 is approved by {ledger.entries[0].who} already.")
            both_drafted.wait(20)
            return Draft("approved", "1", "Better.")

        try:
            return f"entry {append(model, draft, who=who).length}"
        except CxlabError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(approve, asked))
    ledger = read_ledger(model)
    (winner,) = [entry.who for entry in ledger.entries]
    assert sorted(said) == sorted(["entry 1", f"Version 1 is approved by {winner} already."])
    assert (sorted(asked.values()), ledger.problems) == ([1, 2], ())


def test_two_processes_and_two_threads_write_one_history(database: Path) -> None:
    model = a_model()
    code = (
        "import sys\nfrom cxlab.tracking.ledger import Draft, append, read_ledger\n"
        "model = sys.argv[1]; read_ledger(model); print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(20): append(model, lambda _: Draft('gated', '2', str(n)), who='process')\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, model], env=dict(os.environ), stdin=-1, stdout=-1, stderr=-1, text=True
    )
    assert other.stdin is not None and other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    other.stdin.write("go\n")
    other.stdin.flush()

    def ten(who: str) -> None:
        for n in range(10):
            append(model, lambda _, n=n: Draft("gated", "1", str(n)), who=who)  # type: ignore[misc]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ten, ["one", "two"]))
    _, complaint = other.communicate(timeout=60)
    assert (other.returncode, complaint) == (0, "")
    ledger = read_ledger(model)
    assert ledger.problems == ()
    for who, n in [("process", 20), ("one", 10), ("two", 10)]:
        assert [entry.reason for entry in ledger.entries if entry.who == who] == [str(item) for item in range(n)]
    with store() as client:
        experiments = [item.name for item in client.search_experiments()]
        assert experiments.count(f"ledger of {model}") == 1
