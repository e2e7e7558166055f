"""Every boundary of the rules; shares as SQL has them; what is not measured is not fine; units; two groups compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from typer.testing import CliRunner, Result

from cxlab.decide.chance import cluster_codes, correlation, design_effect, sizes, upper_tail
from cxlab.decide.risk import RiskScores, assess, risk_params, risk_scores
from cxlab.decide.risk_compare import compare_risks, newcombe
from cxlab.decide.risk_rules import RISKS, CallRisks
from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.params.risk import AREAS, RiskParams

PARAMS = risk_params()
FINE: dict[str, Any] = {
    "queue_seconds": 20.0,
    "handle_seconds": 1000.0,
    "hold_seconds": 0.0,
    "mute_seconds": 0.0,
    "mos": 4.3,
    "mos_min": 4.1,
    "cpu": 40.0,
    "no_media": False,
    "one_way_audio": False,
    "telecom_disconnect": False,
    "network": "lan",
}


def risks(params: RiskParams = PARAMS, **values: Any) -> dict[str, tuple[str, str]]:
    """The risk and rule of each area of one call that is fine but for some values, beside one that is fine."""
    frame = pd.DataFrame([FINE | values, FINE])
    row = assess(frame, params).frame().iloc[0]
    return {area: (row[f"{area}_risk"], row[f"{area}_rule"]) for area in AREAS}


# (area, a call on the boundary, one just beside it, the rule, the risk on the boundary and beside it)
BOUNDARIES = [
    ("technology", {"mos": 3.4999}, {"mos": 3.5}, "mos_below_3_5", "high", "medium"),
    ("technology", {"mos": 3.9999}, {"mos": 4.0}, "mos_below_4", "medium", "low"),
    ("technology", {"mos_min": 2.9999}, {"mos_min": 3.0}, "mos_min_below_3", "high", "medium"),
    ("technology", {"mos_min": 3.4999}, {"mos_min": 3.5}, "mos_min_below_3_5", "medium", "low"),
    ("technology", {"cpu": 95.0}, {"cpu": 94.9999}, "cpu_95", "high", "medium"),
    ("technology", {"cpu": 90.0}, {"cpu": 89.9999}, "cpu_90", "medium", "low"),
    ("technology", {"no_media": True}, {}, "no_media", "high", "low"),
    ("technology", {"one_way_audio": True}, {}, "one_way_audio", "high", "low"),
    ("technology", {"telecom_disconnect": True}, {}, "disconnect", "high", "low"),
    ("technology", {"network": "Wi-Fi"}, {"network": "wired"}, "wifi", "medium", "low"),
    ("operations", {"no_media": True}, {}, "no_media_heard", "high", "low"),
    ("operations", {"one_way_audio": True}, {}, "one_way_heard", "high", "low"),
    ("operations", {"handle_seconds": 15.0}, {"handle_seconds": 15.0001}, "short_15", "high", "medium"),
    ("operations", {"handle_seconds": 30.0}, {"handle_seconds": 30.0001}, "short_30", "medium", "low"),
    ("operations", {"handle_seconds": 3600.0001}, {"handle_seconds": 3600.0}, "long_60", "high", "medium"),
    ("operations", {"handle_seconds": 2400.0001}, {"handle_seconds": 2400.0}, "long_40", "medium", "low"),
    ("operations", {"hold_seconds": 240.0001}, {"hold_seconds": 240.0}, "hold_4", "high", "medium"),
    ("operations", {"mute_seconds": 180.0001}, {"mute_seconds": 180.0}, "hold_3", "medium", "low"),
    ("operations", {"hold_seconds": 130.0, "mute_seconds": 111.0}, {"hold_seconds": 241.0, "handle_seconds": 1205.0},
     "hold_4", "high", "medium"),  # the share must be above 20 %: 241 of 1205 is not
    ("operations", {"hold_seconds": 181.0}, {"hold_seconds": 180.75, "handle_seconds": 1205.0},
     "hold_3", "medium", "low"),  # 180.75 of 1205 is 15 %
    ("operations", {"queue_seconds": 480.0}, {"queue_seconds": 479.9999}, "queue_8", "high", "medium"),
    ("operations", {"queue_seconds": 300.0}, {"queue_seconds": 299.9999}, "queue_5", "medium", "low"),
]  # fmt: skip


def table(n: int, seed: int, missing: float = 0.1) -> pd.DataFrame:
    """Calls around the boundaries, some measurements missing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "contact_id": [f"k{i}" for i in range(n)],
            "queue_seconds": rng.choice([0.0, 40, 299, 300, 479, 480, 900], n),
            "handle_seconds": rng.choice([0.0, 15, 16, 30, 31, 700, 2400, 2401, 3600, 3601], n),
            "hold_seconds": rng.choice([0.0, 100, 180, 181, 240, 241], n),
            "mos": rng.choice([3.0, 3.49, 3.5, 3.99, 4.0, 4.4], n),
            "cpu": rng.choice([40.0, 89.9, 90, 94.9, 95], n),
        }
    )
    frame = frame.mask((rng.random(frame.shape) < missing) & (frame.columns != "contact_id"))
    frame["no_media"] = pd.array(np.where(rng.random(n) < missing, None, rng.random(n) < 0.1), dtype="boolean")
    frame["one_way_audio"] = rng.random(n) < 0.05
    frame["network"] = rng.choice(["lan", "wifi"], n)
    frame["site"] = rng.choice(["here", "there", None], n)
    frame["started_at"] = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 60 * 24, n), unit="h")
    return frame


