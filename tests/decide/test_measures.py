"""Measures of customer experience: equal to slow loops, blind to the order of rows, honest about what is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.world import simulate
from cxlab.decide.measured import Rows, Scale, lasting, mean_of
from cxlab.decide.measures import measures, measures_of
from cxlab.errors import DataError, ParamsError
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.survival import kaplan_meier
from cxlab.params.files import load_file
from cxlab.params.measures import MeasuresParams

FILE = Path(__file__).parent.parent.parent / "params" / "measures.yaml"
PARAMS = load_file(FILE, MeasuresParams).model_copy(update={"by": ()})
DAY = pd.Timedelta(days=1)
WAIT = 3 * DAY  # for an answer
START = pd.Timestamp("2024-01-01", tz="UTC")
Tables = dict[str, pd.DataFrame]


def service(seed: int, contacts: int = 300, customers: int = 40, days: int = 100) -> Tables:
    """A small company: contacts, calls, surveys and customers."""
    rng = np.random.default_rng(seed)
    who = np.array([f"c{i:03d}" for i in range(customers)])
    people = pd.DataFrame(
        {
            "customer_id": who,
            "region": rng.choice(["north", "south"], customers),
            "joined_at": START - pd.to_timedelta(rng.integers(0, 900, customers), unit="D"),
            "left": (START + pd.to_timedelta(rng.integers(1, 3 * days, customers), unit="D")).where(
                rng.random(customers) < 0.5
            ),
        }
    )
    people["left"] = people["left"].where(people["left"] <= START + days * DAY)
    seen = pd.DataFrame(
        {
            "contact_id": [f"k{i:05d}" for i in range(contacts)],
            "customer_id": rng.choice(who, contacts),
            "at": START + pd.to_timedelta(np.append(0, rng.integers(0, days * 24, contacts - 1)), unit="h"),
            "channel": rng.choice(["voice", "chat"], contacts),
            "intent": rng.choice(["bill", "outage", "move"], contacts),
            "resolved": rng.random(contacts) < 0.7,
            "wait_seconds": rng.integers(0, 300, contacts),
        }
    )
    voice = seen[seen["channel"] == "voice"]
    calls = pd.DataFrame(
        {
            "contact_id": voice["contact_id"],
            "customer_id": voice["customer_id"],
            "started_at": voice["at"],
            "queue_seconds": rng.integers(0, 60, len(voice)),
            "handle_seconds": rng.integers(30, 900, len(voice)),
            "gave_up": rng.random(len(voice)) < 0.2,
            "agent": rng.choice([f"agent_{i}" for i in range(35)], len(voice)),
        }
    )
    asked = seen[rng.random(contacts) < 0.6]
    surveys = pd.DataFrame(
        {
            "contact_id": asked["contact_id"],
            "customer_id": asked["customer_id"],
            "sent_at": asked["at"],
            "answered_at": asked["at"] + pd.to_timedelta(rng.integers(1, 120, len(asked)), unit="h"),
            "csat": np.where(rng.random(len(asked)) < 0.5, rng.integers(1, 6, len(asked)), np.nan),
            "nps": np.where(rng.random(len(asked)) < 0.5, rng.integers(0, 11, len(asked)), np.nan),
        }
    )
    return {"contacts": seen, "calls": calls, "surveys": surveys, "customers": people}


def params(**changes: Any) -> MeasuresParams:
    """The file's params for `service`, changed."""
    mine = {
        "calls": PARAMS.calls.model_copy(update={"abandoned": "gave_up"}),
        "customers": PARAMS.customers.model_copy(update={"left": "left"}),
        "respond": ("channel", "resolved", "wait_seconds", "region"),
    }
    return PARAMS.model_copy(update=mine | changes)


def overall(tables: Tables, **options: Any) -> pd.DataFrame:
    """The rows of all together, by measure."""
    table = measures(tables, options.pop("params", params()), **options).frame()
    return table[table["segment"] == ""].set_index("measure")


def close(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, rtol=1e-5, atol=1e-6)


