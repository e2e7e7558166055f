"""What customers will be worth who buy when they like and leave without a word.

    value = lifetime_value(orders(events.accepted), end="1997-09-30")
    value                       # by how often they came back, with the total and its interval
    value.customers()           # one row a customer
    value.parameters()
    holdout(value, purchases, until="1998-06-30").plot()

Purchases are a BG/NBD process: a customer buys at a rate of their own and, after any purchase, may be gone (Fader,
Hardie and Lee 2005, "Counting your customers" the easy way, Marketing Science 24(2); their equations are named below).
What a purchase brings is gamma-gamma and has nothing to do with how often they buy (Fader and Hardie 2013, The
gamma-gamma model of monetary value). Both know customers by three numbers alone, counted after their first purchase:
how many days they bought on again, when last, and how long ago they began.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.metrics.sample import Array
from cxlab.params.measures import LifetimeParams

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["BgNbd", "GammaGamma", "Holdout", "LifetimeValue", "Purchases", "holdout", "lifetime_value", "orders"]

STARTS = (0.0, -1.5, 1.5)  # of each parameter's logarithm, all the same, from a start in the data's own units
BOUND = 12.0  # of the logarithms about their start: beyond, a parameter has left for zero or infinity
STEP_DAYS = 28  # what is bought in so many days is discounted as if in their middle
MOST = 7  # repeat purchases from which on customers are shown together


class Purchases(NamedTuple):
    """Customers by what the models know of them, sorted by customer, shape (n,) each.

    Attributes:
        customer: Who.
        repeats: Days with a purchase after the first one (x).
        last: When the last of them was, counted from the first, 0 where there is none (t_x), in units.
        age: How long ago the first one was, counted from the end (T), in units.
        spend: Mean of what such a day brought; NaN where there is none.
    """

    customer: np.ndarray
    repeats: Array
    last: Array
    age: Array
    spend: Array


def orders(events: pd.DataFrame, *, event: str = "order", amount: str = "amount") -> pd.DataFrame:
    """Purchases among accepted events: customer_id, occurred_at, amount.

    Args:
        events: As `cxlab.data.events.read` accepts them, properties as JSON.
        event: What a purchase is called.
        amount: The property that holds what was paid.
    Raises:
        DataError: No event is one, or one lacks its customer or its amount.
    """
    import pandas as pd

    found = events[events["event"] == event]
    if found.empty:
        raise DataError(f"No event is called {event!r}; name the one that is a purchase.")
    paid = [json.loads(text).get(amount) if text else None for text in found["properties"]]
    out = pd.DataFrame({"customer_id": found["customer_id"], "occurred_at": found["occurred_at"], "amount": paid})
    lacking = out.isna().any(axis=1)
    if lacking.any():
        raise DataError(
            f"{lacking.sum():,} of {len(out):,} {event!r} events lack a customer or the property {amount!r}; "
            "leave them out, or name another property."
        )
    return out.reset_index(drop=True)


def purchases(frame: pd.DataFrame, params: LifetimeParams, *, end: Any = None) -> Purchases:
    """What the models know of each customer on a day.

    Args:
        frame: One row a purchase.
        params: Its columns and the unit of time.
        end: The last day that counts; the last one there if None. Later purchases are not known yet.
    Raises:
        DataError: A column is missing, a row lacks a value, an amount is negative, or nobody has bought by the end.
    """
    import pandas as pd

    table = _days(frame, params)
    last = table["day"].max() if end is None else _day(end)
    known = table[table["day"] <= last]
    if known.empty:
        raise DataError(
            f"Nobody had bought by {last:%Y-%m-%d}: the first purchase is of {table['day'].min():%Y-%m-%d}. "
            "Give a later end."
        )
    by_day = known.groupby(["customer", "day"], sort=True)["amount"].sum().reset_index()
    first = by_day.groupby("customer")["day"].transform("min")
    again = by_day[by_day["day"] > first].groupby("customer")
    who = by_day.groupby("customer")["day"].agg(["min", "max", "size"])
    unit = pd.Timedelta(days=params.unit_days).total_seconds()
    return Purchases(
        who.index.to_numpy(),
        who["size"].to_numpy(np.float64) - 1,
        np.asarray((who["max"] - who["min"]).dt.total_seconds() / unit, np.float64),
        np.asarray((last - who["min"]).dt.total_seconds() / unit, np.float64),
        again["amount"].mean().reindex(who.index).to_numpy(np.float64),
    )


def _day(value: Any) -> pd.Timestamp:
    import pandas as pd

    try:
        found = pd.Timestamp(value)
    except (ValueError, TypeError):
        raise ParamsError(f"{value!r} is not a day; write 1997-09-30.") from None
    return (found.tz_convert("UTC").tz_localize(None) if found.tzinfo else found).normalize()


def _days(frame: pd.DataFrame, params: LifetimeParams) -> pd.DataFrame:
    """customer, day (UTC, no zone), amount: checked."""
    import pandas as pd

    for name in (params.customer, params.time, params.amount):
        if name not in frame.columns:
            raise missing_column(name, map(str, frame.columns))
    if frame.empty:
        raise DataError("No purchase is there. Is it the right table?")
    lacking = frame[[params.customer, params.time, params.amount]].isna().any(axis=1)
    if lacking.any():
        raise DataError(
            f"{lacking.sum():,} of {len(frame):,} purchases lack {params.customer}, {params.time} or {params.amount}; "
            "leave them out, or fill them in."
        )
    amount = pd.to_numeric(frame[params.amount], errors="coerce").to_numpy(np.float64)
    bad = ~((amount >= 0) & (amount < np.inf))
    if bad.any():
        value = frame[params.amount].iloc[int(np.argmax(bad))]
        raise DataError(
            f"{params.amount} == {value} ({bad.sum():,} rows), must be a number >= 0. Take returns off the purchase "
            "that they undo, or leave them out."
        )
    try:
        time = pd.to_datetime(frame[params.time], utc=True)
    except (ValueError, TypeError) as error:
        raise DataError(f"{params.time} holds what is no time: {error}.") from None
    day = time.dt.tz_localize(None).dt.normalize()
    return pd.DataFrame({"customer": frame[params.customer].to_numpy(), "day": day.to_numpy(), "amount": amount})


class Fitted(NamedTuple):
    """Where a likelihood is highest.

    Attributes:
        value: Parameters, shape (k,).
        covariance: Of their logarithms, shape (k, k); NaN where the likelihood has no peak there.
        loglik: At its highest.
    """

    value: Array
    covariance: Array
    loglik: float


@dataclass(frozen=True, eq=False)
class BgNbd:
    """The BG/NBD model of Fader, Hardie and Lee (2005). Purchase rates are gamma (r, alpha) among customers, the
    probability of being gone after a purchase is beta (a, b).

    Attributes:
        fitted: r, alpha, a, b.
    """

    NAMES: ClassVar = ("r", "alpha", "a", "b")
    fitted: Fitted

    @classmethod
    def fit(cls, repeats: ArrayLike, last: ArrayLike, age: ArrayLike) -> BgNbd:
        """By maximum likelihood, from several starts.

        Args:
            repeats: x, whole numbers >= 0, shape (n,).
            last: t_x, in [0, age], 0 where there are no repeats.
            age: T, > 0 for some.
        Raises:
            DataError: no start leads to a highest likelihood.
        """
        rows = np.column_stack([np.asarray(item, np.float64) for item in (repeats, last, age)])
        alike, count = np.unique(rows, axis=0, return_counts=True)

        def loss(log: Array) -> tuple[float, Array]:
            value, slope = _bgnbd(np.exp(log), *alike.T)
            return -float(count @ value), -(count @ slope) * np.exp(log)

        mean = max(float(count @ alike[:, 2]) / len(rows), 1e-6)
        return cls(_highest(loss, np.log([1.0, mean, 1.0, 2.0]), "BG/NBD", "how often customers buy"))

    def alive(self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike) -> Array:
        """The probability that a customer is still one (a rearranged eq. 7), shape (n,)."""
        from scipy.special import expit

        return np.asarray(expit(-_gone(self.fitted.value, *_arrays(repeats, last, age))))

    def expected(self, repeats: ArrayLike, last: ArrayLike, age: ArrayLike, ahead: ArrayLike) -> Array:
        """Repeat purchases to be expected of a customer in a time ahead (eq. 10), shape (n,).

        A customer who has just bought for the first time (x = t_x = T = 0) is expected to do what eq. 9 says.

        Args:
            repeats: x, shape (n,).
            last: t_x, shape (n,).
            age: T, shape (n,).
            ahead: How long, >= 0.
        """
        from scipy.special import hyp2f1

        x, t_x, age_, t = _arrays(repeats, last, age, ahead)
        r, alpha, a, b = self.fitted.value
        a = a if abs(a - 1) > 1e-6 else 1 + 1e-6  # the equation is 0 / 0 at 1, and smooth about it
        z = t / (alpha + age_ + t)
        # Euler's transformation of eq. 10's function: no power of x is left to overflow.
        left = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, a + b + x - 1, z)
        # Never below zero by rounding.
        return np.maximum(self.alive(x, t_x, age_) * (a + b + x - 1) / (a - 1) * (1 - left), 0.0)


def _arrays(*values: ArrayLike) -> list[Array]:
    return [np.asarray(value, np.float64) for value in np.broadcast_arrays(*values)]


def _gone(params: Array, x: Array, t_x: Array, age: Array) -> Array:
    """The log odds of being gone, -inf without a repeat purchase: nobody leaves before their first one is counted."""
    r, alpha, a, b = params
    some = np.maximum(x, 1)
    odds = np.log(a) - np.log(b + some - 1) + (r + some) * (np.log(alpha + age) - np.log(alpha + t_x))
    return np.where(x > 0, odds, -np.inf)


def _bgnbd(params: Array, x: Array, t_x: Array, age: Array) -> tuple[Array, Array]:
    """Each customer's log-likelihood (eq. 6), shape (n,), and its slope by the parameters, shape (n, 4)."""
    from scipy.special import digamma, expit, gammaln

    r, alpha, a, b = params
    gone = _gone(params, x, t_x, age)
    value = gammaln(b + x) - gammaln(b) + gammaln(a + b) - gammaln(a + b + x)
    value += gammaln(r + x) - gammaln(r) - r * np.log1p(age / alpha) - x * np.log(alpha + age)
    value += np.logaddexp(0.0, gone)
    w, left = expit(gone), digamma(a + b) - digamma(a + b + x)
    by_r = digamma(r + x) - digamma(r) - np.log1p(age / alpha) + w * (np.log(alpha + age) - np.log(alpha + t_x))
    by_alpha = r / alpha - (r + x) / (alpha + age) + w * (r + x) * (1 / (alpha + age) - 1 / (alpha + t_x))
    by_b = digamma(b + x) - digamma(b) + left - w / (b + np.maximum(x, 1) - 1)
    return value, np.column_stack([by_r, by_alpha, left + w / a, by_b])