SQL = """
with t as (select *, handle_seconds > 0 as answered, hold_seconds / nullif(handle_seconds, 0) as share from calls),
ruled as (
  select *,
    no_media or one_way_audio or (coalesce(not no_media, true) and mos < 3.5) or cpu >= 95 as technology,
    no_media or one_way_audio or (answered and handle_seconds <= 15) or (answered and handle_seconds > 3600)
      or (answered and hold_seconds > 240 and share > 0.2) or queue_seconds >= 480 as operations
  from t)
select area, grp, count(risk) as calls, sum(risk::int) as high, sum(risk::int) / count(risk) as share,
  count(*) - count(risk) as not_measured
from (
  select 'technology' as area, 'all' as grp, technology as risk from ruled
  union all select 'operations', 'all', operations from ruled
  union all select 'technology', 'site=' || coalesce(site, '(missing)'), technology from ruled
  union all select 'operations', 'site=' || coalesce(site, '(missing)'), operations from ruled
  union all select 'technology', 'month=' || strftime(started_at at time zone 'UTC', '%Y-%m'), technology from ruled
  union all select 'operations', 'month=' || strftime(started_at at time zone 'UTC', '%Y-%m'), operations from ruled)
group by all
"""


@given(st.integers(1, 400), st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]))
def test_sql_says_the_same_to_the_last_digit(n: int, seed: int, missing: float) -> None:
    """SQL's `and` and `or` are Kleene's too, so that it is a second way to the same shares."""
    calls = table(n, seed, missing)
    if calls[["queue_seconds", "handle_seconds", "hold_seconds", "mos", "cpu"]].isna().all().any():
        return  # a measure that nobody has is left out here and unknown there
    if calls["no_media"].isna().all():
        return
    own = risk_scores(assess(calls, PARAMS), ["site", "month"]).frame()
    with duckdb.connect() as con:
        con.register("calls", calls)
        theirs = con.execute(SQL).df().set_index(["area", "grp"])
    mine = own.set_index(["area", "group"])
    assert set(mine.index) == set(theirs.index)
    theirs = theirs.loc[mine.index]
    for name in ("calls", "high", "not_measured"):
        assert (mine[name] == theirs[name].fillna(0)).all(), name
    told = mine["calls"] > 0
    assert (mine.loc[told, "share"] == theirs.loc[told, "share"]).all()
    low, high = (mine.loc[told, name] for name in ("low", "high_bound"))
    for k, many, one, other in zip(mine.loc[told, "high"], mine.loc[told, "calls"], low, high, strict=True):
        ends = stats.binomtest(int(k), int(many)).proportion_ci(method="wilson")
        assert (one, other) == pytest.approx((ends.low, ends.high), abs=1e-12)


@given(st.integers(1, 200), st.integers(0, 1000))
def test_rows_in_another_order_and_groups_added_up_say_the_same(n: int, seed: int) -> None:
    calls = table(n, seed)
    own = assess(calls, PARAMS)
    order = np.random.default_rng(seed).permutation(n)
    turned = assess(calls.iloc[order], PARAMS).frame()
    pd.testing.assert_frame_equal(turned, own.frame().iloc[order].reset_index(drop=True))
    rows = risk_scores(own, ["site", "hour"]).frame()
    counts = ["calls", "high", "medium", "low_risk", "not_high", "not_measured", "unanswered"]
    for area, part in rows.groupby("area"):
        whole = part[part["by"] == ""][counts].iloc[0]
        assert whole["calls"] + whole["not_measured"] == n, area
        assert whole["calls"] == whole[["high", "medium", "low_risk", "not_high"]].sum()
        for _, group in part[part["by"] != ""].groupby("by"):
            assert (group[counts].sum() == whole).all()


