"""What customers permit: one filter that every reader of events goes through.

    consents = Consents.of(events, customers, rules=Rules(retention={"marketing": 365}))
    consents.allowed("c1", "marketing", at)
    kept = permitted(events, consents, purpose="analytics", at=at)
    kept.frame             # the rows that may be used for it at that time
    kept.left_out          # how many are not, by reason; nobody is named

Where a customer said nothing, `service` is allowed and the other purposes are not. The newest word counts, a
withdrawal before a grant of the same instant. Who withdrew is out with all of the past; a later grant brings it back.
Minors and vulnerable customers are left out of everything but service, whatever they said and whenever they were
marked. An event may be used for the purpose it was collected for, and for others only where the rules say so. Times
without a zone are refused, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from cxlab.data.taxonomy import PURPOSES
from cxlab.display import as_html
from cxlab.errors import DataError, ParamsError, missing_column, unknown

ALL = "all"  # a statement on every purpose, service too
GRANTED, WITHDRAWN = "consent_granted", "consent_withdrawn"
MARKS = ("minor", "vulnerable")
REASONS = ("no customer", "withdrawn", "minor", "vulnerable", "never granted", "other purpose", "retention")
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_SAID = ["customer_id", "purpose", "at", "granted"]


@dataclass(frozen=True)
class Rules:
    """What holds where nobody said anything.

    Attributes:
        unsaid: Purposes allowed until they are withdrawn.
        legitimate_interest: More of them, on that ground.
        retention: Days for which events of a purpose, and events used for it, are kept; no limit where none is given.
        compatible: Other purposes that events of a purpose may be used for, as {"service": ("analytics",)}.
    """

    unsaid: tuple[str, ...] = ("service",)
    legitimate_interest: tuple[str, ...] = ()
    retention: Mapping[str, float] = field(default_factory=dict)
    compatible: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [*self.unsaid, *self.legitimate_interest, *self.retention, *self.compatible]
        for purpose in [*named, *(name for names in self.compatible.values() for name in names)]:
            _known(purpose)
        for purpose, days in self.retention.items():
            if not days > 0:
                raise ParamsError(f"retention.{purpose} == {days!r} days, must be > 0; leave it out for no limit.")

    def allows_unsaid(self, purpose: str) -> bool:
        return purpose in self.unsaid or purpose in self.legitimate_interest

    def days(self, collected: str | None, purpose: str) -> float:
        """How old an event may be: the stricter of what it was collected for and what it is used for."""
        return min(self.retention.get(str(collected), np.inf), self.retention.get(purpose, np.inf))


@dataclass(frozen=True)
class Consents:
    """All that customers said, and who is marked.

    Attributes:
        said: `customer_id`, `purpose`, `at`, `granted`, in this order; of one
            instant, a withdrawal last.
        marked: Customers by mark.
        rules: What holds where nothing was said.
        nobody: Statements without a customer, which bind nobody.
    """

    said: pd.DataFrame = field(repr=False)
    marked: Mapping[str, frozenset[str]] = field(repr=False)
    rules: Rules = field(default_factory=Rules)
    nobody: int = 0

    @classmethod
    def of(cls, *tables: pd.DataFrame, rules: Rules | None = None) -> Consents:
        """Reads what was said and who is marked.

        Args:
            tables: Any of: events, of which `consent_granted` and `consent_withdrawn` have a property `purpose` (one of
                ours, or "all") and any may have `minor` or `vulnerable`; statements `customer_id`, `purpose`,
                `granted`, `at`; customers with columns `minor` or `vulnerable`.
            rules: `Rules()` if None.
        Raises:
            DataError: A statement has no readable purpose, time or answer, or a time has no zone.
        """
        statements, marked = [pd.DataFrame(columns=_SAID)], {mark: set[str]() for mark in MARKS}
        for table in tables:
            if "customer_id" not in table:
                raise missing_column("customer_id", [str(name) for name in table])
            if "granted" in table:
                statements.append(_from_table(table))
            elif "event" in table:
                statements.append(_from_events(table))
                for row, facts in _properties(table, '"minor"|"vulnerable"'):
                    for mark in MARKS:
                        if _yes(facts.get(mark)) and pd.notna(row.customer_id):
                            marked[mark].add(str(row.customer_id))
            for mark in MARKS:
                if mark in table:
                    there = table["customer_id"].notna() & table[mark].map(_yes).astype(bool)
                    marked[mark] |= set(table.loc[there, "customer_id"].astype(str))
        said = pd.concat([item for item in statements if len(item)] or statements, ignore_index=True)
        named = said[said["customer_id"].notna()]
        every = named["purpose"] == ALL
        spread = [named[~every], *(named[every].assign(purpose=purpose) for purpose in PURPOSES)]
        said = pd.concat(spread).astype({"customer_id": "str", "purpose": "str", "granted": "bool"})
        said["at"] = said["at"].astype("datetime64[us, UTC]")
        said = said.sort_values(_SAID, ascending=[True, True, True, False], ignore_index=True)
        frozen = {mark: frozenset(names) for mark, names in marked.items()}
        return cls(said, frozen, rules or Rules(), nobody=int(sum(map(len, statements)) - len(named)))

    def allowed(self, customer: str, purpose: str, at: datetime) -> bool:
        """Whether the customer permits the purpose at that time.

        Raises:
            ParamsError: The purpose is not known, or `at` has no time zone.
        """
        _known(purpose)
        if purpose != "service" and any(customer in names for names in self.marked.values()):
            return False
        first, last = np.searchsorted(self.said["customer_id"].to_numpy(object), [customer, customer + "\0"])
        mine = self.said.iloc[first:last]
        answers = mine.loc[(mine["purpose"] == purpose) & (mine["at"] <= _moment(at)), "granted"]
        return bool(answers.iloc[-1]) if len(answers) else self.rules.allows_unsaid(purpose)

    def _newest(self, purpose: str, at: pd.Timestamp) -> pd.Series:
        """The last answer by customer."""
        there = self.said[(self.said["purpose"] == purpose) & (self.said["at"] <= at)]
        return there.drop_duplicates("customer_id", keep="last").set_index("customer_id")["granted"]


@dataclass(frozen=True)
class Permitted:
    """What may be read.

    Attributes:
        frame: The rows, in their order.
        left_out: Rows by reason, every reason there; each row has the first that holds, in the order of `REASONS`.
    """

    frame: pd.DataFrame = field(repr=False)
    left_out: dict[str, int]
    purpose: str
    at: pd.Timestamp

    def _repr_html_(self) -> str:
        table = pd.DataFrame([{"reason": "kept", "rows": len(self.frame)}, *_rows(self.left_out)])
        return as_html(f"Rows permitted for {self.purpose} at {self.at:%Y-%m-%d %H:%M} UTC", table, "")


def permitted(frame: pd.DataFrame, consents: Consents, *, purpose: str, at: datetime) -> Permitted:
    """The rows that may be used for a purpose at a time.

    Args:
        frame: Rows with `customer_id`, resolved; those without one are left out, as nobody can tell what they permit.
            Events have `occurred_at` and `purpose` too; where a table lacks one, what it decides is not judged.
        consents: What customers said.
        purpose: What the rows are to be used for.
        at: When they are to be used, with a time zone.
    Raises:
        DataError: A column is missing, a time has no zone, or an event has no known purpose.
        ParamsError: The purpose is not known, or `at` has no time zone.
    """
    _known(purpose)
    moment, rules = _moment(at), consents.rules
    if "customer_id" not in frame:
        raise missing_column("customer_id", [str(name) for name in frame])
    codes, customers = pd.factorize(frame["customer_id"])
    names = pd.Index([str(name) for name in customers], dtype=object)
    newest = consents._newest(purpose, moment).astype(np.int8).reindex(names, fill_value=-1)
    answer = np.append(newest.to_numpy(), -1)[codes]  # the last is nobody's
    out: dict[str, np.ndarray] = dict.fromkeys(REASONS, np.zeros(len(frame), dtype=bool))
    out["no customer"] = codes < 0
    out["withdrawn"] = answer == 0
    out["never granted"] = (answer < 0) & (not rules.allows_unsaid(purpose))
    for mark in MARKS if purpose != "service" else ():
        out[mark] = np.append(names.isin(list(consents.marked[mark])), False)[codes]
    days = np.full(len(frame), rules.days(None, purpose))
    if "purpose" in frame:
        kinds, collected = pd.factorize(frame["purpose"])
        if (kinds < 0).any() or not set(collected) <= set(PURPOSES):
            wrong = next((str(name) for name in collected if name not in PURPOSES), "")
            raise DataError(unknown("Purpose", wrong, PURPOSES, where="one an event can have"))
        fit = [kind == purpose or purpose in rules.compatible.get(str(kind), ()) for kind in collected]
        out["other purpose"] = ~np.array(fit, dtype=bool)[kinds]
        days = np.array([rules.days(str(kind), purpose) for kind in collected], dtype=np.float64)[kinds]
    if "occurred_at" in frame:
        age = (moment - _times(frame["occurred_at"], "occurred_at")).to_numpy() / np.timedelta64(1, "D")
        out["retention"] = (age > days) | (np.isnan(age) & np.isfinite(days))  # of unknown age: cannot tell
    left, kept = {}, np.ones(len(frame), dtype=bool)
    for reason in REASONS:
        left[reason] = int((out[reason] & kept).sum())
        kept &= ~out[reason]
    return Permitted(frame[kept].copy(), left, purpose, moment)


def _rows(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"reason": reason, "rows": count} for reason, count in counts.items()]


def _known(purpose: str) -> None:
    if purpose not in PURPOSES:
        raise ParamsError(unknown("Purpose", str(purpose), PURPOSES))


def _moment(at: datetime) -> pd.Timestamp:
    moment = pd.Timestamp(at)
    if moment.tzinfo is None:  # NaT has none
        raise ParamsError(f"at == {at!s}, must have a time zone, such as 2026-01-31T00:00:00+00:00.")
    return moment.tz_convert("UTC")


def _times(column: pd.Series, name: str) -> pd.Series:
    """Times in UTC; text must carry its zone."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return column.dt.tz_convert("UTC")
    try:
        moments = [pd.Timestamp(value) for value in column]
    except (ValueError, TypeError) as error:
        raise DataError(f"Column {name!r} holds what is no time: {error}.") from None
    if any(pd.notna(moment) and moment.tzinfo is None for moment in moments):
        raise DataError(f"Column {name!r} has times without a zone; give them in UTC, as 2026-01-31T00:00:00+00:00.")
    utc = [moment.tz_convert("UTC") if pd.notna(moment) else None for moment in moments]
    return pd.Series(utc, index=column.index, dtype="datetime64[us, UTC]")


