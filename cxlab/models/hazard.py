"""How long until an event, from rows some of which are cut short: the whole distribution of the time, not a guess.

times = CalibratedTimes(DiscreteHazard(columns(schema, numbers="passthrough", seed=0), edges=(30, 60, 90)))
times.fit(X, duration, observed, groups=case)
times.within(X, [30, 60, 90])        # probabilities, shape (n, 3)
times.interval(X, level=0.8)         # low and high, shape (n, 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GroupKFold

from cxlab.errors import DataError, ParamsError
from cxlab.metrics.survival import durations, kaplan_meier

EPSILON = 1e-6  # hazards are kept this far from 0 and 1 before a logarithm
CELLS = 1 << 19  # person-periods predicted at once
KNOTS = 100  # of the recalibration
ASKED = 40_000  # rows that the recalibration learns from at most
FEWEST = 20  # rows that it rests on: beyond, the model's own shape stands


class Times(BaseEstimator):
    """What is asked of a distribution of times, from its survival and its quantiles."""

    def survival(self, X: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        raise NotImplementedError

    def quantile(self, X: pd.DataFrame, shares: Sequence[float]) -> np.ndarray:
        raise NotImplementedError

    @property
    def end(self) -> float:
        """When the last period ends: what comes later is not told apart."""
        raise NotImplementedError

    def within(self, X: pd.DataFrame, horizons: Sequence[float]) -> np.ndarray:
        """The probability of an event at or before each horizon, shape (n, len(horizons))."""
        return 1 - self.survival(X, horizons)

    def median(self, X: pd.DataFrame) -> np.ndarray:
        """The time by which it is as likely to have happened as not, shape (n,); inf where it is not reached."""
        return self.quantile(X, [0.5])[:, 0]

    def interval(self, X: pd.DataFrame, level: float = 0.8) -> np.ndarray:
        """Between which times it happens, as likely before as after, shape (n, 2).

        Where an end is not reached, the low one is when the last period ends and the high one is inf.

        Args:
            X: Rows, shape (n, d).
            level: The probability between the ends, in (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level == {level}, must be in (0, 1), 0.8 for an 80 % interval.")
        ends = self.quantile(X, [(1 - level) / 2, (1 + level) / 2])
        ends[:, 0] = np.minimum(ends[:, 0], self.end)
        return ends


class DiscreteHazard(Times):
    """The probability of an event in each period of time, if it has not happened before: one boosted binary model.

    A row becomes one row a period it lived through, with the period's number as one more column, and learns whether
    the event came in it (Singer and Willett 1993, It's about time; Tutz and Schmid 2016, Modeling discrete
    time-to-event data). A row that is cut short counts for the part of its last period that it lived
    through, which is its likelihood where the hazard is constant within a period, the assumption by which times within
    a period are told apart. Trees tell which hazards change with time.

    Periods end at Kaplan and Meier's quantiles of the durations. Events at 0, if any, have a period of their own.

    Args:
        pre: Makes numbers of X, refitted on each fit (as `cxlab.features.tabular.columns` does); None takes X as it is.
        periods: How many there are at most before `edges` are added, >= 1.
        edges: Times at which a period is to end, so that nothing is assumed for a horizon that will be asked for.
        longest: Durations are cut short there; None follows them as far as they go.
        most: Person-periods learnt from. Beyond, one of them is drawn at random from each of as many equal stretches,
            periods with an event and without one apart, and weighs as much as its stretch, so that every weighted sum
            has the expectation it would have had.
        seed: Of that draw and of the model.
        n_estimators: Trees; this and what follows are LightGBM's.
        learning_rate: Of each tree.
        num_leaves: Of each tree.
        min_child_samples: Person-periods in a leaf.
        reg_lambda: Shrinks leaves.

    Attributes:
        edges_: Where each period ends, ascending, in the unit of the durations, shape (k,); the first begins at 0.
        pre_: `pre`, fitted.
        model_: The boosted trees, on the columns of `pre_` and the number of the period, 0 to k - 1, as the last.
    """

    def __init__(
        self,
        pre: Any = None,
        *,
        periods: int = 24,
        edges: tuple[float, ...] = (),
        longest: float | None = None,
        most: int = 250_000,
        seed: int = 0,
        n_estimators: int = 200,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_child_samples: int = 100,
        reg_lambda: float = 10.0,
    ) -> None:
        self.pre = pre
        self.periods = periods
        self.edges = edges
        self.longest = longest
        self.most = most
        self.seed = seed
        self.n_estimators = n_estimators
        self.learning_rate = learning_rate
        self.num_leaves = num_leaves
        self.min_child_samples = min_child_samples
        self.reg_lambda = reg_lambda

    def fit(self, X: pd.DataFrame, duration: ArrayLike, observed: ArrayLike) -> Self:
        """Learns from rows and how long each lasted.

        Args:
            X: What is known when the time begins, shape (n, d).
            duration: Until the event or until it was cut short, >= 0, any unit, shape (n,).
            observed: 1 where the event was seen, shape (n,).
        Raises:
            DataError: No event was seen, all were at once, or a period is to end where nobody was followed.
            ParamsError: A setting is out of range.
            ValueError: Durations have the wrong shape or values.
        """
        found, seen = self._cut(duration, observed)
        return self._learn(X, found, seen, self._periods(found, seen))

    def _cut(self, duration: ArrayLike, observed: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        found, seen = durations(duration, observed)
        return (
            (found, seen) if self.longest is None else (np.minimum(found, self.longest), seen & (found <= self.longest))
        )

    def _periods(self, duration: np.ndarray, observed: np.ndarray) -> np.ndarray:
        for name, least in (("periods", 1), ("most", 2)):
            if getattr(self, name) < least:
                raise ParamsError(f"{name} == {getattr(self, name)}, must be >= {least}.")
        if not observed.any():
            raise DataError(
                f"None of the {len(duration)} durations ends with an event; there is nothing to learn from."
            )
        far = [edge for edge in self.edges if not 0 <= edge <= duration.max()]
        if far:
            raise DataError(
                f"A period is to end at {far[0]:g}, but nobody was followed longer than {duration.max():g}; "
                "leave it out of edges or bring longer durations."
            )
        steps = kaplan_meier(duration, observed).frame()
        time, gone = steps["time"].to_numpy(), 1 - steps["survival"].to_numpy()
        shares = gone[-1] * np.arange(1, self.periods + 1) / self.periods
        chosen = time[np.searchsorted(gone, shares - EPSILON)]
        return np.unique([*time[time == 0], *chosen, *self.edges])

    def _learn(self, X: pd.DataFrame, duration: np.ndarray, observed: np.ndarray, edges: np.ndarray) -> Self:
        self.edges_ = edges
        self.pre_ = None if self.pre is None else clone(self.pre)
        soon = (duration <= np.median(duration)).astype(int)  # the outcome by which columns may encode levels
        table = np.asarray(X if self.pre_ is None else self.pre_.fit_transform(X, soon), dtype=np.float32)
        if len(table) != len(duration):
            raise ValueError(f"X has {len(table)} rows, must have {len(duration)}, as many as duration.")
        row, period, event, weight = person_periods(*self._place(duration), observed, most=self.most, seed=self.seed)
        if event.all() or not event.any():
            kinds = "only events" if event.all() else "no event"
            raise DataError(
                f"The periods lived through by {len(duration)} rows hold {kinds}; a hazard is learnt from both. "
                "Bring rows that differ in when it happens."
            )
        self.model_ = LGBMClassifier(
            n_estimators=self.n_estimators,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            min_child_samples=self.min_child_samples,
            reg_lambda=self.reg_lambda,
            colsample_bytree=0.7,
            subsample=0.7,
            subsample_freq=1,
            random_state=self.seed,
            n_jobs=1,
            deterministic=True,
            force_row_wise=True,
            verbose=-1,
        )
        self.model_.fit(np.column_stack([table[row], period.astype(np.float32)]), event, sample_weight=weight)
        return self

    def hazard(self, X: pd.DataFrame) -> np.ndarray:
        """The probability of the event in each period, if it has not happened before, shape (n, k)."""
        table = np.asarray(X if self.pre_ is None else self.pre_.transform(X), dtype=np.float32)
        k = len(self.edges_)
        found = np.empty((len(table), k))
        period = np.arange(k, dtype=np.float32)
        size = max(1, CELLS // k)
        for start in range(0, len(table), size):
            part = table[start : start + size]
            rows = np.column_stack([np.repeat(part, k, axis=0), np.tile(period, len(part))])
            found[start : start + size] = self.model_.predict_proba(rows)[:, 1].reshape(-1, k)
        return np.clip(found, EPSILON, 1 - EPSILON)

    def survival(self, X: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        """The probability of lasting longer than each time, shape (n, len(times)).

        The hazard is constant within a period: half of one is survived with the square root of the probability of all
        of it. Nothing is known beyond the last period: survival stays what it is at its end.
        """
        asked = np.asarray(times, dtype=np.float64)
        if asked.ndim != 1 or not (asked >= 0).all():
            raise ValueError(f"times are {times}, must be numbers >= 0, shape (m,).")
        return np.exp(np.log1p(-self.hazard(X)) @ self._passed(asked).T)

    def quantile(self, X: pd.DataFrame, shares: Sequence[float]) -> np.ndarray:
        """The time by which each share has happened, shape (n, len(shares)); inf where the last period does not reach
        it. It inverts `survival`."""
        asked = np.asarray(shares, dtype=np.float64)
        if asked.ndim != 1 or not ((asked >= 0) & (asked <= 1)).all():
            raise ValueError(f"shares are {shares}, must be in [0, 1], shape (m,).")
        steps = np.log1p(-self.hazard(X))
        lasted = np.cumsum(steps, axis=1)
        starts, widths = self._starts, np.append(np.diff(self._starts), self.end - self._starts[-1])
        found = np.full((len(steps), len(asked)), np.inf)
        with np.errstate(divide="ignore"):
            levels = np.log1p(-asked)
        for column, level in enumerate(levels):
            period = (lasted > level).sum(axis=1)
            rows = np.flatnonzero(period < len(self.edges_))
            last = period[rows]
            before = lasted[rows, last] - steps[rows, last]
            part = np.clip((level - before) / steps[rows, last], 0.0, 1.0)
            found[rows, column] = starts[last] + part * widths[last]
        return found

    def pit(
        self, X: pd.DataFrame, duration: ArrayLike, observed: ArrayLike, *, seed: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """The probability that the model gave to what came by then, uniform between 0 and 1 if it is right.

        Events at 0 come at once with some probability: theirs are drawn evenly below it, the randomised probability
        integral transform (Czado, Gneiting and Held 2009, Predictive model assessment for count data).

        Args:
            X: Rows, shape (n, d).
            duration: As in `fit`.
            observed: As in `fit`.
            seed: Of that draw.
        Returns:
            The probability, shape (n,), and whether the event was seen by the end of the last period, shape (n,).
        """
        found, seen = self._cut(duration, observed)
        by_then = -np.expm1((np.log1p(-self.hazard(X)) * self._passed(found)).sum(axis=1))
        share = np.random.default_rng(seed).random(len(found))
        return np.where(seen & (found == 0), share * by_then, by_then), seen & (found <= self.end)

    @property
    def end(self) -> float:
        """When the last period ends, in the unit of the durations."""
        return float(self.edges_[-1])

    @property
    def _starts(self) -> np.ndarray:
        return np.append(0.0, self.edges_[:-1])

    def _place(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In which period a time is, and what share of it has passed then; beyond the last all of it."""
        period = np.minimum(np.searchsorted(self.edges_, times), len(self.edges_) - 1)
        start, width = self._starts[period], self.edges_[period] - self._starts[period]
        part = np.divide(times - start, width, out=np.ones(len(times)), where=width > 0)
        return period, np.minimum(part, 1.0)

    def _passed(self, times: np.ndarray) -> np.ndarray:
        """What share of each period has passed at each time, shape (m, k)."""
        period, part = self._place(times)
        number = np.arange(len(self.edges_))
        return np.where(number < period[:, None], 1.0, np.where(number == period[:, None], part[:, None], 0.0))


def person_periods(
    period: np.ndarray, part: np.ndarray, observed: np.ndarray, *, most: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One row a row and period that it lived through, or as many as `most`, drawn: see `DiscreteHazard`.

    Args:
        period: In which each row ends, shape (n,).
        part: What share of that period it lived through, in [0, 1], shape (n,).
        observed: Whether it ended with the event, shape (n,).
        most: Person-periods, >= 2; those with an event are at most half of them.
        seed: Of the draw.
    Returns:
        The row, its period, whether the event came in it, and the weight, each of shape (m,).
    """
    rng = np.random.default_rng(seed)
    ended = np.flatnonzero(observed)
    events, event_weight = _drawn(len(ended), most // 2, rng)
    lived = period + (~observed & (part > 0))  # periods without an event
    ends = np.cumsum(lived)
    others, weight = _drawn(int(ends[-1]), most - len(events), rng)
    row = np.searchsorted(ends, others, side="right")
    at = others - (ends[row] - lived[row])
    rows = np.concatenate([ended[events], row])
    weights = np.concatenate([np.full(len(events), event_weight), weight * np.where(at == period[row], part[row], 1.0)])
    return rows, np.concatenate([period[ended[events]], at]), np.arange(len(rows)) < len(events), weights


def _drawn(total: int, most: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Positions among `total`, each expected as often as the next, and how many each of them stands for."""
    if total <= most:
        return np.arange(total), 1.0
    stretch = total / most
    return np.minimum(((np.arange(most) + rng.random(most)) * stretch).astype(np.intp), total - 1), stretch


class CalibratedTimes(Times):
    """A distribution of times that holds what it says: of 80 % intervals 80 % hold the time.

    Each row is asked which probability a model that has seen no row of its group gave to what came by then. Those
    probabilities should lie evenly; how they lie instead is the map by which all probabilities are corrected (Kuleshov,
    Fenner and Ermon 2018, Accurate uncertainties for deep learning using calibrated regression, algorithm 1). Rows cut
    short count for as long as they were seen, by Kaplan and Meier (1958). The map is one for all rows, never falling:
    it turns no order around, and mends what is wrong on average, not what is wrong for some.

    Args:
        base: What gives the times.
        folds: Parts of the groups, each of them held out once, >= 2.
        seed: Of the parts.

    Attributes:
        hazard_: `base`, fitted on all rows.
        raw_: Probabilities of the model, ascending from 0 to 1, shape (m,).
        calibrated_: What they become, shape (m,); straight lines between.
    """

    def __init__(self, base: DiscreteHazard, *, folds: int = 5, seed: int = 0) -> None:
        self.base = base
        self.folds = folds
        self.seed = seed

    def fit(self, X: pd.DataFrame, duration: ArrayLike, observed: ArrayLike, groups: ArrayLike) -> Self:
        """Learns from rows and how long each lasted.

        Args:
            X: What is known when the time begins, shape (n, d).
            duration: Until the event or until it was cut short, >= 0, any unit, shape (n,).
            observed: 1 where the event was seen, shape (n,).
            groups: Which rows belong together, as the prefixes of a case do, shape (n,).
        Raises:
            DataError: As `DiscreteHazard.fit`, or there are fewer groups than folds.
            ParamsError: A setting is out of range.
            ValueError: Durations have the wrong shape or values.
        """
        found, seen = durations(duration, observed)
        if self.folds < 2:
            raise ParamsError(f"folds == {self.folds}, must be >= 2.")
        members, names = pd.factorize(np.asarray(groups))
        if len(names) < self.folds:
            raise DataError(f"There are {len(names)} groups, must be at least {self.folds}, the number of folds.")
        self.hazard_ = clone(self.base).fit(X, found, seen)
        asked = np.zeros(len(found), dtype=bool)
        asked[_drawn(len(found), ASKED, np.random.default_rng(self.seed))[0]] = True
        told = []
        split = GroupKFold(self.folds, shuffle=True, random_state=self.seed)
        for rows, rest in split.split(members, groups=members):
            model = clone(self.base)
            model._learn(X.iloc[rows], *model._cut(found[rows], seen[rows]), self.hazard_.edges_)
            held = rest[asked[rest]]
            told.append(model.pit(X.iloc[held], found[held], seen[held], seed=self.seed))
        level, known = (np.concatenate(parts) for parts in zip(*told, strict=True))
        self.raw_, self.calibrated_ = _evened(level, known)
        return self

    @property
    def end(self) -> float:
        """When the last period ends, in the unit of the durations."""
        return self.hazard_.end

    def survival(self, X: pd.DataFrame, times: Sequence[float]) -> np.ndarray:
        """The probability of lasting longer than each time, shape (n, len(times)); see `DiscreteHazard.survival`."""
        return 1 - np.interp(self.hazard_.within(X, times), self.raw_, self.calibrated_)

    def quantile(self, X: pd.DataFrame, shares: Sequence[float]) -> np.ndarray:
        """The time by which each share has happened, shape (n, len(shares)); see `DiscreteHazard.quantile`."""
        asked = np.asarray(shares, dtype=np.float64)
        if asked.ndim != 1 or not ((asked >= 0) & (asked <= 1)).all():
            raise ValueError(f"shares are {shares}, must be in [0, 1], shape (m,).")
        return self.hazard_.quantile(X, np.interp(asked, self.calibrated_, self.raw_))


def _evened(level: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The map from probabilities of the model to shares of rows, as corners of a line from (0, 0) to (1, 1).

    Its corners are quantiles of what was seen, up to where `FEWEST` rows are left; from there it is straight.
    """
    corners = np.unique(np.quantile(level[known], np.arange(1, KNOTS) / KNOTS, method="inverted_cdf"))
    limit = np.sort(level)[-FEWEST] if len(level) >= FEWEST else 0.0
    raw = corners[(corners > 0) & (corners <= limit)]
    shares = 1 - kaplan_meier(level, known).at(raw)
    return np.concatenate([[0.0], raw, [1.0]]), np.concatenate([[0.0], shares, [1.0]])
