"""Times to an event: known truths are found though rows are cut short, and intervals hold what they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from cxlab.data.schema import schema_of
from cxlab.errors import DataError, ParamsError
from cxlab.features.tabular import columns
from cxlab.metrics.survival import brier_at, concordance, coverage, kaplan_meier
from cxlab.models.hazard import CalibratedTimes, DiscreteHazard, person_periods

HORIZONS = [0.25, 0.5, 1.0, 2.0]
SMALL = {"n_estimators": 60, "periods": 16}


def rows(rng, n):
    return pd.DataFrame({"pace": rng.normal(size=n), "late": rng.integers(0, 2, n), "noise": rng.normal(size=n)})


def within(X, time, at_once=0.0):
    """The truth: the hazard is exp(0.7 pace), twice that after time 1 where `late`; some come at once."""
    pace = np.exp(0.7 * X.pace.to_numpy())
    gone = pace * (time + (X.late.to_numpy() == 1) * np.maximum(time - 1, 0))
    return 1 - (1 - at_once) * np.exp(-gone)


def world(rng, n, *, at_once=0.0, until=1.5):
    """Rows, how long they last, and what is seen of it: cut short at random, sooner where the pace is high."""
    X = rows(rng, n)
    pace, left = np.exp(0.7 * X.pace.to_numpy()), rng.exponential(size=n)
    time = left / pace
    late = (X.late.to_numpy() == 1) & (time > 1)
    time = np.where(late, 1 + (left - pace) / (2 * pace), time)
    time = np.where(rng.random(n) < at_once, 0.0, time)
    end = rng.exponential(until * np.exp(-0.3 * X.pace.to_numpy()))
    return X, time, np.minimum(time, end), time <= end


@pytest.fixture(scope="module")
def fitted():
    X, _, duration, observed = world(np.random.default_rng(0), 3000, at_once=0.2)
    return DiscreteHazard(edges=(0.5, 1.0, 2.0), **SMALL).fit(X, duration, observed)


@pytest.fixture(scope="module")
def asked():
    return rows(np.random.default_rng(1), 60)


@settings(max_examples=15)
@given(st.lists(st.floats(0, 6), min_size=2, max_size=6))
def test_survival_never_rises_and_within_is_the_rest(fitted, asked, times):
    found = fitted.survival(asked, sorted(times))
    assert (np.diff(found, axis=1) <= 1e-12).all()
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found + fitted.within(asked, sorted(times)), 1)


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles_invert_survival(fitted, asked, shares):
    times = fitted.quantile(asked, shares)
    beyond = 1 - fitted.within(asked, [fitted.edges_[-1]])
    for column, share in enumerate(shares):
        reached = np.isfinite(times[:, column])
        assert (reached == (beyond[:, 0] <= 1 - share)).mean() > 0.98  # but for rounding
        for row in np.flatnonzero(reached)[:5]:
            one = asked.iloc[[row]]
            back = fitted.within(one, [times[row, column]])[0, 0]
            if times[row, column] == 0:
                assert back >= share - 1e-9  # what comes at once
            else:
                assert back == pytest.approx(share, abs=1e-9)


def test_the_hazard_is_constant_within_a_period(fitted, asked):
    low, high = fitted.edges_[5:7]
    start, half, end = fitted.survival(asked, [low, (low + high) / 2, high]).T
    np.testing.assert_allclose(half**2, start * end)
    np.testing.assert_allclose(end / start, 1 - fitted.hazard(asked)[:, 6])


def test_beyond_the_last_period_nothing_more_is_said(fitted, asked):
    last = fitted.edges_[-1]
    one, other = fitted.survival(asked, [last, 100 * last]).T
    np.testing.assert_array_equal(one, other)
    assert np.isinf(fitted.quantile(asked, [1.0])).all()


def test_horizons_asked_for_and_the_moment_itself_have_periods_of_their_own(fitted):
    assert {0.0, 0.5, 1.0, 2.0} <= set(fitted.edges_)
    assert (np.diff(fitted.edges_) > 0).all()
    assert len(fitted.edges_) <= 16 + 1 + 3


def test_periods_are_quantiles_that_no_censoring_bends():
    rng = np.random.default_rng(2)
    duration = rng.exponential(1.0, 20_000)
    end = rng.exponential(0.8, 20_000)
    X = pd.DataFrame({"x": np.zeros(20_000)})
    model = DiscreteHazard(periods=10, longest=3.0, n_estimators=5).fit(X, np.minimum(duration, end), duration <= end)
    by = (1 - np.exp(-3.0)) * np.arange(1, 11) / 10
    np.testing.assert_allclose(model.edges_[:9], -np.log(1 - by[:9]), rtol=0.06)
    assert model.edges_[-1] <= 3.0


@pytest.mark.parametrize("at_once", [0.0, 0.3])
def test_probabilities_are_near_the_truth_and_naive_ones_are_not(at_once):
    """4,000 rows: on average over new rows within 0.03 (four binomial standard errors of the 2,000 seen), and closer to
    each row's truth than the plain share; left out or taken for events, what was cut short leads astray."""
    rng = np.random.default_rng(3)
    X, _, duration, observed = world(rng, 4000, at_once=at_once, until=1.0)
    model = DiscreteHazard(edges=tuple(HORIZONS), **SMALL).fit(X, duration, observed)
    new = rows(rng, 2000)
    truth = np.column_stack([within(new, time, at_once) for time in HORIZONS])
    found = model.within(new, HORIZONS)
    np.testing.assert_allclose(found.mean(axis=0), truth.mean(axis=0), atol=0.03)
    assert (np.sqrt(((found - truth) ** 2).mean(axis=0)) < 0.5 * truth.std(axis=0)).all()
    only_seen = DiscreteHazard(edges=tuple(HORIZONS), **SMALL).fit(X[observed], duration[observed], observed[observed])
    assert (only_seen.within(new, [0.5, 1.0]).mean(axis=0) > truth[:, 1:3].mean(axis=0) + 0.06).all()
    all_events = DiscreteHazard(edges=tuple(HORIZONS), **SMALL).fit(X, duration, np.ones(4000))
    assert (all_events.within(new, [0.5, 1.0]).mean(axis=0) > truth[:, 1:3].mean(axis=0) + 0.06).all()


