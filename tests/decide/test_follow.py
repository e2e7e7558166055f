"""Followed as it grows, a file gives the decisions that its replay gives, to the byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_histories import TABLE, event, histories, small, table

from cxlab.decide.follow import Follower
from cxlab.decide.replay import replay
from cxlab.errors import DataError
from cxlab.params.signals import FollowParams, SignalsParams

NOON = datetime(2025, 5, 6, 11, 0, tzinfo=UTC)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def following(**follow: Any) -> SignalsParams:
    return small().model_copy(update={"follow": FollowParams(**follow)})


def help_(decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [decision for decision in decisions if decision["situation"] == "help"]


def as_received(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = table(rows)
    when = pd.to_datetime(frame["received_at"], format="ISO8601")
    return frame.assign(when=when).sort_values(["when", "event_id"]).drop(columns="when")


@settings(max_examples=12, deadline=None)
@given(histories(), st.data())
def test_a_file_cut_anywhere_gives_the_replays_bytes(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    params, whole = following(), as_received(rows).to_csv(index=False).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    again = data.draw(st.booleans())  # whether it is stopped and started again between two pieces
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "events.csv", Path(folder) / "out.jsonl"
        source.write_bytes(whole[: cuts[0] if cuts else 0])
        follower = Follower(source, params, customers=TABLE, out=out, clock=Clock())
        for cut in [*cuts, len(whole)]:
            source.write_bytes(whole[:cut])
            follower.poll()
            if again:
                follower.__exit__(None, None, None)
                follower = Follower(source, params, customers=TABLE, out=out, clock=Clock())
        with follower:
            follower.finish()
        assert out.read_bytes() == replay(source, params, customers=TABLE).lines()
        assert follower.late == 0 and follower.rows_in == len(rows)


@settings(max_examples=10, deadline=None)
@given(histories(), st.data())
def test_files_that_come_into_a_folder_give_the_replays_bytes(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    params, frame = following(), as_received(rows)
    cut = data.draw(st.integers(0, len(frame)))
    with TemporaryDirectory() as folder:
        source, out = Path(folder) / "events", Path(folder) / "out.jsonl"
        source.mkdir()
        with Follower(source, params, customers=TABLE, out=out, clock=Clock()) as follower:
            assert follower.poll() == []
            frame.iloc[:cut].to_parquet(source / "a.parquet")
            follower.poll()
            frame.iloc[cut:].to_csv(source / "b.csv", index=False)
            (source / "c.parquet.part").write_bytes(b"PAR1 still being written")
            follower.poll()
            follower.finish()
        assert out.read_bytes() == replay(source, params, customers=TABLE).lines()


@settings(max_examples=8, deadline=None)
@given(histories(most=16), st.randoms(use_true_random=False))
def test_rows_a_little_out_of_order_are_put_in_their_place(rows: list[dict[str, Any]], random: Any) -> None:
    params, frame = following(late_s=3600), as_received(rows)
    when = pd.to_datetime(frame["received_at"], format="ISO8601").astype("int64") // 1000
    place = [us + random.random() * 3599e6 for us in when.tolist()]  # none comes an hour after its time
    frame = frame.iloc[sorted(range(len(frame)), key=place.__getitem__)]
    with TemporaryDirectory() as folder:
        source = Path(folder) / "events.csv"
        frame.head(0).to_csv(source, index=False)
        out = []
        with Follower(source, params, customers=TABLE, clock=Clock()) as follower:
            for number in range(len(frame)):
                frame.iloc[number : number + 1].to_csv(source, mode="a", header=False, index=False)
                out += follower.poll()
            out += follower.finish()
        assert follower.late == 0
        assert out == list(replay(source, params, customers=TABLE).decisions)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    table(rows).to_csv(path, index=False)


def test_a_row_is_decided_on_within_seconds(tmp_path: Path) -> None:
    clock, source = Clock(), tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint")])
    with Follower(source, following(), customers=TABLE, clock=clock) as follower:
        assert follower.poll() == []  # another row, received before, may still come
        clock.sleep(2)
        assert [decision["status"] for decision in help_(follower.poll())] == ["sent"]


def test_of_two_rows_in_the_wrong_order_the_earlier_is_taken_first(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    said = event(NOON - timedelta(seconds=1), "c0", "opted_out", channel="all")
    write(source, [event(NOON, "c0", "complaint")])
    with Follower(source, following(), customers=TABLE, clock=Clock()) as follower:
        assert follower.poll() == []
        write(source, [event(NOON, "c0", "complaint"), said])
        assert help_(follower.finish())[0]["guardrail"] == "opted_out" and follower.late == 0


def test_a_line_that_ends_within_quotes_is_no_end(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    table([{**event(NOON, "c0", "complaint"), "account": "two\nlines"}]).to_csv(source, index=False)
    whole = source.read_bytes()
    source.write_bytes(whole[: whole.index(b"two\n") + 4])
    with Follower(source, following(), customers=TABLE, clock=Clock()) as follower:
        assert follower.poll() == [] and follower.rows_in == 0
        source.write_bytes(whole)
        assert help_(follower.finish())[0]["status"] == "sent" and follower.quarantined == 0


def test_a_refusal_that_comes_too_late_is_obeyed_at_once_and_counted(tmp_path: Path) -> None:
    clock, source = Clock(), tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint"), event(NOON + timedelta(hours=1), "c1", "login")])
    with Follower(source, following(), customers=TABLE, clock=clock) as follower:
        assert [decision["action"] for decision in help_(follower.poll())] == ["hint"]
        clock.sleep(5)
        follower.poll()
        rows = [event(NOON, "c0", "complaint"), event(NOON + timedelta(hours=1), "c1", "login")]
        rows += [event(NOON - timedelta(hours=1), "c0", "opted_out", channel="all")]
        write(source, [*rows, event(NOON + timedelta(days=2), "c1", "login")])
        assert [decision["guardrail"] for decision in follower.poll() + follower.finish()] == ["opted_out"]
        assert follower.late == 1


def test_it_ends_when_nothing_comes_or_the_time_is_over(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint")])
    for ends in ({"until_idle_s": 3}, {"stop_after_s": 7}):
        clock = Clock()
        with Follower(source, following(), customers=TABLE, clock=clock) as follower:
            out = [decision for some in follower.run(**ends, sleep=clock.sleep) for decision in some]
        assert len(help_(out)) == 1 and clock.now == next(iter(ends.values()))


def test_the_wall_clock_makes_steps_due_where_it_is_asked_to(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint")])
    for kind, actions in (("events", ["hint"]), ("wall", ["hint", "message"])):
        with Follower(source, following(clock=kind), customers=TABLE, clock=Clock()) as follower:
            assert [d["action"] for d in follower.finish() if d["status"] == "sent"][:2] == actions


def test_the_same_event_twice_counts_once(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint")])
    with Follower(source, following(), customers=TABLE, clock=Clock()) as follower:
        first = follower.finish()
        line = source.read_text().splitlines()[1]
        source.write_text(source.read_text() + line + "\n")
        assert len(help_(first)) == 1 and follower.finish() == [] and follower.rows_in == 1


def test_what_was_written_after_the_last_note_is_decided_again(tmp_path: Path) -> None:
    source, out = tmp_path / "events.csv", tmp_path / "out.jsonl"
    write(source, [event(NOON, "c0", "complaint")])
    with Follower(source, following(), customers=TABLE, out=out):
        pass
    out.write_bytes(b'{"half a li')
    with Follower(source, following(), customers=TABLE, out=out) as follower:
        follower.finish()
    assert [json.loads(line)["action"] for line in out.read_text().splitlines()] == ["hint", "offer"]


def test_what_it_cannot_go_on_from_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "events.csv", tmp_path / "out.jsonl"
    write(source, [event(NOON, "c0", "complaint")])
    with pytest.raises(DataError, match="No file"):
        Follower(tmp_path / "event.csv", following())
    with Follower(source, following(), customers=TABLE, out=out) as follower:
        with pytest.raises(DataError, match="is being written by another"):
            Follower(source, following(), customers=TABLE, out=out)
        follower.finish()
    with pytest.raises(DataError, match="decided by other params"):
        Follower(source, small(contacts_a_day=1), customers=TABLE, out=out)
    (tmp_path / "out.jsonl.state").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Follower(source, following(), customers=TABLE, out=out)
    (tmp_path / "out.jsonl.state").unlink()
    with pytest.raises(DataError, match="but not how far it came"):
        Follower(source, following(), customers=TABLE, out=out)


def test_a_file_may_only_grow(tmp_path: Path) -> None:
    source = tmp_path / "events.csv"
    write(source, [event(NOON, "c0", "complaint"), event(NOON, "c1", "login")])
    follower = Follower(source, following(), customers=TABLE)
    follower.poll()
    write(source, [event(NOON, "c0", "complaint")])
    with pytest.raises(DataError, match="became shorter"):
        follower.poll()


def test_a_parquet_that_stays_broken_is_refused_after_a_while(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "a.parquet").write_bytes(b"PAR1 cut off")
    follower = Follower(tmp_path, following(), customers=TABLE, clock=clock)
    assert follower.poll() == []
    clock.sleep(11)
    with pytest.raises(DataError, match="cut off or damaged"):
        follower.poll()
