"""Can this stream of events be learnt from? Each check says pass, fail or cannot tell, the rows, and what to do.

    quality = check_events(read_events("events.csv", now="2026-03-01"))
    quality.failed        # True if any check said no
    quality.plot()        # events per day by channel
    parts(quality)        # captions with tables and drawings, for a page

Days and weeks are UTC. A channel is judged by its own rhythm: its hours of the week, and the same day of other weeks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.events import Events
from cxlab.data.quality import Quality, Status, asked
from cxlab.data.taxonomy import KEYS
from cxlab.display import GREY, PALETTE, axes_grid, date_axis, records, sentence
from cxlab.errors import listed
from cxlab.params.events import EventThresholds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WEEK, HOURS = 7, 168  # days and hours of a week
MOSTLY = 0.5  # share of a day's break beyond which one event or channel makes it
SHOWN = 8  # days named
MARKS = frozenset({"?", "-", "--", ".", "n/a", "na", "null", "none", "nan", "undefined", "(null)"})  # stand for missing
DUPLICATES = ("exact_copy", "duplicate_event_id")
Answer = tuple[Status, int, str]


@dataclass(frozen=True, repr=False)
class EventQuality(Quality):
    """All answers about one stream of `n` rows.

    Attributes:
        daily: Accepted events per day (UTC, none left out) by channel.
        completeness: A row a property of an event: filled, of, share.
        outcomes: Rows accepted, and by reason of quarantine.
    """

    daily: pd.DataFrame
    completeness: pd.DataFrame
    outcomes: pd.DataFrame
    title: ClassVar[str] = "Quality of events"
    note: ClassVar[str] = "What cannot be told needs a person's look."

    def plot(self) -> Axes:
        """Events per day by channel: dots are days, triangles those far above them, the line is a week's median."""
        if self.daily.empty:
            return sentence("Events per day", "There is no event.")
        grid = axes_grid([f"{name}, events per day" for name in self.daily.columns])
        for ax, name in zip(grid, self.daily.columns, strict=True):
            days = self.daily[name]
            top = min(days.max(), 3 * days.quantile(0.99)) or 1
            ax.plot(days.index, days.where(days <= top), ".", color=GREY, markersize=2)
            ax.plot(days.index[days > top], [top] * int((days > top).sum()), "^", color=PALETTE[1], markersize=4)
            ax.plot(days.index, days.rolling(WEEK, center=True, min_periods=1).median(), color=PALETTE[0], lw=1)
            ax.set_ylim(0, 1.05 * top)
            date_axis(ax)
        return grid[0]


def check_events(events: Events, *, thresholds: EventThresholds | None = None) -> EventQuality:
    """Checks a stream of events.

    Args:
        events: As `read_events` gives them; `now`, if given there, is what freshness is relative to.
        thresholds: From where on a check says no.
    Returns:
        One answer a check, always the same checks in the same order.
    """
    stream = _Stream(events, thresholds or EventThresholds(), _daily(events.accepted), _completeness(events))
    return EventQuality(asked(CHECKS, stream), events.rows_in, stream.daily, stream.completeness, events.frame())


def parts(quality: EventQuality) -> list[tuple[str, pd.DataFrame | Axes]]:
    """What a page shows, in order: captions with tables and drawings; aggregates only."""
    return [
        ("Checks", quality.frame()),
        ("Events per day by channel", quality.plot()),
        ("Rows by outcome", quality.outcomes),
        ("How often each property is filled", quality.completeness),
    ]


@dataclass(frozen=True)
class _Stream:
    events: Events
    limit: EventThresholds
    daily: pd.DataFrame
    completeness: pd.DataFrame

    @property
    def frame(self) -> pd.DataFrame:
        return self.events.accepted

    @property
    def thin_from(self) -> pd.Timestamp | None:
        """The first day of a thin end of at least a week: from there on no week reaches its share of the usual."""
        total = self.daily.sum(axis=1)
        if len(total) < 4 * WEEK:
            return None
        ranked = np.sort(total.to_numpy())
        usual = ranked[np.searchsorted(ranked.cumsum(), ranked.sum() / 2)]  # the day in which the median event lives
        heavy = total.to_numpy() >= self.limit.thin * usual
        weeks = total.rolling(WEEK).mean().fillna(np.inf).to_numpy() >= self.limit.thin * usual
        last = int(np.flatnonzero(weeks)[-1])
        start = int(np.flatnonzero(heavy[: last + 1])[-1]) + 1 if heavy[: last + 1].any() else last + 1
        return total.index[start] if len(total) - start >= WEEK else None


