"""The one door for events: read by the contract, each with its customer, and only what customers permit.

    admitted = admit("events.parquet", params.events)
    admitted.events        # the contract's columns; customer_id is filled
    admitted               # how many rows came in, and where each went

Features, training, scoring and pages get events from here alone. In this order: what breaks the contract is set aside;
who was forgotten is left out; identifiers become pseudonyms, and keys that meet become one customer; what a customer
does not permit now, or what is older than it may be kept, is left out. What was withdrawn a minute ago is gone from
whatever is made next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from cxlab.data.consent import MARKS, WITHDRAWN, Consents, Rules, permitted
from cxlab.data.events import Events, Source, read_events
from cxlab.data.files import read_frame
from cxlab.data.forget import is_forgotten
from cxlab.data.identity import KINDS, Caps, Identities, pseudonym, pseudonymise, read_decisions, resolve, secret_key
from cxlab.data.taxonomy import Mapping, load_mapping, load_taxonomy
from cxlab.display import PALETTE, Result, axes, row_height
from cxlab.errors import DataError, missing_column
from cxlab.params.events import AttributesParams, ConsentParams, EventsParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORGOTTEN = "forgotten"


@dataclass(frozen=True, repr=False)
class Admitted(Result):
    """Events that may be used for a purpose.

    Attributes:
        events: The contract's columns with `customer_id` filled, in the order in which they were received.
        left_out: Accepted rows that may not be used, by reason.
        customers: What is known of customers besides their events: `customer_id`, `valid_from` and the columns that
            the params name; None where no table is named.
        read: What the contract made of the rows.
        identities: Who is one customer, and why.
        consents: What customers said.
        purpose: What the events are used for.
        at: The moment at which that was judged.
        gone: Customers of the accepted events of whom no event may be used.
        names: Each customer by the customer_id with which an event came in, as a pseudonym where there are any.
        key: Of the pseudonyms; None where identifiers stay as they are.
    """

    events: pd.DataFrame = field(repr=False)
    left_out: dict[str, int]
    customers: pd.DataFrame | None = field(repr=False)
    read: Events
    identities: Identities
    consents: Consents
    purpose: str
    at: pd.Timestamp
    gone: int
    names: pd.Series = field(repr=False)
    key: bytes | None = field(repr=False)

    title: ClassVar[str] = "Events that came in, and where they went"

    @property
    def note(self) -> str:  # type: ignore[override]
        return f"Judged for {self.purpose} at {self.at:%Y-%m-%d %H:%M} UTC. {self.told()}"

    def told(self) -> str:
        """The sum, in a sentence."""
        out = sum(self.left_out.values())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        return (
            f"{self.read.rows_in:,} rows in = {len(self.events):,} used + {out:,} left out"
            f"{f' ({reasons})' if reasons else ''} + {len(self.read.quarantine):,} quarantined; "
            f"{self.events['customer_id'].nunique():,} customers, {self.gone:,} more left out whole."
        )

    def permits(self, customers: pd.Series) -> np.ndarray:
        """Whether each customer, by any name, may be used for the purpose at the moment; shape (n,), bool.

        Who is in no event is judged as who said nothing; who was forgotten is not permitted.
        """
        found = pd.DataFrame({"customer_id": _named(customers, self.names, self.key)}, index=range(len(customers)))
        kept = permitted(found, self.consents, purpose=self.purpose, at=self.at).frame.index
        return np.isin(np.arange(len(customers)), kept) & ~is_forgotten(customers).to_numpy(bool)

    def known(self, customers: pd.Series) -> np.ndarray:
        """Whether each is a customer of an event that came in; shape (n,), bool."""
        codes, values = pd.factorize(customers)
        return np.append(_own(values, self.key).isin(self.names.index), False)[codes]

    def facts(self) -> dict[str, Any]:
        """The sum as plain values, for a manifest: counts, nobody's name."""
        return {
            "rows_in": self.read.rows_in,
            "used": len(self.events),
            "left_out": self.left_out,
            "quarantined": self.read.quarantine["reason"].value_counts().to_dict(),
            "customers_left_out": self.gone,
            "purpose": self.purpose,
            "judged_at": self.at.isoformat(),
        }

    def frame(self) -> pd.DataFrame:
        """Rows by where they went."""
        counts = {"used": len(self.events), **{name: n for name, n in self.left_out.items() if n}}
        aside = self.read.quarantine["reason"].value_counts()
        counts |= {f"quarantined: {str(name).replace('_', ' ')}": int(n) for name, n in aside.items()}
        rows = list(counts.values())
        return pd.DataFrame({"rows went": list(counts), "rows": rows}).assign(
            share=np.array(rows) / max(self.read.rows_in, 1)
        )

    def plot(self) -> Axes:
        """Rows by where they went."""
        frame = self.frame()
        ax = axes(f"{self.read.rows_in:,} rows came in", height=row_height(frame))
        ax.barh(frame["rows went"], frame["rows"], color=[PALETTE[0], *[PALETTE[1]] * (len(frame) - 1)])
        ax.invert_yaxis()
        ax.set_xlabel("rows")
        return ax


