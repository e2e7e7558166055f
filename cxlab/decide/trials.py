"""A table of decisions by the roles that params give its columns: what is learnt from, and what is decided about.

past, now = split_decisions(frame, params, "2025-01-01")
trial = trial_of(past, params)
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.decide.uplift import Trial, read_trial
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.params.actions import ActionsParams
from cxlab.params.trial import TrialParams


def _roles(params: ActionsParams) -> TrialParams:
    if params.trial is None:
        raise ParamsError("trial is missing; it names the columns of a table of decisions. See params/actions.yaml.")
    return params.trial


def trial_of(frame: pd.DataFrame, params: ActionsParams) -> Trial:
    """Decisions as a trial.

    Args:
        frame: A row a decision.
        params: With a `trial` section.
    Raises:
        DataError: A column is missing or does not hold what it should, or there is no control.
        ParamsError: There is no such section.
    """
    told = _roles(params)
    features = told.features
    if features is None:
        taken = {told.action, told.outcome, told.customer, told.time, *told.chances.values(), *told.drop}
        features = tuple(str(name) for name in frame.columns if name not in taken)
    return read_trial(
        frame,
        action=told.action,
        outcome=told.outcome,
        features=features,
        control=told.control,
        chances=told.chances or None,
        customer=told.customer,
    )


def split_decisions(frame: pd.DataFrame, params: ActionsParams, since: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decisions before a moment, and each customer's first from then on.

    Args:
        frame: A row a decision.
        params: With a `trial` section that names customer and time.
        since: The moment, UTC where it has no zone.
    Raises:
        DataError: A column is missing, a time cannot be read, or one side has no decision.
        ParamsError: The section does not name them, or the moment is none.
    """
    told = _roles(params)
    if told.time is None or told.customer is None:
        raise ParamsError("trial.time and trial.customer are needed to split decisions; name their columns.")
    for name in (told.time, told.customer):
        if name not in frame:
            raise missing_column(name, map(str, frame.columns))
    border = int(microseconds_of([since], None, "UTC")[0])
    if border == UNKNOWN:
        raise ParamsError(f"since == {since!r}, must be a time such as 2025-01-01.")
    at = microseconds_of(frame[told.time], None, "UTC")
    if (at == UNKNOWN).any():
        raise DataError(f"{int((at == UNKNOWN).sum()):,} rows have no {told.time!r} that can be read; leave them out.")
    past, later = frame[at < border], frame[at >= border]
    if past.empty or later.empty:
        side = "before" if past.empty else "from"
        raise DataError(
            f"No decision lies {side} {since}; they run from {frame[told.time].min()} to {frame[told.time].max()}."
        )
    later = later.assign(_at=at[at >= border]).sort_values("_at", kind="stable").drop(columns="_at")
    first = later.drop_duplicates(told.customer)
    return past.reset_index(drop=True), first.reset_index(drop=True)
