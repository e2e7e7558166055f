"""Decisions of which some did something by lot, and what came of them: what effects of actions are learnt from.

past, now = split_decisions(frame, params, "2025-01-01")
trial = trial_of(past, params)              # by the roles that params give its columns; or read_trial(frame, ...)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.params.actions import ActionsParams
from cxlab.params.trial import TrialParams

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

FEWEST = 30  # rows of an action below which nothing is said of it


@dataclass(frozen=True, eq=False)
class Trial:
    """Actions given by lot, and what came of them: a row a decision.

    Attributes:
        features: What was known of the customer at the decision, n rows.
        arms: Names of the actions, k of them, the control first.
        action: Which was taken, as a place in `arms`, shape (n,).
        outcome: Higher is better, shape (n,).
        chances: With which probability each was taken, shape (n, k).
        who: Whose decision it was, as a number, shape (n,).
        stated: False where the chances are shares, since none were given.
    """

    features: pd.DataFrame
    arms: tuple[str, ...]
    action: Codes
    outcome: Array
    chances: Array
    who: Codes
    stated: bool

    def __len__(self) -> int:
        return len(self.action)

    @property
    def binary(self) -> bool:
        """Whether outcomes are 0 or 1."""
        return bool(np.isin(self.outcome, (0, 1)).all())

    @property
    def open(self) -> NDArray[np.bool_]:
        """Where every action could have been taken, shape (n,). Effects are learnt from these decisions alone."""
        return np.asarray((self.chances > 0).all(axis=1))

    def part(self, rows: NDArray[Any]) -> Trial:
        """Some of the decisions, by a mask or by places."""
        features = self.features.loc[rows] if rows.dtype == bool else self.features.iloc[rows]
        features = features.reset_index(drop=True)
        each = (self.action[rows], self.outcome[rows], self.chances[rows], self.who[rows])
        return Trial(features, self.arms, *each, self.stated)

    def arm(self, name: str) -> int:
        """The place of an action that is not the control.

        Raises:
            ParamsError: There is none of that name.
        """
        if name not in self.arms[1:]:
            raise ParamsError(unknown("Action", name, self.arms[1:], where="in this trial"))
        return self.arms.index(name)


def read_trial(
    frame: pd.DataFrame,
    *,
    action: str,
    outcome: str,
    features: Sequence[str],
    control: str = "none",
    chances: Mapping[str, str] | None = None,
    customer: str | None = None,
) -> Trial:
    """A table of decisions as a trial.

    Args:
        frame: A row a decision.
        action: Column with the action that was taken.
        outcome: Column with what came of it: numbers or booleans, higher is better.
        features: Columns that were known at the decision.
        control: The action that means nothing was done.
        chances: For each action the column with the probability it had; None where every row had the same.
        customer: Column that says whose decision it was; None where each row is another customer.
    Raises:
        DataError: A column is missing or does not hold what it should, there is no control, an action was taken too
            seldom, or an action always has one outcome.
    """
    given = dict(chances or {})
    for name in [action, outcome, *features, *given.values(), *([customer] if customer else [])]:
        if name not in frame:
            raise missing_column(name, frame.columns)
    telling = set(features) & {action, outcome, *given.values()}
    if telling:
        raise DataError(f"Feature {min(telling)!r} is the action, its chance or the outcome; take it out of features.")
    if not features:
        raise DataError("No features given; name the columns that were known at the decision.")
    taken = frame[action]
    if taken.isna().any():
        raise DataError(f"{int(taken.isna().sum())} rows have no {action!r}; write {control!r} where nothing was done.")
    taken = taken.astype(str)
    found = sorted(set(taken))
    if control not in found:
        raise DataError(
            f"No row has {action} {control!r}: without customers for whom nothing was done there is no effect to be "
            f"seen. Actions: {listed(found)}. Name the control with control=, or keep a control group next time."
        )
    arms = (control, *(name for name in (given or found) if name != control))
    if set(found) - set(arms):
        raise DataError(f"No chance is given for action {min(set(found) - set(arms))!r}; give each action its column.")
    code = pd.Categorical(taken, categories=arms).codes.astype(np.intp)
    y = _numbers(frame[outcome], outcome)
    table = _chances(frame, given, arms, code)
    who = np.arange(len(frame)) if customer is None else pd.factorize(frame[customer])[0]
    if (who < 0).any():
        raise DataError(f"{int((who < 0).sum())} rows have no {customer!r}; take them out.")
    known = frame[list(features)].reset_index(drop=True)
    trial = Trial(known, arms, code, y, table, who.astype(np.intp), bool(given))
    _enough(trial)
    return trial


def _numbers(column: pd.Series, name: str) -> Array:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(values)
    if bad.any():
        raise DataError(
            f"{int(bad.sum())} rows have no number in {name!r}, the first {column[bad].iloc[0]!r}; give 0 or 1, or an "
            "amount, and leave out decisions whose outcome is not known yet."
        )
    return np.asarray(values)


def _chances(frame: pd.DataFrame, given: dict[str, str], arms: tuple[str, ...], code: Codes) -> Array:
    if not given:
        return np.tile(np.bincount(code, minlength=len(arms)) / len(code), (len(code), 1))
    if arms[0] not in given:
        raise DataError(f"No chance is given for the control {arms[0]!r}; give it its column.")
    table = np.column_stack([_numbers(frame[given[name]], given[name]) for name in arms])
    if (table < 0).any() or (np.abs(table.sum(axis=1) - 1) > 1e-6).any():
        worst = int(np.argmax(np.abs(table.sum(axis=1) - 1) + (table < 0).any(axis=1)))
        raise DataError(f"Row {worst}: chances {table[worst].tolist()}, must be >= 0 and add up to 1.")
    never = table[np.arange(len(code)), code] == 0
    if never.any():
        row = int(never.argmax())
        raise DataError(f"Row {row}: {arms[code[row]]!r} was taken although its chance is 0; the chances are wrong.")
    return table


def _enough(trial: Trial) -> None:
    trial_open = trial.part(trial.open)
    if not len(trial_open):
        raise DataError("In no row could every action have been taken, so nothing was given by lot: no effect shows.")
    count = np.bincount(trial_open.action, minlength=len(trial.arms))
    if count.min() < FEWEST:
        least = int(count.argmin())
        raise DataError(
            f"{trial.arms[least]!r} was taken in {count[least]} of {len(trial_open):,} decisions that were open, must "
            f"be in {FEWEST} or more; leave it out, or collect more."
        )
    if len(set(trial_open.outcome)) == 1:
        raise DataError(f"Every outcome is {trial_open.outcome[0]:g}: nothing to learn from.")
    if not trial.binary:
        return
    for place, name in enumerate(trial.arms):
        inside, others = trial_open.outcome[trial_open.action == place], trial_open.outcome[trial_open.action != place]
        for value in (0.0, 1.0):
            if (inside == value).all() and (others == value).mean() ** len(inside) < 1e-9:
                raise DataError(
                    f"Every row with action {name!r} has outcome {value:g}: the action follows from the outcome, so it "
                    "is no cause of it. Give what was decided before the outcome was known."
                )


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
