"""A situation's threshold, tuned to a budget of false alarms, on past events whose outcome is known.

    tuned = tune("events.parquet", params, "unsolved_problem", outcomes, budget=0.02, horizon_days=14)
    tuned.threshold        # the lowest that keeps the budget; None where the data cannot tell
    tuned.plot()

A false alarm is a moment at which the strength reaches the threshold and within the horizon the outcome does not come.
What is bounded is the share of customer-weeks with a false alarm, averaged customer by customer: weeks of one customer
know of one another, customers do not. A threshold keeps the budget where the hypothesis that its share lies above is
rejected, by the Hoeffding-Bentkus p-value (Bates, Angelopoulos, Lei, Malik and Jordan 2021, Distribution-free,
risk-controlling prediction sets). Thresholds are tested from the strictest down, until one is not rejected, so that
the chosen one keeps the budget with the level given, without a correction for their number (fixed sequence testing, in
Angelopoulos, Bates, Candes, Jordan and Lei 2021, Learn then test).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.decide.signals import Customers, happenings, read, read_customers
from cxlab.decide.strength import HOUR
from cxlab.decide.triggers import Engine
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import DataError, ParamsError, missing_column, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.params.signals import SignalsParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = tuple(round(0.05 * step, 2) for step in range(19, 0, -1))  # thresholds, the strictest first
WEEK = 7 * 24 * HOUR


@dataclass(frozen=True, repr=False, eq=False)
class Tuned(Result):
    """False alarms and outcomes that were seen coming, by threshold.

    Attributes:
        situation: Which.
        segment: A column and its value, or None for all customers.
        budget: The most customer-weeks with a false alarm, as a share.
        level: How sure we want to be of that.
        threshold: The lowest that keeps the budget; None where none is sure to.
        table: See `frame`.
    """

    situation: str
    segment: tuple[str, str] | None
    budget: float
    level: float
    threshold: float | None
    table: pd.DataFrame = field(repr=False)
    title: ClassVar[str] = "Which threshold keeps the budget of false alarms?"

    @property
    def note(self) -> str:  # type: ignore[override]
        who = f" where {self.segment[0]} is {self.segment[1]}" if self.segment else ""
        if self.threshold is None:
            n = int(self.table["customers"].iloc[0])
            return f"Cannot tell: with {n:,} customers{who} no threshold is sure to keep {self.budget:g}."
        return (
            f"{self.situation}{who}: {self.threshold:g} keeps {self.budget:g} a customer-week, {self.level:.0%} sure."
        )

    def frame(self) -> pd.DataFrame:
        """One row a threshold: customers, weeks, false_alarms (weeks with one), rate (a customer-week), p, verdict
        (within or cannot tell), outcomes, caught (outcomes that were seen coming), share, low, high (95 % Wilson)."""
        return self.table.copy()

    def plot(self) -> Axes:
        """False alarms by threshold, and the budget."""
        ax = axes(f"{self.situation}: false alarms a customer-week")
        ax.plot(self.table["threshold"], self.table["rate"], "o-", color=PALETTE[0])
        ax.axhline(self.budget, color=GREY, linestyle="--", linewidth=1)
        if self.threshold is not None:
            ax.axvline(self.threshold, color=PALETTE[1], linewidth=1)
        ax.set_xlabel("threshold")
        return ax


def hoeffding_bentkus(risk: float, n: int, limit: float) -> float:
    """The p-value of "the mean of n independent losses in [0, 1] is above a limit", given their average.

    min(exp(-n KL(min(risk, limit) || limit)), e P(Binomial(n, limit) <= ceil(n risk))): Bates et al. 2021, section 3.1.

    Examples:
        >>> hoeffding_bentkus(0.0, 300, 0.02) < 0.05 < hoeffding_bentkus(0.02, 300, 0.02)
        True
    """
    from scipy import stats

    low = min(risk, limit)
    apart = (low * math.log(low / limit) if low > 0 else 0.0) + (1 - low) * math.log((1 - low) / (1 - limit))
    return float(min(1.0, math.exp(-n * apart), math.e * stats.binom.cdf(math.ceil(n * risk - 1e-9), n, limit)))


def tune(
    source: str | Path | pd.DataFrame | Sequence[Any],
    params: SignalsParams,
    situation: str,
    outcomes: pd.DataFrame,
    *,
    budget: float,
    horizon_days: float = 14,
    customers: Customers | str | Path | pd.DataFrame | None = None,
    segment: tuple[str, str] | None = None,
    level: float = 0.95,
) -> Tuned:
    """Tests thresholds of a situation from the strictest down.

    Args:
        source: Past events.
        params: They define the situation; its own threshold has no say.
        situation: Which.
        outcomes: What came true, a row an outcome: `customer_id` and `time` (with a zone).
        budget: The most customer-weeks with a false alarm, as a share in (0, 1).
        horizon_days: Within so many days after an alarm the outcome makes it a right one.
        customers: The table of customers; for segments.
        segment: A column that a segment of the params names, and its value as text: only those customers.
        level: How sure the budget is to be kept, in (0, 1).
    Raises:
        DataError: The events cannot be read, a column is missing, or no week is left whose outcome is known.
        ParamsError: The situation is not known, or budget or level are out of range.
    """
    _check(params, situation, outcomes, budget=budget, level=level)
    known = customers if isinstance(customers, Customers) else read_customers(customers, params)
    found = read(source)
    engine = Engine(params, known)
    engine.weighed = []
    for happening in happenings(found.accepted, params):
        engine.step(happening)
    horizon = int(horizon_days * 24 * HOUR)
    began, weeks = _watched(found.accepted, params, known, segment, horizon_days)
    alarms = [(customer, at, strong) for name, customer, at, strong, _ in engine.weighed if name == situation]
    false, seen, every = _sorted_out(alarms, _times(outcomes), began, weeks, horizon)
    whole = pd.Series(weeks)
    rows, chosen, open_ = [], None, True
    for threshold in GRID:
        weekly = pd.Series([customer for (customer, _), strong in false.items() if strong >= threshold], dtype=object)
        risk = float((weekly.value_counts().reindex(whole.index, fill_value=0) / whole).mean())
        p = hoeffding_bentkus(risk, len(weeks), budget)
        open_ = open_ and p <= 1 - level
        chosen = threshold if open_ else chosen
        caught = sum(strong >= threshold for strong in seen)
        low, high = wilson(caught, every)
        share = caught / every if every else np.nan
        row = (threshold, len(weeks), int(whole.sum()), len(weekly), risk, p, "within" if open_ else "cannot tell")
        rows.append((*row, every, caught, share, float(low), float(high)))
    names = ["threshold", "customers", "weeks", "false_alarms", "rate", "p", "verdict", "outcomes", "caught"]
    table = pd.DataFrame(rows, columns=[*names, "share", "low", "high"])
    return Tuned(situation, segment, budget, level, chosen, table)


def _check(params: SignalsParams, situation: str, outcomes: pd.DataFrame, **shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise ParamsError(f"{name} == {value}, must be in (0, 1).")
    if situation not in params.situations:
        raise ParamsError(unknown("Situation", situation, params.situations))
    for name in ("customer_id", "time"):
        if name not in outcomes:
            raise missing_column(name, map(str, outcomes.columns))


def _times(outcomes: pd.DataFrame) -> dict[str, np.ndarray]:
    """When outcomes came, by customer, in microseconds."""
    when = pd.to_datetime(outcomes["time"], utc=True).dt.as_unit("us").astype("int64")
    return {str(name): np.sort(part.to_numpy()) for name, part in when.groupby(outcomes["customer_id"])}


def _watched(
    accepted: pd.DataFrame,
    params: SignalsParams,
    known: Customers,
    segment: tuple[str, str] | None,
    horizon_days: float,
) -> tuple[dict[str, int], dict[str, int]]:
    """Since when each customer is watched, and the whole weeks from then until the outcome is no longer known."""
    first = accepted.dropna(subset=["customer_id"]).groupby("customer_id")["received_at"].min()
    if segment is not None:
        first = first[[(known[str(name)].values or {}).get(segment[0]) == segment[1] for name in first.index]]
    end = accepted["received_at"].max() - pd.Timedelta(days=horizon_days)
    gone = accepted[accepted["event"].isin(params.left_by)].groupby("customer_id")["received_at"].max()
    until = gone.reindex(first.index).fillna(end).clip(upper=end)  # weeks after leaving hold no alarm
    weeks = (until - first).dt.days // 7
    if not (weeks > 0).any():
        raise DataError(
            f"No customer has a whole week that ends {horizon_days:g} days before the last event, so nothing can be "
            "told. Give a longer past, a shorter horizon, or another segment."
        )
    began = {str(name): int(us) for name, us in first[weeks > 0].astype("int64").items()}
    return began, {str(name): int(count) for name, count in weeks[weeks > 0].items()}


def _sorted_out(
    alarms: Sequence[tuple[str, int, float]],
    came: Mapping[str, np.ndarray],
    began: Mapping[str, int],
    weeks: Mapping[str, int],
    horizon: int,
) -> tuple[dict[tuple[str, int], float], list[float], int]:
    """The strongest false alarm by customer and week; the strongest alarm before each outcome; how many outcomes."""
    false: dict[tuple[str, int], float] = {}
    before = {
        (name, int(at)): 0.0
        for name, count in weeks.items()
        for at in came.get(name, ())
        if began[name] < at <= began[name] + count * WEEK
    }
    for customer, at, strong in alarms:
        if customer not in weeks or (at - began[customer]) // WEEK >= weeks[customer]:
            continue
        right = [int(time) for time in came.get(customer, ()) if at < time <= at + horizon]
        if not right:
            week = (customer, (at - began[customer]) // WEEK)
            false[week] = max(false.get(week, 0.0), strong)
        for time in right:
            if (customer, time) in before:
                before[customer, time] = max(before[customer, time], strong)
    return false, list(before.values()), len(before)