@dataclass(frozen=True, eq=False)
class GammaGamma:
    """The gamma-gamma model of spend of Fader and Hardie (2013). What a purchase brings is gamma (p, nu), and nu is
    gamma (q, gamma) among customers.

    Attributes:
        fitted: p, q, gamma.
    """

    NAMES: ClassVar = ("p", "q", "gamma")
    fitted: Fitted

    @classmethod
    def fit(cls, repeats: ArrayLike, spend: ArrayLike) -> GammaGamma:
        """By maximum likelihood over customers with a repeat purchase that brought something.

        Args:
            repeats: x, shape (n,).
            spend: Mean of them, shape (n,).
        Raises:
            DataError: no start leads to a highest likelihood.
        """
        x, m = _arrays(repeats, spend)
        alike, count = np.unique(np.column_stack([x, m])[(x > 0) & (m > 0)], axis=0, return_counts=True)
        mean = float(count @ alike[:, 1]) / count.sum()

        def loss(log: Array) -> tuple[float, Array]:
            value, slope = _gammagamma(np.exp(log), *alike.T)
            return -float(count @ value), -(count @ slope) * np.exp(log)

        return cls(_highest(loss, np.log([2.0, 3.0, mean]), "gamma-gamma", "what customers spend"))

    def expected(self, repeats: ArrayLike, spend: ArrayLike) -> Array:
        """What a purchase of a customer will bring on average (eq. 5), shape (n,); of one without a repeat purchase
        (`spend` is not read there) what it brings among all. NaN where that has no mean (q <= 1 and no repeats).
        """
        x, m = _arrays(repeats, spend)
        p, q, gamma = self.fitted.value
        below = p * x + q - 1
        total = gamma + np.where(x > 0, x * m, 0.0)
        return np.divide(p * total, below, out=np.full(x.shape, np.nan), where=below > 0)


