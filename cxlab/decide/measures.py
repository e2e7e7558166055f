"""The measures of customer experience, each with its definition, denominator, interval and what is not known.

    params = load_file("params/measures.yaml", MeasuresParams)
    found = measures({"contacts": contacts, "surveys": surveys}, params, period=("2025-01-01", "2025-04-01"),
                     baseline=("2024-01-01", "2024-04-01"), by=["channel", "region"])
    found                       # against the baseline, by channel and region
    found.measure("csat", segment="channel")
    found.plot("fcr_7")

A measure reads the columns that it names and fetches none. Where one is not there it is not measured, and says what it
needs: nothing is taken for zero. What a customer is worth is in `cxlab.decide.lifetime`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxlab.decide.measure_tables import Tables, moment, read_tables
from cxlab.decide.measured import Estimate, Measures, Rows, Scale, difference, judged, lasting, mean_of
from cxlab.decide.response import answer_chances
from cxlab.errors import ParamsError, listed, unknown
from cxlab.metrics.sample import Array
from cxlab.params.measures import MeasuresParams

__all__ = ["Measure", "measures", "measures_of"]

PERCENT = Scale(0.0, 100.0, share=True)
DAY = pd.Timedelta(days=1)

Window = tuple[pd.Timestamp, pd.Timestamp]


class NotMeasuredError(Exception):
    """A measure cannot be taken of these tables; the text says what it needs."""


class Scene(NamedTuple):
    """What a measure sees."""

    tables: Tables
    window: Window
    params: MeasuresParams


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        code: Its name in a frame.
        title: Its name on paper.
        definition: What is counted, and of what.
        unit: Of its values.
        higher_is_better: None where neither is.
        needs: `table.role` of the columns that it reads.
        rows: What it is taken of.
        scale: What a row can count; None without a limit above.
        lasts: Of a share that lasts: the days.
    """

    code: str
    title: str
    definition: str
    unit: str
    higher_is_better: bool | None
    needs: tuple[str, ...]
    rows: Callable[[Scene], Rows]
    scale: Scale | None = PERCENT
    lasts: int | None = None

    def estimate(self, rows: Rows, *, count: int, level: float) -> Estimate:
        """Its value of some of its rows."""
        if self.lasts is not None:
            return lasting(rows, self.lasts, unit=100.0, count=count, level=level)
        return mean_of(rows, self.scale, better=self.higher_is_better, count=count, level=level)