@settings(max_examples=5)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    tables = service(seed)
    mixed = {name: table.sample(frac=1, random_state=seed) for name, table in tables.items()}
    windows = {"baseline": (START, START + 40 * DAY), "period": (START + 40 * DAY, START + 80 * DAY)}
    one, other = (measures(item, params(), by=["channel", "region"], **windows).frame() for item in (tables, mixed))
    close(one, other)


@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_groups_add_up_to_all(seed: int) -> None:
    """Denominators and numerators, of every measure that is a plain mean."""
    table = measures(service(seed), params(), by=["channel", "region"]).frame()
    found = table[(table["status"] == "measured") & ~table["measure"].str.contains("retention|weighted")]
    assert found["measure"].nunique() == 13
    for (_, _), rows in found[found["segment"] != ""].groupby(["measure", "segment"]):
        everyone = found[(found["measure"] == rows["measure"].iloc[0]) & (found["segment"] == "")].iloc[0]
        assert rows["n"].sum() == everyone["n"]
        assert rows["eligible"].sum() == everyone["eligible"]
        assert (rows["n"] * rows["value"].fillna(0)).sum() == pytest.approx(everyone["n"] * everyone["value"])


@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_measures_are_those_of_slow_loops(seed: int) -> None:
    tables = service(seed, contacts=120)
    period = START + 20 * DAY, START + 70 * DAY
    found = overall(tables, period=period)
    until = max(tables["contacts"]["at"].max(), tables["calls"]["started_at"].max(), tables["surveys"]["sent_at"].max())
    rows = tables["contacts"].to_dict("records")
    again, repeat = {7: [], 14: []}, []
    for row in rows:
        if not period[0] <= row["at"] < period[1]:
            continue
        for days, kept in again.items():
            if row["at"] + days * DAY <= until:
                kept.append(
                    not any(
                        other["customer_id"] == row["customer_id"]
                        and other["intent"] == row["intent"]
                        and row["at"] < other["at"] <= row["at"] + days * DAY
                        for other in rows
                    )
                )
        if row["at"] - 30 * DAY >= START:
            repeat.append(
                any(
                    other["customer_id"] == row["customer_id"] and row["at"] - 30 * DAY <= other["at"] < row["at"]
                    for other in rows
                )
            )
    sent = tables["surveys"]["sent_at"]
    asked = tables["surveys"][(sent >= period[0]) & (sent < period[1]) & (sent + WAIT <= until)]
    intime = asked[asked["answered_at"] <= asked["sent_at"] + 3 * DAY]
    nps = intime["nps"].dropna()
    calls = tables["calls"].query("@period[0] <= started_at < @period[1]")
    offered = calls[~(calls["gave_up"] & (calls["queue_seconds"] < 5))]
    answered = offered[~offered["gave_up"]]
    expected = {
        "fcr_7": again[7],
        "fcr_14": again[14],
        "repeat": repeat,
        "csat": intime["csat"].dropna() >= 4,
        "response": asked.index.isin(intime.dropna(subset=["csat", "nps"], how="all").index),
        "abandoned": offered["gave_up"],
        "service_level": ~offered["gave_up"] & (offered["queue_seconds"] <= 20),
        "answered_in_time": answered["queue_seconds"] <= 20,
    }
    for name, values in expected.items():
        assert found.loc[name, "n"] == len(values), name
        assert found.loc[name, "value"] == pytest.approx(100 * np.mean(values)), name
    assert found.loc["nps", "value"] == pytest.approx(100 * ((nps >= 9).mean() - (nps <= 6).mean()))
    assert found.loc["aht", "value"] == pytest.approx(answered["handle_seconds"].mean())
    assert found.loc["csat", "eligible"] == len(asked)


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.integers(0, 60))
def test_the_future_changes_nothing_once_a_window_is_over(seed: int, later: int) -> None:
    """Contacts after the last window, in any number, and with `until` contacts right after it."""
    tables = service(seed)
    period = START, START + 50 * DAY
    more = tables["contacts"].assign(contact_id="n" + tables["contacts"]["contact_id"], at=START + (101 + later) * DAY)
    tables["customers"] = tables["customers"].assign(left=pd.NaT)
    grown = tables | {"contacts": pd.concat([tables["contacts"], more])}
    names = ["fcr_7", "fcr_14", "repeat", "csat", "nps", "resolved", "aht", "response"]
    close(overall(tables, period=period).loc[names], overall(grown, period=period).loc[names])
    until = START + 50 * DAY
    known = tables | {
        "contacts": tables["contacts"].query("at <= @until"),
        "calls": tables["calls"].query("started_at <= @until"),
    }
    known["surveys"] = tables["surveys"].query("sent_at <= @until")
    close(overall(grown, period=period, until=until), overall(known, period=period, until=until))