def _daily(frame: pd.DataFrame, by: str = "channel") -> pd.DataFrame:
    if frame.empty:
        return pd.DataFrame()
    days = frame["occurred_at"].dt.floor("D")
    counts = frame.groupby([days, frame[by].astype(object)]).size().unstack(fill_value=0)
    if (days.max() - days.min()).days > 40 * 366:  # a stray event decades away: as published, without the days between
        return counts
    return counts.reindex(pd.date_range(days.min(), days.max(), freq="D"), fill_value=0)


def _completeness(events: Events) -> pd.DataFrame:
    filled: Counter[tuple[str, str]] = Counter()
    marked: Counter[tuple[str, str]] = Counter()
    for name, text in zip(events.accepted["event"], events.accepted["properties"], strict=True):
        for key, value in json.loads(text).items():
            filled[name, key] += 1
            marked[name, key] += isinstance(value, str) and value.strip().casefold() in MARKS
    of = events.accepted["event"].value_counts()
    rows = []
    for name, count in of.sort_index().items():
        rules = events.taxonomy.events[str(name)].properties
        for key in dict.fromkeys([*rules, *sorted(key for event, key in filled if event == name)]):
            known = key in rules and rules[key].required
            there = filled[str(name), key]
            rows.append((name, key, known, there, int(count), there / count, marked[str(name), key]))
    return pd.DataFrame(rows, columns=["event", "property", "required", "filled", "of", "share", "marks"])


def _reading(stream: _Stream) -> Answer:
    return "pass", 0, " ".join(stream.events.notes) or "Nothing was guessed, mended or left out."


def _conformance(stream: _Stream) -> Answer:
    reasons = stream.events.quarantine["reason"]
    counts, n = reasons[~reasons.isin(DUPLICATES)].value_counts(), stream.events.rows_in
    broken, limit = int(counts.sum()), stream.limit.quarantined
    if not n:
        return "cannot_tell", 0, "No row came in."
    said = f"{broken:,} of {n:,} rows ({broken / n:.2%}) break the contract, at most {limit:.2%} may"
    said += f": {listed(f'{code} {count:,}' for code, count in counts.items())}" if broken else ""
    remedy = " See the quarantine: mend the source, the mapping or the taxonomy." if broken else ""
    return "fail" if broken > limit * n else "pass", broken, f"{said}.{remedy}"


def _duplicates(stream: _Stream) -> Answer:
    counts = stream.events.quarantine["reason"].value_counts()
    copies, others = (int(counts.get(code, 0)) for code in DUPLICATES)
    n, limit = stream.events.rows_in, stream.limit.duplicates
    said = f"{copies:,} exact copies and {others:,} rows that give an id other content, of {n:,}; at most {limit:.2%}."
    found = copies + others
    if found <= limit * n:
        return "pass", found, said
    return "fail", found, f"{said} Send each event once, under an id of its own."


def _complete(stream: _Stream) -> Answer:
    frame, limit = stream.frame, stream.limit.missing
    if frame.empty:
        return "cannot_tell", 0, "No event was accepted."
    anonymous = int(frame["customer_id"].isna().sum())
    aliases = [name for name in KEYS if frame[name].notna().any()]
    found = {f"customer_id in {anonymous / len(frame):.0%} of all events (aliases: {listed(aliases)})": anonymous}
    found = {said: rows for said, rows in found.items() if rows > limit * len(frame)}
    table = stream.completeness
    for row in records(table[(table["filled"] > 0) & (table["share"] < 1 - limit)]):
        found[f"{row['event']}.{row['property']} in {1 - row['share']:.1%}"] = row["of"] - row["filled"]
    never = table[table["filled"] == 0]
    also = f" Never delivered: {listed(never['event'] + '.' + never['property'])}." if len(never) else ""
    if not found:
        return "pass", 0, f"What is delivered is there in at least {1 - limit:.0%} of its events.{also}"
    return "fail", max(found.values()), f"Missing: {listed(found)}; at most {limit:.0%} may.{also} Mend the source."


