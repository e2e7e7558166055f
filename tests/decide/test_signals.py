"""Strength and confidence keep their laws; a replay is the same to the byte; broken input stops with a remedy."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from signal_histories import PARAMS, TABLE, customers, event, happened, histories, small, table
from typer.testing import CliRunner

from cxlab.cli.decide_signals import signals
from cxlab.decide.replay import lines_of, replay
from cxlab.decide.signals import check_names, matches, read_customers
from cxlab.decide.strength import Piece, combined, confidence, strength
from cxlab.decide.thresholds import hoeffding_bentkus, tune
from cxlab.decide.triggers import STATUSES, Engine
from cxlab.errors import DataError, ParamsError
from cxlab.params.files import checked
from cxlab.params.signals import Comparison, Library, Match, SignalsParams, load_signals
from cxlab.places import home

PIECES = st.lists(
    st.builds(Piece, st.floats(0.01, 5), st.floats(0.01, 1), st.floats(1, 500), st.floats(0, 1000)),
    max_size=8,
)
NOON = datetime(2025, 5, 6, 11, 0, tzinfo=UTC)


@given(PIECES, PIECES)
def test_strength_of_two_signals_is_their_noisy_or(one: list[Piece], other: list[Piece]) -> None:
    assert strength([*one, *other]) == pytest.approx(combined([strength(one), strength(other)]), abs=1e-12)


@given(PIECES, PIECES)
def test_more_evidence_never_weakens(one: list[Piece], more: list[Piece]) -> None:
    for measure in (strength, confidence):
        assert 0 <= measure(one) <= measure([*one, *more]) + 1e-12 <= 1 + 1e-12


@given(PIECES)
def test_after_a_half_life_half_the_intensity_is_left(pieces: list[Piece]) -> None:
    older = [piece._replace(age_h=piece.age_h + piece.half_life_h) for piece in pieces]
    assert strength(older) == pytest.approx(1 - math.sqrt(1 - strength(pieces)), abs=1e-9)
    assert confidence(older) <= confidence(pieces)


@settings(max_examples=10, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_a_replay_is_the_same_to_the_byte(rows: list[dict[str, Any]], random: Any) -> None:
    params, frame = small(), table(rows)
    first = replay(frame, params, customers=TABLE).lines()
    order = list(range(len(frame)))
    random.shuffle(order)
    assert replay(frame.iloc[order], params, customers=TABLE).lines() == first
    cut = random.randint(0, len(frame))
    parts = [part for part in (frame.iloc[cut:], frame.iloc[:cut]) if len(part)]
    assert replay(parts, params, customers=TABLE).lines() == first


@settings(max_examples=20, deadline=None)
@given(histories(), st.data())
def test_the_future_changes_no_decision(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    params, items = small(), happened(rows)
    cut = data.draw(st.integers(0, len(items)))
    whole, part = Engine(params, customers(params)), Engine(params, customers(params))
    known = [decision for item in items[:cut] for decision in part.step(item)]
    every = [decision for item in items for decision in whole.step(item)]
    assert every[: len(known)] == known


@settings(max_examples=20, deadline=None)
@given(histories(), st.data())
def test_the_state_is_plain_and_goes_on(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    params, items = small(), happened(rows)
    cut = data.draw(st.integers(0, len(items)))
    whole, first = Engine(params, customers(params)), Engine(params, customers(params))
    every = [decision for item in items for decision in whole.step(item)]
    before = [decision for item in items[:cut] for decision in first.step(item)]
    second = Engine(params, customers(params), json.loads(json.dumps(first.state)))
    assert lines_of([*before, *(d for item in items[cut:] for d in second.step(item))]) == lines_of(every)


@settings(max_examples=20, deadline=None)
@given(histories())
def test_every_case_ends_once_and_every_decision_has_its_reason(rows: list[dict[str, Any]]) -> None:
    found = replay(table(rows), small(), customers=TABLE)
    assert len({decision["id"] for decision in found.decisions}) == len(found.decisions)
    for decision in found.decisions:
        assert decision["status"] in STATUSES and decision["owner"] and decision["reason"]
        assert (decision["guardrail"] is not None) == (decision["status"] in ("held", "suppressed", "paused"))
        assert (decision["channel"] is not None) == (decision["status"] in ("sent", "asked"))
    assert sum(found.counts().values()) == len(found.frame()) == int(found.guardrails()["decisions"].sum())


def test_a_ladder_is_climbed_while_nothing_helps() -> None:
    found = replay(table([event(NOON, "c0", "complaint"), event(NOON + timedelta(days=6), "c4", "login")]), small())
    steps = [(d["action"], d["time"]) for d in found.decisions if d["situation"] == "help" and d["status"] == "sent"]
    assert [name for name, _ in steps] == ["hint", "message", "call"]
    assert datetime.fromisoformat(steps[1][1]) - datetime.fromisoformat(steps[0][1]) == timedelta(hours=5)


def test_who_acted_elsewhere_hears_nothing_more() -> None:
    rows = [event(NOON, "c0", "complaint"), event(NOON + timedelta(hours=2), "c0", "contact", resolved=True)]
    found = replay(table([*rows, event(NOON + timedelta(days=6), "c4", "login")]), small(), customers=TABLE)
    mine = [(d["action"], d["status"], d["guardrail"]) for d in found.decisions if d["situation"] == "help"]
    assert mine == [("hint", "sent", None), ("message", "suppressed", "acted_elsewhere")]


@pytest.mark.parametrize(
    ("answer", "then"),
    [("yes", "sent"), ("no", "suppressed"), (None, "escalated")],
)
def test_who_is_unsure_asks_and_then_hands_over(answer: str | None, then: str) -> None:
    rows = [event(NOON, "c0", "contact", resolved=False)]
    if answer:
        rows.append(event(NOON + timedelta(hours=4), "c0", "question_answered", situation="help", answer=answer))
    found = replay(table([*rows, event(NOON + timedelta(days=6), "c4", "login")]), small(), customers=TABLE)
    assert [d["status"] for d in found.decisions][:2] == ["asked", then]


def test_an_answer_moves_what_is_due() -> None:
    rows = [event(NOON, "c0", "contact", resolved=False)]
    rows.append(event(NOON + timedelta(hours=4), "c0", "question_answered", situation="help", answer="yes"))
    found = replay(table([*rows, event(NOON + timedelta(days=6), "c4", "login")]), small(quiet=["02:00", "02:00"]))
    hours = [(datetime.fromisoformat(d["time"]) - NOON) / timedelta(hours=1) for d in found.decisions]
    assert [d["action"] for d in found.decisions][:3] == ["ask", "hint", "message"] and hours[:3] == [0, 4, 9]


def test_vulnerable_customers_have_their_own_threshold_and_first_step() -> None:
    tree = json.loads(json.dumps(PARAMS))
    tree["signals"]["trouble"] |= {"weight": 0.5, "confidence": 0.9}
    params = checked(tree, SignalsParams, "tree")
    rows = [event(NOON, name, "contact", resolved=False) for name in ("c0", "c1")]
    found = replay(table(rows), params, customers=TABLE)
    assert [(d["customer"], d["action"]) for d in found.decisions] == [("c1", "message")]  # 0.39: at least 0.3, not 0.5


def test_events_for_another_purpose_are_no_evidence() -> None:
    rows = [
        event(NOON - timedelta(hours=1), "c0", "consent_granted", purpose="marketing"),
        event(NOON, "c0", "complaint"),
    ]
    with_, without = (
        replay(table(rows), small(compatible=c), customers=TABLE) for c in ({"service": ["marketing"]}, {})
    )
    assert "offer" in set(with_.frame()["situation"]) and "offer" not in set(without.frame()["situation"])


@pytest.mark.parametrize(
    ("rule", "value", "last", "fits"),
    [
        (False, False, None, True),
        (False, 0, None, False),
        (("a", "b"), "b", None, True),
        (Comparison(least=2, most=3), 2.5, None, True),
        (Comparison(least=2), True, None, False),
        (Comparison(times_last=1.5), 30, 20.0, True),
        (Comparison(times_last=1.5), 29, 20.0, False),
        (Comparison(times_last=1.5), 30, None, False),
    ],
)
def test_properties_match_by_value_and_type(rule: Any, value: Any, last: float | None, fits: bool) -> None:
    match = Match(event="order", where={"amount": rule})
    assert matches(match, "order", {"amount": value}, last) is fits
    assert not matches(match, "order", {}, last) and not matches(match, "login", {"amount": value}, last)


def test_our_params_are_whole_and_every_text_is_used() -> None:
    params, texts = load_signals(home() / "params" / "signals.yaml")
    check_names(params)
    steps = [step for item in params.situations.values() for step in [*item.ladder, *([item.ask] if item.ask else [])]]
    assert {step.message for step in steps} == set(texts.messages)
    assert all(step.owner for step in steps) and all(text.owner for text in texts.messages.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["situations"]["help"]["ladder"][0].pop("owner"), r"ladder\[0\]\.owner == .*owner: contact centre"),
        (lambda t: t["situations"]["help"].update(owner=" "), "an owner who answers for it"),
        (lambda t: t["situations"]["help"].update(combine=["angr"]), "Did you mean 'anger'"),
        (lambda t: t["situations"]["help"].update(threshold=1.5), "threshold == 1.5"),
        (lambda t: t["situations"]["help"].pop("ask"), "ask: section"),
        (lambda t: t["guardrails"].update(zones=["Europe/Madird"]), "Did you mean 'Europe/Madrid'"),
        (lambda t: t["guardrails"].update(quite=1), "Did you mean 'quiet'"),
        (lambda t: t["signals"]["anger"].update(where={"x": {}}), "least, most or times_last"),
    ],
)
def test_params_that_do_not_fit_say_what_to_do(change: Any, says: str) -> None:
    tree = json.loads(json.dumps(PARAMS))
    change(tree)
    with pytest.raises(ParamsError, match=says):
        checked(tree, SignalsParams, "signals.yaml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ({"text": {"en": "Hello."}}, "an owner who answers"),
        ({"text": {"en": " ".join(["word"] * 21)}, "owner": "desk"}, "21 words, at most 20"),
        ({"text": {"en": " "}, "owner": "desk"}, "en has none"),
    ],
)
def test_texts_are_plain_and_have_owners(text: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        checked({"messages": {"hello": text}}, Library, "messages.yaml")


def test_names_that_the_taxonomy_lacks_are_refused() -> None:
    tree = json.loads(json.dumps(PARAMS))
    tree["signals"]["anger"]["event"] = "complain"
    with pytest.raises(ParamsError, match="Did you mean 'complaint'"):
        check_names(checked(tree, SignalsParams, "x"))


def test_a_refusal_that_cannot_be_read_stops_everything() -> None:
    rows = [event(NOON, "c0", "complaint"), event(NOON, "c0", "opted_out", channel="letter")]
    with pytest.raises(DataError, match="customers say what we may do are in quarantine"):
        replay(table(rows), small())


def test_a_customer_who_is_there_twice_is_refused() -> None:
    with pytest.raises(DataError, match="'c0' is there 2 times"):
        read_customers(pd.concat([TABLE, TABLE.head(1)]), small())
    with pytest.raises(DataError, match="customer_id"):
        read_customers(TABLE.drop(columns="customer_id"), small())


def test_what_the_table_of_customers_lacks_is_said() -> None:
    notes = read_customers(TABLE.drop(columns=["vulnerable", "timezone"]), small()).notes
    assert "no vulnerable" in notes[0] and "5 of 5 customers have no known time zone" in notes[1]


def test_no_events_no_decisions() -> None:
    found = replay(table([event(NOON, "c0", "login")]), small(), customers=TABLE)
    assert found.lines() == b"" and "no decision" in found.note
    assert found.plot().figure is not None and len(found.harm()) == 4


def planted(customers_: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Half of the customers who contact us twice complain a day later; those who contact us once never do."""
    rows, outcomes = [], []
    for n in range(customers_):
        start = NOON - timedelta(days=100)
        rows += [event(start, f"p{n}", "login"), event(NOON, f"p{n}", "login")]
        if n % 40 < 8:
            rows.append(event(start + timedelta(days=40), f"p{n}", "contact", resolved=False))
        if n % 40 < 4:
            rows.append(event(start + timedelta(days=41), f"p{n}", "contact", resolved=False))
            outcomes.append((f"p{n}", start + timedelta(days=42)))
    return table(rows), pd.DataFrame(outcomes, columns=["customer_id", "time"])