@settings(max_examples=8)
@given(st.integers(0, 10_000))
def test_what_is_not_known_lies_between_the_worst_and_the_best(seed: int) -> None:
    tables = service(seed)
    truth = tables["surveys"].assign(
        csat=tables["surveys"]["csat"].fillna(pd.Series(np.random.default_rng(seed).integers(1, 6, 300))),
        answered_at=tables["surveys"]["sent_at"],
    )
    late = tables | {"surveys": tables["surveys"].assign(answered_at=tables["surveys"]["sent_at"])}
    found, true = overall(late), overall(tables | {"surveys": truth})
    for name in ("csat", "csat_mean"):
        assert found.loc[name, "if_worst"] - 1e-9 <= true.loc[name, "value"] <= found.loc[name, "if_best"] + 1e-9
        assert found.loc[name, "if_worst"] <= found.loc[name, "value"] <= found.loc[name, "if_best"]
        assert found.loc[name, "low"] <= found.loc[name, "value"] <= found.loc[name, "high"]
    assert true.loc["csat", "if_worst"] == true.loc["csat", "if_best"]


def only_surveys(csat: Any, nps: Any = 10, customers: int | None = None) -> Tables:
    values = np.asarray(csat, float)
    n = len(values)
    sent = START + pd.to_timedelta(np.arange(n), unit="h")
    who = [f"c{i % (customers or n)}" for i in range(n)]
    frame = pd.DataFrame({"contact_id": "k", "customer_id": who, "sent_at": sent, "csat": values, "nps": nps})
    return {"surveys": frame}


@pytest.mark.parametrize(("answer", "score"), [(10, 100), (9, 100), (8, 0), (7, 0), (6, -100), (0, -100)])
def test_nps_of_people_who_are_all_alike(answer: int, score: int) -> None:
    found = overall(only_surveys(np.full(400, 5), answer), until=START + 60 * DAY).loc["nps"]
    assert found["value"] == score
    assert -100 <= found["low"] <= score <= found["high"] <= 100
    assert found["high"] - found["low"] > 1  # 400 who agree are not all there are


def test_a_share_of_as_many_customers_as_rows_has_wilsons_interval() -> None:
    found = overall(only_surveys([5] * 60 + [1] * 40), until=START + 60 * DAY).loc["csat"]
    low, high = wilson(60, 100)
    assert found["value"] == 60
    assert [found["low"], found["high"]] == pytest.approx([100 * low, 100 * high], abs=0.5)
    assert found["low"] <= 100 * low  # by Student's t