@given(st.integers(0, 1000), st.sampled_from(["mos", "cpu", "queue_seconds", "handle_seconds", "hold_seconds"]))
def test_less_measured_is_never_fine(seed: int, name: str) -> None:
    """Where a value is taken away a call stays as it is or can be told less; nothing turns low or becomes high."""
    calls = table(60, seed, missing=0.0)
    calls["answered"] = calls["handle_seconds"] > 0
    gone = calls.assign(**{name: calls[name].mask(np.arange(60) % 2 == 0)})
    less = {"high": {"high", "not measured"}, "medium": {"medium", "not high", "not measured"}}
    less["low"] = {"low", "not high", "not measured"}
    before, after = assess(calls, PARAMS).frame(), assess(gone, PARAMS).frame()
    for area in AREAS:
        for one, other in zip(before[f"{area}_risk"], after[f"{area}_risk"], strict=True):
            assert other in less[one]


@pytest.mark.parametrize("case", BOUNDARIES, ids=lambda case: case[3])
def test_every_boundary(case: tuple[Any, ...]) -> None:
    area, on, beside, code, risk, else_risk = case
    assert risks(**on)[area] == (risk, code)
    other = risks(**beside)[area]
    assert other[0] == else_risk
    assert other[1] != code


def test_every_rule_has_a_boundary_tested() -> None:
    assert {row[3] for row in BOUNDARIES} == {rule.code for rule in PARAMS.rules}
    assert risks() == dict.fromkeys(AREAS, ("low", ""))


def test_the_first_rule_decides_and_high_before_medium() -> None:
    assert risks(cpu=99.0, mos=3.0)["technology"] == ("high", "mos_below_3_5")
    assert risks(network="wifi", cpu=95.0)["technology"] == ("high", "cpu_95")
    assert risks(no_media=True, one_way_audio=True)["operations"] == ("high", "no_media_heard")


def test_what_cannot_be_told() -> None:
    """Three-valued, as the module says: high decides alone, low needs all, and what cannot be is not missing."""
    assert risks(mos=None)["technology"] == ("not measured", "")
    assert risks(mos=None, cpu=97.0)["technology"] == ("high", "cpu_95")
    assert risks(mos=None, network="wifi")["technology"] == ("not measured", "")  # at least medium, but is it high?
    assert risks(network=None)["technology"] == ("not high", "")
    assert risks(network=None, cpu=92.0)["technology"] == ("medium", "cpu_90")
    assert risks(no_media=True, mos=None, mos_min=None)["technology"] == ("high", "no_media")
    assert risks(hold_seconds=None)["operations"] == ("not measured", "")
    assert risks(hold_seconds=None, handle_seconds=100.0)["operations"] == ("not measured", "")
    assert risks(handle_seconds=0.0, hold_seconds=None)["operations"] == ("low", "")  # not answered
    assert risks(handle_seconds=None)["operations"] == ("not measured", "")  # answered or not: nobody knows
    assert risks(handle_seconds=None, hold_seconds=None, answered=False)["operations"] == ("low", "")
    assert risks(handle_seconds=None, hold_seconds=None, abandoned="yes")["operations"] == ("low", "")


def test_any_table_with_queue_and_handle_times_works() -> None:
    frame = pd.DataFrame({"wait": [8.0, 7.9, 0, 1], "talk": [4.0, 0.25, 3, 0]})
    given = ["columns.queue_seconds=wait", "columns.handle_seconds=talk", "measures.queue_seconds.unit=min"]
    found = assess(frame, risk_params(overrides=[*given, "measures.handle_seconds.unit=min"]))
    assert found.frame()["operations_risk"].tolist() == ["high", "high", "low", "low"]
    assert found.frame()["operations_rule"].tolist() == ["queue_8", "short_15", "", ""]
    assert set(found.frame()["technology_risk"]) == {"not measured"}
    rows = risk_scores(found).frame().set_index("area")
    assert rows.loc["technology", "calls"] == 0
    assert rows.loc["technology", "not_measured"] == 4
    assert np.isnan(rows.loc["technology", "share"])
    assert rows.loc["operations", ["calls", "high", "share", "unanswered"]].tolist() == [4, 2, 0.5, 1]
    assert "hold_4" in found.unmeasured
    assert "Nothing of technology is measured." in found.note
    with pytest.raises(DataError, match=r"no measure that a high rule needs; it has x\. Needed is at least one of cpu"):
        assess(pd.DataFrame({"x": [1]}), PARAMS)


