"""For whom an action changes how much, learnt from actions that were given by lot.

    trial = read_trial(frame, action="action", outcome="stayed", features=[...], chances={"none": "p_none", ...})
    uplift = learn_uplift(trial)
    uplift.effects(customers).effect        # of each action on each customer

An outcome is something wanted: higher is better. What was not given by lot is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxlab.decide.average_effects import (
    FOLDS,
    TREES,
    Encoder,
    bases_of,
    clustered_error,
    link_of,
    nuisance_of,
    pseudo_outcomes,
)
from cxlab.decide.lot import require_lot
from cxlab.decide.trials import Array, Codes, Trial
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.errors import ParamsError, unknown
from cxlab.metrics.bootstrap import check_level

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BAGS = 16


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
    encoder: Encoder

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
    link = link_of(binary)
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
    encoder: Encoder
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
        parts = bases_of(self.boosters, x)
        raw = parts.mean(axis=0)
        for place, part in enumerate(self.fitted):
            effect += _effect(learner, _shift(part, learner.rounds, x), raw, self.binary) / len(self.fitted)
            one = raw + np.sqrt(FOLDS - 1) * (parts[place % FOLDS] - raw)
            draws.append(_effect(learner, _shift(part, max(learner.rounds, DOUBT), x), one, self.binary))
        spread = (np.stack(draws) - np.mean(draws, axis=0) + effect).astype(np.float32)
        return Effects(self.arms[1:], link_of(self.binary)(raw), effect, spread, self.binary)

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
        raw, learner = bases_of(self.boosters, x).mean(axis=0), LEARNERS[self.learner]
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
    encoder = Encoder.of(part.features)
    x = encoder(part.features)
    nuisance = nuisance_of(part, x, encoder, seed)
    psi = pseudo_outcomes(part, nuisance.mean)
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


def _typical(x: Array, encoder: Encoder) -> Array:
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
