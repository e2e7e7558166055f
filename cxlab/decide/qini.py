"""Does a ranking find those whom an action moves? The Qini curve, with its interval.

qini(trial, uplift.effects(trial.features).of("call"), "call").plot()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cxlab.decide.lot import require_lot
from cxlab.decide.trials import Array, Codes, Trial
from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import Interval, check_level, interval, resampled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

GRID = 100  # points of a curve


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