def admit(
    source: Source | list[Source], params: EventsParams, *, timezone: str = "UTC", at: datetime | None = None
) -> Admitted:
    """Reads events and keeps what may be used.

    Args:
        source: As `read_events` takes it.
        params: The mapping, identities, consent and attributes to go by.
        timezone: In which times without an offset are read, unless the mapping says.
        at: When the events are used, with a time zone; now if None.
    Raises:
        DataError: A file cannot be read, a withdrawal of consent is in quarantine, or nothing may be used.
    """
    mapping = None if params.mapping is None else load_mapping(params.mapping)
    read = read_events(source, mapping=mapping, taxonomy=load_taxonomy(params.taxonomy), timezone=timezone)
    _refuse_lost_words(read, mapping)
    moment = pd.Timestamp(datetime.now(UTC) if at is None else at)
    key = secret_key() if params.identity.pseudonymise else None
    frame, forgotten = _remembered(read.accepted)
    frame = frame if key is None else pseudonymise(frame, key=key)
    caps = Caps(params.identity.linked, params.identity.device, params.identity.keys)
    decisions = params.identity.decisions
    who = resolve(frame, caps=caps, without=() if decisions is None else read_decisions(decisions))
    named = who.apply(frame)
    joined = pd.DataFrame({"before": frame["customer_id"], "after": named["customer_id"]}).dropna()
    names = joined.drop_duplicates("before").set_index("before")["after"]
    customers, marks = _customers(params.attributes, names, key)
    consents = Consents.of(named, *([] if marks is None else [marks]), rules=rules_of(params.consent))
    kept = permitted(named, consents, purpose=params.consent.purpose, at=moment)
    left_out = {FORGOTTEN: forgotten, **kept.left_out}
    gone = named["customer_id"].nunique() - kept.frame["customer_id"].nunique()
    admitted = Admitted(
        events=kept.frame.reset_index(drop=True),
        left_out=left_out,
        customers=customers,
        read=read,
        identities=who,
        consents=consents,
        purpose=kept.purpose,
        at=kept.at,
        gone=gone,
        names=names,
        key=key,
    )
    if kept.frame.empty:
        raise DataError(
            f"No event may be used for {kept.purpose}: {admitted.told()} Reasons by row: cxlab data check; on what "
            "ground events may be used: events.consent in the params."
        )
    return admitted


def _refuse_lost_words(read: Events, mapping: Mapping | None) -> None:
    """A withdrawal that cannot be read must not pass for consent."""
    foreign = (mapping.values or {}).get("event", {}) if mapping else {}
    names = {WITHDRAWN, *(text for text, event in foreign.items() if event == WITHDRAWN)}
    refuse_lost(read, names, "withdrawals of consent are in quarantine, so whose data may be used cannot be told")


def refuse_lost(read: Events, names: Collection[str], so: str) -> None:
    """Stops where an event of one of these names is in quarantine.

    Args:
        read: What was read.
        names: Events, as the source calls them.
        so: What they are, and what follows, after their number.
    Raises:
        DataError: One is.
    """
    aside = read.quarantine[read.quarantine["reason"] != "exact_copy"]
    lost = [any(f'"{name}"' in raw for name in names) for raw in aside["raw"]]
    if any(lost):
        first = aside[lost].iloc[0]
        raise DataError(
            f"{sum(lost):,} {so} ({first['source']}, row {first['line']}: {first['message']}) Mend them first."
        )


def rules_of(params: ConsentParams) -> Rules:
    """What holds where nobody said anything, as the params tell."""
    return Rules(
        legitimate_interest=tuple(params.legitimate_interest),
        retention={str(name): days for name, days in params.retention.items()},
        compatible={str(name): tuple(others) for name, others in params.compatible.items()},
    )


def _remembered(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Without the rows of which any identifier is of somebody who was forgotten."""
    gone = np.zeros(len(frame), bool)
    for kind in KINDS:
        if kind in frame:
            gone |= is_forgotten(frame[kind], kind=kind).to_numpy(bool)
    return frame[~gone], int(gone.sum())


def _named(given: pd.Series, names: pd.Series, key: bytes | None) -> np.ndarray:
    """The customers that go by these customer_ids now."""
    codes, values = pd.factorize(given)
    own = _own(values, key)
    found = [*own.map(names).fillna(own), None]  # the last is nobody's
    return np.array(found, dtype=object)[codes]


def _own(values: Iterable[Any], key: bytes | None) -> pd.Series:
    """The names under which customer_ids come in."""
    return pd.Series([pseudonym("customer_id", value, key) if key else str(value) for value in values], dtype=object)


def _customers(
    params: AttributesParams | None, names: pd.Series, key: bytes | None
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The table of customers under the names that identities gave them: attributes over time, and who is marked."""
    if params is None:
        return None, None
    table, _ = read_frame(Path(params.path))
    for name in ["customer_id", *([params.valid_from] if params.valid_from else []), *params.columns]:
        if name not in table:
            raise missing_column(name, [str(column) for column in table])
    table = table[~is_forgotten(table["customer_id"]).to_numpy(bool)]
    now = _named(table["customer_id"], names, key)
    own = now == _named(table["customer_id"], pd.Series(dtype=object), key)
    marked = table.assign(customer_id=now)
    since = pd.Timestamp(0, tz="UTC") if params.valid_from is None else _since(table[params.valid_from])
    out = marked[["customer_id", *params.columns]].assign(valid_from=since, own=own)
    out = out.sort_values("own", kind="stable").drop_duplicates(["customer_id", "valid_from"], keep="last")
    return out.drop(columns="own"), marked[["customer_id", *(mark for mark in MARKS if mark in table)]]


def _since(column: pd.Series) -> Any:
    found = pd.to_datetime(column, utc=True, errors="coerce", format="ISO8601")
    if found.isna().any():
        raise DataError(
            f"{int(found.isna().sum()):,} rows of {column.name!r} hold no time; it says since when they hold."
        )
    return found.astype("datetime64[us, UTC]").to_numpy()
