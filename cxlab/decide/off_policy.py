"""What another policy would have earned, from decisions that were made by lot: before anything goes live.

found = policy_value(trial, policy, worth=1200, costs={"call": 6, "discount": 5})
found.frame()           # logged, ips, snips and dr, each with its interval
found.verdict           # "better", "worse" or "cannot tell" than what was done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from cxlab.decide.average_effects import Encoder, clustered_error, nuisance_of
from cxlab.decide.lot import require_lot
from cxlab.decide.trials import Array, Trial
from cxlab.display import Result, axes, interval_plot, row_height, sentence
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.metrics.bootstrap import check_level

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FEWEST = 100  # decisions that the weights must be worth
HEAVIEST = 0.05  # share of all weight that one decision may have

Verdict = Literal["better", "worse", "cannot tell"]


@dataclass(frozen=True, repr=False, eq=False)
class PolicyValue(Result):
    """What a policy is worth a decision, as far as the logged decisions show it.

    Attributes:
        table: As `frame` says.
        level: Of the intervals.
        n: Decisions.
        agreed: Share in which the policy would have done what was done.
        effective: How many decisions its weights are worth (Kish 1965): sum squared over sum of squares.
        heaviest: Share of all weight that the heaviest decision has.
        unsupported: Share of the policy's choices that had no chance when the decisions were made.
        reason: Why it cannot be told; "" where it can.
        verdict: Against what was done, by the doubly robust difference.
    """

    title: ClassVar[str] = "What would this policy have earned?"
    table: pd.DataFrame
    level: float
    n: int
    agreed: float
    effective: float
    heaviest: float
    unsupported: float
    reason: str
    verdict: Verdict

    @property
    def note(self) -> str:  # type: ignore[override]
        if self.reason:
            return f"Cannot tell: {self.reason}"
        return (
            f"{self.n:,} decisions are worth {self.effective:,.0f} for this policy; than what was done it is: "
            f"{self.verdict}."
        )

    def frame(self) -> pd.DataFrame:
        """One row an estimate: estimate (logged, ips, snips, dr, dr - logged, dr - nothing), n, value, low, high."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Each estimate with its interval, against what was done."""
        t = self.table[~self.table["estimate"].str.contains(" - ")]
        if t["value"].isna().any():
            return sentence(self.title, self.note)
        ax = axes(self.title, height=row_height(t))
        logged = float(t["value"].iloc[0])
        interval_plot(
            ax, list(t["estimate"]), *(t[name].to_numpy() for name in ("value", "low", "high")), reference=logged
        )
        ax.set_xlabel(f"value a decision ({100 * self.level:g} % interval)")
        return ax


