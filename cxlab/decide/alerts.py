"""Alerts: a figure that somebody must look at, once, with an owner and an action; and whether alerts are worth it.

    found = watch(figures, load_alerts("params/alerts.yaml"))     # columns time, measure, value; n, group
    book = AlertBook("alerts.jsonl")
    book.add(found, webhook=params.webhook)      # those that are new
    book.acknowledge(alert_id, by="ana")
    book.close(alert_id, by="ana", right=True)
    book.measured()                              # how many, how fast, how many were right

Every rule looks back alone: what it says of a day does not change with the days that come after. An alert is named by
its rule, its group and the period in which it began, so that the same trouble, seen again tomorrow, is the same alert.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.digest import canonical, sha256
from cxlab.display import PALETTE, Result, axes, date_axis, plain, row_height, sentence
from cxlab.errors import DataError, ParamsError, missing_column, unknown
from cxlab.metrics.bootstrap import wilson
from cxlab.params.alerts import AlertsParams, AnomalyRule, Rule, SegmentRule, ThresholdRule, WebhookParams
from cxlab.places import acting_person, hold

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMAL = 1.4826  # by which the median absolute deviation is a standard deviation of normal values
FLOOR = 0.05  # least spread, as a share of the usual: steadier figures do not exist


@dataclass(frozen=True)
class Alert:
    """One.

    Attributes:
        id: Of the rule, the group and the onset: the same trouble has the same.
        rule: Its name in the params.
        kind: threshold, anomaly or segment_drop.
        measure: What was watched.
        group: Of a segment; empty for all.
        onset: The period in which it began, ISO 8601.
        time: The period in which it was seen.
        last: The last period in which it still held.
        value: Of the figure then.
        expected: What it should have been: the limit, the usual, or the share before.
        low: The lower end of what is compared, where there is one.
        high: The upper end.
        says: In words.
        owner: Who answers.
        action: What the owner does.
    """

    id: str
    rule: str
    kind: str
    measure: str
    group: str
    onset: str
    time: str
    last: str
    value: float
    expected: float
    low: float | None
    high: float | None
    says: str
    owner: str
    action: str


@dataclass(frozen=True, repr=False, eq=False)
class Alerts(Result):
    """What the rules found.

    Attributes:
        found: In the order of time and name.
        untold: By rule, why it could not be judged.
    """

    found: tuple[Alert, ...]
    untold: dict[str, str] = field(default_factory=dict)
    title: ClassVar[str] = "Alerts"

    @property
    def note(self) -> str:  # type: ignore[override]
        told = f"{len(self.found):,} alerts."
        return told + "".join(f" {name} cannot tell: {why}" for name, why in self.untold.items())

    def frame(self) -> pd.DataFrame:
        """One row an alert; the columns of `Alert`."""
        names = list(Alert.__dataclass_fields__)
        return pd.DataFrame([asdict(alert) for alert in self.found], columns=names)

    def plot(self) -> Axes:
        """When each alert held, by rule and group."""
        frame = self.frame()
        if frame.empty:
            return sentence(self.title, "No rule found anything.")
        labels = (frame["rule"] + frame["group"].map(lambda g: f" {g}" if g else "")).tolist()
        rows = list(dict.fromkeys(labels))
        ax = axes(f"{len(frame):,} alerts", height=row_height(rows))
        first, last = (pd.to_datetime(frame[name], utc=True).dt.tz_localize(None) for name in ("onset", "last"))
        place = [rows.index(label) for label in labels]
        ax.hlines(place, first, last + pd.Timedelta(days=1), color=PALETTE[1], linewidth=6)
        ax.set_yticks(range(len(rows)), rows)
        ax.invert_yaxis()
        ax.margins(y=0.2)
        date_axis(ax)
        return ax


@dataclass(frozen=True)
class _Hit:
    """A period and group in which a rule holds."""

    time: pd.Timestamp
    group: str
    value: float
    expected: float
    low: float | None
    high: float | None
    says: str


def watch(figures: pd.DataFrame, params: AlertsParams) -> Alerts:
    """Holds figures against rules.

    Args:
        figures: A row a period (and group): `time` (a day, or any period; UTC), `measure`, `value`, where they matter
            `n` (of what a share is) and `group`.
        params: The rules.
    Returns:
        An alert a run of periods in which a rule holds.
    Raises:
        DataError: A column is missing, a time or value cannot be read, or a period is there twice.
    """
    table = _checked(figures)
    out: list[Alert] = []
    untold: dict[str, str] = {}
    for name, rule in params.rules.items():
        mine = table[table["measure"] == rule.measure]
        if mine.empty:
            untold[name] = f"no figure {rule.measure!r}."
            continue
        periods = sorted(mine["time"].unique())
        try:
            hits = _hits(mine, rule)
        except _CannotTellError as why:
            untold[name] = str(why)
            continue
        out += _alerts(name, rule, hits, periods)
    return Alerts(tuple(sorted(out, key=lambda alert: (alert.time, alert.rule, alert.group))), untold)


def daily(events: pd.DataFrame, measures: Mapping[str, str], groups: pd.Series | None = None) -> pd.DataFrame:
    """How often events happened a day (UTC), as `watch` reads it; a day without one counts 0.

    Args:
        events: `event`, `occurred_at` (with a zone), and with groups `customer_id`.
        measures: The event by the name of its figure.
        groups: Of each customer, by customer_id; each group has rows of its own, beside those of all.
    Raises:
        DataError: An event did not happen at all.
    """
    parts = []
    day = pd.to_datetime(events["occurred_at"], utc=True).dt.floor("D")
    days = pd.date_range(day.min(), day.max(), freq="D")
    for name, event in measures.items():
        there = (events["event"] == event).to_numpy()
        if not there.any():
            raise DataError(unknown("Event", event, sorted(set(events["event"])), where="in these events"))
        whose = [("", there)]
        if groups is not None:
            of = events["customer_id"].map(groups).to_numpy(object)
            whose += [(str(group), there & (of == group)) for group in sorted(set(groups.dropna()))]
        for group, rows in whose:
            counted = day[rows].value_counts().reindex(days, fill_value=0)
            parts.append(pd.DataFrame({"time": days, "measure": name, "value": counted.to_numpy(), "group": group}))
    return pd.concat(parts, ignore_index=True)


def _hits(table: pd.DataFrame, rule: Rule) -> list[_Hit]:
    if isinstance(rule, ThresholdRule):
        return _beyond(table, rule)
    return _unusual(table, rule) if isinstance(rule, AnomalyRule) else _fallen(table, rule)


class _CannotTellError(Exception):
    """A rule lacks the data to judge by."""


def _checked(figures: pd.DataFrame) -> pd.DataFrame:
    for name in ("time", "measure", "value"):
        if name not in figures:
            raise missing_column(name, map(str, figures.columns))
    table = figures.copy()
    times = pd.to_datetime(table["time"], utc=True, errors="coerce")
    values = pd.to_numeric(table["value"], errors="coerce")
    for name, bad in (("time", times.isna()), ("value", values.isna() & table["value"].notna())):
        if bad.any():
            raise DataError(f"{name} == {table.loc[bad, name].iloc[0]!r} in {int(bad.sum()):,} rows cannot be read.")
    table["time"], table["value"] = times.dt.as_unit("us"), values
    table["group"] = table["group"].fillna("").astype(str) if "group" in table else ""
    table = table[table["value"].notna()]
    twice = table.duplicated(["time", "measure", "group"])
    if twice.any():
        row = table[twice].iloc[0]
        raise DataError(f"{row['measure']} of {row['time']} is there twice; give one row a period, measure and group.")
    return table.sort_values(["measure", "group", "time"], ignore_index=True)


def _alerts(name: str, rule: Any, hits: Sequence[_Hit], periods: list[pd.Timestamp]) -> Iterator[Alert]:
    """One a run of periods."""
    place = {time: number for number, time in enumerate(periods)}
    need = rule.periods if isinstance(rule, ThresholdRule) else 1
    for group in sorted({hit.group for hit in hits}):
        run: list[_Hit] = []
        mine = sorted((hit for hit in hits if hit.group == group), key=lambda hit: hit.time)
        for hit, after in zip(mine, [*mine[1:], None], strict=True):
            run.append(hit)
            if after is not None and place[after.time] == place[hit.time] + 1:
                continue
            if len(run) >= need:
                seen, onset = run[need - 1], run[0].time.isoformat()
                yield Alert(
                    id=sha256(canonical([name, group, onset]))[:16],
                    rule=name,
                    kind=rule.kind,
                    measure=rule.measure,
                    group=group,
                    onset=onset,
                    time=seen.time.isoformat(),
                    last=run[-1].time.isoformat(),
                    value=seen.value,
                    expected=seen.expected,
                    low=seen.low,
                    high=seen.high,
                    says=seen.says,
                    owner=rule.owner,
                    action=rule.action,
                )
            run = []


_NO_ENDS: tuple[float | None, float | None] = (None, None)


def _beyond(table: pd.DataFrame, rule: ThresholdRule) -> list[_Hit]:
    low = high = table["value"].to_numpy(float)
    if rule.share:
        if "n" not in table:
            raise _CannotTellError("the figure is a share, so it needs a column n.")
        n = pd.to_numeric(table["n"], errors="coerce").fillna(0).to_numpy(float)
        hits = np.where(n > 0, table["value"].to_numpy(float) * n, 0.0)
        if ((hits < -1e-9) | (hits > n * (1 + 1e-9))).any():
            raise DataError(f"{rule.measure} is said to be a share, but lies outside [0, 1].")
        low, high = wilson(hits, n)
    out = []
    for limit, beyond, word in ((rule.above, low, "above"), (rule.below, high, "below")):
        if limit is None:
            continue
        there = beyond > limit if word == "above" else beyond < limit
        for i in np.flatnonzero(there):
            row = table.iloc[i]
            ends = (float(low[i]), float(high[i])) if rule.share else _NO_ENDS
            span = f" ({low[i]:.4g} to {high[i]:.4g})" if rule.share else ""
            says = f"{rule.measure} is {row['value']:.4g}{span}, {word} {limit:g}."
            out.append(_Hit(row["time"], row["group"], float(row["value"]), limit, *ends, says))
    return out


def _unusual(table: pd.DataFrame, rule: AnomalyRule) -> list[_Hit]:
    """Robust z: the distance from the median of the same weekday in the weeks before, by their median absolute
    deviation (Hampel 1974, The influence curve and its role in robust estimation), which a few bad days do not move.
    The spread is no less than 5 % of the usual; of whole numbers, which are counts, no less than its root, or 1."""
    out: list[_Hit] = []
    told = False
    counts = bool((table["value"] >= 0).all() and (table["value"] % 1 == 0).all())
    for group, mine in table.groupby("group"):
        weekday = mine["time"].dt.dayofweek
        for _, days in mine.groupby(weekday):
            values, times = days["value"].to_numpy(float), days["time"].tolist()
            for i in range(len(days)):
                first = times[i] - pd.Timedelta(weeks=rule.weeks)
                before = values[[j for j in range(i) if times[j] >= first]]
                if len(before) < rule.least:
                    continue
                told = True
                usual = float(np.median(before))
                spread = NORMAL * float(np.median(np.abs(before - usual)))
                spread = max(spread, float(np.sqrt(max(usual, 1.0))) if counts else 0.0, FLOOR * abs(usual), 1e-9)
                z = (values[i] - usual) / spread
                if abs(z) < rule.z or (rule.direction == "up" and z < 0) or (rule.direction == "down" and z > 0):
                    continue
                ends = (usual - rule.z * spread, usual + rule.z * spread)
                says = f"{rule.measure} is {values[i]:.4g}, on this weekday usually {usual:.4g} (z {z:+.1f})."
                out.append(_Hit(times[i], str(group), float(values[i]), usual, *ends, says))
    if not told:
        raise _CannotTellError(f"no weekday has {rule.least} weeks before it.")
    return out


def _fallen(table: pd.DataFrame, rule: SegmentRule) -> list[_Hit]:
    """Each group's share of the count in a window against its share in the days before: the two-sided test of two
    shares by log ratio (Katz et al. 1978), overdispersed by what days differ, Benjamini-Hochberg over groups."""
    from scipy import stats

    table = table[table["group"] != ""] if table["group"].ne("").any() else table  # all together are no group
    wide = table.pivot(index="time", columns="group", values="value").sort_index().fillna(0.0)
    if wide.shape[1] < 2:
        raise _CannotTellError("a share needs two groups at least, in a column group.")
    if (wide < 0).any(axis=None):
        raise DataError(f"{rule.measure} is negative in a row; a share is taken of counts.")
    out, told = [], False
    for last in wide.index:
        now = wide[(wide.index > last - pd.Timedelta(days=rule.days)) & (wide.index <= last)]
        start = last - pd.Timedelta(days=rule.days)
        then = wide[(wide.index > start - pd.Timedelta(days=rule.baseline_days)) & (wide.index <= start)]
        if len(then) < rule.baseline_days or len(now) < rule.days or not now.sum().sum() or not then.sum().sum():
            continue
        told = True
        a, n, b, m = now.sum(), now.sum().sum(), then.sum(), then.sum().sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(((a + 0.5) / (n + 1)) / ((b + 0.5) / (m + 1)))
            spread = np.sqrt(1 / (a + 0.5) - 1 / (n + 1) + 1 / (b + 0.5) - 1 / (m + 1)) * _more_than_chance(then)
        tested = (b > 0).to_numpy()
        p = np.ones(len(a))
        p[tested] = 2 * stats.norm.sf(np.abs(ratio / spread).to_numpy()[tested])
        p[tested] = stats.false_discovery_control(p[tested])
        high = np.exp(ratio + 1.96 * spread)
        low = np.exp(ratio - 1.96 * spread)
        for place in np.flatnonzero(tested & (p <= rule.fdr) & (high.to_numpy() <= 1 - rule.drop)).tolist():
            group = str(wide.columns[place])
            share, before = float(a.iloc[place] / n), float(b.iloc[place] / m)
            says = (
                f"The share of {group} in {rule.measure} is {share:.3f} over {rule.days} days, "
                f"{before:.3f} in the {rule.baseline_days} before: {high.iloc[place] - 1:+.0%} at most."
            )
            ends = (float(low.iloc[place]) * before, float(high.iloc[place]) * before)
            out.append(_Hit(last, group, share, before, *ends, says))
    if not told:
        raise _CannotTellError(f"no {rule.days} days follow on {rule.baseline_days} days of figures.")
    return out


def _more_than_chance(then: pd.DataFrame) -> pd.Series:
    """By how much a group's daily count varies more than shares of the day's total would by chance; 1 at least."""
    total = then.sum(axis=1)
    share = then.sum() / total.sum()
    expected = np.outer(total, share)
    chance = np.maximum(expected * (1 - share.to_numpy()), 1e-9)
    chi2 = ((then.to_numpy() - expected) ** 2 / chance).sum(axis=0) / max(len(then) - 1, 1)
    return pd.Series(np.sqrt(np.maximum(chi2, 1.0)), index=then.columns)


@dataclass(frozen=True, repr=False, eq=False)
class Measured(Result):
    """Whether alerts are worth it.

    Attributes:
        table: See `frame`.
    """

    table: pd.DataFrame = field(repr=False)
    title: ClassVar[str] = "How many alerts, how fast, how many were right"
    note: ClassVar[str] = "Hours are medians. An alert that nobody judged is neither right nor wrong."

    def frame(self) -> pd.DataFrame:
        """One row a rule, and one of all: alerts, open, hours_to_raise (from onset), hours_to_acknowledge and
        hours_to_close (from raising), judged, right, precision, low, high (95 % Wilson)."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Precision by rule."""
        from cxlab.display import interval_plot

        some = self.table[self.table["judged"] > 0]
        if some.empty:
            return sentence(self.title, "No alert has been judged yet.")
        ax = axes("Alerts that were right", height=row_height(some))
        labels = [f"{rule} ({n})" for rule, n in zip(some["rule"], some["judged"], strict=True)]
        return interval_plot(ax, labels, some["precision"], some["low"], some["high"])


