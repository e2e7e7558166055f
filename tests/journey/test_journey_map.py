"""The map counts what happened, its intervals have cases as the unit, and what is not drawn is said."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cxlab.errors import DataError, ParamsError
from cxlab.journey.drawing import HIGH, WIDE, Edge, Node, layout
from cxlab.journey.events import END, OTHER, START, steps
from cxlab.journey.map import JourneyMap, clustered_wilson, journey_map, ratio_variance, span
from cxlab.metrics.bootstrap import wilson

FIRST = pd.Timestamp("2024-01-01", tz="UTC")


def log(*cases: str) -> pd.DataFrame:
    """A case a word, an event a letter, an hour apart."""
    rows = [(f"c{k}", letter, at) for k, word in enumerate(cases) for at, letter in enumerate(word)]
    frame = pd.DataFrame(rows, columns=["case", "event", "hour"])
    return frame.assign(time=FIRST + pd.to_timedelta(frame.pop("hour"), unit="h"))


def wandering(states: int, cases: int, seed: int = 0) -> pd.DataFrame:
    """Cases that go forth, and at times back, through numbered states."""
    rng = np.random.default_rng(seed)
    at = np.where(rng.random(cases) < 0.8, 0, rng.integers(0, max(1, states // 4), cases))
    alive, rows = np.arange(cases), []
    for hour in range(40):
        rows.append(pd.DataFrame({"case": alive, "event": at, "hour": hour, "csat": rng.normal(3 + at / states)}))
        u = rng.random(len(alive))
        jump = rng.integers(1, max(2, states // 4), len(alive))
        at = np.where(u < 0.1, at - jump, np.where(u < 0.7, at + 1, at + jump)).clip(0)
        stays = (rng.random(len(alive)) > 0.12) & (at < states)
        alive, at = alive[stays], at[stays]
    frame = pd.concat(rows)
    return frame.assign(event="state " + frame["event"].astype(str), time=FIRST + pd.to_timedelta(frame["hour"], "h"))


words = st.lists(st.text("xyz", min_size=1, max_size=6), min_size=1, max_size=8)


@settings(max_examples=8)
@given(words)
def test_transitions_are_those_of_counting_by_hand(cases: list[str]) -> None:
    pairs = [(a, b) for word in cases for a, b in zip([START, *word], [*word, END], strict=True)]
    hand = pd.Series(pairs).value_counts().to_dict()
    found = journey_map(log(*cases))
    t = found.frame().set_index(["source", "target"])
    assert t["n"].to_dict() == hand
    assert t["share"].groupby("source").sum().to_numpy() == pytest.approx(1.0)
    assert ((t["low"] <= t["share"]) & (t["share"] <= t["high"]) & (t["low"] >= 0) & (t["high"] <= 1)).all()
    inner = found.states().set_index("state").drop([START, END])
    letters = pd.Series([letter for word in cases for letter in word]).value_counts()
    assert inner["events"].to_dict() == letters.to_dict()
    assert inner["ended"].sum() == len(cases)
    assert inner["cases"].to_dict() == {letter: sum(letter in word for word in cases) for letter in letters.index}


@settings(max_examples=8)
@given(words)
def test_repeating_every_case_changes_no_share(cases: list[str]) -> None:
    key = ["source", "target"]
    once, twice = (journey_map(log(*item)).frame().sort_values(key, ignore_index=True) for item in (cases, cases * 2))
    pd.testing.assert_frame_equal(once[[*key, "share", "seconds_median"]], twice[[*key, "share", "seconds_median"]])
    assert ((twice["high"] - twice["low"]) < (once["high"] - once["low"])).all()


@settings(max_examples=8)
@given(words)
def test_grouping_by_states_is_renaming_before(cases: list[str]) -> None:
    names = {"x": "early", "y": "early"}
    one, two = journey_map(log(*cases), states=names), journey_map(log(*cases).replace(names))
    pd.testing.assert_frame_equal(one.frame(), two.frame())


def test_the_variance_is_that_of_the_residuals_of_cases() -> None:
    rng = np.random.default_rng(3)
    b = rng.integers(1, 9, 50)
    a = rng.binomial(b, rng.beta(1, 2, 50))
    p = a.sum() / b.sum()
    plain = 50 / 49 * ((a - p * b) ** 2).sum() / b.sum() ** 2
    found = ratio_variance(p, nn=(a * a).sum(), nm=(a * b).sum(), mm=(b * b).sum(), visits=b.sum(), cases=50)
    assert float(found) == pytest.approx(plain, rel=1e-9)


def test_intervals_hold_the_share_of_cases_that_differ() -> None:
    """600 simulated logs of 80 cases, seeds 0 to 599: 95 % less two binomial standard errors is 93.2 %."""
    held = plain = 0
    for seed in range(600):
        rng = np.random.default_rng(seed)
        b = 1 + rng.poisson(6, 80)
        a = rng.binomial(b, rng.beta(1.5, 3.5, 80))  # a mean of 0.3, and very different cases
        sums = {"nn": (a * a).sum(), "nm": (a * b).sum(), "mm": (b * b).sum(), "visits": b.sum()}
        variance = ratio_variance(a.sum() / b.sum(), **sums, cases=80)
        low, high = clustered_wilson(a.sum(), b.sum(), variance, 80, level=0.95)
        held += bool(low <= 0.3 <= high)
        low, high = wilson(a.sum(), b.sum())
        plain += bool(low <= 0.3 <= high)
    assert held / 600 >= 0.932
    assert plain / 600 < 0.9  # visits taken for independent are too sure


def test_where_each_case_comes_once_the_interval_is_wilsons() -> None:
    t = journey_map(log(*["xy"] * 30, *["xz"] * 70)).frame().set_index(["source", "target"])
    low, high = wilson(100, 100)  # all of them: the number is that of the cases
    assert t.loc[(START, "x"), ["low", "high"]].tolist() == pytest.approx([float(low), float(high)])
    low, high = wilson(30, 100)
    assert t.loc[("x", "y"), ["low", "high"]].tolist() == pytest.approx([float(low), float(high)], abs=2e-3)


def test_drop_off_counts_cases() -> None:
    stages = journey_map(log("xyx", "x", "xy")).states().set_index("state")
    assert stages.loc["x", ["events", "cases", "ended", "drop_off"]].tolist() == [4, 3, 2, 2 / 3]
    low, high = wilson(2, 3)
    assert stages.loc["x", ["drop_off_low", "drop_off_high"]].tolist() == pytest.approx([float(low), float(high)])
    assert stages.index.tolist() == [START, "x", "y", END]


def test_times_are_quantiles_of_seconds() -> None:
    frame = log(*["xy"] * 11)
    late = frame["event"] == "y"
    frame.loc[late, "time"] = FIRST + pd.to_timedelta(np.arange(11), unit="min")
    row = journey_map(frame).frame().set_index(["source", "target"]).loc[("x", "y")]
    assert row[["seconds_p10", "seconds_median", "seconds_p90"]].tolist() == [60, 300, 540]
    assert [span(x) for x in (5, 90, 7_200, 864_000)] == ["5 s", "1.5 min", "2 h", "10 days"]


def test_a_measure_has_the_interval_of_students_t_where_each_case_comes_once() -> None:
    rng = np.random.default_rng(1)
    frame = log(*["xy"] * 40)
    frame["csat"] = rng.normal(1e6, 2, 80)
    frame.loc[(frame["event"] == "y") & (frame.index > 40), "csat"] = np.nan
    stages = journey_map(frame, value="csat").states().set_index("state")
    x = frame.loc[frame["event"] == "x", "csat"]
    low, high = stats.t.interval(0.95, 39, x.mean(), stats.sem(x))
    assert stages.loc["x", ["value", "value_low", "value_high"]].tolist() == pytest.approx([x.mean(), low, high])
    assert stages.loc[["x", "y"], ["value_n", "value_missing"]].to_numpy().sum(axis=1).tolist() == [40, 40]
    assert stages.loc["y", "value_missing"] > 0


def test_a_yes_or_no_is_a_share_and_an_absent_measure_is_nan() -> None:
    frame = log("xy", "xy", "x")
    frame["bought"] = pd.array([True, None, True, None, False], dtype="boolean")
    stages = journey_map(frame, value="bought").states().set_index("state")
    assert stages.loc["x", "value"] == pytest.approx(2 / 3)
    assert 0 <= stages.loc["x", "value_low"] < stages.loc["x", "value_high"] <= 1
    assert stages.loc["y", ["value_n", "value_missing"]].tolist() == [0, 2]
    assert np.isnan(stages.loc["y", ["value", "value_low", "value_high"]].astype(float)).all()


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"value": "event"}, ParamsError, "keep names 'event'"),
        ({"value": "word"}, DataError, "must be numbers"),
        ({"value": "none"}, DataError, "no value in any event"),
        ({"value": "absent"}, DataError, "Column 'absent'"),
        ({"at_least": 2.0}, ParamsError, r"at_least == 2.0, must be in \[0, 1\]"),
        ({"most": 0}, ParamsError, "most == 0"),
        ({"level": 1.0}, ValueError, "level == 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], kind: type[Exception], match: str) -> None:
    frame = log("xy", "x").assign(word="a", none=np.nan)
    with pytest.raises(kind, match=match):
        journey_map(frame, **options)


def test_the_same_log_gives_the_same_bytes() -> None:
    frame = wandering(12, 400)
    one, two = journey_map(frame, value="csat"), journey_map(steps(frame, keep=["csat"]), value="csat")
    pd.testing.assert_frame_equal(one.frame(), two.frame(), check_exact=True)
    pd.testing.assert_frame_equal(one.states(), two.states(), check_exact=True)
    assert one.svg() == two.svg()


def test_what_is_not_drawn_is_said_with_its_share() -> None:
    found = journey_map(wandering(20, 800), at_least=0.01)
    t = found.frame()
    nodes, edges = found._graph(None)
    drawn = {(edge.source, edge.target) for edge in edges}
    hidden = t[[pair not in drawn for pair in zip(t["source"], t["target"], strict=True)]]
    assert len(nodes) == 22
    assert 0 < len(hidden) < len(t)
    assert (
        f"{len(hidden):,} of {len(t):,} transitions are not drawn, {hidden['n'].sum() / t['n'].sum():.1%}" in found.note
    )
    assert (hidden["n"] < 0.01 * t["n"].sum()).all()
    assert {edge.source for edge in edges} | {edge.target for edge in edges} == {node.name for node in nodes}
    assert found.hidden(0.0) == "All transitions are drawn."


def test_300_states_are_joined_as_the_person_says() -> None:
    frame = wandering(300, 600)
    whole = journey_map(frame, most=None)
    joined = journey_map(frame, most=20)
    assert len(joined.states()) == 20 + 3
    assert OTHER in joined.states()["state"].tolist()
    assert re.search(rf"{len(whole.states()) - 2 - 20} of {len(whole.states()) - 2} states are joined", joined.note)
    tens = {f"state {k}": f"tens {k // 10}" for k in range(300)}
    named = journey_map(frame, states=tens, most=None)
    assert set(named.states()["state"]) - {START, END} <= set(tens.values())
    assert "are grouped into" in named.note


@pytest.fixture(scope="module")
def drawn() -> JourneyMap:
    return journey_map(wandering(20, 800), value="csat")


def test_no_arrow_passes_through_a_box(drawn: JourneyMap) -> None:
    nodes, edges = drawn._graph(None)
    placed = layout(nodes, edges)
    inside = np.array([0.49 * WIDE, 0.49 * HIGH])
    for edge, route in zip(edges, placed.routes, strict=True):
        for name, middle in placed.boxes.items():
            if name not in (edge.source, edge.target):
                assert not (np.abs(route - middle) < inside).all(axis=1).any(), (edge.source, edge.target, name)
    boxes = np.array(list(placed.boxes.values()))
    apart = np.abs(boxes[:, None] - boxes[None])
    assert ((apart[..., 0] >= WIDE) | (apart[..., 1] >= HIGH) | np.eye(len(boxes), dtype=bool)).all()


def test_arrows_lead_from_their_source_to_their_target(drawn: JourneyMap) -> None:
    nodes, edges = drawn._graph(0.0)
    placed = layout(nodes, edges)
    reach = np.array([WIDE, HIGH]) / 2 + 1e-9
    for edge, route in zip(edges, placed.routes, strict=True):
        assert (np.abs(route[0] - placed.boxes[edge.source]) <= reach).all()
        assert (np.abs(route[-1] - placed.boxes[edge.target]) <= reach).all()


def test_a_layout_of_few_and_of_nothing() -> None:
    nodes = [Node(START), Node("x"), Node(END)]
    assert len(layout(nodes, []).boxes) == 3
    loop = layout(nodes, [Edge("x", "x", 1)])
    assert loop.back == (True,)


def test_the_drawing_names_every_state_and_the_figure_shows_the_figures(drawn: JourneyMap) -> None:
    pytest.importorskip("plotly")
    text = drawn.svg()
    assert text.startswith("<svg role")
    shown = drawn.figure()
    hover = [item for trace in shown.data if trace.hovertext is not None for item in trace.hovertext]
    for row in drawn.states().itertuples():
        assert f">{row.state}</text>" in text
        assert any(item.startswith(str(row.state)) for item in hover)
    assert any("mean csat" in item for item in re.findall(r">([^<]*)</text>", text))
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"application/vnd.plotly.v1+json", "image/svg+xml"}
    assert "<table" in drawn._repr_html_()
    assert "transitions" in repr(drawn)


def test_names_with_markup_are_shown_as_they_are() -> None:
    pytest.importorskip("plotly")
    found = journey_map(log("xy").replace({"x": "<b>a & b</b>", "y": "$x_1$"}))
    names = "".join(found.figure().data[-1].text)
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in names
    assert "$x_1$" in found.svg()