def test_without_features_it_is_kaplan_meier():
    rng = np.random.default_rng(4)
    _, _, duration, observed = world(rng, 4000)
    X = pd.DataFrame({"x": np.zeros(4000)})
    model = DiscreteHazard(n_estimators=300, min_child_samples=1, reg_lambda=0.0).fit(X, duration, observed)
    found = model.survival(X[:1], model.edges_)[0]
    np.testing.assert_allclose(found, kaplan_meier(duration, observed).at(model.edges_), atol=0.015)


def test_repeats_to_the_bit_and_is_cloned():
    X, _, duration, observed = world(np.random.default_rng(5), 600)
    model = DiscreteHazard(most=2000, **SMALL)
    one, two = (clone(model).fit(X, duration, observed).within(X, HORIZONS) for _ in range(2))
    assert one.tobytes() == two.tobytes()
    assert clone(model).get_params() == model.get_params()


def test_columns_of_a_schema_go_in_as_they_are_encoded():
    rng = np.random.default_rng(6)
    X, _, duration, observed = world(rng, 1500)
    raw = X.assign(late=np.where(X.late == 1, "yes", "no"), city=rng.choice([f"c{i}" for i in range(40)], 1500))
    raw.loc[::7, "noise"] = None
    schema = schema_of(raw, ["pace", "late", "noise", "city"])
    made = schema.encode(raw)
    model = DiscreteHazard(columns(schema, numbers="passthrough", seed=0), **SMALL).fit(made, duration, observed)
    plain = DiscreteHazard(**SMALL).fit(X, duration, observed)
    c = [concordance(duration, observed, m.within(x, [1.0])[:, 0]).value for m, x in ((model, made), (plain, X))]
    assert c[0] == pytest.approx(c[1], abs=0.02)
    unseen = schema.encode(raw.head(3).assign(city="elsewhere", late=None))
    assert np.isfinite(model.within(unseen, HORIZONS)).all()


