"""The simulated company: its bytes, its events, its plants, and whether its own truth is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from cxlab.data.world import DEFAULT, PLANTS, World, simulate, speech, write
from cxlab.data.world.clock import Clock
from cxlab.data.world.customers import Scene, people
from cxlab.data.world.draws import Draws
from cxlab.data.world.experience import contacts
from cxlab.data.world.hazard import COEFFICIENTS, INTERCEPT, Lives, lives, uplift
from cxlab.digest import canonical
from cxlab.errors import DataError, ParamsError

EVENTS = {
    **dict.fromkeys(("page_view", "login", "app_open", "chat_started", "survey_sent"), ()),
    "call_answered": ("handle_seconds", "hold_seconds", "mos", "queue_seconds", "transfers"),
    "contact": ("intent", "resolved"),
    **dict.fromkeys(("order", "bill_issued", "bill_paid"), ("amount",)),
    "complaint": ("topic",),
    "survey_answered": ("csat", "nps"),
    "incident_notified": ("incident",),
    "action_taken": ("action",),
    **dict.fromkeys(("consent_granted", "consent_withdrawn"), ("purpose",)),
    "account_closed": ("reason",),
}
SEEDS = range(100, 120)
DAYS_60 = pd.Timedelta(days=60)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> World:
    return simulate(tmp_path_factory.mktemp("worlds") / "plain", customers=1500, seed=7)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> World:
    return simulate(tmp_path_factory.mktemp("worlds") / "all", customers=1500, seed=7, plant=list(PLANTS))


def fingerprints(world: World) -> dict[str, str]:
    files = sorted(path for path in world.folder.rglob("*") if path.is_file())
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def lived(seed: int, n: int, *plants: str) -> Lives:
    """The hazards of a world, without writing it."""
    clock, draws = Clock(78), Draws(seed)
    who = people(draws, np.arange(n), 78, withdrawals=True)
    scene = Scene(draws, who, clock, {"incidents", *plants}, 52 if "drift" in plants else 999)
    return lives(scene, contacts(scene))


def at_risk(life: Lives, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs with a constant, shape (m, k), outcomes and true hazards of the weeks in which customers could leave."""
    week = np.arange(life.hazard.shape[1])
    seen = week <= life.closes[:, None]
    if start is not None:
        seen &= week >= start[:, None]
    x = np.column_stack([np.ones(seen.sum()), *(life.inputs[name][seen].astype(float) for name in COEFFICIENTS)])
    return x, (week == life.closes[:, None])[seen].astype(float), life.hazard[seen]


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and standard errors by Newton's method, in steps that make the likelihood grow."""
    beta = np.zeros(x.shape[1])
    beta[0] = np.log(y.mean() / (1 - y.mean()))

    def loss(at: np.ndarray) -> float:
        return float(np.logaddexp(0, x @ at).sum() - y @ (x @ at))

    for _ in range(30):
        p = 1 / (1 + np.exp(-x @ beta))
        information = (x * (p * (1 - p))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (y - p))
        while loss(beta + step) > loss(beta) + 1e-9:
            step /= 2
        beta += step
        if np.abs(step).max() < 1e-9:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


def auc(y: np.ndarray, score: np.ndarray) -> float:
    ranks = pd.Series(score).rank().to_numpy()
    ones = y.sum()
    return float((ranks[y == 1].sum() - ones * (ones + 1) / 2) / (ones * (len(y) - ones)))


def starts(seed: int, n: int) -> np.ndarray:
    return people(Draws(seed), np.arange(n), 78, withdrawals=True).start


@pytest.mark.parametrize("plant", [(), tuple(PLANTS)], ids=["default", "all"])
def test_chunks_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: tuple[str, ...]) -> None:
    monkeypatch.setattr(write, "ROWS", 1000)  # so that groups of rows end within chunks
    one = simulate(tmp_path / "one", customers=70, seed=3, months=6, plant=plant)
    again = simulate(tmp_path / "again", customers=70, seed=3, months=6, plant=plant)
    for chunk in (9, 64):
        many = simulate(tmp_path / f"chunks{chunk}", customers=70, seed=3, months=6, plant=plant, chunk=chunk)
        assert fingerprints(many) == fingerprints(one) == fingerprints(again)
    other = simulate(tmp_path / "other", customers=70, seed=4, months=6, plant=plant)
    assert fingerprints(other)["events.parquet"] != fingerprints(one)["events.parquet"]