def test_rows_of_one_customer_count_less_than_rows_of_many() -> None:
    alone = overall(only_surveys([5, 1] * 100), until=START + 60 * DAY).loc["csat"]
    alike = overall(only_surveys([5, 1] * 100, customers=20), until=START + 60 * DAY).loc["csat"]
    assert alike["value"] == alone["value"] == 50
    assert alike["customers"] == 20
    assert (alike["high"] - alike["low"]) > 2.5 * (alone["high"] - alone["low"])  # ten rows each: sqrt(10) = 3.2


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 80 customers who differ and are asked up to nine times: CSAT, its mean and NPS, 95 % intervals."""
    rng, held = np.random.default_rng(1), []
    for _ in range(1000):
        mood, times = rng.normal(size=80), rng.integers(1, 10, 80)
        who = np.repeat(np.arange(80), times)
        csat = np.clip(np.round(3.5 + mood[who] + rng.normal(size=len(who))), 1, 5)
        found = [
            mean_of(Rows("surveys", who, value, who), scale, better=True, count=80, level=0.95)
            for value, scale in counted(csat)
        ]
        held.append([one.low <= true <= one.high for one, true in zip(found, TRUE, strict=True)])
    share = np.mean(held, axis=0)
    assert ((share > 0.93) & (share < 0.97)).all(), share


def counted(csat: np.ndarray) -> list[tuple[np.ndarray, Scale]]:
    """CSAT, its mean, and an NPS of twice as much."""
    nps = 100.0 * ((2 * csat >= 9).astype(float) - (2 * csat <= 6))
    return [(100.0 * (csat >= 4), Scale(0, 100, True)), (csat, Scale(1, 5, False)), (nps, Scale(-100, 100, False))]


def _truth() -> list[float]:
    rng = np.random.default_rng(99)
    csat = np.clip(np.round(3.5 + np.sqrt(2) * rng.normal(size=2_000_000)), 1, 5)
    return [float(value.mean()) for value, _ in counted(csat)]


TRUE = _truth()


def test_the_silent_are_allowed_for_where_what_is_known_tells_who_answers() -> None:
    """Unhappy channels answer less; within a channel nobody's answer depends on what it is."""
    misses = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        n = 4000
        chat = rng.random(n) < 0.5
        csat = np.where(rng.random(n) < np.where(chat, 0.3, 0.8), 5.0, 2.0)
        answers = rng.random(n) < np.where(chat, 0.15, 0.6)
        at = START + pd.to_timedelta(np.arange(n), unit="min")
        ids = [f"k{i}" for i in range(n)]
        contacts = {"contact_id": ids, "customer_id": ids, "at": at, "channel": np.where(chat, "chat", "voice")}
        surveys = {"contact_id": ids, "customer_id": ids, "sent_at": at, "csat": np.where(answers, csat, np.nan)}
        tables = {"contacts": pd.DataFrame(contacts), "surveys": pd.DataFrame(surveys)}
        found = overall(tables, params=params(respond=("channel",)), until=START + 60 * DAY)
        truth = 100 * (csat >= 4).mean()
        weighted = found.loc["csat_weighted"]
        assert weighted["low"] < truth < weighted["high"]
        assert found.loc["csat", "low"] > truth
        misses.append(abs(weighted["value"] - truth) / abs(found.loc["csat", "value"] - truth))
    assert max(misses) < 0.3


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[Tables]:
    """Simulated companies of six seeds, fixed before anything was looked at."""
    names = ("contacts", "calls", "surveys", "customers", "events", "truth/satisfaction")
    out = []
    for seed in range(1, 7):
        folder = tmp_path_factory.mktemp("worlds") / "world"
        simulate(folder, customers=1000, seed=seed)
        out.append({name: pd.read_parquet(folder / f"{name}.parquet") for name in names})
    return out


def test_in_the_simulated_company_silence_hides_more_than_weights_can_tell(worlds: list[Tables]) -> None:
    """There people answer by how satisfied they are: weights come nearer on the whole, not near; the bounds hold."""
    apart = []
    for world in worlds:
        tables = {name: world[name] for name in ("contacts", "surveys", "customers")}
        truth = world["truth/satisfaction"].set_index("contact_id")
        over = max(tables["surveys"]["sent_at"].max(), tables["contacts"]["at"].max()) - WAIT
        asked = tables["surveys"].loc[tables["surveys"]["sent_at"] <= over, "contact_id"]
        said = truth["nps"].loc[asked]
        true = {"csat": 100 * (truth["csat"].loc[asked] >= 4).mean()}
        true["nps"] = 100 * ((said >= 9).mean() - (said <= 6).mean())
        found = overall(tables, params=PARAMS)
        for name, value in true.items():
            assert found.loc[name, "eligible"] == len(asked)
            assert found.loc[name, "if_worst"] < value < found.loc[name, "if_best"]
            apart.append((name, found.loc[name, "value"] - value, found.loc[f"{name}_weighted", "value"] - value))
    table = pd.DataFrame(apart, columns=["measure", "raw", "weighted"]).groupby("measure").mean()
    print(table)
    assert (table["raw"] > 2).all()
    assert (table["weighted"] < table["raw"]).all()
    assert (table["weighted"] > 0.5 * table["raw"]).all()


