"""What an action changes, learnt from actions that were given by lot: on average, and for whom.

    trial = read_trial(frame, action="action", outcome="stayed", features=[...], chances={"none": "p_none", ...})
    average_effects(trial).plot()
    uplift = learn_uplift(trial)
    uplift.effects(customers).effect        # of each action on each customer
    qini(trial, uplift.effects(trial.features).of("call"), "call").plot()

An outcome is something wanted: higher is better. What was not given by lot has differences, not effects: it is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxlab.display import GREY, PALETTE, Result, axes, interval_plot, row_height
from cxlab.errors import DataError, ParamsError, listed, missing_column, unknown
from cxlab.metrics.bootstrap import Interval, check_level, interval, resampled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
Codes = NDArray[np.intp]

FEWEST = 30  # rows of an action below which nothing is said of it
NOT_BY_LOT = 1e-4  # a lot looks as lopsided as this once in ten thousand times
BINS = 4  # of a number, when who got what is looked at
LEVELS = 12  # of a category, likewise
FOLDS = 4
BAGS = 16
GRID = 100  # points of a Qini curve
TREES: dict[str, Any] = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}


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
    import pandas as pd

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
    import pandas as pd

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


class _Encoder(NamedTuple):
    """Columns as numbers: categories by their place, what was not there in learning as missing."""

    names: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, features: pd.DataFrame) -> _Encoder:
        import pandas as pd

        words = [name for name in features if not pd.api.types.is_numeric_dtype(features[name])]
        return cls(
            tuple(map(str, features)), {str(n): tuple(sorted(set(features[n].dropna().astype(str)))) for n in words}
        )

    def __call__(self, features: pd.DataFrame) -> Array:
        import pandas as pd

        columns = []
        for name in self.names:
            if name not in features:
                raise missing_column(name, features.columns)
            if name in self.levels:
                text = features[name].astype(object).where(features[name].notna())
                codes = pd.Categorical(text.map(str, na_action="ignore"), categories=self.levels[name]).codes
                columns.append(np.where(codes < 0, np.nan, codes.astype(np.float64)))
            else:
                columns.append(pd.to_numeric(features[name]).to_numpy(np.float64))
        return np.column_stack(columns)

    @property
    def categories(self) -> list[int]:
        return [place for place, name in enumerate(self.names) if name in self.levels]


@dataclass(frozen=True, repr=False, eq=False)
class Balance(Result):
    """Whether who got which action can be told from what was known of them.

    Attributes:
        statistic: Of a score test, chi-squared under a lot.
        freedom: Its degrees of freedom.
        p: How often a lot is as lopsided.
        table: A row a feature and action: feature, action, p.
    """

    title: ClassVar[str] = "Were the actions given by lot?"
    note: ClassVar[str] = (
        "Where they were, nothing known of a customer tells which action they got beyond its stated chance."
    )
    statistic: float
    freedom: int
    p: float
    table: pd.DataFrame

    @property
    def by_lot(self) -> bool:
        return self.p >= NOT_BY_LOT

    def frame(self) -> pd.DataFrame:
        """One row a feature, the least likely under a lot first: feature, chi2, freedom, p."""
        return self.table.copy()

    def plot(self) -> Axes:
        """How unlikely each feature's share is under a lot."""
        ax = axes(self.title, height=row_height(self.table))
        ax.barh(self.table["feature"], -np.log10(np.maximum(self.table["p"], 1e-300)), color=GREY)
        ax.axvline(-np.log10(NOT_BY_LOT), color=PALETTE[1], linewidth=1)
        ax.set_xlabel("-log10 p; beyond the line it was no lot")
        ax.invert_yaxis()
        return ax