def policy_value(
    trial: Trial,
    policy: Any,
    *,
    worth: float = 1.0,
    costs: Mapping[str, float] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> PolicyValue:
    """Inverse propensity (Horvitz and Thompson 1952), self-normalised (Swaminathan and Joachims 2015) and doubly
    robust (Dudík, Langford and Li 2011, eq. 4) estimates of a policy's value.

    The doubly robust one takes expectations from models that have not seen the customer; errors are those of
    influence functions, summed by customer. Where the policy does what had no chance, nothing is told: no weight
    makes up for decisions that were never made.

    Args:
        trial: Decisions made by lot, their chances known.
        policy: What it does: names of actions, shape (n,), or probabilities in the order of `trial.arms`, shape (n, k).
            It must not rest on these outcomes.
        worth: Of an outcome of 1.
        costs: Of each action, 0 where none is given.
        level: Of the intervals, in (0, 1).
        seed: The same seed gives the same figures.
    Raises:
        DataError: The decisions were not made by lot, or the policy does not fit them.
        ParamsError: A cost is given for an action that is not there.
    """
    check_level(level)
    cost = np.zeros(len(trial.arms))
    for name, value in (costs or {}).items():
        if name not in trial.arms:
            raise ParamsError(unknown("Action", name, trial.arms, where="in this trial"))
        cost[trial.arms.index(name)] = value
    target = _target(trial, policy)
    require_lot(trial)
    n = np.arange(len(trial))
    weight = target[n, trial.action] / trial.chances[n, trial.action]
    unsupported = float((target * (trial.chances == 0)).sum(axis=1).mean())
    square = float((weight**2).sum())
    effective = float(weight.sum() ** 2 / square) if square else 0.0
    heaviest = float(weight.max() / weight.sum()) if square else 1.0
    logged = worth * trial.outcome - cost[trial.action]
    columns = _estimates(trial, target, weight, logged, worth, cost, seed)
    table = _table(columns, trial, level, told=unsupported == 0)
    reason = _cannot(unsupported, effective, heaviest)
    gap = table.set_index("estimate").loc["dr - logged"]
    better = "better" if gap["low"] > 0 else "worse" if gap["high"] < 0 else "cannot tell"
    agreed = float(target[n, trial.action].mean())
    verdict: Verdict = "cannot tell" if reason else better  # type: ignore[assignment]
    return PolicyValue(table, level, len(trial), agreed, effective, heaviest, unsupported, reason, verdict)


def _target(trial: Trial, policy: Any) -> Array:
    given = np.asarray(policy)
    k = len(trial.arms)
    if given.shape == (len(trial),):
        names = given.astype(str)
        other = set(names) - set(trial.arms)
        if other:
            raise DataError(unknown("Action", str(min(other)), trial.arms, where="in this trial"))
        return np.asarray((names[:, None] == np.array(trial.arms)).astype(np.float64))
    if given.shape != (len(trial), k):
        raise DataError(f"policy has shape {given.shape}, must be ({len(trial)},) names or ({len(trial)}, {k}).")
    table = given.astype(np.float64)
    if not ((table >= 0).all() and np.allclose(table.sum(axis=1), 1)):
        raise DataError("Probabilities of the policy must be >= 0 and add up to 1 in every row.")
    return table


def _estimates(  # noqa: PLR0917
    trial: Trial, target: Array, weight: Array, logged: Array, worth: float, cost: Array, seed: int
) -> dict[str, tuple[float, Array]]:
    """Each estimate with what each decision adds to it beyond the mean."""
    encoder = Encoder.of(trial.features)
    mean = worth * nuisance_of(trial, encoder(trial.features), encoder, seed).mean - cost
    off = logged - mean[np.arange(len(trial)), trial.action]
    dr = (target * mean).sum(axis=1) + weight * off
    nothing = mean[:, 0] + np.where(trial.action == 0, off / trial.chances[:, 0].clip(1e-12), 0.0)
    total = weight.mean()
    snips = float((weight * logged).mean() / total) if total else np.nan
    columns = {
        "logged": logged,
        "ips": weight * logged,
        "dr": dr,
        "dr - logged": dr - logged,
        "dr - nothing": dr - nothing,
    }
    out = {name: (float(values.mean()), values) for name, values in columns.items()}
    out["snips"] = (snips, weight * (logged - snips) / total if total else weight)
    return {name: out[name] for name in ("logged", "ips", "snips", "dr", "dr - logged", "dr - nothing")}


def _table(columns: dict[str, tuple[float, Array]], trial: Trial, level: float, *, told: bool) -> pd.DataFrame:
    import pandas as pd

    error = clustered_error(np.column_stack([values for _, values in columns.values()]), trial.who)
    wide = NormalDist().inv_cdf((1 + level) / 2) * error
    table = pd.DataFrame(
        {"estimate": list(columns), "n": len(trial), "value": [value for value, _ in columns.values()]}
    )
    table["low"], table["high"] = table["value"] - wide, table["value"] + wide
    if not told:
        table.loc[table["estimate"] != "logged", ["value", "low", "high"]] = np.nan
    if (trial.chances[:, 0] == 0).any():
        table.loc[table["estimate"] == "dr - nothing", ["value", "low", "high"]] = np.nan
    return table


def _cannot(unsupported: float, effective: float, heaviest: float) -> str:
    if unsupported > 0:
        return (
            f"{unsupported:.1%} of what the policy does had no chance when the decisions were made. Leave those "
            "customers to what was done, or give the action a chance first."
        )
    if effective < FEWEST:
        return f"it does what was seldom done: the decisions are worth only {effective:.0f} for it, must be {FEWEST}."
    if heaviest > HEAVIEST:
        return f"it does what was seldom done: one decision has {heaviest:.0%} of all weight, at most {HEAVIEST:.0%}."
    return ""