def _gammagamma(params: Array, x: Array, m: Array) -> tuple[Array, Array]:
    """Each customer's log-likelihood (eq. 1a), shape (n,), and its slope by the parameters, shape (n, 3)."""
    from scipy.special import digamma, gammaln

    p, q, gamma = params
    whole, log = p * x + q, np.log(gamma + x * m)
    value = gammaln(whole) - gammaln(p * x) - gammaln(q) + q * np.log(gamma)
    value += (p * x - 1) * np.log(m) + p * x * np.log(x) - whole * log
    by_p = x * (digamma(whole) - digamma(p * x) + np.log(m) + np.log(x) - log)
    by_q = digamma(whole) - digamma(q) + np.log(gamma) - log
    return value, np.column_stack([by_p, by_q, q / gamma - whole / (gamma + x * m)])


def _highest(loss: Callable[[Array], tuple[float, Array]], start: Array, model: str, what: str) -> Fitted:
    """The best of several starts, on logarithms of the parameters."""
    from scipy.optimize import minimize

    limits = [(at - BOUND, at + BOUND) for at in start]
    found = [
        minimize(loss, start + move, jac=True, method="L-BFGS-B", bounds=limits, options={"ftol": 1e-13, "gtol": 1e-7})
        for move in STARTS
    ]
    best = min(found, key=lambda one: one.fun if np.isfinite(one.fun) else np.inf)
    if not np.isfinite(best.fun) or np.any(np.abs(best.x - start) > BOUND - 1e-3):
        raise DataError(
            f"The {model} model finds no highest likelihood: {what} does not differ among these customers as it "
            "supposes. Give more customers, or a longer time."
        )
    k = len(start)
    step = 1e-4 * np.eye(k)
    curve = np.array([(loss(best.x + move)[1] - loss(best.x - move)[1]) / 2e-4 for move in step])
    curve = (curve + curve.T) / 2
    peak = np.linalg.eigvalsh(curve).min() > 1e-8 * max(1.0, np.abs(curve).max())
    return Fitted(np.exp(best.x), np.linalg.inv(curve) if peak else np.full((k, k), np.nan), -float(best.fun))