def balance(trial: Trial) -> Balance:
    """A score test of the stated chances: sum over decisions of (taken - chance) x features, zero under a lot.

    It is the score test of a multinomial logit whose offset is the stated chances (Rao 1948); numbers come in as
    quarters of their range of ranks, so that it need not be a straight line.
    """
    import pandas as pd
    from scipy import stats

    part = trial.part(trial.open)
    off = (part.action[:, None] == np.arange(1, len(part.arms))) - part.chances[:, 1:]
    columns, owner = _bins(part.features)
    z = columns - columns.mean(axis=0)
    d, k = z.shape[1], off.shape[1]
    score = (z.T @ off).ravel()
    spread = np.empty((d, k, d, k))
    for a in range(k):
        for b in range(k):
            p, q = part.chances[:, 1 + a], part.chances[:, 1 + b]
            spread[:, a, :, b] = (z * (p * (a == b) - p * q)[:, None]).T @ z
    spread = spread.reshape(d * k, d * k)

    def test(rows: Codes) -> tuple[float, int, float]:
        values, vectors = np.linalg.eigh(spread[np.ix_(rows, rows)])
        kept = values > 1e-9 * max(values.max(), 1e-12)
        found = float((((vectors.T @ score[rows])[kept]) ** 2 / values[kept]).sum())
        return found, int(kept.sum()), float(stats.chi2.sf(found, max(1, kept.sum())))

    rows = []
    for place, name in enumerate(part.features):
        inside = np.flatnonzero(np.repeat(owner == place, k))
        if len(inside):
            rows.append((str(name), *test(inside)))
    table = pd.DataFrame(rows, columns=["feature", "chi2", "freedom", "p"]).sort_values("p", ignore_index=True)
    return Balance(*test(np.arange(d * k)), table)


def _bins(features: pd.DataFrame) -> tuple[Array, Codes]:
    """Indicators, shape (n, d), and whose each is, shape (d,); the most frequent of a feature is left out."""
    import pandas as pd

    columns, owner = [], []
    for place, name in enumerate(features):
        column = features[name]
        if pd.api.types.is_numeric_dtype(column) and column.nunique() > BINS:
            text = pd.qcut(column.astype(np.float64), BINS, labels=False, duplicates="drop").astype(object)
        else:
            text = column.astype(object)
        text = text.where(text.notna(), "(missing)").astype(str)
        for level in text.value_counts().index[1:LEVELS]:
            columns.append((text == level).to_numpy(np.float64))
            owner.append(place)
    return (np.column_stack(columns) if columns else np.zeros((len(features), 0))), np.array(owner, dtype=np.intp)


def require_lot(trial: Trial) -> Balance:
    """The balance of a trial whose actions were given by lot.

    Raises:
        DataError: They were not.
    """
    found = balance(trial)
    if found.by_lot:
        return found
    first = listed(found.table.loc[found.table["p"] < NOT_BY_LOT, "feature"], most=3) or "all features together"
    remedy = "Check the chances that were stated" if trial.stated else "Give the chances each customer had (chances=)"
    raise DataError(
        f"The actions were not given by lot: {first} tell who got which (chi-squared {found.statistic:.0f} with "
        f"{found.freedom} degrees of freedom, p = {found.p:.1g}). What can be read from this are differences, not "
        f"effects. {remedy}, or run an experiment in which a lot decides."
    )


class _Nuisance(NamedTuple):
    """Expected outcomes, each decision's from models that have not seen its customer."""

    mean: Array  # (n, k)
    raw: Array  # (n,), of the control, before the link
    boosters: list[Any]
    fold: Codes  # (n,)


def _folds(who: Codes, folds: int, seed: int) -> Codes:
    return np.asarray(np.random.default_rng(seed).permutation(int(who.max()) + 1) % folds)[who]


def _link(binary: bool) -> Any:
    from scipy.special import expit

    return expit if binary else np.asarray