def test_nothing_is_found_where_nothing_changed_and_what_changed_is(worlds: list[Tables]) -> None:
    """Customers are dealt to two periods by chance; then those of the second are made to come back."""
    world = worlds[0]
    contacts = world["contacts"]
    rng = np.random.default_rng(0)
    verdicts = 0
    for _ in range(10):
        order = contacts.assign(at=START + pd.to_timedelta(rng.integers(0, 100 * 24, len(contacts)), unit="h"))
        windows = {"baseline": (START, START + 50 * DAY), "period": (START + 50 * DAY, START + 100 * DAY)}
        found = measures({"contacts": order}, PARAMS, by=["channel"], **windows)
        verdicts += len(found.changed().query("status == 'measured'"))
    assert verdicts <= 2
    late = order["at"] >= START + 50 * DAY
    worse = order.assign(resolved=order["resolved"] & ~(late & (rng.random(len(order)) < 0.1)))
    found = measures({"contacts": worse}, PARAMS, by=["channel"], **windows)
    row = found.measure("resolved").iloc[0]
    assert row["verdict"] == "worse"
    assert row["diff_high"] < 0
    assert "Benjamini-Hochberg" in found.note


def test_a_difference_of_the_same_customers_is_told_from_fewer_of_them() -> None:
    """Everyone is seen twice: what customers are like leaves the difference."""
    rng = np.random.default_rng(0)
    mood = rng.normal(size=300)
    rows = []
    for month, shift in ((0, 0.0), (1, -0.3)):
        csat = np.clip(np.round(3.5 + mood + shift + 0.2 * rng.normal(size=300)), 1, 5)
        at = START + (40 * month) * DAY + pd.to_timedelta(np.arange(300), unit="h")
        rows.append(pd.DataFrame({"contact_id": "k", "customer_id": np.arange(300), "sent_at": at, "csat": csat}))
    windows = {"baseline": (START, START + 30 * DAY), "period": (START + 40 * DAY, START + 70 * DAY)}
    paired = overall({"surveys": pd.concat(rows)}, until=START + 90 * DAY, **windows).loc["csat_mean"]
    rows[1]["customer_id"] += 1000
    apart = overall({"surveys": pd.concat(rows)}, until=START + 90 * DAY, **windows).loc["csat_mean"]
    assert paired["difference"] == apart["difference"]
    assert paired["verdict"] == "worse"
    assert (paired["diff_high"] - paired["diff_low"]) < 0.5 * (apart["diff_high"] - apart["diff_low"])


def test_periods_that_are_all_alike_in_themselves_are_told_apart() -> None:
    rows = pd.concat([only_surveys([5] * 40)["surveys"], only_surveys([1] * 40)["surveys"]])
    rows["sent_at"] = np.repeat([START, START + 40 * DAY], 40)
    windows = {"baseline": (START, START + 30 * DAY), "period": (START + 40 * DAY, START + 70 * DAY)}
    found = overall({"surveys": rows}, until=START + 90 * DAY, **windows).loc["csat"]
    assert found["difference"] == -100
    assert found["verdict"] == "worse"
    assert overall({"surveys": rows.assign(csat=5)}, until=START + 90 * DAY, **windows).loc["csat", "verdict"] == (
        "cannot tell"
    )


def test_few_are_not_judged() -> None:
    rows = pd.concat([only_surveys([5] * 29)["surveys"], only_surveys([1] * 29)["surveys"]])
    rows["sent_at"] = np.repeat([START, START + 40 * DAY], 29)
    windows = {"baseline": (START, START + 30 * DAY), "period": (START + 40 * DAY, START + 70 * DAY)}
    found = overall({"surveys": rows}, until=START + 90 * DAY, **windows).loc["csat"]
    assert found["verdict"] == "cannot tell"
    assert found["reason"] == "29 rows of 29 customers or agents, fewer than 30"
    assert np.isnan(found["p_adjusted"])


