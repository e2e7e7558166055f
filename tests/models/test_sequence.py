from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from logs import params_of, table_of, tickets, written

from cxlab.errors import DataError, ParamsError
from cxlab.features.prefixes import OTHER
from cxlab.features.table import load_table
from cxlab.metrics.multiclass import log_loss
from cxlab.models.ahead import facts_of, look_ahead
from cxlab.models.sequence import ground
from cxlab.models.splits import compare_borders
from cxlab.models.subject import subject_of
from cxlab.models.training import Training, train
from cxlab.params import OutcomeParams, SequenceParams


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Training:
    params = params_of(written(tmp_path_factory.mktemp("log"), 400))
    return train(load_table(params), params, storage=None)


def test_a_training_beats_the_prior_and_says_what_it_skipped(training: Training) -> None:
    verdicts = training.comparison.frame().query("metric == 'log_loss'").set_index("candidate")["verdict"]
    assert verdicts["prior"] == "worse"
    assert set(training.scores) >= {"prior", "markov", "lightgbm"}
    assert training.metric == "log_loss"
    for name, why in training.skipped.items():
        assert name in ("gru", "transformer") and "torch" in why


def test_prefixes_that_count_are_the_ones_judged(training: Training) -> None:
    subject = subject_of(training)
    place = subject.test.groupby("case", sort=False).cumcount().to_numpy()
    assert len(training.outcome_test) == (place >= 1).sum()
    assert np.array_equal(subject.outcome_test, training.outcome_test)
    np.testing.assert_allclose(subject.score_test, training.scores[training.selected])
    assert len(subject.outcome_valid) == len(subject.score_valid)


def test_intervals_draw_cases(training: Training) -> None:
    from cxlab.metrics.intervals import evaluate

    y, score = training.outcome_test, training.scores[training.selected]
    told = training.evaluation.values(training.selected)["log_loss"]
    alone = evaluate(y, {"a": score}, [log_loss]).values("a")["log_loss"]
    assert told.value == alone.value and (told.low, told.high) != (alone.low, alone.high)


def test_rows_of_a_draw_of_cases_come_together() -> None:
    from cxlab.metrics.intervals import evaluate

    y, score = np.repeat([0, 1], 50), np.tile([[0.9, 0.1]], (100, 1))
    one = evaluate(y, {"a": score}, [log_loss], groups=np.repeat([0, 1], 50)).values("a")["log_loss"]
    other = evaluate(y, {"a": score}, [log_loss]).values("a")["log_loss"]
    assert one.high - one.low > 3 * (other.high - other.low)
    with pytest.raises(ValueError, match="groups has shape"):
        evaluate(y, {"a": score}, [log_loss], groups=[0])


def test_what_lies_ahead_is_told(training: Training) -> None:
    model, table = training.model, training.table
    rows = table.frame.iloc[training.split.test]
    assert model.ahead is not None and not model.ahead.skipped
    found = pd.DataFrame(model.ahead.columns(model.schema.encode(rows)))
    assert list(found) == [
        *("next_hours", "next_hours_low", "next_hours_high", "rest_days", "rest_days_low", "rest_days_high"),
        *("outcome", "within_1_days", "within_3_days"),
    ]
    assert (found["next_hours_low"] <= found["next_hours"]).all()
    assert (found["within_1_days"] <= found["within_3_days"]).all()
    slow = (rows["team"] == "slow").to_numpy()
    assert found["outcome"][slow].mean() > 2 * found["outcome"][~slow].mean()
    known = facts_of(table, training.params.sequence)  # type: ignore[arg-type]
    rest = known.times["rest"].duration[training.split.test]
    inside = (rest >= found["rest_days_low"]) & (rest <= found["rest_days_high"])
    assert 0.65 < inside.mean() < 0.95