def test_bounds_hold_what_was_not_measured() -> None:
    frame = pd.DataFrame([FINE, FINE | {"cpu": 99.0}, FINE | {"mos": None}, FINE | {"mos": None}])
    scores = risk_scores(assess(frame, PARAMS), [])
    row = scores.frame().iloc[0]
    assert row[["calls", "high", "not_measured", "least", "share", "most"]].tolist() == [2, 1, 2, 0.25, 0.5, 0.75]
    assert "technology: 2 calls not measured, the share is between 25.0% and 75.0% with them." in scores.note


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"queue_seconds": 1000 * np.array([3.0, 60, 200])}, "outside 0 to 86400, such as 200000 s. .*unit=ms or min"),
        ({"queue_seconds": 1000 * np.array([3.0, 60, 20])}, "median of 20000 s, .*looks like a wrong unit.*unit=ms"),
        ({"handle_seconds": np.full(40, 4.5)}, "median of 4.5 s, which is outside 5 to 10800"),
        ({"queue_seconds": [-1.0, 3, 3]}, r"1 of 3 values outside 0 to 86400, such as -1 s.*missing=\[-1\]"),
        ({"mos": [92.0, 88, 70]}, "outside 1 to 5, such as 92. If the column is on another scale"),
        ({"mos": [0.0, 4, 4]}, r"--set 'measures.mos.missing=\[0\]'"),
        ({"cpu": np.full(40, 0.4)}, "median of 0.4 percent, .*unit=fraction"),
        ({"cpu": [40.0, 130]}, "1 of 2 values outside 0 to 100"),
        ({"handle_seconds": ["4:31", "100"]}, r"1 values that are no number, such as '4:31'"),
        ({"no_media": ["yes", "perhaps"]}, "holds 'perhaps'; it must say yes or no"),
        ({"contact_id": ["a", "b", "a"], "cpu": 40.0}, "Column 'contact_id' repeats: 'a' is there again"),
    ],
)
def test_wrong_units_and_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        assess(pd.DataFrame(values), PARAMS)


def test_what_a_refusal_says_to_do_helps() -> None:
    frame = pd.DataFrame({"queue_seconds": [3_000.0, 480_000, 479_999], "cpu": [0.5, 0.95, 0.9499], "mos": [0.0, 4, 4]})
    said = ["measures.queue_seconds.unit=ms", "measures.cpu.unit=fraction", "measures.mos.missing=[0]"]
    found = assess(frame, risk_params(overrides=said)).frame()
    assert found["operations_risk"].tolist() == ["low", "high", "medium"]
    assert found["technology_risk"].tolist() == ["not measured", "high", "medium"]
    timed = frame.assign(queue_seconds=pd.to_timedelta(frame["queue_seconds"], unit="ms"))
    assert assess(timed, risk_params(overrides=said)).frame().equals(found)


