"""The report of sequences: what was planted is found, nothing is found where nothing was, and no case is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import Page

import cxlab
from cxlab.evidence.estimate import estimate_accuracy
from cxlab.evidence.page import without_customers
from cxlab.evidence.report import review
from cxlab.evidence.sequence_drift import GAP, NEXT, SEEN, estimate_by_case
from cxlab.evidence.sequence_importance import CLOCK, LAST, contributions_of, feature_groups
from cxlab.evidence.sequence_outcome import OutcomeEarly
from cxlab.evidence.sequence_report import SequenceReport
from cxlab.evidence.sequence_rows import one_each, probabilities, some_cases
from cxlab.evidence.sequence_times import CONCORDANCE, COVERED, ERROR, LESS, RIVAL
from cxlab.features.prefixes import PrefixSchema
from cxlab.metrics.intervals import evaluate
from cxlab.metrics.multiclass import sequence_metrics
from cxlab.models.calibration import NoCalibration
from cxlab.models.prefix_boost import PrefixBoost
from cxlab.models.sequence_nets import SequenceNet
from cxlab.models.task import Model, predictions
from cxlab.models.training import Training, train
from cxlab.params import Params

CHAIN = {  # what comes after what
    "open": {"check": 0.7, "ask": 0.3},
    "check": {"ask": 0.4, "solve": 0.5, "check": 0.1},
    "ask": {"answer": 0.9, "remind": 0.1},
    "remind": {"answer": 0.6, "remind": 0.4},
    "answer": {"check": 0.5, "solve": 0.5},
    "solve": {"close": 0.9, "check": 0.1},
}
HOURS = {"open": 2, "check": 5, "ask": 30, "remind": 40, "answer": 3, "solve": 10, "close": 1}


def simulated(n: int, seed: int = 0, *, later: dict[str, dict[str, float]] | None = None) -> pd.DataFrame:
    """Cases that follow `CHAIN`, the last third as `later` says; slow ones are late."""
    rng = np.random.default_rng(seed)
    rows, start = [], pd.Timestamp("2025-01-01", tz="UTC")
    for number in range(n):
        chain = {**CHAIN, **(later or {})} if number >= n * 2 / 3 else CHAIN
        event, when = "open", start + pd.Timedelta(hours=6.0 * number + rng.random())
        slow = rng.choice([1.0, 4.0])
        own: list[dict[str, Any]] = []
        team, channel = rng.choice(["red", "blue", "green"]), rng.choice(["web", "phone"])
        while True:
            own.append({"case": f"case-{number:04d}", "event": event, "at": when, "slow": slow, "team": team})
            own[-1]["channel"] = channel
            if event == "close":
                break
            event = str(rng.choice(list(chain[event]), p=list(chain[event].values())))
            when += pd.Timedelta(hours=slow * rng.exponential(HOURS[event]))
        late = "yes" if (own[-1]["at"] - own[0]["at"]).total_seconds() > 60 * 3600 else "no"
        rows += [row | {"late": late} for row in own]
    return pd.DataFrame(rows)


def told(frame: pd.DataFrame, folder: Path, **more: Any) -> Params:
    """Params on a log that is written down."""
    path = folder / "log.csv"
    frame.to_csv(path, index=False)
    data = {"path": str(path), "case": "case", "event": "event", "time": "at", **more.pop("data", {})}
    search = {"candidates": ["prior", "markov"], "trials": 1, **more.pop("search", {})}
    return Params.model_validate({"task": "sequence", "name": "log", "data": data, "search": search, **more})


def trained(frame: pd.DataFrame, folder: Path, **more: Any) -> Training:
    params = told(frame, folder, **more)
    return train(cxlab.load_table(params), params, storage=None)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> SequenceReport:
    """With all that may be asked for: attributes, a segment, ends, an outcome; trees; and a world that moves."""
    training = trained(
        simulated(240, later={"check": {"ask": 0.05, "solve": 0.85, "check": 0.1}}),
        tmp_path_factory.mktemp("full"),
        data={"attributes": ["slow", "team"], "segments": ["channel"], "ends": ["close"]},
        sequence={"outcome": {"column": "late", "value": "yes"}, "horizons_days": [2, 5]},
        search={"candidates": ["prior", "markov", "lightgbm"], "trials": 1, "select": "best"},
    )
    found = review(training)
    assert isinstance(found, SequenceReport)
    return found


@pytest.fixture(scope="module")
def html(full: SequenceReport) -> str:
    return full.html()


def test_facts_are_plain_and_name_no_case(full: SequenceReport) -> None:
    facts = json.dumps(full.facts(), allow_nan=False)
    assert "case-0" not in facts
    keys = {"by_length", "times", "earliness", "importance", "transitions", "fairness", "drift", "quality", "split"}
    assert keys <= full.facts().keys()


def test_asked_twice_it_says_the_same(full: SequenceReport) -> None:
    again = review(full.training)
    assert {**again.facts(), "seconds": 0} == {**full.facts(), "seconds": 0}


def test_the_page_reads_and_what_leaves_the_lab_names_no_case(html: str) -> None:
    Page(html)
    for section in ("data", "performance", "events", "calibration", "times", "outcome", "explanations", "drift"):
        assert f'<h2 id="{section}">' in html
    assert "case-0" in html  # an example
    assert "case-0" not in without_customers(html)
    assert "<script" not in html and "http://" not in html.split("<svg", maxsplit=1)[0]


def test_lengths_add_up_to_the_whole(full: SequenceReport) -> None:
    frame = full.lengths.frame()
    judged = full.prefixes.judged
    for name, part in frame.groupby("metric"):
        assert part["n"].sum() == len(judged)
        if name != "ece":  # which is no mean over rows
            mean = np.average(part["value"], weights=part["n"])
            assert mean == pytest.approx(full.lengths.whole[str(name)])
    told_ = full.training.evaluation.values(full.training.selected)
    assert full.lengths.whole["accuracy"] == pytest.approx(told_["accuracy"].value)


def test_times_are_told_in_their_order(full: SequenceReport) -> None:
    for kind in ("next", "rest"):
        assert full.times.of(kind, CONCORDANCE).low > 0.5
        assert 0.6 < full.times.of(kind, COVERED).value < 0.95
        difference = full.times.of(kind, ERROR).value - full.times.of(kind, RIVAL).value
        assert full.times.of(kind, LESS).value == pytest.approx(difference)
    assert list(full.times.calibration) == [2, 5]


def test_slow_cases_are_late_and_that_is_known_early(full: SequenceReport) -> None:
    assert isinstance(full.outcome, OutcomeEarly)
    auc = full.outcome.frame()["auc"]
    assert auc.iloc[0] > 0.6
    assert full.outcome.chosen_on + full.outcome.earliness.n == full.outcome.cases
    assert full.facts()["earliness"]["alarms"]


def test_the_last_event_decides_and_the_hour_does_not(full: SequenceReport) -> None:
    frame = full.importance.frame().set_index("feature")
    assert frame.index[0] == LAST and frame.loc[LAST, "low"] > 0
    assert frame.loc[CLOCK, "low"] <= 0.01
    assert set(frame.columns) >= {"value", "low", "high", "folds"}


def test_groups_hold_every_feature_once(full: SequenceReport) -> None:
    schema = full.subject.model.schema
    assert isinstance(schema, PrefixSchema)
    named = [name for names in feature_groups(schema).values() for name in names]
    assert sorted(named) == sorted(schema.features.names) == sorted(full.prefixes.X.columns)


def test_contributions_add_up_to_the_margins(full: SequenceReport) -> None:
    member = full.training["lightgbm"].model.members[0]
    assert isinstance(member, PrefixBoost) and member.model_ is not None
    X = full.prefixes.X.iloc[:40]
    values, likely = contributions_of(member, X)
    found = member.model_.booster_.predict(member.step_.transform(X), raw_score=True)
    base = found - values.sum(axis=1)
    assert values.shape == (40, X.shape[1], found.shape[1])
    assert np.allclose(base, base[0])  # what is left is the same for all rows
    assert np.allclose(likely.sum(axis=1), 1)
    kept = predictions(member, X, len(full.subject.labels))
    assert kept.shape[0] == 40


def test_segments_are_judged_by_one_row_a_case(full: SequenceReport) -> None:
    frame = full.audit.frame()
    accuracy = frame[frame["metric"] == "accuracy"]
    assert accuracy["n"].sum() == len(np.unique(full.prefixes.case[full.prefixes.judged]))
    assert set(accuracy["group"]) == {"web", "phone"}
    assert "answered" not in set(frame["metric"])


def test_what_was_split_how_is_said(full: SequenceReport, html: str) -> None:
    told_ = full.facts()["split"]
    assert told_["training_cases"] == 160 and told_["test_cases"] == 80
    assert "160 train to their end, and the latest 80 test" in html


def test_a_log_that_is_cut_and_an_outcome_that_is_an_event(tmp_path: Path) -> None:
    asked = {"outcome": {"event": "remind"}, "horizons_days": [3]}
    params = {"data": {"ends": ["close"]}, "sequence": asked, "split": {"cut": True}}
    found = review(trained(simulated(200, seed=1), tmp_path, **params))
    assert isinstance(found, SequenceReport)
    told_ = found.facts()["split"]
    assert told_["cut"] and told_["border"].startswith("2025-02") and told_["censored"] > 0
    assert told_["border"] in found.html() and found.transitions.censored == told_["censored"]
    assert isinstance(found.outcome, OutcomeEarly) and found.outcome.earliness.positives > 0
    assert list(found.times.calibration) == [3] and "outcome" in found.times.dated


def test_without_outcome_segments_and_attributes(tmp_path: Path) -> None:
    found = review(trained(simulated(120)[["case", "event", "at"]], tmp_path))
    assert isinstance(found, SequenceReport) and found.outcome is None
    html = found.html()
    assert '<h2 id="outcome">' not in html and "data.segments names no column" in html
    json.dumps(found.facts(), allow_nan=False)
    assert found.facts()["contributions"] == [] and found.facts()["earliness"] is None


def test_twelve_cases_are_enough_to_say_that_they_are_few(tmp_path: Path) -> None:
    asked = {"outcome": {"column": "late", "value": "yes"}}
    found = review(trained(simulated(12), tmp_path, sequence=asked))
    assert isinstance(found, SequenceReport)
    assert "4 test cases" in found.summary[4]["answer"]
    json.dumps(found.facts(), allow_nan=False)
    assert "No event is in" in found.html()
    assert isinstance(found.outcome, str) and "must be at least 20" in found.outcome


def test_a_world_that_moved_is_said_loudly(full: SequenceReport, html: str) -> None:
    assert any(said.startswith("after 'check'") for said in full.world)
    assert "The world moved" in full.summary[3]["answer"] and "The world moved" in html
    assert full.facts()["moved"]["world"] == list(full.world)


def test_cases_are_drawn_whole_and_rows_once_a_case() -> None:
    case = np.repeat(np.arange(50), np.arange(50) % 7 + 1)
    there = some_cases(case, 60, seed=1)
    drawn = np.unique(case[there])
    assert len(there) <= 60 and np.array_equal(there, np.flatnonzero(np.isin(case, drawn)))
    one = one_each(case, seed=1)
    assert np.array_equal(case[one], np.arange(50))
    places = np.concatenate([one_each(case, seed=seed) for seed in range(40)])
    assert len(np.unique(places)) > 0.95 * len(case)  # every row may be drawn


class Reader(SequenceNet):
    """What a network does, by hand: it reads the events before from the rows before."""

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        asked = X["event"].eq("ask").groupby(level=0).cumsum().to_numpy(float)
        return np.column_stack([asked, np.ones(len(X)), np.zeros(len(X))])


def test_a_network_is_asked_with_the_events_before(full: SequenceReport) -> None:
    schema = full.subject.model.schema
    model = Model(schema, [Reader("gru", columns=[])], [1.0], NoCalibration(), ("a", "b", "c"))
    X = full.prefixes.X.iloc[:200]
    at = np.flatnonzero(full.prefixes.position[:200] >= 4)
    assert probabilities(model, X, at) == pytest.approx(model.uncalibrated(X)[at])
    assert not np.allclose(model.uncalibrated(X.iloc[at]), model.uncalibrated(X)[at])


def test_rows_of_a_case_promise_no_more_than_one() -> None:
    rng = np.random.default_rng(0)
    p, case = rng.uniform(0.4, 1, 150), np.arange(150)
    valid = rng.uniform(0.4, 1, 4000)
    plain = estimate_accuracy(p, calibrated_on=valid).values["accuracy"]
    copies = estimate_by_case(np.repeat(p, 8), np.repeat(case, 8), calibrated_on=valid).values["accuracy"]
    assert copies.value == pytest.approx(plain.value)
    assert copies.high - copies.low == pytest.approx(plain.high - plain.low, rel=0.15)


def test_what_moved_is_of_one_row_a_case(full: SequenceReport) -> None:
    drift = full.drift.drift
    assert (drift.n_reference, drift.n_current) == (160, 80)
    assert set(drift.frame()["column"]) == {"event", "slow", "team", GAP, SEEN, NEXT}
    promised = full.drift.estimated.values["accuracy"]
    assert promised.value == pytest.approx(full.prefixes.confidence.mean())
    assert promised.low < promised.value < promised.high


def test_figures_are_of_the_selected_model(full: SequenceReport) -> None:
    y, case = full.prefixes.y, full.prefixes.case[full.prefixes.judged]
    again = evaluate(y, {"it": full.subject.score_test}, sequence_metrics(), groups=case, resamples=10)
    said = full.training.evaluation.values(full.training.selected)
    for name, value in again.values("it").items():
        assert value.value == pytest.approx(said[name].value)


def test_a_reader_finds_what_could_not_be_learnt(full: SequenceReport) -> None:
    ahead = full.subject.model.ahead
    assert ahead is not None
    model = full.subject.model
    try:
        model.ahead = replace(ahead, times={}, skipped={"rest": "There are 2 groups, must be at least 3."})
        found = review(full.training)
        assert "must be at least 3" in found.html() and "rest" in found.summary[4]["answer"]
        assert found.facts()["times"] == []
    finally:
        model.ahead = ahead