def test_the_truth_of_a_small_log(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "case": ["a", "a", "a", "b"],
            "event": ["x", "gone", "y", "x"],
            "time": ["2024-01-01", "2024-01-02", "2024-01-05", "2024-01-03"],
            "late": ["no", "no", "yes", "no"],
        }
    )
    rows.to_csv(tmp_path / "log.csv", index=False)
    table = table_of(tmp_path / "log.csv")
    known = facts_of(table, SequenceParams(outcome=OutcomeParams(column="late")))
    assert known.outcome is not None and known.outcome.tolist() == [1, 1, 1, 0]
    assert known.times["next"].duration[:2].tolist() == [24, 72]
    assert known.times["next"].asked.tolist() == [True, True, False, False]
    assert known.times["rest"].duration.tolist() == [4, 3, 0, 0]
    left = facts_of(table, SequenceParams(outcome=OutcomeParams(event="gone"))).times["outcome"]
    assert left.observed.tolist() == [True, False, False, False]
    assert left.asked.tolist() == [True, False, True, True], "the event itself is not asked about"
    assert left.duration[0] == 1 and left.duration[3] == pytest.approx(2, abs=1e-6)
    early = facts_of(table, SequenceParams(), until=int(pd.Timestamp("2024-01-04").value // 1000))
    assert early.times["rest"].observed.tolist() == [False, False, False, True]
    assert early.times["rest"].duration[:2].tolist() == [3, 2]


def test_an_open_case_takes_what_came_after_as_long_a_wait(tmp_path: Path) -> None:
    """After `wait`, quick cases go to `a` and slow ones to `b`; who has waited long goes to `b`."""
    rng, rows = np.random.default_rng(0), []
    for case in range(400):
        start, slow = pd.Timestamp("2024-01-01") + pd.Timedelta(hours=case), rng.random() < 0.5
        pause = pd.Timedelta(hours=float(rng.uniform(100, 110) if slow else rng.uniform(1, 2)))
        rows += [(case, "wait", start), (case, "b" if slow else "a", start + pause)]
    pd.DataFrame(rows, columns=["case", "event", "time"]).to_csv(tmp_path / "log.csv", index=False)
    params = params_of(tmp_path / "log.csv", data={"attributes": [], "segments": []}, sequence={}, split={"cut": True})
    made = ground(load_table(params), params)
    codes, counts = np.unique(made.y[(made.X["event"] == "wait").to_numpy()], return_counts=True)
    share = {made.schema.labels[code]: count / counts.sum() for code, count in zip(codes, counts, strict=True)}  # type: ignore[attr-defined]
    assert made.split.censored is not None and len(made.split.censored) > 30
    assert share["b"] == pytest.approx(0.5, abs=0.08), "without the censored it would be below 0.4"


def test_cut_training_is_told_beside_the_whole(training: Training) -> None:
    gap = compare_borders(training)
    assert gap.applies and gap.frame()["training"].tolist() == ["cases whole", "cut at the border"]
    assert gap.frame()["rows"].is_monotonic_decreasing
    assert abs(gap.frame()["value"].diff().iloc[1]) < 0.2
    gap.plot()


def test_a_log_of_many_different_events_is_learnt(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = tickets(120).assign(
        event=lambda f: [f"{each} {n}" for each, n in zip(f["event"], rng.integers(2000, size=len(f)), strict=True)]
    )
    rows.to_csv(tmp_path / "log.csv", index=False)
    params = params_of(tmp_path / "log.csv", sequence={})
    found = train(load_table(params), params, storage=None)
    assert len(found.model.labels or ()) == 302
    assert (found.model.labels or ())[-2] == OTHER
    assert np.isfinite(found.evaluation.values(found.selected)["log_loss"].value)


def test_few_cases_are_cross_fitted(tmp_path: Path) -> None:
    params = params_of(written(tmp_path, 14), sequence={"outcome": {"column": "late"}})
    found = train(load_table(params), params, storage=None)
    assert not found.split.forward
    assert len(found.outcome_test)


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"sequence": {"outcome": {"column": "lat"}}}, DataError, "Did you mean 'late'"),
        ({"sequence": {"outcome": {"column": "late", "value": "maybe"}}}, DataError, "'maybe' is no value of 'late'"),
        ({"sequence": {"outcome": {"event": "sloved"}}}, DataError, "Did you mean 'solved'"),
        ({"data": {"attributes": ["late"]}}, ParamsError, "'late' tells the outcome"),
        ({"data": {"test_path": "x.csv"}}, ParamsError, "test_path is for tables"),
    ],
)
def test_what_is_asked_in_vain_is_refused(
    tmp_path: Path, more: dict[str, object], error: type[Exception], said: str
) -> None:
    params = params_of(written(tmp_path, 60), **more)
    with pytest.raises(error, match=said):
        train(load_table(params), params, storage=None)


def test_an_outcome_that_all_share_is_said_and_skipped(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    tickets(60).assign(late=lambda f: np.where(f["case"] == "c00059", "yes", "no")).to_csv(path, index=False)
    params = params_of(path)
    table = load_table(params)
    made = ground(table, params)
    with pytest.raises(DataError, match="same outcome"):
        look_ahead(made.schema, made.X, table, made.split, params)  # type: ignore[arg-type]