def _placeholders(stream: _Stream) -> Answer:
    found = {f"{r['event']}.{r['property']}": int(r["marks"]) for r in records(stream.completeness) if r["marks"]}
    for name in ("customer_id", *KEYS):
        count = int(stream.frame[name].str.casefold().isin(MARKS).sum())
        found |= {name: count} if count else {}
    if not found:
        return "pass", 0, "No text stands for a missing value."
    said = listed(f"{name} {count:,}" for name, count in found.items())
    remedy = "Name the mark in the mapping, such as missing: ['?']."
    return (
        "fail",
        max(found.values()),
        f"Texts that stand for missing values ({listed(sorted(MARKS))}): {said}. {remedy}",
    )


def _lag(stream: _Stream) -> pd.Series | None:
    """Seconds from occurred_at to received_at, by row; None where the source tells no time of receipt."""
    lag = (stream.frame["received_at"] - stream.frame["occurred_at"]).dt.total_seconds()
    return lag if (lag != 0).any() else None


NO_RECEIPT = "The source tells no received_at: when events were known cannot be told. Deliver it."


def _late(stream: _Stream) -> Answer:
    lag, limit = _lag(stream), stream.limit
    if lag is None:
        return "cannot_tell", 0, NO_RECEIPT
    late = int((lag > 3600 * limit.late_after_h).sum())
    said = f"{late:,} of {len(lag):,} events ({late / len(lag):.2%}) came more than {limit.late_after_h:g} h late"
    said += f", at most {limit.late:.2%} may; the latest after {lag.max() / 3600:,.1f} h."
    if late <= limit.late * len(lag):
        return "pass", late, said
    return "fail", late, f"{said} Features as of a cutoff must go by received_at."


def _future(stream: _Stream) -> Answer:
    now = stream.events.now
    if now is None:
        return (
            "cannot_tell",
            0,
            "What is in the future is relative to a moment: --now TIME, or read_events(..., now=TIME).",
        )
    late = int((stream.frame[["occurred_at", "received_at"]].max(axis=1) > now).sum())
    if not late:
        return "pass", 0, f"No event is later than {now:%Y-%m-%d %H:%M} UTC."
    last = stream.frame[["occurred_at", "received_at"]].max().max()
    return (
        "fail",
        late,
        f"{late:,} events are later than {now:%Y-%m-%d %H:%M} UTC, up to {last}. Mend the sender's clock.",
    )


def _skew(stream: _Stream) -> Answer:
    lag, limit = _lag(stream), stream.limit
    if lag is None:
        return "cannot_tell", 0, NO_RECEIPT
    ahead, constant = {}, {}
    for name, seconds in lag.groupby(stream.frame["channel"].astype(object)):
        low, middle, high = seconds.quantile([0.25, 0.5, 0.75])
        early = int((seconds < -limit.skew_s).sum())
        if middle < -limit.skew_s:
            ahead[f"{name}: the median event was received {-middle:,.0f} s before it occurred"] = len(seconds)
        elif early > limit.ahead * len(seconds):
            ahead[f"{name}: {early / len(seconds):.1%} of its events were received before they occurred"] = early
        elif len(seconds) >= 20 and middle >= limit.offset_s and high - low <= 0.1 * middle:
            constant[f"{name}: every event comes {middle / 60:,.0f} minutes late"] = len(seconds)
    if not ahead and not constant:
        return "pass", 0, "No channel's clock is ahead, and none lags by a constant."
    said = f"{'; '.join(ahead | constant)}. Mend the clock or the time zone of the sender"
    said += ", unless it delivers that late" if constant else ""
    return "fail" if ahead else "cannot_tell", max((ahead | constant).values()), f"{said}."


def _before_thin(stream: _Stream) -> pd.DataFrame:
    start = stream.thin_from
    return stream.frame if start is None else stream.frame[stream.frame["occurred_at"] < start]