def rule(code: str, when: list[Any], risk: str = "high", area: str = "technology") -> dict[str, Any]:
    return {"area": area, "risk": risk, "code": code, "title": code, "when": when}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([rule("a", ["mos < 3.5"]), rule("b", ["mos < 3"], "medium")],
         "Rules overlap in technology: wherever b (medium: mos < 3) holds, a (high: mos < 3.5) holds too"),
        ([rule("b", ["mos < 3"]), rule("a", ["mos < 3.5"])], "wherever b (high: mos < 3) holds, a (high: mos < 3.5)"),
        ([rule("a", ["mos < 3.5"]), rule("b", ["cpu > 90", "mos <= 3"])], "b (high: cpu > 90 and mos <= 3) holds"),
        ([rule("a", ["cpu > 90"]), rule("b", ["cpu > 90"])], "can never decide. Remove b, or change a value"),
        ([rule("a", ["network is wifi or wlan"]), rule("b", ["network is wlan"])], "Rules overlap"),
        ([rule("a", ["mos < 3", "mos > 4"])], "Rule a: mos < 3 and mos > 4 cannot both hold."),
        ([rule("a", ["mos < 3", "mos >= 3"])], "Rule a: mos < 3 and mos >= 3 cannot both hold."),
        ([rule("a", ["no_media is true", "no_media is false"])], "cannot both hold"),
        ([rule("a", ["mos < 3"]), rule("a", ["cpu > 90"])], "Rule code 'a' is there more than once."),
        ([rule("a", ["handle_seconds > 3600000"])], "can never hold, as handle_seconds lies in 0 to 86400."),
        ([rule("a", ["mos <= 5"])], "Rule a: mos <= 5 always holds"),
        ([rule("a", ["mosx < 3"])], "Rule a: Measure 'mosx' is not in measures. Did you mean 'mos'?"),
        ([rule("a", ["no_media < 3"])], "no_media < 3 does not fit flag, which needs is true or is false."),
        ([rule("a", ["mos is good"])], "mos is good does not fit number, which needs <, <=, > or >= and a number."),
        ([rule("a", ["mos ~ 3"])], "a condition such as mos < 3.5"),
        ([rule("a", ["mos < low"])], "a condition with a number after <"),
        ([rule("a", [])], "Rule a has no condition."),
        ([], "rules has no rule"),
    ],
)  # fmt: skip
def test_rules_that_overlap_or_contradict_are_refused(rules: list[Any], message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        risk_params(overrides=[f"rules={json.dumps(rules)}"])


def test_rules_that_merely_meet_are_taken() -> None:
    both = [rule("a", ["mos < 3.5"]), rule("b", ["cpu > 95"]), rule("c", ["mos < 4", "cpu > 90"], "medium")]
    both += [rule("d", [{"measure": "mos", "op": "<", "value": 3}], area="operations")]
    assert len(risk_params(overrides=[f"rules={json.dumps(both)}"]).rules) == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("measures.queue_seconds.unit=ns", "a unit of seconds: s, ms, min, h; it is 'ns'"),
        ("measures.mos.range=[5, 1]", "a number with range [low, high]"),
        ("measures.mos.unless=cpu", "measures.mos.unless == 'cpu', must be a measure of kind flag."),
        ("columns.moss=x", "Measure 'moss' is not in measures. Did you mean 'mos'?"),
        ("timezone=Mars/Olympus", "timezone == 'Mars/Olympus', must be a time zone's name"),
        ("times=[wek]", "Did you mean 'week'?"),
        ("segment=[site]", "Key 'segment' is not known. Did you mean 'segments'?"),
    ],
)
def test_params_that_do_not_fit(override: str, message: str) -> None:
    with pytest.raises(ParamsError, match=re.escape(message)):
        risk_params(overrides=[override])


def test_times_and_groups_are_named() -> None:
    at = ["2024-01-01T09:59:59", "2024-01-08T00:00:00+01:00", None]
    calls = assess(pd.DataFrame([FINE | {"started_at": x} for x in at]), PARAMS)

    def labels(by: str) -> list[str]:
        return risk_scores(calls, [by]).frame().query("by == @by and area == 'technology'")["group"].tolist()

    assert labels("week") == ["week=2024-01-01", "week=(missing)"]
    assert labels("weekday") == ["weekday=Monday", "weekday=Sunday", "weekday=(missing)"]
    assert labels("day") == ["day=2024-01-01", "day=2024-01-07", "day=(missing)"]
    assert labels("hour") == ["hour=09", "hour=23", "hour=(missing)"]
    assert labels("month") == ["month=2024-01", "month=(missing)"]
    berlin = assess(calls.source, risk_params(overrides=["timezone=Europe/Berlin"]))
    assert risk_scores(berlin, ["day"]).frame()["group"].tolist()[1:3] == ["day=2024-01-01", "day=2024-01-08"]
    with pytest.raises(DataError, match="Column 'sight' is not in the data, nor is it a period"):
        risk_scores(calls, ["sight"])
    with pytest.raises(ParamsError, match="by week needs the time of calls"):
        risk_scores(assess(pd.DataFrame([FINE]), PARAMS), ["week"])


