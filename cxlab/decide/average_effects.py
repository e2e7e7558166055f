"""What actions change on average, by doubly robust estimates, and the expectations that these rest on.

average_effects(trial).plot()
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from cxlab.decide.lot import require_lot
from cxlab.decide.trials import Array, Codes, Trial
from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.errors import missing_column
from cxlab.metrics.bootstrap import check_level

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FOLDS = 4
TREES: dict[str, Any] = {"verbosity": -1, "num_threads": 1, "deterministic": True, "force_row_wise": True}


class Encoder(NamedTuple):
    """Columns as numbers: categories by their place, what was not there in learning as missing."""

    names: tuple[str, ...]
    levels: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, features: pd.DataFrame) -> Encoder:
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


class Nuisance(NamedTuple):
    """Expected outcomes, each decision's from models that have not seen its customer."""

    mean: Array  # (n, k)
    raw: Array  # (n,), of the control, before the link
    boosters: list[Any]
    fold: Codes  # (n,)


def folds_of(who: Codes, folds: int, seed: int) -> Codes:
    return np.asarray(np.random.default_rng(seed).permutation(int(who.max()) + 1) % folds)[who]


def link_of(binary: bool) -> Any:
    from scipy.special import expit

    return expit if binary else np.asarray


def nuisance_of(trial: Trial, x: Array, encoder: Encoder, seed: int) -> Nuisance:
    """One boosted model of the outcome, the action among its features (the S-learner of Künzel et al. 2019)."""
    import lightgbm as lgb

    k, link = len(trial.arms), link_of(trial.binary)
    fold = folds_of(trial.who, FOLDS, seed)
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
    return Nuisance(mean, raw, boosters, fold)


def bases_of(boosters: list[Any], x: Array) -> Array:
    """What each model expects of the control, before the link, shape (FOLDS, n)."""
    whole = np.column_stack([x, np.zeros(len(x))])
    return np.stack([booster.predict(whole, raw_score=True) for booster in boosters])


def pseudo_outcomes(trial: Trial, mean: Array) -> Array:
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
    encoder = Encoder.of(part.features)
    psi = pseudo_outcomes(part, nuisance_of(part, encoder(part.features), encoder, seed).mean)
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