def longest_silence(moments: pd.Series) -> tuple[float, pd.Timestamp, pd.Timestamp] | None:
    """A stream's longest silence, as a multiple of the longest that its rhythm lets expect, and from when to when.

    Silence is measured in events that were to be expected meanwhile by the hour of the week, so that nights and
    weekends count little, and a stream that grows is not held against what it became. Of n such waits, exponential in a
    stream without memory, the longest is near ln n; their 99th percentile, ln 100, gives the scale where events come in
    bursts. None below three weeks.
    """
    hours = np.sort(moments.dt.tz_localize(None).to_numpy("datetime64[us]").astype(np.int64)) / 3.6e9
    first = int(np.floor(hours[0]))
    counts = np.bincount((hours - first).astype(np.int64))
    if len(counts) < 3 * HOURS:
        return None
    rates = _expected(counts)
    passed = np.concatenate([[0.0], np.cumsum(rates)])
    waits = np.diff(np.interp(hours - first, np.arange(len(passed)), passed))
    scale = max(1.0, float(np.quantile(waits, 0.99)) / np.log(100))
    worst = int(waits.argmax())
    start, end = (pd.Timestamp(float(hours[worst + i]) * 3600, unit="s", tz="UTC").round("s") for i in (0, 1))
    return float(waits[worst]) / (scale * np.log(len(waits))), start, end


def _expected(counts: np.ndarray) -> np.ndarray:
    """Events to be expected in each hour: the mean of that hour of the week, by the level of its weeks if that is less.

    A week that has more in an hour than chance adds to the second busiest (three standard deviations) counts as that
    much: one rush, such as the first load of a system, is no rhythm. A week's level is the median of the nine around
    it; weeks without any event tell of none, so that a long silence does not become the usual.
    """
    whole, of_week = len(counts) // HOURS, np.arange(len(counts)) % HOURS
    weeks = np.append(counts, np.zeros(-len(counts) % HOURS, dtype=counts.dtype)).reshape(-1, HOURS)
    second = np.partition(weeks, -2, axis=0)[-2]
    calm = np.minimum(weeks, second + 3 * np.sqrt(np.maximum(second, 1)))
    rates = calm.sum(axis=0) / np.bincount(of_week, minlength=HOURS)
    total = pd.Series(calm[:whole].sum(axis=1))
    level = total.where(total > 0).rolling(9, center=True, min_periods=1).median() / rates.sum()
    level = level.reindex(range(len(weeks))).ffill().fillna(1).clip(upper=1)
    return np.asarray(rates[of_week] * level.to_numpy().repeat(HOURS)[: len(counts)])


def _gaps(stream: _Stream) -> Answer:
    found, seen = {}, 0
    frame = _before_thin(stream)
    for name, moments in frame["occurred_at"].groupby(frame["channel"].astype(object)):
        whole_days = bool((moments == moments.dt.floor("D")).all())
        silence = None if len(moments) < stream.limit.least or whole_days else longest_silence(moments)
        seen += silence is not None
        if silence is not None and silence[0] > stream.limit.silence:
            times, start, end = silence
            found[
                f"{name}: silent {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}, {times:.1f} times the expected longest"
            ] = 1
    if found:
        return "fail", len(found), f"{'; '.join(found)}; at most {stream.limit.silence:g} times. Ask for what was lost."
    if not seen:
        return "cannot_tell", 0, f"No channel has three weeks, {stream.limit.least:,} events and times of day."
    return (
        "pass",
        0,
        f"No silence is longer than {stream.limit.silence:g} times what {seen} channels' rhythms let expect.",
    )


def volume_breaks(total: pd.Series, limit: float) -> pd.DataFrame:
    """Days beyond the limit: rows, what is usual, and the robust z of the two, by day.

    Usual is the same weekday of the four weeks before and after. Counts vary by the square root of what is usual; where
    a stream varies more, by as much more as its median day does; and by no less than a tenth of the usual.
    """
    usual = _usual(total)
    chance = np.sqrt(usual).clip(lower=1)
    chance *= max(1.0, 1.4826 * ((total - usual) / chance).abs().median())
    z = (total - usual) / np.maximum(chance, 0.1 * usual)
    return pd.DataFrame({"rows": total, "usual": usual, "z": z})[z.abs() > limit]


def _usual(days: pd.Series | pd.DataFrame) -> Any:
    """The median of the same weekday in the four weeks before and after, shaped like `days`."""
    weekday = pd.DatetimeIndex(days.index).dayofweek
    return days.groupby(weekday).transform(lambda column: column.rolling(9, center=True, min_periods=4).median())