def test_a_threshold_is_tuned_to_its_budget() -> None:
    events, outcomes = planted()
    params = small()
    tight = tune(events, params, "help", outcomes, budget=0.02, horizon_days=3)
    assert tight.threshold is not None and "keeps 0.02" in tight.note
    row = tight.frame().set_index("threshold").loc[tight.threshold]
    assert row["rate"] <= 0.02 and row["caught"] == row["outcomes"] == 40
    wrong = tight.frame().set_index("threshold")["false_alarms"]
    assert wrong[0.6] == 40 and wrong[0.8] == 0  # one contact is a strength of 0.63, two of about 0.8


def test_too_few_customers_cannot_tell() -> None:
    events, outcomes = planted(40)
    found = tune(events, small(), "help", outcomes, budget=0.01, horizon_days=3)
    assert found.threshold is None and "Cannot tell" in found.note
    with pytest.raises(ParamsError, match="budget == 2"):
        tune(events, small(), "help", outcomes, budget=2)
    with pytest.raises(DataError, match="No customer has a whole week"):
        tune(events, small(), "help", outcomes, budget=0.1, horizon_days=200)


@given(st.integers(1, 500), st.floats(0.01, 0.5))
def test_the_p_value_shrinks_with_the_risk(n: int, limit: float) -> None:
    values = [hoeffding_bentkus(risk, n, limit) for risk in (0.0, limit / 2, limit, min(1.0, 2 * limit))]
    assert values == sorted(values) and values[2] > 0.05 and all(0 <= value <= 1 for value in values)