def test_more_customers_leave_the_first_unchanged(tmp_path: Path) -> None:
    few = simulate(tmp_path / "few", customers=41, seed=5, plant=list(PLANTS))
    more = simulate(tmp_path / "more", customers=75, seed=5, plant=list(PLANTS), chunk=50)
    for name, rows in few.rows.items():
        pd.testing.assert_frame_equal(few.read(name), more.read(name).head(rows))


@pytest.mark.parametrize("kind", ["plain", "planted"])
def test_every_event_keeps_the_contract(kind: str, request: pytest.FixtureRequest) -> None:
    world = request.getfixturevalue(kind)
    schema = pq.read_schema(world.folder / "events.parquet")
    texts = ["event_id", "customer_id", "account", "email", "device", "phone", "channel", "event", "properties"]
    kinds = dict.fromkeys([*texts, "purpose"], "string")
    kinds |= dict.fromkeys(("occurred_at", "received_at"), "timestamp[us, tz=UTC]")
    assert {name: str(schema.field(name).type) for name in schema.names} == kinds
    events = world.read("events")
    assert set(events.event) <= set(EVENTS)
    assert set(events.channel) <= {"web", "app", "chat", "voice", "email", "store", "survey", "billing"}
    assert set(events.purpose) == {"service", "analytics", "personalisation", "marketing"}
    assert events[["customer_id", "account", "email", "device", "phone"]].notna().any(axis=1).all()
    assert events[["event_id", "occurred_at", "received_at", "properties"]].notna().all(axis=None)
    for event, text in events.groupby("event").properties:
        for item in text.unique()[:200]:
            assert canonical(json.loads(item)).decode() == item
            assert tuple(json.loads(item)) == EVENTS[event]
    if kind == "plain":
        assert events.event_id.is_unique
        assert (events.received_at > events.occurred_at).all()
        assert events.customer_id.notna().all()
        closed = events[events.event == "account_closed"].set_index("customer_id").occurred_at
        assert closed.index.is_unique
        assert not (events.occurred_at > events.customer_id.map(closed)).any()
        assert set(events.event) == set(EVENTS)
        churned = world.read("customers").set_index("customer_id").churned
        assert set(churned.index[churned == "yes"]) == set(closed.index)


def test_tables_agree_with_events(plain: World) -> None:
    events, said = plain.read("events"), plain.read("contacts")
    told = events[events.event == "contact"]
    assert sorted(zip(told.customer_id, told.occurred_at, strict=True)) == sorted(
        zip(said.customer_id, said["at"], strict=True)
    )
    assert said.contact_id.is_unique
    for name, event in (("calls", "call_answered"), ("surveys", "survey_sent")):
        table = plain.read(name)
        assert len(table) == (events.event == event).sum()
        assert set(table.contact_id) <= set(said.contact_id)
    surveys, felt = plain.read("surveys"), plain.read("truth/satisfaction").set_index("contact_id")
    answered = surveys.dropna(subset="csat").set_index("contact_id")
    assert len(answered) == (events.event == "survey_answered").sum()
    assert (answered.csat == felt.csat.loc[answered.index]).all()
    assert plain.read("truth/intents").contact_id.tolist() == said.contact_id.tolist()
    assert (plain.read("actions").action != "none").sum() == (events.event == "action_taken").sum()


