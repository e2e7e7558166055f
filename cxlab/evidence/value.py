"""What a model is worth: profit over whom we contact, and the threshold that goes with the model.

A contact costs `contact_cost`. If the customer would have left, it keeps her with probability `save_rate`, which is
worth `saved_value`. So contacting the customers above a threshold earns, per customer we have,
(save_rate x saved_value x positives contacted - contact_cost x contacted) / n.
Source: Verbeke et al. (2012), New insights into churn prediction, section 3.2, with one value for every customer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import Interval, interval, resampled
from cxlab.models.calibration import clipped, uncertainty
from cxlab.params import ValueParams

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SURE = 1.959964  # standard errors that hold 95 %
GRID = np.round(np.arange(0.01, 1.001, 0.01), 2)  # shares of customers contacted


@dataclass(frozen=True)
class Threshold:
    """Where a score becomes an action.

    Attributes:
        value: Contact at this probability and above.
        share: Of the validated training rows that are at or above it.
        reason: How it was chosen.
        low: From here to `high` a score can't be told from the threshold: what a score at the threshold means, as far
            as calibration on so few rows can say, with 95 % confidence.
        high: The upper end.
    """

    value: float
    share: float
    reason: str
    low: float
    high: float


def choose_threshold(outcome: np.ndarray, score: np.ndarray, params: ValueParams) -> Threshold:
    """The threshold with the highest profit within the capacity, on rows that are not the test part.

    Args:
        outcome: Outcomes of validated training rows in {0, 1}, shape (n,).
        score: Their cross-fitted probabilities, shape (n,).
        params: Costs, values and the capacity.
    Returns:
        The threshold. Tied scores are contacted together or not at all, so its share may stay below the capacity.
    """
    order = np.argsort(-score, kind="stable")
    ranked, n = score[order], len(score)
    gain = np.cumsum(params.save_rate * params.saved_value * outcome[order] - params.contact_cost)
    whole = np.append(ranked[1:] < ranked[:-1], True)  # never cut between equal scores
    within = np.arange(1, n + 1) <= max(1, int(params.capacity * n))
    allowed = np.flatnonzero(whole & within)
    if not len(allowed):
        return _nobody(ranked[0], "more customers tie for the top than we can contact")
    best = int(allowed[np.argmax(gain[allowed])])
    if gain[best] <= 0:
        return _nobody(ranked[0], "no contact pays at these costs and values")
    reason = "as many as we can contact" if best == allowed[-1] else "the highest profit"
    value = float(ranked[best])
    odds = float(logit(clipped(ranked[best])))
    reach = SURE * float(np.sqrt(np.array([1, odds]) @ uncertainty(score) @ np.array([1, odds])))
    low, high = (round(float(expit(odds + way * reach)), 9) for way in (-1, 1))
    return Threshold(value, (best + 1) / n, f"{reason}, on cross-validated training rows", low, high)


def _nobody(highest: float, reason: str) -> Threshold:
    above = float(np.nextafter(highest, 2))
    return Threshold(above, 0.0, reason, above, above)


@dataclass(frozen=True, repr=False)
class Value(Result):
    """Profit on the test part.

    Attributes:
        rows: One a share contacted: `share, contacted, positives, profit, low, high, random`, profit a customer.
        policies: Our threshold against nobody, everybody and random: `policy, contacted, profit, low, high`, and
            `gain, gain_low, gain_high`, what our threshold earns more.
        threshold: The one that goes with the model.
        n: Test rows.
    """

    rows: pd.DataFrame = field(repr=False)
    policies: pd.DataFrame = field(repr=False)
    threshold: Threshold
    n: int

    title: ClassVar[str] = "What it earns, per customer we have"
    note: ClassVar[str] = (
        "In the currency of the value params, which are assumptions: that a contact saves the stated share of "
        "churners is known only from an experiment. Intervals are 95 %, over customers."
    )

    def frame(self) -> pd.DataFrame:
        return self.policies

    @property
    def profit(self) -> Interval:
        """Of our threshold, per customer."""
        row = self.policies.iloc[0]
        return Interval(row["profit"], row["low"], row["high"])

    def plot(self) -> Axes:
        """Profit over the share contacted, with our threshold's share."""
        ax = axes("Profit per customer, by the share of customers contacted")
        ax.fill_between(self.rows["share"], self.rows["low"], self.rows["high"], color=PALETTE[0], alpha=0.2, lw=0)
        ax.plot(self.rows["share"], self.rows["profit"], color=PALETTE[0], label="highest scores first, 95 % interval")
        ax.plot(self.rows["share"], self.rows["random"], color=GREY, linestyle="--", label="at random")
        ours = self.policies.iloc[0]["contacted"] / self.n
        ax.axvline(ours, color=PALETTE[1], linewidth=1, label=f"our threshold: {ours:.0%} contacted")
        ax.axhline(0, color="black", linewidth=0.8)
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        ax.set_xlabel("share of customers contacted")
        ax.legend(frameon=False, fontsize=8)
        return ax


def value(
    outcome: np.ndarray,
    score: np.ndarray,
    threshold: Threshold,
    params: ValueParams,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Value:
    """Expected profit over the capacity and at the threshold, with intervals.

    Args:
        outcome: Outcomes of the test part in {0, 1}, shape (n,).
        score: Their probabilities, shape (n,).
        threshold: Chosen elsewhere, by `choose_threshold`.
        params: Costs, values and the capacity.
        resamples: Bootstrap draws of customers.
        seed: Of the draws.
    """
    n = len(outcome)
    order = np.argsort(-score, kind="stable")
    each = params.save_rate * params.saved_value * outcome - params.contact_cost
    chosen = score >= threshold.value
    counts = np.maximum(1, np.round(GRID * n).astype(int))
    curve, ours, everybody = [], [], []
    for weights in resampled(n, resamples=resamples, seed=seed):
        earned = np.cumsum(weights[:, order] * each[order], axis=1)
        reached = np.cumsum(weights[:, order], axis=1)
        # In each draw the same share of its own customers is contacted: the row at which that many are reached.
        curve.append(
            np.stack([earned[i, np.searchsorted(row, counts).clip(max=n - 1)] for i, row in enumerate(reached)])
        )
        ours.append(weights @ (each * chosen))
        everybody.append(weights @ each)
    drawn, drawn_ours, drawn_all = (np.concatenate(part) / n for part in (curve, ours, everybody))
    point = np.cumsum(each[order])[counts - 1] / n
    ends = [interval(float(p), d) for p, d in zip(point, drawn.T, strict=True)]
    caught = np.cumsum(outcome[order])[counts - 1]
    rows = {"share": GRID, "contacted": counts, "positives": caught, "profit": point}
    rows |= {"low": [end.low for end in ends], "high": [end.high for end in ends], "random": GRID * each.mean()}
    share = chosen.mean()
    policies = [
        ("our threshold", int(chosen.sum()), (each * chosen).mean(), drawn_ours),
        ("nobody", 0, 0.0, np.zeros_like(drawn_ours)),
        ("everybody", n, each.mean(), drawn_all),
        ("as many at random", int(chosen.sum()), share * each.mean(), share * drawn_all),
    ]
    table = []
    for name, contacted, profit, drawn_policy in policies:
        gain = interval(float(policies[0][2] - profit), drawn_ours - drawn_policy)
        own = interval(float(profit), drawn_policy)
        table.append((name, contacted, *own, *gain))
    columns = ["policy", "contacted", "profit", "low", "high", "gain", "gain_low", "gain_high"]
    return Value(pd.DataFrame(rows), pd.DataFrame(table, columns=columns), threshold, n)