def measures_of(params: MeasuresParams) -> tuple[Measure, ...]:
    """All measures, with the thresholds of the params in their definitions."""
    top, ces, wait = params.csat.top, params.ces, params.answer_days
    asked = f"those asked up to {wait} days before the end, an answer counts within {wait} days"
    within, short = f"{params.service_seconds:g} s", f"{params.short_seconds:g} s"
    respond = listed(params.respond)
    csat, nps = ("surveys.customer", "surveys.csat"), ("surveys.customer", "surveys.nps")
    weighted = (
        f"each answer weighted by the inverse of its chance, as logistic regression tells it from {respond}. Right if "
        "of those alike in these the silent feel like those who answer, and only then; the interval takes the weights "
        "for known"
    )
    promoters = "promoters (9 or 10) less detractors (0 to 6), in percent of the answers (Reichheld 2003)"
    return (
        Measure(
            "response", "Response rate", f"Share of {asked} who answered any question.", "%", True,
            ("surveys.customer",), _answered,
        ),
        Measure(
            "csat", "Satisfied (CSAT)",
            f"Share of answers of {top:g} or more on a scale from {params.csat.lowest:g} to "
            f"{params.csat.highest:g} (top boxes; an index on 0 to 100 such as ACSI is another figure), of {asked}.",
            "%", True, csat, _question("csat", lambda value: 100.0 * (value >= top).astype(np.float64)),
        ),
        Measure(
            "csat_weighted", "Satisfied (CSAT), the silent allowed for", f"As CSAT, {weighted}.", "%", True, csat,
            _weighted("csat", lambda value: 100.0 * (value >= top).astype(np.float64)),
        ),
        Measure(
            "csat_mean", "Mean satisfaction", f"Mean of the answers, of {asked}.", "points", True, csat,
            _question("csat", lambda value: value), Scale(params.csat.lowest, params.csat.highest, share=False),
        ),
        Measure(
            "nps", "Net promoter score (NPS)", f"Of {asked}: {promoters}.", "points", True, nps,
            _question("nps", _promoter), Scale(-100.0, 100.0, share=False),
        ),
        Measure(
            "nps_weighted", "Net promoter score (NPS), the silent allowed for", f"As NPS, {weighted}.", "points", True,
            nps, _weighted("nps", _promoter), Scale(-100.0, 100.0, share=False),
        ),
        Measure(
            "ces", "Customer effort score (CES)",
            f"Mean agreement that it was easy, from {ces.lowest:g} to {ces.highest:g} (CES 2.0; high is easy), "
            f"of {asked}.",
            "points", True, ("surveys.customer", "surveys.ces"), _question("ces", lambda value: value),
            Scale(ces.lowest, ces.highest, share=False),
        ),
        Measure(
            "resolved", "Marked resolved", "Share of contacts that were marked as resolved, by whoever marked them.",
            "%", True, ("contacts.resolved",), _resolved,
        ),
        *(_fcr(days) for days in params.recontact_days),
        Measure(
            "repeat", "Repeat contacts",
            f"Share of contacts whose customer was in contact in the {params.repeat_days} days before, whatever about. "
            "Contacts of which the days before are not all in the data are not known.",
            "%", False, ("contacts.customer",), _repeats,
        ),
        Measure(
            "aht", "Handle time (AHT)",
            "Mean seconds of talk, hold and work afterwards of answered calls; by agent where one is named.",
            "s", None, ("calls.handle",), _handled, None,
        ),
        Measure(
            "abandoned", "Abandoned",
            f"Share of calls given up in the queue, of all offered but those given up within {short}.",
            "%", False, ("calls.customer", "calls.abandoned", "calls.queue"), _abandoned,
        ),
        Measure(
            "service_level", "Service level",
            f"Share of calls answered within {within}, of all offered but those given up within {short}; who gave up "
            "later counts as not answered in time.",
            "%", True, ("calls.customer", "calls.abandoned", "calls.queue"), _served,
        ),
        Measure(
            "answered_in_time", "Answered in time",
            f"Share of answered calls that waited no longer than {within}. Those given up are not in it, so that it "
            "lies above the service level.",
            "%", True, ("calls.customer", "calls.queue"), _in_time,
        ),
        Measure(
            "cost", "Cost a contact",
            "Mean cost of a contact at the params' rates by channel, and by minute of handling where they say so.",
            "currency", False, ("contacts.channel",), _cost, None,
        ),
        *(_retention(days) for days in params.retention_days),
    )  # fmt: skip


def _fcr(days: int) -> Measure:
    definition = (
        f"Share of contacts whose customer did not come back about the same reason within {days} days. Every contact "
        "counts, one that is itself a recontact too; contacts whose days are not over are not known."
    )

    def rows(scene: Scene) -> Rows:
        frame, at = _contacts(scene)
        after = _gap(frame, ["customer", "reason"], step=-1)[at]
        known = (frame["time"].iloc[at] + days * DAY <= scene.tables.until) & frame["reason"].iloc[at].notna()
        return _rows("contacts", frame, at, np.where(known, 100.0 * ~(after <= days), np.nan))

    needs = ("contacts.customer", "contacts.reason")
    return Measure(f"fcr_{days}", f"No recontact in {days} days (FCR)", definition, "%", True, needs, rows)


def _retention(days: int) -> Measure:
    definition = (
        f"Share of the customers there are when the period begins who still are after {days} days, whether or not the "
        "period is over by then; Kaplan and Meier, as some are followed for a shorter time."
    )
    needs = ("customers.joined", "customers.left")
    title = f"Still customers after {days} days"
    return Measure(f"retention_{days}", title, definition, "%", True, needs, _followed, lasts=days)


def _rows(table: str, frame: pd.DataFrame, at: NDArray[np.intp], value: ArrayLike, of: str = "customer") -> Rows:
    codes = pd.factorize(frame[of], sort=True)[0]
    lone = codes < 0  # whose customer is not known stands for one of its own
    codes = np.where(lone, codes.max(initial=-1) + np.cumsum(lone), codes)
    return Rows(table, at, np.asarray(value, np.float64), codes[at].astype(np.intp))


def _promoter(value: Array) -> Array:
    return 100.0 * ((value >= 9).astype(np.float64) - (value <= 6))