def assessed(n: int = 4000, seed: int = 0, planted: float = 0.0) -> CallRisks:
    """Calls of two platforms and two sites; at the new platform's a share has one-way audio; calls move to site b."""
    rng = np.random.default_rng(seed)
    new = rng.random(n) < 0.5
    site = np.where(rng.random(n) < np.where(new, 0.7, 0.3), "b", "a")
    bad = rng.random(n) < np.where(site == "b", 0.06, 0.02) + planted * new
    return assess(
        pd.DataFrame(
            {
                "platform": np.where(new, "new", "old"),
                "site": site,
                "agent": rng.integers(0, 100, n),
                "cpu": np.where(rng.random(n) < 0.03, 97.0, 40.0),
                "one_way_audio": bad,
                "started_at": np.where(new, "2024-06-01", "2024-05-31"),
            }
        ),
        PARAMS,
    )


def test_a_comparison_says_what_moved_and_by_what() -> None:
    calls = assessed(planted=0.08)
    found = compare_risks(calls, by="platform", a="old", b="new")
    rows = found.frame().set_index("code")
    assert rows.loc["technology", "verdict"] == rows.loc["one_way_audio", "verdict"] == "worse"
    assert rows.loc["cpu_95", "verdict"] == "cannot tell"
    assert rows.loc["one_way_audio", "part"] > 0.8 * rows.loc["technology", "difference"]
    back = compare_risks(calls, by="platform", a="new", b="old").frame().set_index("code")
    assert back.loc["technology", "verdict"] == "better"
    assert back.loc["technology", "p"] == pytest.approx(rows.loc["technology", "p"])
    timed = compare_risks(calls, by="time", at="2024-06-01").frame().set_index("code")
    pd.testing.assert_frame_equal(timed, rows)
    assert not found.frame().empty and found._repr_html_()
    found.plot()


@given(st.integers(0, 500))
def test_parts_and_mix_add_up_to_the_difference(seed: int) -> None:
    found = compare_risks(assessed(400, seed), by="platform", a="old", b="new")
    for area, rows in found.frame().groupby("area"):
        gap = rows.loc[rows["kind"] == "score", "difference"].iloc[0]
        assert rows.loc[rows["kind"] == "indicator", "part"].sum() == pytest.approx(gap, abs=1e-12)
        mix = found.mix[found.mix["area"] == area]
        assert mix[["mix", "rate"]].to_numpy().sum() == pytest.approx(gap, abs=1e-12)


def test_calls_that_moved_to_a_bad_site_are_mix() -> None:
    mix = compare_risks(assessed(40_000), by="platform", a="old", b="new").mix
    whole = mix[(mix["area"] == "technology") & (mix["segment"] == "site")][["mix", "rate"]].sum()
    assert whole["mix"] == pytest.approx(0.4 * 0.04, abs=0.004)  # 40 points of calls, at 4 points more
    assert whole["rate"] == pytest.approx(0, abs=0.006)


def test_comparisons_that_cannot_be() -> None:
    calls = assessed(50)
    for options, message in (
        ({"by": "platform", "at": "2024-06-01"}, "groups need no at"),
        ({"by": "time"}, "periods need by='time' and at"),
        ({"by": "time", "at": "soon"}, "must be a time such as 2024-06-01"),
        ({"by": "time", "at": "2030-01-01"}, "from 2030-01-01: no calls"),
        ({"by": "platfrm"}, "Did you mean 'platform'"),
        ({"by": "platform", "a": "old", "b": "newer"}, "Did you mean 'new'"),
        ({"by": "platform", "a": "old"}, "must both be given and differ"),
        ({"by": "agent"}, "must have two, or name a and b"),
    ):
        with pytest.raises(CxlabError, match=re.escape(message)):
            compare_risks(calls, **options)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_newcombe_holds_the_difference_and_turns_with_it(n: int, m: int, data: st.DataObject) -> None:
    x, y = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    low, high = newcombe((x, y), (n, m))
    assert -1 <= low <= y / m - x / n + 1e-12
    assert y / m - x / n - 1e-12 <= high <= 1
    assert newcombe((y, x), (m, n)) == pytest.approx((-high, -low))