def run(*arguments: Any) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(signals)
    return CliRunner().invoke(app, [str(item) for item in arguments])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [event(NOON, "c0", "complaint"), event(NOON + timedelta(days=6), "c4", "login")]
    table(rows).to_csv(tmp_path / "events.csv", index=False)
    TABLE.to_csv(tmp_path / "customers.csv", index=False)
    return tmp_path


def test_the_command_tells_and_writes_every_decision(files: Path) -> None:
    out = files / "decisions.jsonl"
    found = run(files / "events.csv", "--customers", files / "customers.csv", "--out", out, "--json")
    told = json.loads(found.stdout)
    assert {"customer", "time", "action", "confidence", "reason", "status"} <= set(told["decisions"][0])
    assert [json.loads(line) for line in out.read_text().splitlines()] == told["decisions"]
    shown = run(files / "events.csv")
    assert "decisions.jsonl" in shown.stdout and "unsolved_problem" in shown.stdout


def test_the_command_follows_as_it_replays(files: Path) -> None:
    out = files / "followed.jsonl"
    args = (files / "events.csv", "--customers", files / "customers.csv")
    told = json.loads(run(*args, "--follow", "--until-idle", "0", "--out", out, "--json").stdout)
    assert told["decisions"] == json.loads(run(*args, "--json").stdout)["decisions"] and told["late"] == 0
    assert isinstance(run(*args, "--until-idle", "1").exception, ParamsError)


def test_a_broken_file_leaves_nothing_half_written(files: Path) -> None:
    (files / "broken.parquet").write_bytes(b"PAR1 and no more")
    out = files / "out.jsonl"
    assert isinstance(run(files / "broken.parquet", "--out", out).exception, DataError)
    assert not out.exists()
    assert isinstance(run(files / "event.csv", "--out", out).exception, DataError)
