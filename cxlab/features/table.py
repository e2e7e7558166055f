"""The rows that a params file speaks of: a table as it is, or events made into one row a customer and cutoff.

table = load_table(params)
table.frame                # with `events:`, customer_id, cutoff, attributes, features and the outcome
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from cxlab.data.admit import Admitted, admit
from cxlab.data.identity import KINDS
from cxlab.data.log import LogTable, ordered, read_log
from cxlab.data.table import Meaning, Source, Table, locate, read_table
from cxlab.data.taxonomy import Taxonomy
from cxlab.digest import sha256
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.features.events import Computed, compute
from cxlab.params import Params
from cxlab.params.events import EventsParams
from cxlab.params.features import Feature, Features, Outcome


def load_table(params: Params, *, admitted: Admitted | None = None) -> Table:
    """Reads the data that the params name and gives the columns their roles.

    Args:
        params: With `events`, `data.path` holds events; rows whose outcome the events end too early to tell are left
            out.
        admitted: The events, where `admit_events` has read them already.
    Raises:
        DataError: A file cannot be read, or no row is left.
        ParamsError: `events` lacks cutoffs or a label.
    """
    if params.task == "sequence":
        return read_log(params.data) if params.events is None else _log(params, admitted or admit_events(params))
    if params.events is None:
        return read_table(params.data)
    if params.events.outcome() is None:
        raise ParamsError("events.label is missing; say which event is the outcome, and events.horizon_days.")
    admitted = admit_events(params) if admitted is None else admitted
    return _table(params, admitted, features_of(admitted, params.events))


def load_log(params: Params, path: str | Path) -> LogTable:
    """Another log in the columns and roles of a sequence's params; segments may be missing there.

    Raises:
        DataError: A file cannot be read, or no row is left.
    """
    data = params.data.model_copy(update={"path": str(Path(path).absolute()), "segments": ()})
    log = load_table(params.model_copy(update={"data": data}))
    assert isinstance(log, LogTable)
    return log


def admit_events(params: Params, *, at: datetime | None = None) -> Admitted:
    """The events that `data.path` names, as far as they may be used: now, if no other moment is given.

    Raises:
        DataError: A file cannot be read, or nothing may be used.
        ParamsError: The params have no `events`.
    """
    if params.events is None:
        raise ParamsError(f"The params of {params.name} have no events section; they speak of a table.")
    return admit(locate(params.data.path), params.events, timezone=params.data.timezone, at=at)


def features_of(admitted: Admitted, params: EventsParams, cutoffs: Sequence[str] | None = None) -> Computed:
    """Features of admitted events, at the params' cutoffs unless others are given.

    Raises:
        ParamsError: There is no cutoff.
    """
    if not params.features:
        raise ParamsError(
            "events.features is missing; declare at least one, or name a file such as features/churn.yaml."
        )
    times = params.cutoffs if cutoffs is None else cutoffs
    if not times:
        raise ParamsError("events.cutoffs == [], must hold at least one time such as 2025-01-01.")
    label = params.outcome()
    named: list[Feature | Outcome] = [*params.features, *([label] if label else [])]
    for which in named:
        _refuse_unknown(which, admitted.read.taxonomy)
    found = compute(
        admitted.events,
        Features(features=tuple(params.features)),
        list(times),
        attributes=admitted.customers,
        label=label,
        active_days=params.active_days,
    )
    found.manifest["events"] = admitted.facts()
    return found


def _refuse_unknown(which: Feature | Outcome, taxonomy: Taxonomy) -> None:
    """A mistyped name would count nothing, and nobody would see it."""
    for what, given, known in (("Event", which.event, taxonomy.events), ("Channel", which.channel, taxonomy.channels)):
        for value in given:
            if value not in known:
                raise ParamsError(f"{which.name}: {unknown(what, value, known, 'in the taxonomy')}")


def _log(params: Params, admitted: Admitted) -> LogTable:
    """A log of what customers went through: a customer is a case, and what is known of them then stands beside it."""
    frame = _plain(admitted.events).sort_values("occurred_at", kind="stable")
    if admitted.customers is not None:
        known = _plain(admitted.customers)
        since = known["valid_from"].fillna(frame["occurred_at"].min()).astype(frame["occurred_at"].dtype)
        known = known.assign(occurred_at=since).sort_values("occurred_at", kind="stable").drop(columns="valid_from")
        frame = pd.merge_asof(frame, known, on="occurred_at", by="customer_id")
    wanted = [*params.data.attributes, *params.data.segments, params.journey.value, params.journey.repeats]
    frame = _with_properties(frame, [name for name in wanted if name is not None and name not in frame])
    first = _plain(admitted.events)["customer_id"].drop_duplicates()  # no key of pseudonyms moves a case
    made, notes = ordered(frame, params.data, rank=pd.Series(np.arange(len(first)), index=pd.Index(first)))
    content = pd.util.hash_pandas_object(made.drop(columns=list(KINDS)), index=False)
    source = Source(
        str(locate(params.data.path)),
        sha256(content.to_numpy().tobytes()),
        len(made),
        (admitted.told(), *admitted.read.notes, *notes),
    )
    return LogTable(made, params.data, source)


def _with_properties(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A frame with properties of events as columns of their own."""
    if not names:
        return frame
    told = [json.loads(text) if isinstance(text, str) else {} for text in frame["properties"]]
    known = sorted({name for each in told for name in each})
    for name in names:
        if name not in known:
            raise DataError(unknown("Column", name, [*map(str, frame.columns), *known], "in the events or properties"))
    return frame.assign(**{name: pd.Series([each.get(name) for each in told], frame.index, object) for name in names})


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame whose texts are objects, whatever kind of text they came as."""
    texts = [name for name in frame if pd.api.types.is_string_dtype(frame[name].dtype)]
    return frame.astype(dict.fromkeys(texts, object))


def _table(params: Params, admitted: Admitted, found: Computed) -> Table:
    """Rows by cutoff, and by the order in which customers first came in: no key of pseudonyms moves them."""
    frame = found.frame()
    name = str(params.data.target)
    known = frame[name].notna()
    first = admitted.events["customer_id"].drop_duplicates()
    order = pd.Series(np.arange(len(first)), index=pd.Index(first))
    frame = frame[known].assign(_order=lambda f: f["customer_id"].map(order))
    frame = frame.sort_values(["cutoff", "_order"], ignore_index=True).drop(columns="_order")
    if frame.empty:
        raise DataError(
            f"No row has an outcome: the events end at {found.manifest['data_end']}, before any horizon does. Give "
            "earlier events.cutoffs or a shorter events.horizon_days."
        )
    days = (frame["cutoff"] == frame["cutoff"].dt.normalize()).all()
    shown = frame["cutoff"].dt.strftime("%Y-%m-%d" if days else "%Y-%m-%dT%H:%M:%S.%fZ")
    frame = frame.assign(cutoff=shown.astype("object"))
    frame[name] = frame[name].map({True: "yes", False: "no"}).astype("object")
    notes = [admitted.told(), *admitted.read.notes]
    if (~known).any():
        notes.append(f"{int((~known).sum()):,} rows have no outcome yet: the events end too early.")
    content = pd.util.hash_pandas_object(frame.drop(columns="customer_id"), index=False).to_numpy().tobytes()
    meanings = {item["name"]: Meaning(item["description"], item["unit"]) for item in found.manifest["definitions"]}
    source = Source(str(locate(params.data.path)), sha256(content), len(frame), tuple(notes))
    return Table(frame, params.data, source, meanings=meanings)