def _asked(scene: Scene) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    surveys = scene.tables.roles["surveys"]
    over = surveys["time"] + scene.params.answer_days * DAY <= scene.tables.until
    at = scene.tables.within("surveys", scene.window)
    return surveys, at[over.to_numpy()[at]]


def _in_days(frame: pd.DataFrame, name: str, days: int) -> Array:
    """The answers of a question that came within some days."""
    value = frame[name].to_numpy(np.float64)
    if "answered" not in frame.columns:
        return value
    return np.where(frame["answered"] > frame["time"] + days * DAY, np.nan, value)


def _answered(scene: Scene) -> Rows:
    frame, at = _asked(scene)
    asked = [name for name in ("csat", "nps", "ces") if name in frame.columns]
    if not asked:
        raise NotMeasuredError("needs a column surveys.csat, surveys.nps or surveys.ces")
    days = scene.params.answer_days
    answered = np.any([np.isfinite(_in_days(frame, name, days)) for name in asked], axis=0)
    return _rows("surveys", frame, at, 100.0 * answered[at])


def _question(name: str, counts: Callable[[Array], Array]) -> Callable[[Scene], Rows]:
    def rows(scene: Scene) -> Rows:
        frame, at = _asked(scene)
        value = _in_days(frame, name, scene.params.answer_days)[at]
        return _rows("surveys", frame, at, np.where(np.isnan(value), np.nan, counts(value)))

    return rows


def _weighted(name: str, counts: Callable[[Array], Array]) -> Callable[[Scene], Rows]:
    def rows(scene: Scene) -> Rows:
        if not scene.params.respond:
            raise NotMeasuredError("needs columns of contacts or customers that tell who answers; name them in respond")
        found = _question(name, counts)(scene)
        known = {}
        for column in scene.params.respond:
            values = scene.tables.column("surveys", column)
            if values is None:
                raise NotMeasuredError(f"needs the column {column} (respond) in contacts or customers")
            known[column] = values.iloc[found.at]
        chances = answer_chances(pd.DataFrame(known), np.isfinite(found.value), least=scene.params.least_chance)
        if chances is None:
            raise NotMeasuredError("needs at least 50 answers and 50 who did not answer")
        return replace(found, weight=1 / chances)

    return rows


def _contacts(scene: Scene) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    return scene.tables.roles["contacts"], scene.tables.within("contacts", scene.window)


def _resolved(scene: Scene) -> Rows:
    frame, at = _contacts(scene)
    return _rows("contacts", frame, at, 100.0 * frame["resolved"].to_numpy()[at])


def _gap(frame: pd.DataFrame, keys: list[str], *, step: int) -> Array:
    """Days to the next (step -1) or from the last (step 1) other time of the same keys, shape (n,); NaN without one."""
    times = frame[[*keys, "time"]].drop_duplicates().sort_values("time")
    times["other"] = times.groupby(keys, sort=False)["time"].shift(step)
    other = frame.merge(times, on=[*keys, "time"], how="left")["other"]
    return np.asarray((other - frame["time"]).abs().dt.total_seconds() / DAY.total_seconds(), np.float64)


def _repeats(scene: Scene) -> Rows:
    frame, at = _contacts(scene)
    days = scene.params.repeat_days
    known = (frame["time"].iloc[at] - days * DAY >= frame["time"].min()) & frame["customer"].iloc[at].notna()
    before = _gap(frame, ["customer"], step=1)[at]
    return _rows("contacts", frame, at, np.where(known, 100.0 * (before <= days), np.nan))


def _offered(scene: Scene) -> tuple[pd.DataFrame, NDArray[np.intp], NDArray[np.bool_]]:
    """Calls in the window but those given up at once, and which of them were given up."""
    calls, at = scene.tables.roles["calls"], scene.tables.within("calls", scene.window)
    if "abandoned" not in calls.columns:
        return calls, at, np.zeros(len(at), bool)
    gone = calls["abandoned"].to_numpy()[at]
    if np.isnan(gone).any():
        raise NotMeasuredError(f"needs calls.abandoned in every row; it is missing in {np.isnan(gone).sum():,}")
    if "queue" in calls.columns:
        at = at[(gone == 0) | ~(calls["queue"].to_numpy()[at] < scene.params.short_seconds)]
    return calls, at, calls["abandoned"].to_numpy()[at] == 1