def _nuisance(trial: Trial, x: Array, encoder: _Encoder, seed: int) -> _Nuisance:
    """One boosted model of the outcome, the action among its features (the S-learner of Künzel et al. 2019)."""
    import lightgbm as lgb

    k, link = len(trial.arms), _link(trial.binary)
    fold = _folds(trial.who, FOLDS, seed)
    settings = TREES | {
        "objective": "binary" if trial.binary else "regression",
        "num_leaves": 8,
        "learning_rate": 0.06,
        "min_data_in_leaf": max(20, len(trial) // 1000),
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "feature_fraction": 0.7,
        "seed": seed,
    }
    columns = [*encoder.categories, x.shape[1]]
    mean, raw, boosters = np.empty((len(trial), k)), np.empty(len(trial)), []
    whole = np.column_stack([x, trial.action])
    for place in range(FOLDS):
        rows, held = fold != place, fold == place
        data = lgb.Dataset(whole[rows], trial.outcome[rows], categorical_feature=columns)
        booster = lgb.train(settings, data, num_boost_round=120)
        for arm in range(k):
            found = booster.predict(np.column_stack([x[held], np.full(held.sum(), arm)]), raw_score=True)
            mean[held, arm] = link(found)
            if arm == 0:
                raw[held] = found
        boosters.append(booster)
    return _Nuisance(mean, raw, boosters, fold)


def _bases(boosters: list[Any], x: Array) -> Array:
    """What each model expects of the control, before the link, shape (FOLDS, n)."""
    whole = np.column_stack([x, np.zeros(len(x))])
    return np.stack([booster.predict(whole, raw_score=True) for booster in boosters])


def _pseudo(trial: Trial, mean: Array) -> Array:
    """What each decision says of each action's effect, doubly robust, shape (n, k - 1) (Kennedy 2023, eq. 5)."""
    n = np.arange(len(trial))
    off = (trial.outcome - mean[n, trial.action]) / trial.chances[n, trial.action]
    value = mean + off[:, None] * (trial.action[:, None] == np.arange(len(trial.arms)))
    return np.asarray(value[:, 1:] - value[:, :1])


def clustered_error(values: Array, who: Codes) -> Array:
    """Standard errors of the means of columns whose rows belong to customers, shape (d,) of (n, d)."""
    n, many = len(values), int(who.max()) + 1
    off = values - values.mean(axis=0)
    sums = np.column_stack([np.bincount(who, weights=column, minlength=many) for column in off.T])
    groups = len(np.unique(who))
    return np.sqrt((sums**2).sum(axis=0) * groups / max(1, groups - 1)) / n


@dataclass(frozen=True, repr=False, eq=False)
class AverageEffects(Result):
    """What each action changed on average, with intervals.

    Attributes:
        table: As `frame` says.
        level: Of the intervals.
        left_out: Decisions in which not every action could have been taken.
    """

    title: ClassVar[str] = "What does each action change on average?"
    note: ClassVar[str] = "An interval that holds zero: it cannot be told whether the action does anything."
    table: pd.DataFrame
    level: float
    left_out: int

    def frame(self) -> pd.DataFrame:
        """One row an action: action, n, n_control, rate, rate_control, effect, low, high, p."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Effects with their intervals, against zero."""
        ax = axes(self.title, height=row_height(self.table))
        t = self.table
        interval_plot(ax, list(t["action"]), *(t[name].to_numpy() for name in ("effect", "low", "high")), reference=0.0)
        ax.set_xlabel(f"change of the outcome ({100 * self.level:g} % interval)")
        return ax


def average_effects(trial: Trial, *, level: float = 0.95, seed: int = 0) -> AverageEffects:
    """Average effects, augmented by what is expected of each customer (AIPW: Robins, Rotnitzky and Zhao 1994), with
    expectations from models that have not seen the customer (Chernozhukov et al. 2018, DML1) and errors by customer.

    Args:
        trial: Actions given by lot.
        level: Of the intervals, in (0, 1).
        seed: The same seed gives the same figures.
    Raises:
        DataError: The actions were not given by lot.
    """
    import pandas as pd
    from scipy import stats

    check_level(level)
    require_lot(trial)
    part = trial.part(trial.open)
    encoder = _Encoder.of(part.features)
    psi = _pseudo(part, _nuisance(part, encoder(part.features), encoder, seed).mean)
    effect, error = psi.mean(axis=0), clustered_error(psi, part.who)
    wide = NormalDist().inv_cdf((1 + level) / 2) * error
    weight = 1 / part.chances[np.arange(len(part)), part.action]
    rate = [np.average(part.outcome[part.action == a], weights=weight[part.action == a]) for a in range(len(part.arms))]
    count = np.bincount(part.action, minlength=len(part.arms))
    columns = {
        "action": part.arms[1:],
        "n": count[1:],
        "n_control": count[0],
        "rate": rate[1:],
        "rate_control": rate[0],
        "effect": effect,
        "low": effect - wide,
        "high": effect + wide,
        "p": 2 * stats.norm.sf(np.abs(effect) / np.maximum(error, 1e-300)),
    }
    return AverageEffects(pd.DataFrame(columns), level, len(trial) - len(part))


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects of actions on customers, and how far they may be off.

    Attributes:
        arms: The actions, k - 1 of them, without the control.
        expected: Outcome if nothing is done, shape (n,).
        effect: Change of the outcome, shape (n, k - 1).
        draws: The same from halves of the customers, shape (B, n, k - 1): their spread is the standard error of
            `effect` (half-sampling: McCarthy 1969; what is expected without action varies as a delete-a-group
            jackknife has it, Kott 2001). It holds the luck of who was seen, not what shallow trees smooth away.
        binary: Whether the outcome is 0 or 1, so that an effect is one on a chance.
    """

    arms: tuple[str, ...]
    expected: Array
    effect: Array
    draws: NDArray[np.float32]
    binary: bool = True

    def __len__(self) -> int:
        return len(self.effect)

    @property
    def error(self) -> Array:
        """Standard errors, shape (n, k - 1)."""
        return np.asarray(self.draws.std(axis=0, ddof=1, dtype=np.float64))

    def of(self, arm: str) -> Array:
        """The effect of one action, shape (n,).

        Raises:
            ParamsError: There is none of that name.
        """
        if arm not in self.arms:
            raise ParamsError(unknown("Action", arm, self.arms, where="among the effects"))
        return np.asarray(self.effect[:, self.arms.index(arm)])

    def bounds(self, level: float = 0.9) -> tuple[Array, Array]:
        """Both ends of intervals of this level, shape (n, k - 1) each."""
        check_level(level)
        wide = NormalDist().inv_cdf((1 + level) / 2) * self.error
        return self.effect - wide, self.effect + wide

    def part(self, rows: NDArray[Any]) -> Effects:
        """Some of the customers."""
        return Effects(self.arms, self.expected[rows], self.effect[rows], self.draws[:, rows], self.binary)


class _Fitted(NamedTuple):
    """What one learner made of one half: for each action a constant and trees upon it."""

    constant: list[float]
    trees: list[Any]


class _Learner(NamedTuple):
    kind: str
    rounds: int  # of trees
    says: str


LEARNERS = {  # the simplest first
    "constant": _Learner("boosted", 0, "every customer's odds change alike (on amounts: everyone by the same amount)"),
    "boosted_20": _Learner("boosted", 20, "shallow trees of the change, on top of what is expected without the action"),
    "boosted_60": _Learner("boosted", 60, "the same, more of them"),
    "boosted_240": _Learner("boosted", 240, "the same, for effects that stand out"),
    "dr": _Learner("dr", 60, "trees of doubly robust pseudo-outcomes"),
}
DOUBT = 60  # trees whose spread is the error where fewer are kept: what is shrunk away is not known any better


class _Known(NamedTuple):
    """What learners learn from: decisions, features as numbers, what is expected without action, pseudo-outcomes."""

    trial: Trial
    x: Array
    raw: Array
    psi: Array
    encoder: _Encoder

    def part(self, rows: NDArray[np.bool_]) -> _Known:
        return _Known(self.trial.part(rows), self.x[rows], self.raw[rows], self.psi[rows], self.encoder)


def _fit(kind: str, rounds: int, known: _Known, seed: int) -> _Fitted:
    import lightgbm as lgb

    trial, constants, trees = known.trial, [], []
    for arm in range(1, len(trial.arms)):
        if kind == "dr":
            x, target = known.x, known.psi[:, arm - 1]
            constants.append(float(target.mean()))
            start = np.full(len(target), constants[-1])
        else:
            rows = trial.action == arm
            x, target = known.x[rows], trial.outcome[rows]
            constants.append(_constant(target, known.raw[rows], trial.binary))
            start = known.raw[rows] + constants[-1]
        if rounds:
            data = lgb.Dataset(x, target, init_score=start, categorical_feature=known.encoder.categories)
            odds = trial.binary and kind != "dr"
            trees.append(lgb.train(_shallow(*x.shape, odds=odds, seed=seed), data, num_boost_round=rounds))
    return _Fitted(constants, trees)


def _shallow(n: int, features: int, *, odds: bool, seed: int) -> dict[str, Any]:
    """Trees of at most three splits that move only where many rows agree."""
    least = max(30, n // 25)
    return TREES | {
        "objective": "binary" if odds else "regression",
        "num_leaves": 4,
        "learning_rate": 0.05,
        "lambda_l2": 20.0 if odds else 0.2 * least,
        "min_data_in_leaf": least,
        "min_sum_hessian_in_leaf": 5.0 if odds else 0.0,
        "feature_fraction": max(0.4, min(1.0, 4 / features)),
        "boost_from_average": False,
        "max_bin": 63,
        "seed": seed,
    }


def _constant(y: Array, raw: Array, binary: bool) -> float:
    """The shift of all that makes the mean right, by Newton's steps; one observation of no change steadies it."""
    if not binary:
        return float((y - raw).mean())
    from scipy.special import expit

    shift = 0.0
    for _ in range(30):
        p = expit(raw + shift)
        step = (float((y - p).sum()) - shift) / (float((p * (1 - p)).sum()) + 1)
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-10:
            break
    return shift


def _shift(fitted: _Fitted, rounds: int, x: Array) -> Array:
    """Of each action, before the link, by so many trees, shape (n, k - 1)."""
    alike = np.tile(fitted.constant, (len(x), 1))
    if not rounds:
        return alike
    return alike + np.column_stack([t.predict(x, raw_score=True, num_iteration=rounds) for t in fitted.trees])


def _effect(learner: _Learner, shift: Array, raw: Array, binary: bool) -> Array:
    """Of each action on the outcome, shape (n, k - 1)."""
    if learner.kind == "dr":
        return shift
    link = _link(binary)
    return np.asarray(link(raw[:, None] + shift) - link(raw)[:, None])


def _halves(who: Codes, bags: int, seed: int) -> list[NDArray[np.bool_]]:
    """Halves of the customers, two by two."""
    rng, many, out = np.random.default_rng(seed), int(who.max()) + 1, []
    for _ in range(-(-bags // 2)):
        inside = (rng.permutation(many) < many // 2)[who]
        out += [inside, ~inside]
    return out[:bags]


def _bagged(kind: str, rounds: int, known: _Known, bags: int, seed: int) -> list[_Fitted]:
    halves = _halves(known.trial.who, bags, seed)
    return [_fit(kind, rounds, known.part(rows), seed + place) for place, rows in enumerate(halves)]


@dataclass(frozen=True, repr=False, eq=False)
class Uplift(Result):
    """A learner of effects, chosen among a few by how well it foretells customers it has not seen.

    Attributes:
        learner: Its name in `LEARNERS`.
        arms: Actions, the control first.
        table: As `frame` says.
        calibration: Fifths by the effect foretold for customers not seen, for each action: as foretold, and as it was.
        n: Decisions learnt from.
    """

    title: ClassVar[str] = "Which learner foretells effects best?"
    note: ClassVar[str] = (
        "Loss is the R-loss on customers not seen, relative to saying that no action does anything: below 0 is better. "
        "The simplest within one standard error of the least is kept."
    )
    learner: str
    arms: tuple[str, ...]
    table: pd.DataFrame
    calibration: pd.DataFrame
    n: int
    binary: bool
    encoder: _Encoder
    typical: Array
    boosters: list[Any]
    fitted: list[_Fitted]

    def frame(self) -> pd.DataFrame:
        """One row a learner: learner, loss, error (of its difference to the least), chosen."""
        return self.table.copy()

    def plot(self) -> Axes:
        """What was foretold for customers not seen against what was, by fifths, for each action."""
        t = self.calibration
        ax = axes("Do effects come as foretold?", width=5.6, height=4.6)
        for place, (name, part) in enumerate(t.groupby("action", sort=False)):
            colour = PALETTE[place % len(PALETTE)]
            ax.vlines(part["foretold"], part["low"], part["high"], color=colour, linewidth=1)
            ax.plot(part["foretold"], part["effect"], "o", color=colour, label=name)
        ends = [t["foretold"].min(), t["foretold"].max()]
        ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
        ax.set(xlabel="effect foretold", ylabel="effect seen (95 % interval)")
        ax.legend(frameon=False)
        return ax

    def effects(self, features: pd.DataFrame) -> Effects:
        """The effect of each action on each of these customers.

        Raises:
            DataError: A feature is missing.
        """
        x, learner, draws = self.encoder(features), LEARNERS[self.learner], []
        effect = np.zeros((len(x), len(self.arms) - 1))
        parts = _bases(self.boosters, x)
        raw = parts.mean(axis=0)
        for place, part in enumerate(self.fitted):
            effect += _effect(learner, _shift(part, learner.rounds, x), raw, self.binary) / len(self.fitted)
            one = raw + np.sqrt(FOLDS - 1) * (parts[place % FOLDS] - raw)
            draws.append(_effect(learner, _shift(part, max(learner.rounds, DOUBT), x), one, self.binary))
        spread = (np.stack(draws) - np.mean(draws, axis=0) + effect).astype(np.float32)
        return Effects(self.arms[1:], _link(self.binary)(raw), effect, spread, self.binary)

    def driven_by(self, features: pd.DataFrame, action: Codes) -> Array:
        """How much of an effect each feature makes: what is lost where it is as with most customers.

        Args:
            features: The customers, n rows.
            action: Which effect to look at, as a place in `arms`, >= 1, shape (n,).
        Returns:
            Shape (n, features), in the order of `encoder.names`.
        """
        x, n = self.encoder(features), np.arange(len(action))
        out = np.empty(x.shape)
        whole = self._mean(x)[n, action - 1]
        for place in range(x.shape[1]):
            other = x.copy()
            other[:, place] = self.typical[place]
            out[:, place] = whole - self._mean(other)[n, action - 1]
        return out

    def _mean(self, x: Array) -> Array:
        raw, learner = _bases(self.boosters, x).mean(axis=0), LEARNERS[self.learner]
        total = np.zeros((len(x), len(self.arms) - 1))
        for part in self.fitted:
            total += _effect(learner, _shift(part, learner.rounds, x), raw, self.binary)
        return total / len(self.fitted)


def learn_uplift(trial: Trial, *, learners: Sequence[str] = tuple(LEARNERS), bags: int = BAGS, seed: int = 0) -> Uplift:
    """Learns for whom an action changes how much.

    What is expected of each customer is learnt from all decisions, the action among the features (the S-learner of
    Künzel et al. 2019). On it come the learners of the change, each the mean of fits to halves of the customers:
    `boosted` learns from those who got an action how far they are off what is expected without it, as the X-learner
    (ibid.) does, but on the log-odds, in few trees or in many; `dr` regresses doubly robust pseudo-outcomes (Kennedy
    2023); `constant` changes everyone's odds alike. By their R-loss (Nie and Wager 2021, eq. 4; for many actions,
    weighted by the inverse of the outcome's variance) on customers not seen, the simplest within one standard error of
    the least is kept (Breiman et al. 1984, section 3.4.3): noise that told customers apart would choose among them.

    Args:
        trial: Actions given by lot.
        learners: Names in `LEARNERS`.
        bags: Halves, >= 4.
        seed: The same seed gives the same figures.
    Raises:
        DataError: The actions were not given by lot.
        ParamsError: A learner is not known.
        ValueError: `bags` is below 4.
    """
    import pandas as pd

    for name in learners:
        if name not in LEARNERS:
            raise ParamsError(unknown("Learner", name, LEARNERS))
    if bags < 4:
        raise ValueError(f"bags == {bags}, must be >= 4.")
    require_lot(trial)
    part = trial.part(trial.open)
    encoder = _Encoder.of(part.features)
    x = encoder(part.features)
    nuisance = _nuisance(part, x, encoder, seed)
    psi = _pseudo(part, nuisance.mean)
    known = _Known(part, x, nuisance.raw, psi, encoder)
    foretold = _out_of_fold(known, nuisance.fold, learners, seed)
    losses = {name: _r_loss(part, nuisance.mean, found) for name, found in foretold.items()}
    none = _r_loss(part, nuisance.mean, np.zeros_like(psi))
    least = min(losses.values(), key=lambda loss: float(loss.mean()))
    error = {name: clustered_error((loss - least)[:, None], part.who)[0] for name, loss in losses.items()}
    best = next(name for name in LEARNERS if name in losses and (losses[name] - least).mean() <= error[name])
    scale = none.mean()
    rows = [(name, (x - none).mean() / scale, error[name] / scale, name == best) for name, x in losses.items()]
    table = pd.DataFrame(rows, columns=["learner", "loss", "error", "chosen"])
    fitted = _bagged(LEARNERS[best].kind, max(LEARNERS[best].rounds, DOUBT), known, bags, seed)
    seen = _calibration(part, psi, foretold[best])
    return Uplift(
        best, part.arms, table, seen, len(part), part.binary, encoder, _typical(x, encoder), nuisance.boosters, fitted
    )


def _typical(x: Array, encoder: _Encoder) -> Array:
    """The median of a number, the most frequent of a category, shape (features,)."""
    out = np.full(x.shape[1], np.nan)
    for place, column in enumerate(x.T):
        known = column[np.isfinite(column)]
        if len(known):
            common = place in encoder.categories
            out[place] = np.bincount(known.astype(np.intp)).argmax() if common else np.median(known)
    return out


def _out_of_fold(known: _Known, fold: Codes, learners: Sequence[str], seed: int) -> dict[str, Array]:
    """Each learner's effects for customers it has not seen, shape (n, k - 1)."""
    out = {name: np.empty_like(known.psi) for name in learners}
    most = {LEARNERS[name].kind: 0 for name in learners}
    for name in learners:
        most[LEARNERS[name].kind] = max(most[LEARNERS[name].kind], LEARNERS[name].rounds)
    for place in range(FOLDS):
        seen, held = known.part(fold != place), known.part(fold == place)
        fits = {kind: _bagged(kind, rounds, seen, 2, seed + 1) for kind, rounds in most.items()}
        for name in learners:
            learner = LEARNERS[name]
            shifts = [_shift(fit, learner.rounds, held.x) for fit in fits[learner.kind]]
            each = [_effect(learner, shift, held.raw, held.trial.binary) for shift in shifts]
            out[name][fold == place] = np.mean(each, axis=0)
    return out


def _r_loss(trial: Trial, mean: Array, effect: Array) -> Array:
    """Of each decision, shape (n,)."""
    middle = (trial.chances * mean).sum(axis=1)
    off = (trial.action[:, None] == np.arange(1, len(trial.arms))) - trial.chances[:, 1:]
    spread = np.maximum(middle * (1 - middle), 0.01) if trial.binary else np.ones(len(trial))
    return np.asarray((trial.outcome - middle - (off * effect).sum(axis=1)) ** 2 / spread)


def _calibration(trial: Trial, psi: Array, foretold: Array) -> pd.DataFrame:
    """Group average effects (GATES: Chernozhukov, Demirer, Duflo and Fernández-Val 2018) by fifths of the foretold."""
    import pandas as pd

    rows = []
    for place, name in enumerate(trial.arms[1:]):
        order = np.argsort(foretold[:, place], kind="stable")
        for fifth, inside in enumerate(np.array_split(order, 5), 1):
            if not len(inside):
                continue
            values = psi[inside, place]
            error = clustered_error(values[:, None], trial.who[inside])[0]
            mean = values.mean()
            low, high = mean - 1.959964 * error, mean + 1.959964 * error
            rows.append((name, fifth, len(inside), foretold[inside, place].mean(), mean, low, high))
    return pd.DataFrame(rows, columns=["action", "fifth", "n", "foretold", "effect", "low", "high"])


@dataclass(frozen=True, repr=False, eq=False)
class Qini(Result):
    """What an action gains when customers are treated in the order of a score, against a random order.

    Attributes:
        action: Which.
        coefficient: Area between the curve and the straight line to its end, in the outcome's unit; above 0 the order
            is better than chance.
        total: The gain if everyone is treated.
        n: Decisions with the action or the control.
        level: Of the intervals.
        table: As `frame` says.
    """

    title: ClassVar[str] = "Does the order find those whom the action moves?"
    note: ClassVar[str] = "Gain a customer, all customers counted. Above the straight line: better than a random order."
    action: str
    coefficient: Interval
    total: Interval
    n: int
    level: float
    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a share of customers treated: share, gain, low, high, random."""
        return self.table.copy()

    def plot(self) -> Axes:
        """The curve with its interval, and a random order."""
        from matplotlib.ticker import PercentFormatter

        t, c = self.table, self.coefficient
        ax = axes(f"{self.action}: Qini {c.value:.2g} ({c.low:.2g} to {c.high:.2g})", width=5.6, height=4.2)
        ax.fill_between(t["share"], t["low"], t["high"], color=PALETTE[0], alpha=0.2, linewidth=0)
        ax.plot(t["share"], t["gain"], color=PALETTE[0], label="highest foretold effect first")
        ax.plot(t["share"], t["random"], color=GREY, linestyle="--", linewidth=1, label="random order")
        ax.set(xlabel="customers treated", ylabel="gain a customer")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.legend(frameon=False)
        return ax


def qini(trial: Trial, score: Array, action: str, *, level: float = 0.95, resamples: int = 500, seed: int = 0) -> Qini:
    """The Qini curve (Radcliffe 2007) of an order of customers that was made without these outcomes.

    At each share the gain is that share times the difference of mean outcomes, action against control, among the
    customers so far, weighted by the inverse of their chances; a customer's decisions are drawn together in the
    bootstrap. Ties lie in one step.

    Args:
        trial: Actions given by lot.
        score: The higher the sooner, shape (n,).
        action: Which action, against the control.
        level: Of the intervals, in (0, 1).
        resamples: Draws of the bootstrap, >= 1.
        seed: The same seed gives the same intervals.
    Raises:
        DataError: The actions were not given by lot.
        ParamsError: There is no such action.
        ValueError: The score has another shape or is not finite.
    """
    import pandas as pd

    check_level(level)
    values = np.asarray(score, dtype=np.float64)
    if values.shape != (len(trial),) or not np.isfinite(values).all():
        raise ValueError(f"score has shape {values.shape}, must be ({len(trial)},) and finite.")
    arm = trial.arm(action)
    require_lot(trial)
    rows = trial.open & np.isin(trial.action, (0, arm))
    part, values = trial.part(rows), values[rows]
    n, who = len(part), np.unique(part.who, return_inverse=True)[1]
    order = np.argsort(-values, kind="stable")
    rank = np.searchsorted(np.sort(-values), -values[order], side="right")  # of the last that ties with it
    step = np.minimum(np.ceil(rank / n * GRID).astype(int), GRID) - 1
    treated = part.action[order] == arm
    chance = part.chances[order, np.where(treated, arm, 0)]
    y = part.outcome[order] - np.average(part.outcome)  # the difference of means is the same, and steadier to add
    sums = np.zeros((n, 4))
    sums[:, 0], sums[:, 1] = treated * y / chance, treated / chance
    sums[:, 2], sums[:, 3] = ~treated * y / chance, ~treated / chance
    size = np.bincount(step, minlength=GRID).cumsum() / n

    def curves(weights: Array) -> Array:
        each = np.stack([_by_step(weights[:, who[order]] * column, step) for column in sums.T])
        cumulated = each.cumsum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            gap = cumulated[0] / cumulated[1] - cumulated[2] / cumulated[3]
        return np.where(np.isfinite(gap), gap, 0.0) * size

    many = int(who.max()) + 1
    gain = curves(np.ones((1, many)))[0]
    drawn = np.concatenate([curves(w) for w in resampled(many, resamples=resamples, seed=seed, wide=n)])
    area = float(_area(gain, size))
    replicates = _area(drawn, size)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    table = pd.DataFrame(
        {"share": size, "gain": gain, "low": low, "high": high, "random": size * gain[-1]},
    )
    table = table[table["share"] > 0].drop_duplicates("share", ignore_index=True)
    coefficient = interval(area, replicates, level=level, kind="percentile")
    return Qini(action, coefficient, interval(float(gain[-1]), drawn[:, -1], level=level), n, level, table)


def _by_step(values: Array, step: Codes) -> Array:
    """Sums of columns by their step, shape (b, GRID)."""
    ends = np.searchsorted(step, np.arange(GRID), side="right")
    total = np.pad(values.cumsum(axis=1), ((0, 0), (1, 0)))[:, ends]
    return np.diff(total, axis=1, prepend=0.0)


def _area(gain: Array, share: Array) -> Array:
    """Between curves, shape (..., GRID), and the straight line to their ends."""
    x = np.concatenate([[0.0], share])
    y = np.concatenate([np.zeros((*gain.shape[:-1], 1)), gain], axis=-1)
    return np.asarray(np.trapezoid(y - x * gain[..., -1:], x, axis=-1))