def _makers(stream: _Stream, days: pd.DatetimeIndex) -> dict[pd.Timestamp, str]:
    """What makes most of a day's break, by day: an event, else a channel, else several events."""
    off = {}
    for name in ("event", "channel"):
        daily = _daily(stream.frame, name)
        off[name] = (daily - _usual(daily)).loc[days]
    said = {}
    for day in days:
        way = np.sign(off["event"].loc[day].sum())
        for name in ("event", "channel"):
            parts = (way * off[name].loc[day]).clip(lower=0).sort_values(ascending=False, kind="stable")
            if parts.iloc[0] > MOSTLY * parts.sum():
                said[day] = f"mostly {'' if name == 'event' else 'on '}{parts.index[0]}"
                break
        else:
            parts = (way * off["event"].loc[day]).clip(lower=0).sort_values(ascending=False, kind="stable")
            said[day] = f"most in {', '.join(parts.index[:2])}"
    return said


def _day_said(day: pd.Timestamp, rows: float, usual: float, z: float, maker: str) -> str:
    times = f"{rows / usual:.1f} times its usual {day:%A}" if usual else f"a {day:%A} usually has none"
    return f"{day:%Y-%m-%d}: {times} ({rows:,.0f}, z {z:.1f}), {maker}"


def _volume(stream: _Stream) -> Answer:
    total, start = stream.daily.sum(axis=1), stream.thin_from
    if len(total) < 4 * WEEK + 2:
        return "cannot_tell", 0, "A day is held against the same weekday of four weeks; bring 30 days."
    found, tail = [], 0
    if start is not None:
        tail = int(total[start:].sum())
        found.append(
            f"A thin tail: the last {len(total[start:]):,} days, from {start:%Y-%m-%d} on, hold {tail:,} of "
            f"{int(total.sum()):,} events ({tail / total.sum():.1%}); end the data before it"
        )
        total = total[:start]
    breaks = volume_breaks(total.iloc[1:-1], stream.limit.volume_z)  # the first and the last day may be cut
    if len(breaks):
        worst = breaks.sort_values("z", key=np.abs, ascending=False).head(SHOWN)
        makers = _makers(stream, pd.DatetimeIndex(worst.index))
        told = zip(worst.index, worst["rows"], worst["usual"], worst["z"], strict=True)
        days = "; ".join(_day_said(day, rows, usual, z, makers[day]) for day, rows, usual, z in told)
        more = f"; and {len(breaks) - SHOWN:,} more" if len(breaks) > SHOWN else ""
        rule = f"|z| above {stream.limit.volume_z:g}"
        found.append(f"{len(breaks):,} days unlike the same weekday ({rule}): {days}{more}")

    return (
        ("fail", max(tail, int(breaks["rows"].sum())), f"{'. '.join(found)}.")
        if found
        else ("pass", 0, "Each day is like the same weekday.")
    )


def _freshness(stream: _Stream) -> Answer:
    now, limit = stream.events.now, stream.limit.fresh_h
    if stream.frame.empty or now is None:
        return (
            "cannot_tell",
            0,
            "How fresh the last event is is relative to a moment: --now TIME, or read_events(..., now=TIME).",
        )
    last = stream.frame["received_at"].max()
    age = (now - last).total_seconds() / 3600
    said = f"The last event was received {last:%Y-%m-%d %H:%M} UTC, {age:,.1f} h before now; at most {limit:g} h."
    return ("fail", 0, f"{said} Fetch newer events.") if age > limit else ("pass", 0, said)


CHECKS: dict[str, tuple[str, Callable[[_Stream], Answer]]] = {
    "reading": ("What was mended while reading", _reading),
    "conformance": ("Rows keep the contract", _conformance),
    "duplicates": ("Each event once", _duplicates),
    "completeness": ("What is promised is filled", _complete),
    "placeholders": ("Missing is missing", _placeholders),
    "late_events": ("Events come in time", _late),
    "future_events": ("No event is in the future", _future),
    "clock_skew": ("Clocks agree", _skew),
    "gaps": ("No channel falls silent", _gaps),
    "volume": ("Days are like their weekday", _volume),
    "freshness": ("The last event is fresh", _freshness),
}