def test_what_cannot_be_measured_says_what_it_needs(worlds: list[Tables]) -> None:
    world = {name: table for name, table in worlds[0].items() if name != "truth/satisfaction"}
    found = overall(world, params=PARAMS)
    not_there = found[found["status"] == "not measured"]
    assert not_there["reason"].to_dict() == {
        "ces": "needs the column surveys.ces; name it in the params",
        "abandoned": "needs the column calls.abandoned; name it in the params",
        "service_level": "needs the column calls.abandoned; name it in the params",
    }
    assert not_there["value"].isna().all()
    assert (not_there["verdict"] == "").all()
    few = overall({"contacts": world["contacts"]}, params=PARAMS.model_copy(update={"costs": {}}))
    assert few.loc["aht", "reason"] == "needs a table of calls"
    assert few.loc["cost", "reason"] == "needs a cost for chat, email, store, voice in costs"
    bare = overall(world, params=PARAMS.model_copy(update={"respond": ()}))
    assert "name them in respond" in bare.loc["csat_weighted", "reason"]
    minutes = overall({"contacts": world["contacts"]}, params=PARAMS)
    assert minutes.loc["cost", "reason"] == "needs a table of calls, or costs without minutes"
    by = measures(world, PARAMS, by=["channel"]).measure("retention_30", segment="channel").iloc[0]
    assert by["reason"] == "customers have no column channel"


def test_the_simulated_company_is_measured_by_the_file(worlds: list[Tables]) -> None:
    world = {name: table for name, table in worlds[0].items() if name != "truth/satisfaction"}
    windows = {"baseline": ("2024-02-01", "2024-08-01"), "period": ("2024-08-01", "2025-02-01")}
    found = measures(world, load_file(FILE, MeasuresParams), **windows)
    table = found.frame()
    everyone = table[table["segment"] == ""].set_index("measure")
    assert list(everyone.index) == [item.code for item in measures_of(PARAMS)]
    assert set(table["segment"]) == {"", "channel", "region", "age_band"}
    measured = table[table["status"] == "measured"].dropna(subset=["low"])
    assert (measured["low"] <= measured["value"]).all()
    assert (measured["value"] <= measured["high"]).all()
    assert everyone.loc["retention_365", "reason"] == "nobody is followed for 365 days"
    assert everyone.loc["fcr_14", "value"] < everyone.loc["fcr_7", "value"]
    assert found.definitions()["definition"].str.len().min() > 30
    for name in ("csat", "abandoned", None):
        found.plot(name)


def test_the_file_names_every_key() -> None:
    tree = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert set(tree) == set(MeasuresParams.model_fields)
    for name in ("contacts", "calls", "surveys", "customers", "csat", "ces", "lifetime"):
        assert set(tree[name]) == set(type(getattr(PARAMS, name)).model_fields)


def test_retention_is_that_of_kaplan_and_meier() -> None:
    tables = service(3, customers=200)
    until = max(tables["contacts"]["at"].max(), START)
    people = tables["customers"]
    there = people[(people["joined_at"] <= START) & ~(people["left"] <= START)]
    gone = (there["left"] <= until).to_numpy()
    days = ((there["left"].where(gone, until) - START) / DAY).to_numpy()
    curve = kaplan_meier(days, gone)
    found = overall(tables, period=(START, START + 50 * DAY))
    for name in (30, 90):
        assert found.loc[f"retention_{name}", "value"] == pytest.approx(100 * float(curve.at(name)))
    events = pd.DataFrame(
        {"customer_id": people["customer_id"], "occurred_at": people["left"], "event": "account_closed"}
    )
    told = tables | {"customers": people.drop(columns="left"), "events": events.dropna(subset="occurred_at")}
    mine = params(customers=PARAMS.customers)
    assert (
        overall(told, params=mine, period=(START, START + 50 * DAY)).loc["retention_30", "value"]
        == (found.loc["retention_30", "value"])
    )


def test_the_influence_of_customers_on_retention_is_their_jackknife() -> None:
    """Leaving one out moves the share by about its influence."""
    rng = np.random.default_rng(2)
    time, gone = np.round(rng.exponential(50, 150)) + 1, rng.random(150) < 0.7
    place = np.arange(150)
    rows = Rows("customers", place, time, place, observed=gone)
    found = lasting(rows, 40, unit=1.0, count=150, level=0.95)
    whole = float(kaplan_meier(time, gone).at(40))
    without = [float(kaplan_meier(np.delete(time, i), np.delete(gone, i)).at(40)) for i in range(150)]
    np.testing.assert_allclose(found.influence, whole - np.array(without), rtol=0.05, atol=1e-5)
    assert found.influence.sum() == pytest.approx(0, abs=1e-12)
    assert found.variance == pytest.approx(float(np.var(whole - np.array(without))) * 150, rel=0.05)