def _handled(scene: Scene) -> Rows:
    calls, at, gone = _offered(scene)
    of = "agent" if "agent" in calls.columns else "customer"
    if of not in calls.columns:
        raise NotMeasuredError("needs the column calls.agent or calls.customer; name it in the params")
    at = at[~gone]
    return _rows("calls", calls, at, calls["handle"].to_numpy()[at], of)


def _abandoned(scene: Scene) -> Rows:
    calls, at, gone = _offered(scene)
    return _rows("calls", calls, at, 100.0 * gone)


def _served(scene: Scene) -> Rows:
    calls, at, gone = _offered(scene)
    queue = calls["queue"].to_numpy()[at]
    value = np.where(gone, 0.0, np.where(np.isnan(queue), np.nan, 100.0 * (queue <= scene.params.service_seconds)))
    return _rows("calls", calls, at, value)


def _in_time(scene: Scene) -> Rows:
    calls, at, gone = _offered(scene)
    at = at[~gone]
    queue = calls["queue"].to_numpy()[at]
    value = np.where(np.isnan(queue), np.nan, 100.0 * (queue <= scene.params.service_seconds))
    return _rows("calls", calls, at, value)


def _cost(scene: Scene) -> Rows:
    frame, at = _contacts(scene)
    costs = scene.params.costs
    channel = frame["channel"].iloc[at]
    lacking = sorted(set(channel.dropna().astype(str)) - set(costs))
    if lacking:
        raise NotMeasuredError(f"needs a cost for {listed(lacking)} in costs")
    each = channel.map({name: cost.contact for name, cost in costs.items()}).to_numpy(np.float64)
    minute = channel.map({name: cost.minute for name, cost in costs.items()}).to_numpy(np.float64)
    if (minute > 0).any():
        lacks = scene.tables.lacks(("calls.contact", "calls.handle"))
        if lacks:
            raise NotMeasuredError(f"{lacks}, or costs without minutes")
        calls = scene.tables.roles["calls"]
        handle = calls.groupby("contact")["handle"].sum(min_count=1)
        each = each + np.where(minute > 0, minute * frame["id"].iloc[at].map(handle).to_numpy(np.float64) / 60, 0.0)
    return _rows("contacts", frame, at, each)


def _followed(scene: Scene) -> Rows:
    customers, start, until = scene.tables.roles["customers"], scene.window[0], scene.tables.until
    left = customers["left"]
    at = np.flatnonzero(((customers["joined"] <= start) & ~(left <= start)).to_numpy() & (start <= until))
    gone = (left.iloc[at] <= until).to_numpy()
    end = left.iloc[at].where(gone, until)
    found = _rows("customers", customers, at, ((end - start) / DAY).to_numpy(), "id")
    return replace(found, observed=gone)


def measures(
    tables: Mapping[str, pd.DataFrame],
    params: MeasuresParams | None = None,
    *,
    by: Sequence[str] | None = None,
    period: tuple[Any, Any] | None = None,
    baseline: tuple[Any, Any] | None = None,
    until: Any = None,
) -> Measures:
    """Every measure in a period, all together and by group, against a baseline.

    Args:
        tables: Any of contacts, calls, surveys, customers, events, by these names.
        params: Columns and thresholds; the defaults if None.
        by: Columns of contacts or customers (calls and surveys have those of their contact and customer) whose groups
            are measured each for itself; those of the params if None.
        period: From when (included) to when (excluded), UTC where without a zone; all if None.
        baseline: The same for what is compared with; nothing is compared if None.
        until: The time up to which all is known; the last one in the tables if None.
    Raises:
        ParamsError: A table, column or period is none.
        DataError: A table cannot be read so.
    """
    params = params or MeasuresParams()
    read = read_tables(tables, params, until=until)
    names = tuple(params.by if by is None else by)
    for name in names:
        if all(read.column(table, name) is None for table in read.given):
            raise ParamsError(unknown("Column", name, _columns(read), where="in any table"))
    now = _window("period", period) or (read.since, read.until + pd.Timedelta(microseconds=1))
    before = _window("baseline", baseline)
    if before is not None and before[0] < now[1] and now[0] < before[1]:
        raise ParamsError(f"The baseline ends at {before[1]} and the period begins at {now[0]}: they must not overlap.")
    found = []
    for measure in measures_of(params):
        found += _measured(measure, read, params, names, now, before)
    columns = [
        "measure", "segment", "group", "status", "value", "low", "high", "unit", "n", "eligible", "customers",
        "if_worst", "if_best", "baseline", "baseline_n", "difference", "diff_low", "diff_high", "p_adjusted", "verdict",
        "reason", "title", "better", "definition",
    ]  # fmt: skip
    table = pd.DataFrame(judged(found, alpha=params.alpha))[columns]
    return Measures(now, before, params.alpha, params.level, table)


