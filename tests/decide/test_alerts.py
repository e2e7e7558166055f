"""Alerts look back alone, are raised once, have an owner, and are measured."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.decide.alerts import AlertBook, Alerts, daily, watch
from cxlab.errors import DataError, ParamsError
from cxlab.params.alerts import AlertsParams, WebhookParams, load_alerts
from cxlab.params.files import checked
from cxlab.places import home

OWNED = {"owner": "desk", "action": "Look."}
DAYS = pd.date_range("2025-01-06", periods=84, tz="UTC")
AT = datetime(2025, 4, 1, tzinfo=UTC)


def rules(**named: Any) -> AlertsParams:
    return checked({"rules": {name: {**OWNED, **rule} for name, rule in named.items()}}, AlertsParams, "alerts.yaml")


ALL = rules(
    high={"kind": "threshold", "measure": "x", "above": 140, "periods": 2},
    odd={"kind": "anomaly", "measure": "x", "z": 6},
    fell={"kind": "segment_drop", "measure": "x"},
)


def figures(seed: int = 0, groups: int = 3) -> pd.DataFrame:
    """Counts by day and group, quieter at weekends."""
    rng = np.random.default_rng(seed)
    usual = np.where(DAYS.dayofweek < 5, 100, 40)
    parts = [
        pd.DataFrame({"time": DAYS, "measure": "x", "value": rng.poisson(usual), "group": f"g{number}"})
        for number in range(groups)
    ]
    return pd.concat(parts, ignore_index=True)


def test_a_planted_drop_and_a_planted_peak_are_found_and_nothing_else() -> None:
    frame = figures()
    frame.loc[(frame["group"] == "g1") & (frame["time"] >= DAYS[70]), "value"] //= 2
    frame.loc[(frame["group"] == "g2") & (frame["time"] == DAYS[65]), "value"] = 400
    found = watch(frame, ALL).frame()
    told = set(zip(found["rule"], found["group"], strict=True)) - {("odd", "g1")}  # half a day's count is odd, too
    assert told == {("odd", "g2"), ("fell", "g1")}
    fell = found[found["rule"] == "fell"].iloc[0]
    assert DAYS[70].isoformat() <= fell["onset"] <= DAYS[78].isoformat() and fell["value"] < fell["expected"]
    assert found.loc[found["group"] == "g2", "onset"].tolist() == [DAYS[65].isoformat()]


def test_nothing_is_found_where_nothing_was_planted() -> None:
    assert sum(len(watch(figures(seed), ALL).found) for seed in range(5)) == 0


@settings(max_examples=6)
@given(st.integers(40, 84), st.integers(0, 99))
def test_the_future_changes_no_alert(cut: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = figures(seed)
    frame["value"] = frame["value"] * np.where(rng.random(len(frame)) < 0.05, 4, 1)
    past = watch(frame[frame["time"] < DAYS[0] + pd.Timedelta(days=cut)], ALL).found
    whole = {alert.id: alert for alert in watch(frame.sample(frac=1, random_state=seed), ALL).found}
    for alert in past:
        later = whole[alert.id]
        assert (alert.time, alert.value, alert.says) == (later.time, later.value, later.says)


def test_a_threshold_needs_its_periods_in_a_row() -> None:
    frame = pd.DataFrame({"time": DAYS[:6], "measure": "x", "value": [150, 1, 150, 150, 150, 1]})
    (alert,) = watch(frame, ALL).found
    assert (alert.onset, alert.time, alert.last) == tuple(DAYS[day].isoformat() for day in (2, 3, 4))
    assert (alert.owner, alert.action, alert.expected) == ("desk", "Look.", 140)


def test_a_share_is_beyond_a_limit_only_with_its_whole_interval() -> None:
    share = rules(high={"kind": "threshold", "measure": "x", "above": 0.02, "share": True})
    frame = pd.DataFrame({"time": DAYS[:3], "measure": "x", "value": [0.05, 0.05, 0.01], "n": [20, 4000, 4000]})
    assert [alert.onset for alert in watch(frame, share).found] == [DAYS[1].isoformat()]
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        watch(frame.assign(value=2.0), share)


def test_what_cannot_be_told_is_said() -> None:
    found = watch(figures().head(20), ALL)
    assert set(found.untold) == {"odd", "fell"} and "cannot tell" in found.note
    assert "no figure 'y'" in watch(figures(), rules(high={"kind": "threshold", "measure": "y", "above": 1})).note


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (figures().drop(columns="value"), "Column 'value' is not in the data"),
        (figures().assign(time="yesterday"), "time == 'yesterday'"),
        (figures().astype({"value": object}).assign(value="many"), "value == 'many'"),
        (pd.concat([figures(), figures()]), "is there twice"),
    ],
)
def test_broken_figures_are_refused(frame: pd.DataFrame, says: str) -> None:
    with pytest.raises(DataError, match=says):
        watch(frame, ALL)


def peak() -> Alerts:
    frame = figures()
    frame.loc[(frame["group"] == "g2") & (frame["time"] == DAYS[65]), "value"] = 400
    return watch(frame, ALL)


def test_an_alert_is_raised_once_acknowledged_closed_and_measured(tmp_path: Path) -> None:
    book, found = AlertBook(tmp_path / "alerts.jsonl"), peak()
    (alert,), failed = book.add(found, at=DAYS[66].to_pydatetime())
    assert failed == [] and book.add(found) == ([], [])
    book.acknowledge(alert.id, at=DAYS[66].to_pydatetime() + timedelta(hours=2))
    with pytest.raises(ParamsError, match="acknowledged already"):
        book.acknowledge(alert.id)
    book.close(alert.id, right=True, by="ana", at=DAYS[67].to_pydatetime())
    with pytest.raises(ParamsError, match="closed already"):
        book.close(alert.id, right=False)
    row = book.measured().frame().iloc[-1]
    assert (row["rule"], row["alerts"], row["open"], row["right"], row["precision"]) == ("(all)", 1, 0, 1, 1.0)
    assert (row["hours_to_raise"], row["hours_to_acknowledge"], row["hours_to_close"]) == (24, 2, 24)
    assert 0 < row["low"] < 1 and book.add(found) == ([], [])  # the same trouble stays known
    assert [entry["entry"] for entry in book.entries()] == ["raised", "acknowledged", "closed"]
    assert book.entries()[1]["by"] == "tester" and book.measured().plot() and found.plot()


def test_while_one_is_open_another_of_the_same_rule_and_group_is_not_raised(tmp_path: Path) -> None:
    frame = figures()
    frame.loc[(frame["group"] == "g2") & frame["time"].isin([DAYS[60], DAYS[75]]), "value"] = 400
    both, book = watch(frame, ALL), AlertBook(tmp_path / "alerts.jsonl")
    assert len(both.found) == 2 and len(book.add(both)[0]) == 1
    book.close(both.found[0].id, right=None)
    assert [alert.id for alert in book.add(both)[0]] == [both.found[1].id]
    assert np.isnan(book.measured().frame()["precision"].iloc[-1])


def test_a_book_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    book = AlertBook(tmp_path / "alerts.jsonl")
    book.add(peak())
    with pytest.raises(ParamsError, match=r"Alert 'none' is not in alerts\.jsonl"):
        book.acknowledge("none")
    with pytest.raises(ParamsError, match="must have a time zone"):
        book.add(peak(), at=datetime(2025, 1, 1))
    with book.path.open("a") as file:
        file.write('{"half')
    with pytest.raises(DataError, match="line 2 is no entry"):
        book.state()


def posted_to(status: int) -> tuple[HTTPServer, list[dict[str, Any]]]:
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, got


@pytest.mark.parametrize(("status", "problem"), [(200, None), (500, "answered 500"), (302, "answered 302")])
def test_a_webhook_gets_each_new_alert_once(tmp_path: Path, status: int, problem: str | None) -> None:
    server, got = posted_to(status)
    try:
        hook = WebhookParams(url=f"http://127.0.0.1:{server.server_port}/alerts")
        book = AlertBook(tmp_path / "alerts.jsonl")
        (alert,), failed = book.add(peak(), webhook=hook)
        assert book.add(peak(), webhook=hook) == ([], [])
    finally:
        server.shutdown()
        server.server_close()
    assert [item["id"] for item in got] == [alert.id] and got[0]["owner"] == "desk"
    assert failed == ([f"{alert.id}: {problem}"] if problem else [])
    assert book.entries()[-1]["problem"] == problem


def test_a_webhook_that_does_not_answer_loses_no_alert(tmp_path: Path) -> None:
    server, _ = posted_to(200)
    server.shutdown()
    server.server_close()
    book = AlertBook(tmp_path / "alerts.jsonl")
    new, failed = book.add(peak(), webhook=WebhookParams(url=f"http://127.0.0.1:{server.server_port}"))
    assert len(new) == len(failed) == 1 and book.state()[new[0].id]["status"] == "open"


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org", "file:///etc/passwd", "https://"])
def test_alerts_go_nowhere_in_the_clear(url: str) -> None:
    with pytest.raises(ParamsError, match="https:// address"):
        checked(
            {"rules": {"a": {**OWNED, "kind": "anomaly", "measure": "x"}}, "webhook": {"url": url}}, AlertsParams, "x"
        )


def test_our_alerts_have_owners_and_actions_and_no_webhook() -> None:
    params = load_alerts(home() / "params" / "alerts.yaml")
    assert params.webhook is None and all(rule.owner and rule.action for rule in params.rules.values())
    with pytest.raises(ParamsError, match="owner: contact centre"):
        load_alerts(home() / "params" / "alerts.yaml", ["rules.long_waits.owner="])


def test_events_are_counted_by_day_and_a_day_without_one_counts_none() -> None:
    at = pd.to_datetime(["2024-01-01T23:59Z", "2024-01-02T00:00Z", "2024-01-04T12:00Z", "2024-01-04T13:00Z"])
    events = pd.DataFrame({"event": ["a", "a", "a", "b"], "occurred_at": at, "customer_id": ["x", "y", "z", "x"]})
    assert daily(events, {"visits": "a"})["value"].tolist() == [1, 1, 0, 1]
    parts = daily(events, {"visits": "a"}, pd.Series({"x": "north", "y": "south", "z": "north"}))
    assert parts.groupby("group")["value"].sum().to_dict() == {"": 3, "north": 2, "south": 1}
    with pytest.raises(DataError, match="Event 'c' is not in these events"):
        daily(events, {"visits": "c"})


def test_a_single_event_where_there_are_usually_none_is_no_anomaly() -> None:
    days = pd.date_range("2024-01-01", periods=7 * 12, freq="D", tz="UTC")
    value = np.where(np.arange(len(days)) == 80, 1, 0)
    rules = {"rules": {"odd": {"kind": "anomaly", "measure": "x", "z": 5, "owner": "o", "action": "Look."}}}
    found = watch(pd.DataFrame({"time": days, "measure": "x", "value": value}), checked(rules, AlertsParams, "x"))
    assert found.found == ()
    many = watch(pd.DataFrame({"time": days, "measure": "x", "value": 9 * value}), checked(rules, AlertsParams, "x"))
    assert [alert.value for alert in many.found] == [9]
