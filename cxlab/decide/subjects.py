"""Who was in an experiment, in which arm, and what came of it: read from a table, and refused where it can't be used.

Refused are effects without a control group, customers in two arms, outcomes that are not known of everybody, and an
assignment that came after the outcome or is told by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxlab.data.schema import as_text
from cxlab.data.table import binary
from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.decide.assignment import FEWEST, assign, shares_of
from cxlab.errors import DataError, listed, missing_column, unknown
from cxlab.metrics.sample import Array
from cxlab.params import DataParams
from cxlab.params.experiment import ExperimentParams


@dataclass(frozen=True, eq=False)
class Subjects:
    """The customers of an experiment, one a row, n of them.

    Attributes:
        frame: The table.
        codes: The arm of each as its place in `arms`, shape (n,).
        arms: Names, the control first, then in the order of the split or of the alphabet.
        shares: Planned shares by arm.
        split_told: Whether the params say them.
        metrics: Each metric's values, shape (n,).
        first: When the first customer got an arm, if a column says it.
    """

    frame: pd.DataFrame = field(repr=False)
    codes: NDArray[np.intp]
    arms: tuple[str, ...]
    shares: dict[str, float]
    split_told: bool
    metrics: dict[str, Array] = field(repr=False)
    first: datetime | None

    @property
    def counts(self) -> dict[str, int]:
        """Customers by arm."""
        return dict(zip(self.arms, np.bincount(self.codes, minlength=len(self.arms)).tolist(), strict=True))


def subjects(frame: pd.DataFrame, said: ExperimentParams, data: DataParams) -> Subjects:
    """Reads the roles of an experiment's table.

    Raises:
        DataError: A column is not there, arms don't fit, a customer is in two, an outcome is not known of everybody,
            or the assignment depends on the outcome.
    """
    names = [str(name) for name in frame.columns]
    wanted = [said.id, said.arm, *said.measured, *said.covariates, said.assigned_at, said.outcome_at, *data.segments]
    for name in wanted:
        if name is not None and name not in names:
            raise missing_column(name, names)
    arm = as_text(frame[said.arm])
    if arm.isna().any() or (arm == "").any():
        gone = int((arm.isna() | (arm == "")).sum())
        raise DataError(
            f"{gone:,} of {len(arm):,} rows have no {said.arm!r}, must say what each customer got. A CSV's None, NA "
            "and null are read as missing: write 'none' or another word for the control."
        )
    arms, shares = _arms(arm, said)
    if said.id is not None:
        _once_each(as_text(frame[said.id]), arm, said)
    first = _in_time(frame, said, data)
    metrics = {name: numbers(frame, name, data.positive) for name in said.measured}
    codes = pd.Categorical(arm, categories=list(arms)).codes.astype(np.intp)
    _not_told(metrics, codes, arms)
    return Subjects(frame, codes, arms, shares, bool(said.split), metrics, first)


def _arms(arm: pd.Series, said: ExperimentParams) -> tuple[tuple[str, ...], dict[str, float]]:
    """The arms, the control first, and their planned shares."""
    seen = sorted(set(arm))
    if said.control not in seen:
        raise DataError(
            f"{unknown('Arm', said.control, seen, where=f'in {said.arm!r}')} An effect is the difference to a control "
            "group: name it as experiment.control, or run the experiment with customers who get nothing new."
        )
    if len(seen) < 2:
        raise DataError(
            f"All {len(arm):,} customers are in the arm {seen[0]!r}, must be in two arms at least. Effects need a "
            "group that got something and one that did not."
        )
    if len(seen) > 20:
        raise DataError(f"{said.arm!r} has {len(seen):,} values ({listed(seen, 3)}), must be arms: 20 at most.")
    if not said.split:
        order = [said.control, *[name for name in seen if name != said.control]]
        return tuple(order), dict.fromkeys(order, 1 / len(order))
    for name in seen:
        if name not in said.split:
            raise DataError(
                f"{int((arm == name).sum()):,} rows: {unknown('Arm', name, said.split, where='in experiment.split')} "
                "Correct the column, or the split."
            )
    for name in said.split:
        if name not in seen:
            raise DataError(f"Nobody is in the arm {name!r} of experiment.split. Arms in the data: {listed(seen)}.")
    order = [said.control, *[name for name in said.split if name != said.control]]
    return tuple(order), shares_of(said.split)


def _once_each(ids: pd.Series, arm: pd.Series, said: ExperimentParams) -> None:
    """One row a customer, each in one arm; and where a salt is known, in that arm."""
    if ids.isna().any():
        raise DataError(
            f"{int(ids.isna().sum()):,} rows have no {said.id!r}, must name the customer who was assigned. Remove them "
            "only if they were never in the experiment."
        )
    twice = ids.duplicated(keep=False)
    if twice.any():
        several = arm[twice].groupby(ids[twice]).nunique()
        both = several[several > 1]
        if len(both):
            raise DataError(
                f"{len(both):,} of {ids.nunique():,} customers are in more than one arm (such as {both.index[0]!r}), "
                "must be in one: whoever got both says nothing about either. Mend the assignment; removing them is "
                "right only if what they did had no part in it."
            )
        raise DataError(
            f"{int(ids.duplicated().sum()):,} rows repeat a customer (such as {ids[twice].iloc[0]!r}), must be one row "
            "a customer: the customer was assigned, not the visit. Sum or average their rows first."
        )
    if said.salt is not None:
        meant = assign(ids, salt=said.salt, split=said.split)
        wrong = int((meant != arm.to_numpy()).sum())
        if wrong:
            raise DataError(
                f"{wrong:,} of {len(ids):,} customers are in another arm than the salt {said.salt!r} and the split "
                "give them: the assignment was not kept, and who was moved may depend on the outcome. Find out who "
                "moved them; take experiment.salt out only if another procedure assigned them."
            )


def _in_time(frame: pd.DataFrame, said: ExperimentParams, data: DataParams) -> datetime | None:
    """When the first was assigned; refused where the outcome came first."""
    if said.assigned_at is None:
        return None
    found = microseconds_of(frame[said.assigned_at], data.time_format, data.timezone)
    if (found == UNKNOWN).any():
        raise DataError(
            f"{said.assigned_at!r} is no time in {int((found == UNKNOWN).sum()):,} of {len(found):,} rows, must say "
            "when each customer was assigned."
        )
    if said.outcome_at is not None:
        outcome = microseconds_of(frame[said.outcome_at], data.time_format, data.timezone)
        late = int(((outcome != UNKNOWN) & (outcome < found)).sum())
        if late:
            raise DataError(
                f"{late:,} of {len(found):,} customers were assigned after their outcome ({said.assigned_at!r} is "
                f"later than {said.outcome_at!r}), must be before: such an assignment can depend on the outcome. "
                "Measure what comes after the assignment."
            )
    return datetime.fromtimestamp(int(found.min()) / 1e6, tz=UTC)


def _not_told(metrics: dict[str, Array], codes: NDArray[np.intp], arms: Sequence[str]) -> None:
    """Refuses an arm whose customers all lie above, or all below, those of the control."""
    for name, values in metrics.items():
        base = values[codes == 0]
        for place, arm in enumerate(arms[1:], 1):
            part = values[codes == place]
            apart = part.min() > base.max() or part.max() < base.min()
            if apart and min(len(part), len(base)) >= FEWEST and np.ptp(values) > 0:
                raise DataError(
                    f"{name!r} alone tells who is in arm {arm!r}: no customer there has a value as in {arms[0]!r}. The "
                    "assignment depends on the outcome, or the column was made of the arm. Assign before anything is "
                    "known of the outcome, and measure it the same way in all arms."
                )


def numbers(frame: pd.DataFrame, name: str, positive: str) -> Array:
    """A metric's values: numbers, true and false, or two words of which `positive` is 1.

    Raises:
        DataError: It is not there, not known of everybody, or no number.
    """
    if name not in frame.columns:
        raise missing_column(name, map(str, frame.columns))
    raw = frame[name]
    gone = raw.isna()
    if gone.any():
        raise DataError(
            f"{name!r} is missing in {int(gone.sum()):,} of {len(raw):,} rows, must be known of everybody who was "
            "assigned. Write what it means, such as 0 where nothing was spent; leaving people out by their outcome "
            "makes arms unlike."
        )
    if not pd.api.types.is_numeric_dtype(raw) or pd.api.types.is_bool_dtype(raw):
        if raw.nunique() == 1 and not pd.api.types.is_bool_dtype(raw):
            return (as_text(raw) == positive).to_numpy().astype(np.float64)
        if raw.nunique() > 2:
            raise DataError(
                f"{name!r} holds text such as {str(raw.iloc[0])!r}, must hold numbers, or two values of which "
                "data.positive says one. A word cannot be averaged."
            )
        return raw.to_numpy(np.float64) if pd.api.types.is_bool_dtype(raw) else binary(raw, positive).astype(np.float64)
    values = raw.to_numpy(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{name!r} is infinite in {int((~np.isfinite(values)).sum()):,} rows, must be a finite number.")
    return values