def test_costs_count_contacts_and_minutes() -> None:
    at = pd.DatetimeIndex([START, START + DAY])
    ids = ["a", "b"]
    contacts = pd.DataFrame({"contact_id": ids, "customer_id": ids, "at": at, "channel": ["voice", "chat"]})
    calls = pd.DataFrame({"contact_id": ["a"], "customer_id": ["a"], "started_at": at[:1], "handle_seconds": [120]})
    found = overall({"contacts": contacts, "calls": calls}, params=PARAMS).loc["cost"]
    assert found["value"] == pytest.approx(((1.0 + 2 * 0.9) + 3.0) / 2)
    lost = overall({"contacts": contacts, "calls": calls.assign(contact_id="z")}, params=PARAMS).loc["cost"]
    assert (lost["n"], lost["eligible"], lost["value"]) == (1, 2, 3.0)  # a call that is not there costs no nothing


def test_answers_that_came_too_late_do_not_count() -> None:
    tables = only_surveys([5] * 60)
    late = tables["surveys"]["sent_at"] + pd.to_timedelta(np.repeat([1, 9], 30), unit="D")
    found = overall({"surveys": tables["surveys"].assign(answered_at=late)}, until=START + 60 * DAY).loc["csat"]
    assert (found["n"], found["eligible"]) == (30, 60)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("surveys", {"csat": 6}, r"surveys.csat == .*6.*must be from 1 to 5"),
        ("surveys", {"nps": -1}, "surveys.nps == .*must be from 0 to 10"),
        ("calls", {"handle_seconds": -5}, "calls.handle_seconds == .*must be a number >= 0"),
        ("calls", {"queue_seconds": "long"}, "calls.queue_seconds == 'long'"),
        ("contacts", {"resolved": "maybe"}, "contacts.resolved == 'maybe' .* must be true or false"),
        ("contacts", {"contact_id": "k"}, "contacts.contact_id == 'k' is missing or there twice"),
        ("contacts", {"at": "soon"}, "contacts.at holds what is no time"),
        ("contacts", {"at": pd.NaT}, "contacts.at is missing in 300 rows"),
    ],
)
def test_bad_tables_are_refused(table: str, change: dict[str, Any], message: str) -> None:
    tables = service(0)
    with pytest.raises(DataError, match=message):
        measures(tables | {table: tables[table].assign(**change)}, params())


def test_bad_arguments_are_refused() -> None:
    tables = service(0)
    with pytest.raises(ParamsError, match=r"Column 'chanel' is not in any table\. Did you mean 'channel'"):
        measures(tables, params(), by=["chanel"])
    with pytest.raises(ParamsError, match=r"Table 'contact' is not known\. Did you mean 'contacts'"):
        measures({"contact": tables["contacts"]}, params())
    with pytest.raises(ParamsError, match="must begin before it ends"):
        measures(tables, params(), period=("2024-02-01", "2024-01-01"))
    with pytest.raises(ParamsError, match="must not overlap"):
        measures(tables, params(), period=("2024-02-01", "2024-03-01"), baseline=("2024-01-01", "2024-02-02"))
    with pytest.raises(ParamsError, match="'soon' is not a time"):
        measures(tables, params(), until="soon")
    with pytest.raises(ParamsError, match="nothing says when"):
        measures({"customers": tables["customers"]}, params())
    with pytest.raises(DataError, match="The table of contacts: Column 'at' is not in the data"):
        measures({"contacts": tables["contacts"].drop(columns="at")}, params())
    with pytest.raises(ParamsError, match=r"Measure 'cast' is not known\. Did you mean 'csat'"):
        measures(tables, params()).measure("cast")
    with pytest.raises(ParamsError, match="lowest < top <= highest"):
        load_file(FILE, MeasuresParams, ["csat.top=9"])