def tail(strata: int, n: int, bad: int, mine: int, high: np.ndarray) -> np.ndarray:
    """p of `high` high calls among `mine`, of `bad` among `n`, in as many equal strata, the high calls dealt out."""
    dealt = np.stack([(high + place) // strata for place in range(strata)]).astype(float)
    whole, part = np.full((strata, 1), float(n)), np.full(dealt.shape, float(mine))
    return upper_tail(part, dealt, whole, np.full((strata, 1), float(bad)))[0]


@given(st.integers(20, 5000), st.floats(0.01, 0.4), st.floats(0.05, 0.6))
def test_p_is_never_much_less_than_the_exact_one(n: int, share: float, within: float) -> None:
    """Against the hypergeometric distribution itself, and in two equal strata against its convolution."""
    bad, mine = max(1, round(share * n)), max(2, round(within * n))
    one = stats.hypergeom.pmf(np.arange(mine + 1), n, bad, mine)
    for strata, chances in ((1, one), (2, np.convolve(one, one))):
        high = np.arange(strata * min(bad, mine) + 1)
        exact = np.cumsum(chances[::-1])[::-1][high]
        p = tail(strata, n, bad, mine, high)
        assert np.abs(p - exact).max() < 0.05
        told = (exact < 0.05) & (exact > 1e-6)
        assert (p[told] > 0.85 * exact[told]).all()
        if mine * bad / n > 10:  # of handfuls it is more careful
            assert (p[told] < 2 * exact[told]).all()


def test_calls_of_one_agent_are_alike_as_much_as_they_are() -> None:
    rng = np.random.default_rng(0)
    agent = np.repeat(np.arange(400), 30)
    group = (agent % 2).astype(np.int64)
    own = rng.beta(2, 18, 400)  # rho of beta(a, b): 1 / (a + b + 1)
    found = correlation((rng.random(12_000) < own[agent]).astype(float), agent, group)
    assert found == pytest.approx(1 / 21, abs=0.012)
    assert correlation((rng.random(12_000) < 0.1).astype(float), agent, group) < 0.004
    assert correlation(np.zeros(12_000), agent, group) == 0
    assert sizes(agent, group, 3).tolist() == [30, 30, 0]
    assert design_effect(0.1, np.array([0, 1, 11])).tolist() == [1, 1, 2]
    assert cluster_codes(pd.Series(["a", None, "a", None])).tolist() == [0, 2, 0, 3]


def command(*words: object) -> Result:
    from cxlab.cli import app

    return CliRunner().invoke(app, ["decide", "risk", *map(str, words)])


def test_the_command_line_prints_scores_and_writes_calls(tmp_path: Path) -> None:
    source, out = tmp_path / "calls.csv", tmp_path / "risks.parquet"
    frame = table(300, 1)
    frame.to_csv(source, index=False)
    said = command(source, "--json", "--out", out)
    assert said.exit_code == 0, said.output
    facts = json.loads(said.stdout)
    first = facts["scores"][0]
    keys = ("area", "group", "calls", "high", "share", "low", "high_bound", "rule")
    assert all(key in first for key in keys)
    assert (first["area"], first["group"]) == ("technology", "all")
    assert {row["group"] for row in facts["scores"]} >= {"all", "site=here", "site=there", "month=2024-03"}
    assert facts["rules_version"] == PARAMS.version
    assert isinstance(facts["causes"], list)
    written = pd.read_parquet(out)
    assert written["contact_id"].tolist() == frame["contact_id"].tolist()
    assert (written["technology_risk"] == "high").sum() == first["high"]
    assert list(tmp_path.iterdir()) == [source, out] or set(tmp_path.iterdir()) == {source, out}
    people = command(source)
    assert people.exit_code == 0
    assert "CX Risk Scores" in people.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "measures.queue_seconds.unit=h"], "outside 0 to 86400"),
        (["--set", "rules=[]"], "rules has no rule"),
        (["--out", "risks.txt"], "must end in .csv or .parquet"),
        (["--out", "nowhere/risks.csv"], "cannot be written"),
        (["--params", "nothing.yaml"], "No params file"),
    ],
)
def test_a_mistake_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    table(50, 0).to_csv("calls.csv", index=False)
    said = command("calls.csv", *(words if "--out" in words else [*words, "--out", "out.csv"]))
    assert isinstance(said.exception, CxlabError)  # which `cxlab.cli.main` turns into a message and status 2
    assert message in str(said.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.csv"]


def test_results_show_themselves() -> None:
    calls = assess(table(200, 3), PARAMS)
    scores: RiskScores = risk_scores(calls)
    assert set(RISKS) >= set(calls.frame()["technology_risk"])
    assert "Rules version" in scores._repr_html_()
    for by in ("site", "month", "all"):
        scores.plot(by)
    calls.plot()
    with pytest.raises(DataError, match="Did you mean 'site'"):
        scores.plot("sites")