@dataclass(frozen=True, repr=False, eq=False)
class LifetimeValue(Result):
    """What customers are worth in a time ahead.

    Attributes:
        known: What the models know of them.
        params: How they were read.
        end: The last day known.
        buying: The model of purchases.
        spending: The model of what a purchase brings.
        table: See `customers`.
        futures: Purchases and value of all customers together in each simulated future, shape (2, draws); NaN where
            the parameters are too uncertain to draw.
    """

    title: ClassVar[str] = "What are these customers worth?"

    known: Purchases
    params: LifetimeParams
    end: pd.Timestamp
    buying: BgNbd
    spending: GammaGamma
    table: pd.DataFrame
    futures: Array

    @property
    def note(self) -> str:  # type: ignore[override]
        again = self.known.repeats > 0
        tie = _correlation(self.known.repeats[again], self.known.spend[again])
        return (
            f"Expected in the {self.params.horizon_days} days after {self.end:%Y-%m-%d}, at a discount of "
            f"{100 * self.params.discount:g} % a year and a margin of {100 * self.params.margin:g} %. The total's "
            f"{100 * self.params.level:g} % interval is that of what may happen if the models hold, by "
            f"{self.params.draws:,} simulated futures. They take spend to be independent of frequency; here the "
            f"correlation of the two is {tie:.2f}."
        )

    def customers(self) -> pd.DataFrame:
        """One row a customer: customer, repeats, last_days (from the first to the last purchase), age_days, spend (mean
        so far), alive (probability), purchases (expected), spend_expected (each), value (discounted).
        """
        return self.table.copy()

    def frame(self) -> pd.DataFrame:
        """One row a number of repeat purchases so far, and all together: repeats, n, alive (mean probability),
        purchases, value, a_customer (mean value), and for all together the low and high end of purchases and value.
        """
        import pandas as pd

        shown = self.table["repeats"].clip(upper=MOST).astype(int)
        rows = [(_named(number), *_summed(part), *(np.nan,) * 4) for number, part in self.table.groupby(shown)]
        ends = [end for row in self.futures for end in _ends(row, self.params.level)]
        rows.append(("all", *_summed(self.table), *ends))
        names = ["repeats", "n", "alive", "purchases", "value", "a_customer"]
        return pd.DataFrame(rows, columns=[*names, "purchases_low", "purchases_high", "value_low", "value_high"])

    def by(self, groups: pd.Series) -> pd.DataFrame:
        """Customers by a group of theirs: group, n, alive, purchases, value, a_customer.

        Args:
            groups: The group, by customer; who is not in it is `(unknown)`.
        """
        import pandas as pd

        found = self.table["customer"].map(groups).astype(object)
        named = found.where(found.notna(), "(unknown)").astype(str)
        rows = [(name, *_summed(part)) for name, part in self.table.groupby(named)]
        return pd.DataFrame(rows, columns=["group", "n", "alive", "purchases", "value", "a_customer"])

    def parameters(self) -> pd.DataFrame:
        """One row a parameter: model, parameter, value, error (standard, by the delta method), low, high, loglik."""
        import pandas as pd

        z = NormalDist().inv_cdf((1 + self.params.level) / 2)
        rows = []
        for model, fitted, names in (
            ("BG/NBD", self.buying.fitted, self.buying.NAMES),
            ("gamma-gamma", self.spending.fitted, self.spending.NAMES),
        ):
            error = np.sqrt(np.diag(fitted.covariance))
            for name, value, e in zip(names, fitted.value, error, strict=True):
                ends = value * np.exp(-z * e), value * np.exp(z * e)
                rows.append((model, name, value, value * e, *ends, fitted.loglik))
        return pd.DataFrame(rows, columns=["model", "parameter", "value", "error", "low", "high", "loglik"])

    def plot(self) -> Axes:
        """Value by how often they came back."""
        shown = self.frame().iloc[:-1]
        ax = axes(f"Value of {len(self.table):,} customers in {self.params.horizon_days} days, by repeat purchases")
        ax.bar(shown["repeats"], shown["value"], color=PALETTE[0])
        ax.set(xlabel=f"repeat purchases by {self.end:%Y-%m-%d}", ylabel="value")
        return ax