# What is learnt from


def test_a_row_is_a_row_for_each_period_it_lived_through():
    period, part = np.array([2, 0, 1, 1]), np.array([0.5, 1.0, 0.25, 0.0])
    seen = np.array([True, True, False, False])
    row, at, event, weight = person_periods(period, part, seen, most=100, seed=0)
    assert list(zip(row, at, event, weight, strict=True)) == [
        (0, 2, True, 1.0),
        (1, 0, True, 1.0),
        (0, 0, False, 1.0),
        (0, 1, False, 1.0),
        (2, 0, False, 1.0),
        (2, 1, False, 0.25),  # for the part it lived through
        (3, 0, False, 1.0),
    ]


@settings(max_examples=10)
@given(st.integers(0, 99), st.integers(6, 30))
def test_a_draw_of_person_periods_has_the_expectation_of_all(seed, most):
    """Of 1,000 draws, at most five standard errors off for any row and period."""
    rng = np.random.default_rng(seed)
    n = 12
    ended = rng.integers(0, 5, n), rng.uniform(0.2, 1, n), rng.random(n) < 0.6

    def table(most, seed):
        row, at, event, weight = person_periods(*ended, most=most, seed=seed)
        assert len(row) <= most
        sums = np.zeros((2, n, 5))
        np.add.at(sums, (event.astype(int), row, at), weight)
        return sums

    whole = table(1000, 0)
    mean = np.mean([table(most, number) for number in range(1000)], axis=0)
    stretch = 5 * n / (most // 2)  # at most so many are drawn from for one
    assert (np.abs(mean - whole) <= 5 * whole * np.sqrt(stretch / 1000) + 1e-9).all()


def test_a_draw_learns_the_same():
    rng = np.random.default_rng(7)
    X, _, duration, observed = world(rng, 4000)
    new = rows(rng, 1000)
    whole, drawn = (DiscreteHazard(most=most, **SMALL).fit(X, duration, observed) for most in (10**6, 8000))
    np.testing.assert_allclose(
        drawn.within(new, HORIZONS).mean(axis=0), whole.within(new, HORIZONS).mean(axis=0), atol=0.03
    )


# Intervals


def test_an_overconfident_model_is_taken_back_and_its_intervals_hold():
    """Large trees learn rows by heart. Their 80 % intervals hold far less; corrected, at least 80 % but for two
    binomial standard errors, and at most 3 % more: the models that tell how wrong they are saw a fifth less."""
    by_heart = DiscreteHazard(n_estimators=80, num_leaves=31, min_child_samples=20, reg_lambda=0.0, learning_rate=0.1)
    plain, corrected = [], []
    for seed in range(3):
        rng = np.random.default_rng(50 + seed)
        X, _, duration, observed = world(rng, 1500, until=4.0)
        times = CalibratedTimes(by_heart, folds=5).fit(X, duration, observed, np.arange(1500))
        new, time, _, _ = world(rng, 1500)
        one, other = (coverage(time, np.ones(1500), *made.interval(new).T) for made in (times.hazard_, times))
        plain.append(one.value)
        corrected.append(other.value)
    error = np.sqrt(0.8 * 0.2 * (1 / 4500 + 1 / 4500))  # new rows, and those that the correction was learnt from
    assert np.mean(plain) < 0.8 - 6 * error
    assert -2 * error < np.mean(corrected) - 0.8 < 2 * error + 0.03, corrected
    assert (np.diff(times.within(new, HORIZONS), axis=1) >= 0).all()


def test_what_was_right_stays_so_though_a_third_is_cut_short():
    """Probabilities of 10, 25 and 40 % come true within two standard errors; those that take what was cut short for
    events do not."""
    true, naive = [], []
    for seed in range(3):
        rng = np.random.default_rng(30 + seed)
        X, _, duration, observed = world(rng, 1500, at_once=0.05, until=2.0)
        new, time, _, _ = world(rng, 1500, at_once=0.05)
        for shares, seen in ((true, observed), (naive, np.ones(1500))):
            times = CalibratedTimes(DiscreteHazard(**SMALL), folds=3).fit(X, duration, seen, np.arange(1500))
            shares.append((time[:, None] <= times.quantile(new, [0.1, 0.25, 0.4])).mean(axis=0))
    nominal = np.array([0.1, 0.25, 0.4])
    error = np.sqrt(nominal * (1 - nominal) * (1 / 4500 + 1 / 3000))  # new rows, and the events seen in training
    assert (np.abs(np.mean(true, axis=0) - nominal) <= 2 * error).all(), true
    assert (np.mean(naive, axis=0)[1:] < (nominal - 4 * error)[1:]).all(), naive


def test_the_map_inverts_and_no_case_is_on_both_sides():
    rng = np.random.default_rng(8)
    X, _, duration, observed = world(rng, 300)
    copies = pd.concat([X] * 4, ignore_index=True)  # a case is four rows alike: seen on both sides they look easy
    times, seen = np.tile(duration, 4), np.tile(observed, 4)
    by_heart = DiscreteHazard(n_estimators=80, num_leaves=63, min_child_samples=2, reg_lambda=0.0, learning_rate=0.3)
    apart = CalibratedTimes(by_heart, folds=3).fit(copies, times, seen, np.tile(np.arange(300), 4))
    mixed = CalibratedTimes(by_heart, folds=3).fit(copies, times, seen, np.arange(1200))
    width = [np.interp(0.9, m.calibrated_, m.raw_) - np.interp(0.1, m.calibrated_, m.raw_) for m in (apart, mixed)]
    assert width[0] > width[1] + 0.1
    assert (apart.raw_[0], apart.calibrated_[0], apart.raw_[-1], apart.calibrated_[-1]) == (0, 0, 1, 1)
    assert (np.diff(apart.raw_) > 0).all()
    assert (np.diff(apart.calibrated_) > 0).all()
    medians = apart.median(X[:50])
    reached = np.isfinite(medians)
    back = [apart.within(X.iloc[[row]], [medians[row]])[0, 0] for row in np.flatnonzero(reached)]
    np.testing.assert_allclose(back, 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings_", "data", "error", "message"),
    [
        ({"periods": 0}, {}, ParamsError, "periods == 0, must be >= 1"),
        ({"most": 1}, {}, ParamsError, "most == 1, must be >= 2"),
        ({"edges": (90.0,)}, {}, DataError, "A period is to end at 90, but nobody was followed longer than 3"),
        ({}, {"observed": [0, 0, 0]}, DataError, "None of the 3 durations ends with an event"),
        (
            {},
            {"duration": [2, 2, 2], "observed": [1, 1, 1]},
            DataError,
            "hold only events; a hazard is learnt from both",
        ),
        ({}, {"duration": [-1, 2, 2]}, ValueError, "duration is -1.0 in row 0"),
        ({}, {"X": pd.DataFrame({"x": [1.0]})}, ValueError, "X has 1 rows, must have 3"),
    ],
)
def test_an_error_says_what_is_wrong(settings_, data, error, message):
    given_ = {"X": pd.DataFrame({"x": [1.0, 2.0, 3.0]}), "duration": [1, 2, 3], "observed": [1, 1, 0]} | data
    with pytest.raises(error, match=message):
        DiscreteHazard(**settings_).fit(**given_)


def test_an_interval_that_is_not_reached_begins_where_the_last_period_ends():
    rng = np.random.default_rng(9)
    duration = rng.exponential(1.0, 800)
    X = pd.DataFrame({"x": rng.normal(size=800)})
    model = DiscreteHazard(longest=0.05, n_estimators=20).fit(X, duration, np.ones(800))
    low, high = model.interval(X[:20], level=0.8).T
    assert (low == model.end).all()
    assert np.isinf(high).all()
    assert np.isinf(model.median(X[:20])).all()
    assert coverage(duration[:20], np.ones(20), low, high).value == (duration[:20] >= model.end).mean()


def test_questions_that_have_no_answer_are_refused(fitted, asked):
    with pytest.raises(ValueError, match=r"times are \[-1\], must be numbers >= 0"):
        fitted.survival(asked, [-1])
    with pytest.raises(ValueError, match=r"shares are \[2\], must be in \[0, 1\]"):
        fitted.quantile(asked, [2])
    with pytest.raises(ValueError, match=r"level == 80, must be in \(0, 1\)"):
        fitted.interval(asked, level=80)
    X, few = pd.DataFrame({"x": [1.0, 2.0, 3.0]}), ([1, 2, 3], [1, 1, 0])
    with pytest.raises(DataError, match="There are 2 groups, must be at least 5, the number of folds"):
        CalibratedTimes(DiscreteHazard()).fit(X, *few, ["a", "a", "b"])
    with pytest.raises(ParamsError, match="folds == 1, must be >= 2"):
        CalibratedTimes(DiscreteHazard(), folds=1).fit(X, *few, ["a", "a", "b"])


def test_when_incidents_close_is_told_better_than_by_their_share(mirror):
    """Every sixth case of a log of a company's incidents: the first two thirds, as known when the others begin."""
    log = pd.read_csv(mirror / "incident_log" / "incident_event_log.csv.gz", dtype=str)
    log = log[log.number.isin(np.unique(log.number)[::6])]
    log = log.assign(
        step=log.sys_mod_count.astype(int), time=pd.to_datetime(log.sys_updated_at, format="%d/%m/%Y %H:%M")
    )
    log = log.sort_values(["number", "step"], kind="stable")
    case = log.groupby("number")
    days = pd.Timedelta(days=1)
    start, end = case.time.transform("min"), case.time.transform("max")
    known = {
        "events": case.cumcount(),
        "elapsed": (log.time - start) / days,
        "moved": log.reassignment_count.astype(float),
        **{state: (log.incident_state == state).astype(float) for state in log.incident_state.unique()},
    }
    X, left = pd.DataFrame(known), (end - log.time) / days
    cut = np.sort(start[~log.number.duplicated()])[int(2 / 3 * case.ngroups)]
    followed = (cut - log.time) / days
    old, new = (start < cut) & (log.time < cut) & (left > 0), (start >= cut) & (left > 0)
    seen = (left <= followed)[old]
    duration = np.minimum(left, followed)[old]
    times = CalibratedTimes(DiscreteHazard(n_estimators=100), folds=3).fit(X[old], duration, seen, log.number[old])
    told, late = np.ones(new.sum()), times.median(X[new]).clip(max=times.end)
    assert concordance(left[new], told, -late, groups=log.number[new]).low > 0.65
    share = 1 - kaplan_meier(duration, seen).at(7.0)
    usual = brier_at(left[new], told, np.full(new.sum(), share), 7.0, groups=log.number[new])
    found = brier_at(left[new], told, times.within(X[new], [7.0])[:, 0], 7.0, groups=log.number[new])
    assert found.high < usual.low
    found = coverage(left[new], told, *times.interval(X[new]).T, groups=log.number[new])
    assert 0.7 < found.value < 0.9  # later incidents close sooner than earlier ones, so that 0.8 is not to be had
