"""Customers' value: published figures come out, planted parameters are found, and the forecast is held to what came."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special

from cxlab.data.events import read_events
from cxlab.data.taxonomy import load_mapping
from cxlab.decide.lifetime import (
    BgNbd,
    Fitted,
    GammaGamma,
    _bgnbd,
    _gammagamma,
    holdout,
    lifetime_value,
    orders,
    purchases,
)
from cxlab.errors import DataError, ParamsError
from cxlab.params.measures import LifetimeParams

ROOT = Path(__file__).parent.parent.parent
TRUTH = np.array([0.6, 5.0, 0.8, 2.5])
SPEND = np.array([6.0, 4.0, 15.0])
BEGIN = pd.Timestamp("2024-01-01")
UNIT = 70
NOW, LATER = (BEGIN + pd.Timedelta(days=UNIT * units) for units in (52, 104))
SLOW = {"unit_days": UNIT, "horizon_days": 52 * 7}


def model(values: np.ndarray = TRUTH) -> BgNbd:
    return BgNbd(Fitted(values, np.eye(4) * 1e-4, 0.0))


def simulated(customers: int, seed: int, units: int = 104) -> pd.DataFrame:
    """Purchases as the two models have them, in units of `UNIT` days: long ones, so that few fall on one day."""
    rng = np.random.default_rng(seed)
    r, alpha, a, b = TRUTH
    p, q, gamma = SPEND
    rows = []
    for who in range(customers):
        rate, risk, scale = rng.gamma(r) / alpha, rng.beta(a, b), gamma / rng.gamma(q)
        time = float(rng.integers(0, 12))
        rows.append((who, time, rng.gamma(p) * scale))
        while True:
            time += rng.exponential(1 / rate)
            if time > units:
                break
            rows.append((who, time, rng.gamma(p) * scale))
            if rng.random() < risk:
                break
    frame = pd.DataFrame(rows, columns=["customer_id", "unit", "amount"])
    return frame.assign(occurred_at=BEGIN + pd.to_timedelta(frame["unit"] * UNIT, unit="D"))


@pytest.fixture(scope="module")
def shop() -> pd.DataFrame:
    return simulated(3000, seed=5)


def test_planted_parameters_are_found(shop: pd.DataFrame) -> None:
    found = lifetime_value(shop, LifetimeParams(**SLOW), end=NOW).parameters()
    errors = (np.log(found["value"]) - np.log(np.append(TRUTH, SPEND))) / (found["error"] / found["value"])
    assert np.abs(errors).max() < 3.5
    assert (found["low"] < found["value"]).all()
    assert (found["value"] < found["high"]).all()


def test_the_forecast_holds_where_the_model_is_true(shop: pd.DataFrame) -> None:
    value = lifetime_value(shop, LifetimeParams(**SLOW), end=NOW)
    table = holdout(value, shop, until=LATER).frame().set_index("repeats")
    everyone = table.loc["all"]
    assert everyone["low"] < everyone["came"] < everyone["high"]
    assert table.drop("all")["expected"].sum() == pytest.approx(everyone["expected"])
    assert table.drop("all")["came"].sum() == everyone["came"]
    assert everyone["n"] == 3000


def test_futures_have_the_mean_that_the_equations_say(shop: pd.DataFrame) -> None:
    """Two ways to one figure: eq. 10 times eq. 5, and simulated customers."""
    params = LifetimeParams(**SLOW, discount=0.0, draws=400)
    value = lifetime_value(shop, params, end=NOW)
    table = value.customers()
    told = np.array([table["purchases"].sum(), table["value"].sum()])
    error = value.futures.std(axis=1) / np.sqrt(params.draws)
    assert np.abs(value.futures.mean(axis=1) - told).max() / told.max() < 0.03
    assert (np.abs(value.futures.mean(axis=1) - told) < 5 * error + 0.01 * told).all()


@given(st.integers(0, 2**31), st.integers(60, 120))
def test_the_order_of_rows_changes_nothing(seed: int, customers: int) -> None:
    frame = simulated(customers, seed=seed % 1000, units=52)
    params = LifetimeParams()
    one = purchases(frame, params)
    other = purchases(frame.sample(frac=1, random_state=seed), params)
    for mine, theirs in zip(one, other, strict=True):
        if mine.dtype == float:
            np.testing.assert_allclose(mine, theirs, rtol=1e-12)
        else:
            assert (mine == theirs).all()


@given(st.integers(1, 51))
def test_the_future_changes_nothing_known_before(weeks: int) -> None:
    frame = simulated(80, seed=weeks, units=5)
    end, params = BEGIN + pd.Timedelta(weeks=weeks), LifetimeParams()
    known = frame[frame["occurred_at"] < end + pd.Timedelta(days=1)]
    for mine, theirs in zip(purchases(frame, params, end=end), purchases(known, params, end=end), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@given(st.floats(0.1, 3), st.floats(0.5, 20), st.floats(0.2, 4), st.floats(0.3, 5), st.integers(0, 40))
def test_likelihoods_integrate_to_probabilities(r: float, alpha: float, a: float, b: float, seed: int) -> None:
    """Of no repeat purchase; and of one, over all times at which it may have been."""
    params, t = np.array([r, alpha, a, b]), 1.0 + seed
    none = np.exp(_bgnbd(params, *(np.array([item]) for item in (0.0, 0.0, t)))[0][0])
    assert none == pytest.approx((alpha / (alpha + t)) ** r)

    def density(last: float) -> float:
        return float(np.exp(_bgnbd(params, *(np.array([item]) for item in (1.0, last, t)))[0][0]))

    once = integrate.quad(density, 0, t, epsabs=1e-10)[0]
    stayed = special.beta(a, b + 1) / special.beta(a, b) * r * (alpha / (alpha + t)) ** r * t / (alpha + t)
    gone = special.beta(a + 1, b) / special.beta(a, b) * (1 - none)
    assert once == pytest.approx(stayed + gone, rel=1e-6)


@given(st.floats(0.2, 2), st.floats(1, 20), st.floats(0.3, 4), st.floats(0.3, 5))
def test_slopes_are_those_of_the_likelihood(r: float, alpha: float, a: float, b: float) -> None:
    rows = np.array([0.0, 1.0, 7.0]), np.array([0.0, 3.0, 20.0]), np.array([30.0, 25.0, 22.0])
    for function, at, data in (
        (_bgnbd, np.array([r, alpha, a, b]), rows),
        (_gammagamma, np.array([r, a + 1, alpha]), (np.array([1.0, 4.0]), np.array([12.0, 60.0]))),
    ):
        slopes = function(at, *data)[1]
        for place in range(len(at)):
            step = np.zeros(len(at))
            step[place] = 1e-6 * at[place]
            rise = (function(at + step, *data)[0] - function(at - step, *data)[0]) / (2e-6 * at[place])
            np.testing.assert_allclose(slopes[:, place], rise, rtol=1e-4, atol=1e-5)


@given(st.floats(0.05, 3), st.floats(0.5, 20), st.floats(0.05, 4), st.floats(0.1, 5), st.integers(0, 60))
def test_expectations_are_those_of_the_printed_equation(r: float, alpha: float, a: float, b: float, x: int) -> None:
    """Eq. 10 as printed, where no power overflows; never below zero, never less in a longer time."""
    buying = model(np.array([r, alpha, a, b]))
    t_x, age, ahead = (0.0 if x == 0 else 20.0), 30.0, np.array([0.0, 1.0, 10.0, 100.0])
    found = buying.expected(x, t_x, age, ahead)
    assert found[0] == 0
    assert (np.diff(found) >= -1e-12).all()
    if abs(a - 1) > 1e-3:
        z = ahead / (alpha + age + ahead)
        printed = 1 - (1 - z) ** (r + x) * special.hyp2f1(r + x, b + x, a + b + x - 1, z)
        printed *= (a + b + x - 1) / (a - 1) * buying.alive(x, t_x, age)
        np.testing.assert_allclose(found, printed, rtol=1e-5, atol=1e-7)


def test_expectations_pass_smoothly_where_the_equation_is_nothing_by_nothing() -> None:
    values = [float(model(np.array([0.5, 5, a, 2])).expected(3, 10, 20, 52)) for a in (0.999, 1.0, 1.001)]
    assert values[1] == pytest.approx((values[0] + values[2]) / 2, rel=1e-5)


def test_nobody_is_gone_who_has_not_come_back() -> None:
    assert model().alive([0, 0], [0, 0], [1, 100]).tolist() == [1.0, 1.0]
    waited = model().alive([3, 3, 3], [10, 10, 10], [10, 20, 40])
    assert (np.diff(waited) < 0).all()


def test_a_customer_of_many_purchases_does_not_overflow() -> None:
    found = model().expected([2000.0], [52.0], [52.0], 52.0)
    assert np.isfinite(found).all()
    assert 500 < found[0] < 2000


def test_spend_lies_between_a_customers_mean_and_that_of_all() -> None:
    spending = GammaGamma(Fitted(SPEND, np.eye(3), 0.0))
    everyone = SPEND[0] * SPEND[2] / (SPEND[1] - 1)
    found = spending.expected([0, 1, 100], [0, 90.0, 90.0])
    assert found[0] == pytest.approx(everyone)
    assert everyone < found[1] < found[2] < 90
    endless = GammaGamma(Fitted(np.array([6.0, 0.9, 15.0]), np.eye(3), 0.0))
    assert np.isnan(endless.expected([0], [0.0])).all()


def test_what_is_discounted_is_worth_less() -> None:
    shop, end = simulated(600, seed=5), NOW
    plain, dear = (lifetime_value(shop, LifetimeParams(**SLOW, discount=d, draws=100), end=end) for d in (0.0, 0.3))
    half = lifetime_value(shop, LifetimeParams(**SLOW, discount=0.0, margin=0.5, draws=100), end=end)
    ratio = dear.customers()["value"] / plain.customers()["value"]
    assert ((ratio > 1.3**-1) & (ratio < 1)).all()
    np.testing.assert_allclose(half.customers()["value"] * 2, plain.customers()["value"])
    again = lifetime_value(shop, LifetimeParams(**SLOW, discount=0.0, draws=100), end=end)
    assert (again.futures == plain.futures).all()


def test_groups_add_up_to_all(shop: pd.DataFrame) -> None:
    value = lifetime_value(shop, LifetimeParams(**SLOW, draws=100), end=NOW)
    groups = pd.Series({who: "even" if who % 2 == 0 else "odd" for who in range(2990)})
    by, all_rows = value.by(groups), value.frame()
    assert by["group"].tolist() == ["(unknown)", "even", "odd"]
    everyone = all_rows[all_rows["repeats"] == "all"].iloc[0]
    for table in (by, all_rows[all_rows["repeats"] != "all"]):
        for name in ("n", "purchases", "value"):
            assert table[name].sum() == pytest.approx(everyone[name])
    assert everyone["value_low"] < everyone["value"] < everyone["value_high"]
    assert "correlation" in value.note
    value.plot()
    holdout(value, shop).plot()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.assign(amount=-1.0), r"amount == -1.0 \(.* rows\), must be a number >= 0"),
        (lambda frame: frame.assign(amount="free"), "amount == free"),
        (lambda frame: frame.assign(amount=np.where(frame.index == 0, np.nan, 1.0)), "1 of .* purchases lack"),
        (lambda frame: frame.drop(columns="amount"), "Column 'amount' is not in the data"),
        (lambda frame: frame.iloc[:0], "No purchase is there"),
        (lambda frame: frame.assign(occurred_at="soon"), "holds what is no time"),
        (lambda frame: frame.drop_duplicates("customer_id"), r"0 of 100 customers bought again.*at least 50"),
    ],
)
def test_bad_tables_are_refused(change, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=message):
        lifetime_value(change(simulated(100, seed=1)))


def test_bad_ends_are_refused() -> None:
    frame = simulated(300, seed=1)
    with pytest.raises(DataError, match="Nobody had bought by 2020-01-01: the first purchase is of 2024"):
        lifetime_value(frame, end="2020-01-01")
    with pytest.raises(ParamsError, match="'soon' is not a day"):
        lifetime_value(frame, end="soon")
    value = lifetime_value(frame, LifetimeParams(draws=100))
    with pytest.raises(DataError, match="must go on after"):
        holdout(value, frame)


def test_spend_that_never_differs_has_no_highest_likelihood() -> None:
    with pytest.raises(DataError, match="gamma-gamma model finds no highest likelihood"):
        lifetime_value(simulated(300, seed=1).assign(amount=10.0))


def test_purchases_of_a_day_are_one() -> None:
    times = pd.to_datetime(["2024-01-01T09:00Z", "2024-01-01T18:00Z", "2024-01-15T00:00Z", "2024-01-15T23:59Z"])
    frame = pd.DataFrame({"customer_id": "a", "occurred_at": times, "amount": [1.0, 2.0, 3.0, 4.0]})
    found = purchases(frame, LifetimeParams(), end="2024-01-29")
    assert [item.tolist() for item in found] == [["a"], [1.0], [2.0], [4.0], [7.0]]


def test_orders_are_read_from_events() -> None:
    events = pd.DataFrame(
        {
            "customer_id": ["a", "a", "b"],
            "occurred_at": pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"], utc=True),
            "event": ["order", "login", "order"],
            "properties": ['{"amount":3.5}', None, '{"amount":1}'],
        }
    )
    assert orders(events)["amount"].tolist() == [3.5, 1.0]
    with pytest.raises(DataError, match="No event is called 'buy'"):
        orders(events, event="buy")
    with pytest.raises(DataError, match="2 of 2 'order' events lack"):
        orders(events, amount="paid")


@pytest.fixture(scope="module")
def cdnow(mirror: Path) -> pd.DataFrame:
    mapping = load_mapping(ROOT / "params" / "events" / "cdnow.yaml")
    return orders(read_events(mirror / "cdnow" / "CDNOW_master.txt", mapping=mapping).accepted)


@pytest.fixture(scope="module")
def tenth(cdnow: pd.DataFrame) -> pd.DataFrame:
    """The customers of the published tenth."""
    text = (Path(__file__).parent / "cdnow_sample.txt").read_text(encoding="utf-8")
    chosen = {int(number) for line in text.splitlines()[1:] for number in line.split()}
    return cdnow[cdnow["customer_id"].astype(int).isin(chosen)]


def test_the_published_figures_come_out(tenth: pd.DataFrame) -> None:
    """Fader, Hardie and Lee (2005), table 1; Fader and Hardie (2013), section 4."""
    value = lifetime_value(tenth, end="1997-09-30")
    assert len(value.known.customer) == 2357
    assert (value.known.repeats > 0).sum() == 946
    assert value.buying.fitted.value.round(3).tolist() == [0.243, 4.414, 0.793, 2.426]
    assert round(value.buying.fitted.loglik, 1) == -9582.4
    assert value.spending.fitted.value == pytest.approx([6.25, 3.74, 15.44], abs=0.006)
    assert value.spending.fitted.loglik == pytest.approx(-4055.918, abs=0.001)
    assert "correlation of the two is 0.11" in value.note


def test_what_the_published_model_expects_of_a_customer(tenth: pd.DataFrame) -> None:
    """The customer whom Fader, Hardie and Lee's spreadsheet note works out: 1.226 purchases in 39 weeks."""
    buying = lifetime_value(tenth, LifetimeParams(draws=100), end="1997-09-30").buying
    assert float(buying.expected(2, 30.43, 38.86, 39)) == pytest.approx(1.226, abs=0.001)


def test_how_well_the_forecast_held_at_cdnow(cdnow: pd.DataFrame) -> None:
    """It fell short: customers came back before Christmas who were taken for gone. The interval does not know that."""
    value = lifetime_value(cdnow, LifetimeParams(draws=100), end="1997-09-30")
    found = holdout(value, cdnow, until="1998-06-30").frame().iloc[-1]
    print(f"{found['expected']:,.0f} expected, {found['came']:,} came: {found['expected'] / found['came'] - 1:+.1%}")
    assert found["came"] == 19_684
    assert found["expected"] / found["came"] == pytest.approx(0.857, abs=0.01)  # measured: 0.857
    assert found["high"] < found["came"]