def _columns(read: Tables) -> list[str]:
    return list(dict.fromkeys(str(name) for frame in read.given.values() for name in frame.columns))


def _window(what: str, given: tuple[Any, Any] | None) -> Window | None:
    if given is None:
        return None
    start, end = moment(given[0]), moment(given[1])
    if not start < end:
        raise ParamsError(f"{what} == {given}, must begin before it ends.")
    return start, end


def _measured(  # noqa: PLR0917
    measure: Measure, read: Tables, params: MeasuresParams, by: tuple[str, ...], now: Window, before: Window | None
) -> list[dict[str, Any]]:
    """All rows of one measure."""
    try:
        lacks = read.lacks(measure.needs)
        if lacks:
            raise NotMeasuredError(lacks)
        found = [measure.rows(Scene(read, window, params)) for window in (now, before) if window is not None]
    except NotMeasuredError as reason:
        return [_nothing(measure, "", "", str(reason))]
    table, count = found[0].table, 1 + max(int(rows.of.max(initial=-1)) for rows in found)
    out = [_row(measure, "", "", found, count, params)]
    for name in by:
        groups = read.group(table, name)
        if groups is None:
            out.append(_nothing(measure, name, "", f"{table} have no column {name}"))
            continue
        for group in sorted({item for rows in found for item in groups[rows.at]}):
            parts = [rows.part(groups[rows.at] == group) for rows in found]
            out.append(_row(measure, name, group, parts, count, params))
    return out


def _about(measure: Measure, segment: str, group: str) -> dict[str, Any]:
    better = {True: "higher", False: "lower", None: ""}[measure.higher_is_better]
    said = {"measure": measure.code, "title": measure.title, "segment": segment, "group": group, "unit": measure.unit}
    return {**said, "better": better, "definition": measure.definition}


def _nothing(measure: Measure, segment: str, group: str, reason: str) -> dict[str, Any]:
    names = ("value", "low", "high", "if_worst", "if_best", "baseline", "difference", "diff_low", "diff_high", "p")
    counts = dict.fromkeys(("n", "eligible", "customers", "baseline_n"), 0)
    said = {"status": "not measured", "verdict": "", "reason": reason}
    return {**_about(measure, segment, group), **dict.fromkeys(names, np.nan), **counts, **said}


def _row(  # noqa: PLR0917
    measure: Measure, segment: str, group: str, parts: list[Rows], count: int, params: MeasuresParams
) -> dict[str, Any]:
    now, *rest = (measure.estimate(rows, count=count, level=params.level) for rows in parts)
    row = {
        **_about(measure, segment, group),
        **{"status": "measured", "value": now.value, "low": now.low, "high": now.high, "n": now.n},
        **{"eligible": now.eligible, "customers": now.units, "if_worst": now.if_worst, "if_best": now.if_best},
    }
    reason = _doubt(measure, now, params)
    if not rest:
        nothing = dict.fromkeys(("baseline", "difference", "diff_low", "diff_high", "p"), np.nan)
        return {**row, **nothing, "baseline_n": 0, "verdict": "", "reason": reason}
    before = rest[0]
    moved = difference(now, before, level=params.level)
    doubt = _doubt(measure, before, params)
    reason = reason or (f"the baseline: {doubt}" if doubt else "")
    return {
        **row,
        **{"baseline": before.value, "baseline_n": before.n, "difference": moved.value},
        **{"diff_low": moved.low, "diff_high": moved.high, "p": np.nan if reason else moved.p},
        **{"verdict": "cannot tell", "reason": reason},
    }


def _doubt(measure: Measure, found: Estimate, params: MeasuresParams) -> str:
    """Why a figure is not judged."""
    if not found.n:
        return "no rows"
    if not np.isfinite(found.value):
        return f"nobody is followed for {measure.lasts} days" if measure.lasts else "nothing is known"
    least = params.least
    if min(found.n, found.units) < least:
        return f"{found.n:,} rows of {found.units:,} customers or agents, fewer than {least}"
    return ""