def _yes(value: Any) -> bool:
    return str(value).strip().casefold() in _YES


def _properties(events: pd.DataFrame, pattern: str | None = None) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Events and what their properties say; those alone that contain the pattern."""
    if "properties" not in events:
        return
    if pattern is not None:
        there = events["properties"].astype("string").str.contains(pattern, regex=True)
        events = events[there.fillna(False).astype(bool)]
    for row in events.itertuples():
        try:
            facts = json.loads(row.properties) if isinstance(row.properties, str) else {}
        except ValueError:
            facts = {}
        yield row, facts if isinstance(facts, dict) else {}


def _from_events(events: pd.DataFrame) -> pd.DataFrame:
    for name in ("occurred_at", "properties"):
        if name not in events:
            raise missing_column(name, [str(column) for column in events])
    there = events[events["event"].isin([GRANTED, WITHDRAWN])]
    purposes = [str(facts.get("purpose")) for _, facts in _properties(there)]
    said = there.assign(purpose=purposes, granted=there["event"] == GRANTED, at=there["occurred_at"])
    return _from_table(said)


def _from_table(table: pd.DataFrame) -> pd.DataFrame:
    for name in _SAID:
        if name not in table:
            raise missing_column(name, [str(column) for column in table])
    said = table[_SAID].assign(at=_times(table["at"], "at"))
    for purpose in said["purpose"].unique():
        if purpose not in (*PURPOSES, ALL):
            count = int((said["purpose"].isin([purpose])).sum())
            said_so = unknown("Purpose", str(purpose), (*PURPOSES, ALL))
            raise DataError(f"{count:,} statements on consent: {said_so}")
    answers = said["granted"].map(lambda value: str(value).strip().casefold())
    if not answers.isin([*_YES, *_NO]).all() or said["at"].isna().any():
        raise DataError("A statement on consent has no time, or its 'granted' is not true or false. Mend or drop it.")
    return said.assign(granted=answers.isin(_YES))