def _summed(part: pd.DataFrame) -> tuple[float, ...]:
    value = float(part["value"].sum(skipna=False))
    return len(part), float(part["alive"].mean()), float(part["purchases"].sum()), value, value / len(part)


def _ends(draws: Array, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _correlation(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0


def lifetime_value(frame: pd.DataFrame, params: LifetimeParams | None = None, *, end: Any = None) -> LifetimeValue:
    """Fits both models to purchases up to a day and looks ahead from there.

    Args:
        frame: One row a purchase: customer, time, amount.
        params: Columns, horizon, discount and margin; those of `params/measures.yaml` if None.
        end: The last day that counts; the last one there if None.
    Raises:
        DataError: The table cannot be read so, too few customers came back, or a model does not fit.
    """
    import pandas as pd

    params = params or LifetimeParams()
    last = _days(frame, params)["day"].max() if end is None else _day(end)
    known = purchases(frame, params, end=last)
    again = int(((known.repeats > 0) & (known.spend > 0)).sum())
    if again < params.least:
        raise DataError(
            f"{again:,} of {len(known.customer):,} customers bought again by {last:%Y-%m-%d}, must be at least "
            f"{params.least} (least) to tell how customers differ. Give a longer time."
        )
    x, t_x, age, spend = known[1:]
    buying, spending = BgNbd.fit(x, t_x, age), GammaGamma.fit(x, spend)
    ahead = params.horizon_days / params.unit_days
    bought = buying.expected(x, t_x, age, ahead)
    each = spending.expected(x, np.where(x > 0, spend, 0.0))
    discounted = _discounted(buying, known, params)
    table = pd.DataFrame(
        {
            "customer": known.customer,
            "repeats": x.astype(np.int64),
            "last_days": t_x * params.unit_days,
            "age_days": age * params.unit_days,
            "spend": spend,
            "alive": buying.alive(x, t_x, age),
            "purchases": bought,
            "spend_expected": each,
            "value": discounted * each * params.margin,
        }
    )
    kept = np.divide(discounted, bought, out=np.ones_like(bought), where=bought > 0) * params.margin
    futures = _futures(buying.fitted, spending.fitted, known, ahead, kept, params)
    return LifetimeValue(known, params, last, buying, spending, table, futures)


def _discounted(buying: BgNbd, known: Purchases, params: LifetimeParams) -> Array:
    """Purchases to be expected, each worth less the later it comes, shape (n,)."""
    ends = np.append(np.arange(STEP_DAYS, params.horizon_days, STEP_DAYS), params.horizon_days)
    total, before, begin = np.zeros(len(known.customer)), np.zeros(len(known.customer)), 0.0
    for end in ends:
        upto = buying.expected(known.repeats, known.last, known.age, end / params.unit_days)
        total += (upto - before) * (1 + params.discount) ** (-(begin + end) / 2 / 365.25)
        before, begin = upto, end
    return total


def _futures(  # noqa: PLR0917
    buying: Fitted, spending: Fitted, known: Purchases, ahead: float, kept: Array, params: LifetimeParams
) -> Array:
    """Simulated totals of purchases and value: parameters drawn about their estimates, then each customer's future.

    A customer who is not gone has a rate gamma (r + x, alpha + T) and a risk beta (a, b + x), and buys until the time
    is over or, after a geometric number of purchases, for the last time. What each brings is discounted as expected.
    """
    from scipy.special import expit

    if not (np.isfinite(buying.covariance).all() and np.isfinite(spending.covariance).all()):
        return np.full((2, params.draws), np.nan)
    rng = np.random.default_rng(params.seed)
    first = np.exp(rng.multivariate_normal(np.log(buying.value), buying.covariance, params.draws))
    second = np.exp(rng.multivariate_normal(np.log(spending.value), spending.covariance, params.draws))
    x, t_x, age, _ = known[1:]
    paid = np.where(x > 0, x * np.nan_to_num(known.spend), 0.0)
    out = np.empty((2, params.draws))
    for draw, (now, (p, q, gamma)) in enumerate(zip(first, second, strict=True)):
        r, alpha, a, b = now
        stays = rng.random(len(x)) < expit(-_gone(now, x, t_x, age))
        rate = rng.gamma(r + x) / (alpha + age)
        risk = np.maximum(rng.beta(a, b + x), 1e-12)
        bought = np.where(stays, np.minimum(rng.poisson(rate * ahead), rng.geometric(risk)), 0)
        some = bought > 0
        worth = rng.gamma(p * bought[some]) * (gamma + paid[some]) / rng.gamma(p * x[some] + q)
        out[:, draw] = bought.sum(), worth @ kept[some]
    return out


@dataclass(frozen=True, repr=False, eq=False)
class Holdout(Result):
    """What was expected against what came.

    Attributes:
        level: Of the total's interval.
        until: The last day of what came.
        table: See `frame`.
    """

    title: ClassVar[str] = "Did the forecast hold?"

    level: float
    until: pd.Timestamp
    table: pd.DataFrame

    @property
    def note(self) -> str:  # type: ignore[override]
        return (
            f"Days with a purchase up to {self.until:%Y-%m-%d}, by how often customers had come back before. The total "
            f"should lie within its {100 * self.level:g} % interval."
        )

    def frame(self) -> pd.DataFrame:
        """One row a number of repeat purchases before, and all together: repeats, n, expected, low, high, came."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Expected and actual purchases a customer."""
        shown = self.table[self.table["repeats"] != "all"]
        ax = axes(f"Purchases a customer up to {self.until:%Y-%m-%d}")
        ax.plot(shown["repeats"], shown["came"] / shown["n"], "o-", color=PALETTE[0], label="came")
        ax.plot(shown["repeats"], shown["expected"] / shown["n"], "o--", color=GREY, label="expected")
        ax.set(xlabel="repeat purchases before")
        ax.legend(frameon=False)
        return ax


def holdout(value: LifetimeValue, frame: pd.DataFrame, *, until: Any = None) -> Holdout:
    """Purchases after the end that the model knew, against those that it expected.

    Args:
        value: Fitted on purchases up to its end.
        frame: Purchases up to a later day, those of the model's customers among them; others are not looked at.
        until: The last day that counts; the last one there if None.
    Raises:
        DataError: The table cannot be read so, or ends before what is to be checked begins.
    """
    import pandas as pd

    table = _days(frame, value.params)
    last = table["day"].max() if until is None else _day(until)
    if last <= value.end:
        raise DataError(f"Purchases end on {last:%Y-%m-%d}, must go on after {value.end:%Y-%m-%d}. Give later ones.")
    later = table[(table["day"] > value.end) & (table["day"] <= last)].drop_duplicates(["customer", "day"])
    known = value.known
    came = later.groupby("customer").size().reindex(known.customer, fill_value=0).to_numpy()
    ahead = (last - value.end) / pd.Timedelta(days=value.params.unit_days)
    expected = value.buying.expected(known.repeats, known.last, known.age, ahead)
    drawn = _futures(value.buying.fitted, value.spending.fitted, known, ahead, np.ones(len(expected)), value.params)[0]
    shown = np.minimum(known.repeats, MOST).astype(int)
    rows = [
        (_named(number), *_counts(shown == number, expected), np.nan, np.nan, int(came[shown == number].sum()))
        for number in np.unique(shown)
    ]
    everyone = np.ones(len(expected), bool)
    rows.append(("all", *_counts(everyone, expected), *_ends(drawn, value.params.level), int(came.sum())))
    columns = ["repeats", "n", "expected", "low", "high", "came"]
    return Holdout(value.params.level, last, pd.DataFrame(rows, columns=columns))


def _named(repeats: Any) -> str:
    return f"{repeats}{'+' if repeats == MOST else ''}"


def _counts(rows: np.ndarray, expected: Array) -> tuple[int, float]:
    return int(rows.sum()), float(expected[rows].sum())