class AlertBook:
    """Alerts in a file of JSON lines to which lines are added and never changed.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def entries(self) -> list[dict[str, Any]]:
        """All lines: raised, acknowledged, closed, webhook.

        Raises:
            DataError: A line is not one of ours.
        """
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path} cannot be read: {error}.") from None
        out = []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                if entry["entry"] not in ("raised", "acknowledged", "closed", "webhook") or not entry["id"]:
                    raise ValueError(entry["entry"])
                datetime.fromisoformat(entry["at"])
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{self.path}, line {number} is no entry on an alert: {line[:60]!r}. "
                    "Remove it, or take another file."
                ) from None
            out.append(entry)
        return out

    def state(self) -> dict[str, dict[str, Any]]:
        """By alert: what was raised, and when and by whom it was acknowledged and closed."""
        out: dict[str, dict[str, Any]] = {}
        for entry in self.entries():
            if entry["entry"] == "raised":
                out[entry["id"]] = {"status": "open", **entry}
            elif entry["entry"] in ("acknowledged", "closed") and entry["id"] in out:
                out[entry["id"]] |= {"status": entry["entry"], entry["entry"]: entry}
        return out

    def add(
        self, alerts: Alerts, *, webhook: WebhookParams | None = None, at: datetime | None = None
    ) -> tuple[list[Alert], list[str]]:
        """Writes down alerts that are new, and posts them where a webhook is given.

        An alert is not new if it is there, or if one of the same rule and group is still open.

        Args:
            alerts: From `watch`.
            webhook: Where each is posted as JSON; a failure is written down too, and nothing is lost by it.
            at: When they are raised; now if None.
        Returns:
            The new ones, and what went wrong with the webhook.
        """
        when, new, failed = _now(at), list[Alert](), list[str]()
        with self._locked() as file:
            known = self.state()
            open_ = {(item["rule"], item["group"]) for item in known.values() if item["status"] != "closed"}
            for alert in alerts.found:
                if alert.id in known or (alert.rule, alert.group) in open_:
                    continue
                open_.add((alert.rule, alert.group))
                new.append(alert)
            raised = [{"entry": "raised", "at": when, **plain(asdict(alert))} for alert in new]
            _append(file, raised)
            for entry in raised if webhook is not None else ():
                assert webhook is not None
                problem = _posted(entry, webhook)
                if problem:
                    failed.append(f"{entry['id']}: {problem}")
                _append(file, [{"entry": "webhook", "id": entry["id"], "at": _now(None), "problem": problem}])
        return new, failed

    def acknowledge(self, alert_id: str, *, by: str | None = None, at: datetime | None = None) -> None:
        """Somebody looks at it.

        Raises:
            ParamsError: There is no such alert, or it is acknowledged or closed already.
        """
        self._word("acknowledged", alert_id, by, at, {})

    def close(
        self, alert_id: str, *, right: bool | None, by: str | None = None, at: datetime | None = None, why: str = ""
    ) -> None:
        """It is over.

        Args:
            alert_id: Which.
            right: Whether there was something to look at; None where that cannot be told.
            by: Who; the acting person if None.
            at: When; now if None.
            why: In words.
        Raises:
            ParamsError: There is no such alert, or it is closed already.
        """
        self._word("closed", alert_id, by, at, {"right": right, "why": why})

    def measured(self) -> Measured:
        """Counts, times and precision, by rule and of all."""
        items = list(self.state().values())
        rules = sorted({item["rule"] for item in items})
        rows = [_row(rule, [item for item in items if item["rule"] == rule]) for rule in rules]
        return Measured(pd.DataFrame([*rows, _row("(all)", items)]))

    def _word(
        self,
        entry: str,
        alert_id: str,
        by: str | None,
        at: datetime | None,
        more: dict[str, Any],
    ) -> None:
        allowed = ("open",) if entry == "acknowledged" else ("open", "acknowledged")
        with self._locked() as file:
            known = self.state()
            if alert_id not in known:
                raise ParamsError(unknown("Alert", alert_id, known, where=f"in {self.path.name}"))
            status = known[alert_id]["status"]
            if status not in allowed:
                raise ParamsError(f"Alert {alert_id} is {status} already; only what is {' or '.join(allowed)} can be.")
            facts = {"entry": entry, "id": alert_id, "at": _now(at), "by": by or acting_person(), **more}
            _append(file, [facts])

    def _locked(self) -> Any:
        try:
            file = self.path.open("ab")
        except OSError as error:
            raise DataError(f"{self.path} cannot be written: {error.strerror}.") from None
        if not hold(file.fileno()):
            file.close()
            raise DataError(f"{self.path} is being written by another process. Try again in a moment.")
        return file


def _append(file: Any, entries: Sequence[dict[str, Any]]) -> None:
    file.write(b"".join(canonical(entry) + b"\n" for entry in entries))
    file.flush()


def _now(at: datetime | None) -> str:
    if at is not None and at.tzinfo is None:
        raise ParamsError(f"at == {at}, must have a time zone, such as 2026-01-31T00:00:00+00:00.")
    return (datetime.now(UTC) if at is None else at).astimezone(UTC).isoformat()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An alert goes where the params say and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _posted(entry: dict[str, Any], webhook: WebhookParams) -> str | None:
    """Posts an alert; what went wrong, or None."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(webhook.url, canonical(entry), headers, method="POST")
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=webhook.timeout_s) as answer:
            return None if answer.status < 300 else f"answered {answer.status}"
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error)) or type(error).__name__


def _row(rule: str, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    judged = [item["closed"]["right"] for item in items if item.get("closed", {}).get("right") is not None]
    low, high = wilson(sum(judged), len(judged))
    return {
        "rule": rule,
        "alerts": len(items),
        "open": sum(item["status"] != "closed" for item in items),
        "hours_to_raise": _hours([(item["onset"], item["at"]) for item in items]),
        "hours_to_acknowledge": _hours([(i["at"], i["acknowledged"]["at"]) for i in items if "acknowledged" in i]),
        "hours_to_close": _hours([(i["at"], i["closed"]["at"]) for i in items if "closed" in i]),
        "judged": len(judged),
        "right": sum(judged),
        "precision": sum(judged) / len(judged) if judged else np.nan,
        "low": float(low),
        "high": float(high),
    }


def _hours(spans: Sequence[tuple[str, str]]) -> float:
    """The median of spans, in hours; NaN where there is none."""
    ends = [(datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds() for start, end in spans]
    return float(np.median(ends)) / 3600 if ends else float("nan")
