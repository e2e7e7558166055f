"""What lies ahead of a case besides its next event: when that comes, how long the case will last, and how it will end.

    ahead = look_ahead(schema, X, table, split, params)   # learnt from training cases
    ahead.columns(X)                                      # by name, each of shape (n,)

Times are distributions from discrete-time hazards, so intervals and "within 30, 60, 90 days" come from one model, and
cases that are still open count for as long as they were seen (`cxlab.models.hazard`). A case that ended without the
event that is the outcome can have it no more: it stays at risk to the end of the log, by which shares of all cases are
learnt (Fine and Gray 1999, A proportional hazards model for the subdistribution of a competing risk, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from cxlab.data.log import LogTable
from cxlab.data.schema import as_text
from cxlab.data.split import Split
from cxlab.errors import DataError, ParamsError, missing_column, unknown
from cxlab.features.prefixes import DAY, HOUR, Cases, PrefixSchema
from cxlab.models import calibration
from cxlab.models.hazard import CalibratedTimes, DiscreteHazard
from cxlab.models.prefix_boost import PrefixBoost, PrefixMatrix
from cxlab.models.task import Model
from cxlab.params import Params, SequenceParams

TOP = 3  # events that are named
MOST = 30_000  # rows that a distribution of times is learnt from, of cases drawn at random
NEXT, REST, OUTCOME = "next", "rest", "outcome"
NAMES = {NEXT: "next_hours", REST: "rest_days"}


@dataclass(frozen=True)
class Durations:
    """How long something took from each row of a log, or was waited for in vain.

    Attributes:
        duration: In hours to the next event, else in days, shape (n,).
        observed: Whether it came, shape (n,).
        asked: Whether it could come at all, shape (n,).
    """

    duration: np.ndarray
    observed: np.ndarray
    asked: np.ndarray


@dataclass(frozen=True)
class Facts:
    """What truly became of each row's case, as far as it was known at a moment.

    Attributes:
        times: By what is timed: the next event, the end of the case, the outcome where it is an event.
        outcome: Whether the case had the outcome that a column tells, shape (n,); NaN where it is open. None without.
    """

    times: dict[str, Durations]
    outcome: np.ndarray | None


def facts_of(table: LogTable, asked: SequenceParams, until: int | None = None) -> Facts:
    """What became of the case of each row of a log.

    Args:
        table: The log.
        asked: What is the outcome.
        until: The microsecond after which nothing was known; None: the end of the log.
    Raises:
        DataError: No event, or no value, is the outcome.
    """
    roles, cases, when, last, ended = table.roles, table.cases, table.when, table.last, table.ended
    border = int(when.max()) + 1 if until is None else until
    final = np.flatnonzero(last)[cases]
    events = as_text(table.frame[str(roles.event)]).to_numpy(object)
    following = np.where(last, when, np.append(when[1:], 0))
    made = {
        NEXT: _durations(when, following, ~last, ~(last & ended), border, HOUR),
        REST: _durations(when, when[final], ended, np.ones(len(cases), bool), border, DAY),
    }
    wanted = asked.outcome
    if wanted is None:
        return Facts(made, None)
    if wanted.event is not None:
        if wanted.event not in events:
            raise DataError(f"sequence.outcome: {unknown('Event', wanted.event, sorted(set(events)), 'in the log')}")
        made[OUTCOME] = _until(events == wanted.event, cases, when, border)
        return Facts(made, None)
    name = str(wanted.column)
    if name not in table.frame.columns:
        raise missing_column(name, map(str, table.frame.columns))
    if name in roles.attributes:
        raise ParamsError(f"{name!r} tells the outcome, so it is no attribute. Take it out of data.attributes.")
    said = as_text(table.frame[name]).to_numpy(object)
    if wanted.value not in said:
        raise DataError(
            f"sequence.outcome.value == {wanted.value!r} is no value of {name!r}: {sorted(set(map(str, said)))[:8]}."
        )
    known = ended & (when[final] < border)
    return Facts(made, np.where(known, said[final] == wanted.value, np.nan))


def _durations(  # noqa: PLR0917
    when: np.ndarray, at: np.ndarray, comes: np.ndarray, asked: np.ndarray, border: int, unit: int
) -> Durations:
    """From each row to a moment at which something comes, cut short at the border."""
    seen = comes & (at < border)
    end = np.where(seen, at, border)
    return Durations(np.maximum(end - when, 0) / unit, seen, asked & (when < border))


def _until(hit: np.ndarray, cases: np.ndarray, when: np.ndarray, border: int) -> Durations:
    """From each row to the next hit of its case; a hit itself is not asked about."""
    n = len(hit)
    places = np.where(hit, np.arange(n), n)
    ahead = np.append(np.minimum.accumulate(places[::-1])[::-1][1:], n)  # strictly later
    comes = ahead < n
    comes[comes] = cases[ahead[comes]] == cases[comes]
    at = when[np.where(comes, ahead, 0)]
    return _durations(when, at, comes, ~hit, border, DAY)


@dataclass(frozen=True)
class Ahead:
    """What is said of what lies ahead.

    Attributes:
        times: By what is timed, its distribution.
        outcome: How likely the outcome is that a column tells; None without.
        calibrator: Of that likelihood.
        horizons: Days within which the outcome may come, or without one the end of the case.
        level: Of the intervals.
        skipped: What cannot be said, and why.
    """

    times: dict[str, CalibratedTimes] = field(repr=False)
    outcome: PrefixBoost | None = field(repr=False)
    calibrator: calibration.Calibrator | None
    horizons: tuple[float, ...]
    level: float
    skipped: dict[str, str]

    @property
    def dated(self) -> str:
        """What the horizons are about."""
        return OUTCOME if OUTCOME in self.times else REST

    def columns(self, X: pd.DataFrame) -> dict[str, np.ndarray]:
        """By name for encoded prefixes: medians and intervals of times, the outcome's probability, shares by horizon.

        An end of an interval is infinite where the log is too short to tell.
        """
        made: dict[str, np.ndarray] = {}
        shares = [0.5, (1 - self.level) / 2, (1 + self.level) / 2]
        for kind, name in NAMES.items():
            if kind in self.times:
                found = self.times[kind].quantile(X, shares)
                made |= {name: found[:, 0], f"{name}_low": found[:, 1], f"{name}_high": found[:, 2]}
        if self.outcome is not None:
            made["outcome"] = self.likelihood(X)
        if self.dated in self.times:
            found = self.times[self.dated].within(X, self.horizons)
            made |= {f"within_{days:g}_days": found[:, place] for place, days in enumerate(self.horizons)}
        return made

    def likelihood(self, X: pd.DataFrame) -> np.ndarray:
        """The probability of the outcome that a column tells, shape (n,)."""
        assert self.outcome is not None and self.calibrator is not None
        return np.asarray(self.calibrator.apply(self.outcome.predict_proba(X)[:, 1]))


def look_ahead(schema: PrefixSchema, X: pd.DataFrame, table: LogTable, split: Split, params: Params) -> Ahead:
    """Learns what lies ahead from training prefixes.

    Args:
        schema: How prefixes are encoded.
        X: The training part, encoded.
        table: The log.
        split: Which rows trained.
        params: What is asked.
    """
    asked, seed = params.sequence, params.split.seed
    known = facts_of(table, asked, split.border)
    times, skipped = {}, {}
    for kind, found in known.times.items():
        rows = _some(X, np.flatnonzero(found.asked[split.train]), seed)
        dated = kind == OUTCOME or (kind == REST and OUTCOME not in known.times)
        try:
            times[kind] = _times(
                schema, X.iloc[rows], found, split.train[rows], asked.horizons_days if dated else (), seed
            )
        except DataError as error:  # too few, or all alike: the model does without, and says so
            skipped[kind] = str(error)
    outcome, calibrator = None, None
    if known.outcome is not None:
        outcome, calibrator = _outcome(schema, X, known.outcome[split.train], split, seed)
    return Ahead(times, outcome, calibrator, asked.horizons_days, asked.level, skipped)


def _some(X: pd.DataFrame, rows: np.ndarray, seed: int) -> np.ndarray:
    """Those of whole cases drawn at random, about as many as are learnt from."""
    if len(rows) <= MOST:
        return rows
    case = X.index.get_level_values(0).to_numpy()[rows]
    drawn = np.random.default_rng(seed).random(int(case.max()) + 1) < MOST / len(rows)
    return rows[drawn[case]]


def _times(  # noqa: PLR0917
    schema: PrefixSchema, X: pd.DataFrame, found: Durations, rows: np.ndarray, horizons: tuple[float, ...], seed: int
) -> CalibratedTimes:
    duration, observed = found.duration[rows], found.observed[rows]
    longest = float(duration.max()) if len(duration) else 0.0
    edges = tuple(days for days in horizons if days < longest)
    base = DiscreteHazard(PrefixMatrix(schema.features, seed), edges=edges, seed=seed, most=200_000)
    return CalibratedTimes(base, folds=3, seed=seed).fit(X, duration, observed, X.index.get_level_values(0))


def _outcome(
    schema: PrefixSchema, X: pd.DataFrame, known: np.ndarray, split: Split, seed: int
) -> tuple[PrefixBoost, calibration.Calibrator]:
    """A classifier of what a column tells in the end, calibrated on folds."""
    there = ~np.isnan(known)
    y = np.where(there, known, 0).astype(int)
    if len(np.unique(y[there])) < 2:
        raise DataError("All training cases that ended have the same outcome; there is nothing to tell apart.")

    def build() -> PrefixBoost:
        return PrefixBoost(schema.features, 2, seed=seed)

    scores: list[np.ndarray] = []
    truths: list[np.ndarray] = []
    folds: list[np.ndarray] = []
    for fold in split.folds:
        learnt, valid = (part[there[part]] for part in fold)
        if len(valid) and len(np.unique(y[learnt])) == 2:
            folds.append(np.arange(len(valid)) + sum(len(each) for each in truths))
            scores.append(build().fit(X.iloc[learnt], y[learnt]).predict_proba(X.iloc[valid])[:, 1])
            truths.append(y[valid])
    model = build().fit(X.iloc[np.flatnonzero(there)], y[there])
    if not folds:
        return model, calibration.NoCalibration()
    made, _ = calibration.choose(np.concatenate(scores), np.concatenate(truths), folds, forward=split.forward)
    return model, made


def foresee(model: Model, rows: pd.DataFrame) -> pd.DataFrame:
    """What a model of sequences says of cases, at their last event: one row a case, named as `cxlab score` names it.

    Args:
        model: With a schema of logs.
        rows: Whole cases, by case and in order, as `cxlab.load_table` gives them.
    Raises:
        ParamsError: The model is of another task.
    """
    schema, labels = model.schema, model.labels
    if not isinstance(schema, PrefixSchema) or labels is None:
        raise ParamsError("This model is not of the task sequence: ask predict_proba.")
    encoded = schema.encode(rows)
    probability, last = model.calibrated(encoded), Cases.of(rows[schema.roles.case]).last
    ranked = np.argsort(-probability[last], axis=1, kind="stable")[:, :TOP]
    made: dict[str, np.ndarray] = {"case": rows.loc[last, schema.roles.case].to_numpy()}
    for place in range(ranked.shape[1]):
        code, ending = ranked[:, place], f"_{place + 1}" if place else ""
        made[f"next_event{ending}"] = np.array(labels, object)[code]
        made[f"probability{ending}"] = np.take_along_axis(probability[last], code[:, None], axis=1)[:, 0]
    ahead = {} if model.ahead is None else model.ahead.columns(encoded.iloc[np.flatnonzero(last)])
    return pd.DataFrame(made | ahead)