def test_hazards_follow_from_their_inputs_and_those_from_the_tables(plain: World) -> None:
    truth, hazards = plain.truth("coefficients"), plain.read("truth/hazards")
    logit = truth["intercept"] + sum(hazards[name].astype(float) * truth[name] for name in COEFFICIENTS)
    np.testing.assert_allclose(hazards.hazard, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    said = plain.read("contacts").merge(plain.read("truth/satisfaction"), on="contact_id")
    flags = {"unresolved_60": ~said.resolved, "low_csat_60": said.csat <= 2, "long_waits_60": said.wait_seconds > 300}
    for name, flag in flags.items():
        pairs = hazards[["customer_id", "begins_at"]].reset_index().merge(said[flag], on="customer_id")
        recent = pairs[(pairs["at"] < pairs.begins_at) & (pairs["at"] >= pairs.begins_at - DAYS_60)]
        count = recent.groupby("index").size().reindex(hazards.index, fill_value=0).clip(upper=3)
        assert (count == hazards[name]).all(), name


def test_the_hazard_is_found_again() -> None:
    """95 % intervals of 12 coefficients in 20 worlds: about 228 of 240 hold the truth."""
    true = np.array([INTERCEPT, *COEFFICIENTS.values()])
    inside, gaps, z = [], [], []
    for seed in SEEDS:
        x, y, hazard = at_risk(lived(seed, 3000), starts(seed, 3000))
        beta, error = logistic(x, y)
        inside.append(np.abs(beta - true) < 1.959964 * error)
        z.append((beta - true) / error)
        gaps.append(auc(y, x @ beta) - auc(y, hazard))
    found = pd.DataFrame(inside, columns=["intercept", *COEFFICIENTS]).sum()
    print(found.to_string(), f"\nall {np.sum(inside)} of {np.size(inside)}; z mean {np.mean(z):.3f} sd {np.std(z):.3f}")
    print(f"AUC gap: mean {np.mean(gaps):+.4f}, largest {np.max(np.abs(gaps)):.4f}")
    assert 0.91 <= np.mean(inside) <= 0.99
    assert (found >= 16).all()  # a coefficient that is off is missed in most worlds
    assert np.abs(gaps).max() < 0.01


def test_drift_moves_the_hazard_from_its_week_on() -> None:
    still, moved = lived(1, 800), lived(1, 800, "drift")
    np.testing.assert_array_equal(still.hazard[:, :52], moved.hazard[:, :52])
    assert moved.hazard[:, 52:].mean() > 1.2 * still.hazard[:, 52:].mean()


def test_uplift_is_what_happens() -> None:
    """Churn in the 91 days after a decision is, on average, what the truth says of the action that was drawn."""
    frames = []
    for seed in SEEDS[:5]:
        clock, draws = Clock(78), Draws(seed)
        scene = Scene(draws, people(draws, np.arange(3000), 78, withdrawals=True), clock, {"incidents"}, 999)
        life = lives(scene, contacts(scene))
        moved = pd.DataFrame(uplift(scene.people, life, clock))
        moved["left"] = life.closes[moved.who] < moved.week + 13
        made = pd.DataFrame({key: life.decisions[key] for key in ("who", "week", "action")})
        frames.append(moved.merge(made, on=["who", "week"], suffixes=("", "_done")))
    whole = pd.concat(frames)
    for action in range(3):
        done = whole[(whole.action == action) & (whole.action_done == action + 1)]
        p = done["without"] + done.effect
        assert abs(done.left.sum() - p.sum()) < 3.3 * np.sqrt((p * (1 - p)).sum())
    nothing = whole[(whole.action == 0) & (whole.action_done == 0)]
    p = nothing["without"]
    assert abs(nothing.left.sum() - p.sum()) < 3.3 * np.sqrt((p * (1 - p)).sum())
    assert 0.1 < (whole.effect > 0.002).mean() < 0.4
    assert whole.groupby("action").effect.mean()[1] < -0.005


def test_probabilities_of_actions_are_written(plain: World) -> None:
    actions = plain.read("actions")
    p = actions[["p_none", "p_call", "p_discount", "p_message"]]
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (actions[actions.rule == "never"].action == "none").all()
    for name in ("none", "call", "discount", "message"):
        chance = actions[f"p_{name}"]
        assert abs((actions.action == name).sum() - chance.sum()) < 4 * np.sqrt((chance * (1 - chance)).sum()) + 1e-9


def test_shares_are_those_of_a_company(plain: World) -> None:
    assert 0.1 < (plain.read("customers").churned == "yes").mean() < 0.3
    surveys = plain.read("surveys")
    assert 0.2 < surveys.csat.notna().mean() < 0.55
    felt = plain.read("truth/satisfaction").set_index("contact_id")
    answered = surveys.contact_id[surveys.csat.notna()]
    assert felt.csat.loc[answered].var() > felt.csat.loc[surveys.contact_id].var()  # the extremes tell more often
    wanted = plain.read("truth/intents").intents
    share = wanted.str[0].value_counts(normalize=True)
    assert set(share.index) == set(speech.intents())
    assert share.max() < 0.2 and share.min() > 0.003
    assert 0.04 < (wanted.str.len() == 2).mean() < 0.12
    said = plain.read("contacts")
    assert said.text.str.len().min() >= 3
    assert said.text.nunique() > 0.75 * len(said)
    assert 0.88 < (said.intent == wanted.str[0]).mean() < 0.96
    calls = plain.read("calls")
    assert calls.mos.between(1, 4.5).all() and (calls.hold_seconds >= 0).all()
    assert calls[calls.network == "wifi"].mos.mean() < calls[calls.network == "lan"].mos.mean()
    local = plain.read("events").query("event == 'call_answered'").occurred_at.dt.tz_convert("Europe/London").dt
    assert (local.hour.between(6, 21)).mean() > 0.97


def test_grammars_are_whole() -> None:
    words = speech.grammar()
    assert len(words["intents"]) == 20
    for item in words["intents"].values():
        assert len(set(item["say"])) >= 6
        for template in item["say"]:
            assert set(speech.SLOT.findall(template)) <= set(words["slots"])
            assert len(speech.SLOT.findall(template)) <= 3
    calm = [0.99] * speech.NUMBERS
    assert speech.utterance(["praise"], "plain", calm) == "I have a question. best support I have had in years. Thanks"
    assert "password" in speech.utterance(["praise", "password"], "plain", calm)


def leaks(world: World) -> bool:
    names = [item["column"] for item in world.truth("leaks")]
    found = [name for name in ("final_bill_amount", "loyalty_index") if name in world.read("customers")]
    assert names == found
    return bool(found)


def biased(world: World) -> bool:
    said = world.read("contacts").merge(world.read("customers"), on=["customer_id", "language_style"])
    calls = said[said.channel == "voice"].groupby(said.language_style == "non_native").wait_seconds.median()
    solved = said.groupby(said.language_style == "non_native").resolved.mean()
    facts = world.truth("bias")
    if facts["planted"]:
        assert facts["measured"]["resolved"] < facts["measured"]["resolved_if_fair"] - 0.1
        assert facts["measured"]["resolved"] == pytest.approx(solved[True], abs=0.04)
    return bool(calls[True] > 1.4 * calls[False] and solved[True] < solved[False] - 0.08)


def drifted(world: World) -> bool:
    events = world.read("events")
    late = events.occurred_at > pd.Timestamp("2025-01-01", tz="UTC")
    voice = (events.channel == "voice")[events.event == "contact"].groupby(late).mean()
    assert world.truth("drift")["planted"] == world.truth("coefficients")["after_drift"]["planted"]
    return bool(voice[True] < 0.8 * voice[False])


def broken(world: World) -> bool:
    keys, events = world.read("truth/identities"), world.read("events")
    owners = world.read("truth/event_owners")
    assert set(owners.event_id) == set(events.event_id[events.customer_id.isna()])
    many = keys.groupby(["customer_id", "kind"]).key.nunique().max() > 1
    shared = keys.groupby("key").customer_id.nunique().max() > 1
    giant = (events.phone == "+440000000000").any()
    assert len({bool(x) for x in (many, shared, giant, keys.shared.any(), len(owners) > 0)}) == 1
    known = events.dropna(subset="customer_id")
    owned = set(zip(keys.customer_id, keys.key, strict=True))
    for kind in ("account", "email", "device", "phone"):
        seen = known.dropna(subset=kind)
        pairs = set(zip(seen.customer_id, seen[kind], strict=True))
        assert all(pair in owned or pair[1] == "+440000000000" for pair in pairs)
    return bool(giant)


def late(world: World) -> bool:
    events = world.read("events")
    first = events[~events.event_id.duplicated()]
    return bool(((first.received_at - first.occurred_at) > pd.Timedelta(days=1)).mean() > 0.01)


def bad(world: World) -> bool:
    """A carrier at a site whose calls go wrong in the second half, where the truth says."""
    calls = world.read("calls")
    wrong = calls.no_media | calls.one_way_audio | (calls.packet_loss >= 15)
    late = calls.started_at > calls.started_at.min() + (calls.started_at.max() - calls.started_at.min()) / 2
    share = wrong[late].groupby([calls.carrier[late], calls.site[late]]).mean()
    written = (world.folder / "truth" / "causes.json").exists()
    assert written == ("bad_calls" in world.truth("plants")["meaning"])  # worlds of before keep their bytes
    if written:
        where = world.truth("causes")["segments"]
        assert share.idxmax() == (where["carrier"], where["site"])
    return bool(share.max() > 0.2)


TRACES: dict[str, Callable[[World], bool]] = {
    "leak": leaks,
    "bias": biased,
    "drift": drifted,
    "broken_identities": broken,
    "consent_withdrawals": lambda world: bool((world.read("events").event == "consent_withdrawn").any()),
    "incidents": lambda world: bool((world.read("events").event == "incident_notified").any()),
    "late_events": late,
    "duplicates": lambda world: bool(world.read("events").event_id.duplicated().any()),
    "clock_skew": lambda world: bool(world.read("events").eval("received_at < occurred_at").any()),
    "bad_calls": bad,
}


def test_plants_leave_a_trace_and_what_is_not_planted_leaves_none(plain: World, planted: World) -> None:
    assert TRACES.keys() == PLANTS.keys()
    assert {name for name, trace in TRACES.items() if trace(plain)} == set(DEFAULT) == set(plain.plants)
    assert {name for name, trace in TRACES.items() if trace(planted)} == set(PLANTS)
    assert planted.truth("plants")["planted"] == sorted(PLANTS)


@pytest.mark.parametrize("name", PLANTS)
def test_a_plant_taken_out_is_gone_alone(tmp_path: Path, name: str) -> None:
    others = [other for other in PLANTS if other != name]
    world = simulate(tmp_path / "w", customers=500, seed=7, plant=others, without=[name])
    assert not TRACES[name](world)
    assert all(TRACES[other](world) for other in others)


def test_leaks_know_the_outcome(planted: World) -> None:
    customers = planted.read("customers")
    left = (customers.churned == "yes").to_numpy()
    assert (customers.final_bill_amount.notna() == left).all()
    assert 0.65 < auc(left, -customers.loyalty_index.to_numpy()) < 0.82


def test_incidents_bring_contacts_where_they_happen(plain: World) -> None:
    said = plain.read("contacts").merge(plain.read("customers"), on=["customer_id", "language_style"])
    wrong, down = plain.truth("incidents")
    for item in (wrong, down):
        begin, end = pd.Timestamp(item["begins_at"]), pd.Timestamp(item["ends_at"]) + pd.Timedelta(days=2)
        during = said["at"].between(begin, end) & (said.intent == item["intent"])
        assert (said[during][item["column"]] == item["value"]).mean() > 0.7
    told = plain.read("events").query("event == 'incident_notified'")
    assert set(told.properties) == {'{"incident":"outage"}', '{"incident":"wrong_bills"}'}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"plant": ["leek"]}, "Plant 'leek' is not known. Did you mean 'leak'?"),
        ({"without": ["incident"]}, "Did you mean 'incidents'?"),
        ({"plant": ["bias"], "without": ["bias"]}, "'bias' is asked for and asked away"),
        ({"customers": 0}, "customers == 0, must be in 1..10000000."),
        ({"months": 1}, "months == 1, must be in 4..60."),
        ({"seed": -1}, "seed == -1, must be"),
    ],
)
def test_refusals_write_nothing(tmp_path: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ParamsError) as said:
        simulate(tmp_path / "w", **arguments)
    assert message in str(said.value)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="exists"):
        simulate(tmp_path, customers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        simulate(tmp_path / "file" / "w", customers=1)


def test_a_world_that_stops_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cxlab.data.world.write_truth", stop)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "w", customers=5)
    assert list(tmp_path.iterdir()) == []


def test_one_customer_is_a_world_and_a_world_is_a_result(tmp_path: Path, plain: World) -> None:
    world = simulate(tmp_path / "deep" / "w", customers=1, months=4)
    assert len(world.read("customers")) == 1
    assert list(world.frame().columns) == ["file", "rows", "bytes"]
    assert "truth/uplift" in plain._repr_html_()
    plain.plot()
    with pytest.raises(DataError, match="Did you mean 'events'"):
        plain.read("event")
    with pytest.raises(DataError, match="Did you mean 'policy'"):
        plain.truth("police")
