"""Who comes back: of the cases that began in a month, how many were active in each month after.

found = cohorts(events, every="month", event="login")
found.frame()       # one row a cohort and age: active, of how many, share with its interval
found.overall()     # by age alone
found.plot()        # the table of shares
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from cxlab.display import Result, axes, sentence
from cxlab.errors import ParamsError, unknown
from cxlab.journey.asking import check_events, end_of
from cxlab.journey.events import seconds_between, steps
from cxlab.metrics.bootstrap import wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Every = Literal["day", "week", "month", "quarter"]

PERIODS = {"day": "D", "week": "W-SUN", "month": "M", "quarter": "Q-DEC"}  # weeks from Monday on
COVERED = 29 / 30  # of a period that the log lasts, to count as observed: a month without its last day
MOST = 1_000  # ages
DRAWN = 24  # cohorts, and ages, in a drawing


@dataclass(frozen=True, repr=False, eq=False)
class Cohorts(Result):
    """Shares of cases that are active, by when they began and how long ago.

    Attributes:
        table: See `frame`.
        every: `day`, `week`, `month` or `quarter`.
        event: The event that counts as being active, or None for any.
        end: When the log ends, UTC.
        notes: What was left out when the log was read.
    """

    table: pd.DataFrame
    every: str
    event: str | None
    end: pd.Timestamp
    notes: tuple[str, ...]
    title: ClassVar[str] = "Who comes back"

    @property
    def note(self) -> str:  # type: ignore[override]
        """How to read it, and what is missing."""
        unseen = int(self.table["share"].isna().sum())
        ends = f" The log ends on {self.end:%Y-%m-%d %H:%M} UTC"
        ends += f": {unseen:,} of {len(self.table):,} shares are not observed." if unseen else "."
        what = "any event" if self.event is None else self.event
        said = (
            f"Share of the cases that began in a {self.every} (UTC) with {what} in the {self.every} of an age; age 0 "
            f"is the one they began in.{ends} 95 % Wilson intervals. Who was there before the log begins counts as "
            "beginning in it."
        )
        return " ".join([said, *self.notes])

    def frame(self) -> pd.DataFrame:
        """One row a cohort and age: cohort (the first day of its period), age (in periods), n, of, share, low, high.

        `n` of the `of` cases of the cohort were active in the period of this age. Where the log does not last to its
        end n, the share and its interval are missing, never 0.
        """
        return self.table.copy()

    def overall(self) -> pd.DataFrame:
        """One row an age: age, cohorts, n, of, share, low, high; of all cohorts that were observed so long."""
        seen = self.table[self.table["share"].notna()]
        found = seen.groupby("age").agg(cohorts=("of", "size"), n=("n", "sum"), of=("of", "sum")).reset_index()
        low, high = wilson(found["n"].astype(float), found["of"])
        return found.assign(n=found["n"].astype(int), share=found["n"].astype(float) / found["of"], low=low, high=high)

    def plot(self) -> Axes:
        """The shares in percent, a row a cohort: the last 24 of them, and 24 ages at most."""
        names = self.table["cohort"].drop_duplicates().sort_values()
        wide = self.table[self.table["cohort"].isin(names.tail(DRAWN)) & (self.table["age"] <= DRAWN)]
        if wide["share"].isna().all():
            return sentence(self.title, f"The log does not last for a whole {self.every}.")
        sizes = wide.groupby("cohort")["of"].first()
        wide = wide.pivot(index="cohort", columns="age", values="share").dropna(axis=1, how="all")
        what = "any event" if self.event is None else self.event
        many = f" (the last {DRAWN} of {len(names):,} cohorts)" if len(names) > DRAWN else ""
        ax = axes(f"% of cases with {what}, by age{many}", width=max(5.0, 2.2 + 0.5 * wide.shape[1]),
                  height=1.5 + 0.28 * len(wide))  # fmt: skip
        shares = wide.to_numpy(np.float64)
        top = float(np.nanmax(shares[:, 1:])) if np.isfinite(shares[:, 1:]).any() else 1.0
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=max(top, 1e-9) * 1.3, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            if np.isfinite(share):
                colour = "white" if share > 0.75 * top else "black"
                ax.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        labels = [f"{_called(cohort, self.every)} ({sizes[cohort]:,})" for cohort in wide.index]
        ax.set_yticks(range(len(wide)), labels, fontsize=8)
        ax.set_xticks(range(wide.shape[1]), [str(age) for age in wide.columns], fontsize=8)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(f"age in {self.every}s; empty: not observed")
        return ax


def cohorts(
    source: Any, *, every: Every = "month", event: str | None = None, periods: int = 12, until: Any = None
) -> Cohorts:
    """Retention: of the cases that began in a period, the share that is active in each period after.

    Args:
        source: Events, as `steps` reads them.
        every: `day`, `week` (from Monday on), `month` or `quarter`, in UTC.
        event: The event that counts as being active; any if None. A case begins with its first event of any kind.
        periods: The highest age, in periods, 0 to 1,000.
        until: When the log ends, UTC; its last event if None. A period that it ends in is observed where less than a
            thirtieth of it is missing.
    Raises:
        ParamsError: An argument cannot be, or the log has no such event.
        DataError: The source cannot be read, or `until` is before the last event.
    Examples:
        >>> log = pd.DataFrame({"case": list("aabc"), "event": "visit"})
        >>> log["time"] = pd.to_datetime(["2024-01-03", "2024-02-05", "2024-01-09", "2024-02-29"])
        >>> cohorts(log, periods=1, until="2024-03-01").frame()[["age", "n", "of", "share"]].values.tolist()
        [[0, 2, 2, 1.0], [1, 1, 2, 0.5], [0, 1, 1, 1.0], [1, <NA>, 1, nan]]
    """
    if every not in PERIODS:
        raise ParamsError(unknown("Period", str(every), PERIODS))
    if isinstance(periods, bool) or not isinstance(periods, int | np.integer) or not 0 <= periods <= MOST:
        raise ParamsError(f"periods == {periods!r}, must be a whole number from 0 to {MOST:,}.")
    log = steps(source)
    if event is not None:
        check_events(log, [event])
    end = end_of(log, until)
    t = log.table.mutate(period=_period(log.table.time, every))
    begun = t.filter(t.position == 1).select("case_number", cohort=t.period)
    active = (t if event is None else t.filter(t.event == event)).select("case_number", "period").distinct()
    joined = begun.inner_join(active, "case_number")
    ages = joined.select("cohort", age=joined.period - joined.cohort)
    ages = ages.filter(ages.age <= periods)
    counts = log.ask(ages.group_by(["cohort", "age"]).aggregate(n=ages.count()))
    sizes = log.ask(begun.group_by("cohort").aggregate(of=begun.count())).sort_values("cohort")
    every_cell = pd.MultiIndex.from_product([sizes["cohort"], range(periods + 1)], names=["cohort", "age"])
    table = counts.set_index(["cohort", "age"])["n"].reindex(every_cell, fill_value=0).reset_index()
    table["of"] = table["cohort"].map(sizes.set_index("cohort")["of"])
    seen = _observed(table["cohort"] + table["age"], every, end)
    low, high = wilson(table["n"], table["of"])
    share = (table["n"] / table["of"]).where(seen)
    cohort = _spans(table["cohort"], every).start_time
    columns = {"cohort": cohort, "age": table["age"], "n": table["n"].astype("Int64").where(seen), "of": table["of"]}
    found = pd.DataFrame(columns | {"share": share, "low": low, "high": high})
    found[["low", "high"]] = found[["low", "high"]].where(seen)
    return Cohorts(found, every, event, end, log.notes)


def _period(time: Any, every: str) -> Any:
    """The number of a period, as pandas counts them: from 1970 on."""
    if every in ("month", "quarter"):
        months = (time.year().cast("int64") - 1970) * 12 + time.month() - 1
        return months if every == "month" else (months / 3).floor().cast("int64")
    import ibis

    days = (seconds_between(time, ibis.timestamp("1970-01-01")) / 86_400).floor().cast("int64")
    return days if every == "day" else ((days + 3) / 7).floor().cast("int64") + 1


def _observed(period: pd.Series, every: str, end: pd.Timestamp) -> pd.Series:
    """Whether the log lasts to the end of each period, or nearly."""
    start, stop = (_spans(number, every).start_time.to_numpy() for number in (period, period + 1))
    return pd.Series(end.to_datetime64() - start >= COVERED * (stop - start), index=period.index)


def _spans(period: pd.Series, every: str) -> pd.PeriodIndex:
    return pd.PeriodIndex.from_ordinals(period, freq=PERIODS[every])  # type: ignore[attr-defined]


def _called(cohort: pd.Timestamp, every: str) -> str:
    return f"{cohort:%Y-%m}" if every in ("month", "quarter") else f"{cohort:%Y-%m-%d}"
