"""Two figures that say more than a number: can the probabilities be believed, and whom would we catch.

    reliability(y, score).plot()
    gains(y, score).plot()

Both answer `.frame()` with the numbers behind the figure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from cxlab.display import GREY, PALETTE, Result, axes
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.classification import BINS, bin_of, brier, lift
from cxlab.metrics.intervals import evaluate
from cxlab.metrics.sample import Sample

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False, eq=False)
class Reliability(Result):
    """Predicted against observed, bin by bin."""

    title: ClassVar[str] = "Can the probabilities be believed?"
    note: ClassVar[str] = (
        "Of customers scored around 30 %, about 30 % should be positive: points on the diagonal. "
        "Points below it mean that the scores are too high. Bars count the customers behind each point."
    )

    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a bin: bin_low, bin_high, n, positives, mean_score, observed, low, high (95 %, Wilson)."""
        return self.table.copy()

    def plot(self) -> Axes:
        """Points with intervals, the diagonal, and the customers in each bin."""
        ax = axes(self.title, width=5.6, height=4.6)
        counts = ax.twinx()
        counts.bar(
            self.table["bin_low"],
            self.table["n"],
            width=self.table["bin_high"] - self.table["bin_low"],
            align="edge",
            color=GREY,
            alpha=0.25,
        )
        counts.set_ylim(0, 4 * max(1, self.table["n"].max()))  # the bars stay below the points
        counts.set_ylabel("customers in the bin", color=GREY, loc="bottom")
        counts.spines["top"].set_visible(False)
        counts.tick_params(length=3, colors=GREY)
        ax.set_zorder(counts.get_zorder() + 1)
        ax.patch.set_visible(False)
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
        seen = self.table[self.table["n"] > 0]
        ax.vlines(seen["mean_score"], seen["low"], seen["high"], color=PALETTE[0], linewidth=2)
        ax.plot(seen["mean_score"], seen["observed"], "o", color=PALETTE[0])
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share that was positive")
        return ax


def reliability(y: ArrayLike, score: ArrayLike, *, bins: int = BINS) -> Reliability:
    """The reliability diagram (Murphy and Winkler 1977) over equal-width bins, those of `ece` at 15.

    Args:
        y: Outcomes, 0 or 1, shape (n,).
        score: Probabilities, shape (n,).
        bins: How many, >= 1.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> reliability([0, 1, 1], [0.2, 0.4, 0.9], bins=2).frame()[["n", "positives", "observed"]].values.tolist()
        [[2.0, 1.0, 0.5], [1.0, 1.0, 1.0]]
    """
    import pandas as pd

    if bins < 1:
        raise ValueError(f"bins == {bins}, must be >= 1.")
    sample = Sample.of(y, score)
    brier.check(sample)
    where = bin_of(sample.score, bins)
    n = np.bincount(where, minlength=bins)
    positives = np.bincount(where, weights=sample.y, minlength=bins)
    some = np.where(n > 0, n, np.nan)
    low, high = wilson(positives, n)
    edges = np.linspace(0.0, 1.0, bins + 1)
    columns = {
        "bin_low": edges[:-1],
        "bin_high": edges[1:],
        "n": n,
        "positives": positives.astype(int),
        "mean_score": np.bincount(where, weights=sample.score, minlength=bins) / some,
        "observed": positives / some,
        "low": low,
        "high": high,
    }
    return Reliability(pd.DataFrame(columns))


@dataclass(frozen=True, repr=False, eq=False)
class Gains(Result):
    """What share of the positives is among the top-scored customers."""

    title: ClassVar[str] = "Whom would we catch?"
    note: ClassVar[str] = (
        "Contact the highest scores first: so many positives are among them. Chance catches as large a share "
        "of the positives as it contacts of the customers; lift is how many times better than that we do."
    )

    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """One row a capacity: contacted (share), n, caught, positives, share_caught, lift, each with its 95 % ends."""
        return self.table.copy()

    def plot(self) -> Axes:
        """The share caught over the share contacted, with its interval, against chance."""
        from matplotlib.ticker import PercentFormatter

        ax = axes(self.title, width=5.6, height=4.2)
        start = [0.0]
        contacted = np.concatenate([start, self.table["contacted"]])
        ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="chance")
        low, high = (np.concatenate([start, self.table[name]]) for name in ("low", "high"))
        ax.fill_between(contacted, low, high, color=PALETTE[0], alpha=0.2, linewidth=0, label="95 % interval")
        caught = np.concatenate([start, self.table["share_caught"]])
        ax.plot(contacted, caught, "o-", markersize=3, color=PALETTE[0], label="highest scores first")
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="customers contacted", ylabel="positives caught")
        ax.xaxis.set_major_formatter(PercentFormatter(1.0))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0))
        ax.legend(frameon=False, loc="lower right")
        return ax


def gains(y: ArrayLike, score: ArrayLike, *, step: float = 0.05, resamples: int = 1000, seed: int = 0) -> Gains:
    """Cumulative gains and lift, contacting the highest scores first; ties keep row order.

    Args:
        y: Outcomes, 0 or 1, shape (n,).
        score: Scores, shape (n,).
        step: Share of customers from one row to the next, in (0, 1].
        resamples: Bootstrap draws for the intervals, >= 1.
        seed: Of those draws.
    Raises:
        ValueError: an argument has the wrong shape or values.
    Examples:
        >>> found = gains([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1], step=0.5).frame()
        >>> found[["contacted", "caught", "share_caught", "lift"]].values.tolist()
        [[0.5, 1.0, 0.5, 1.0], [1.0, 2.0, 1.0, 1.0]]
    """
    import pandas as pd

    if not 0 < step <= 1:
        raise ValueError(f"step == {step}, must be in (0, 1].")
    total = len(np.asarray(y))
    shares = np.append(np.arange(step, 1.0, step), 1.0)
    rooms = np.unique(np.maximum(1, np.floor(shares * total + 1e-9)).astype(int))
    lifts = [replace(lift(room / total), name=f"lift_{room}") for room in rooms] if total else [lift(1.0)]
    found = evaluate(y, {"score": score}, lifts, resamples=resamples, seed=seed)
    value, low, high = np.array(list(found.values("score").values())).T
    contacted = rooms / total
    caught = np.rint(value * contacted * found.positives)
    columns = {
        "contacted": contacted,
        "n": rooms,
        "caught": np.nan_to_num(caught).astype(int),
        "positives": found.positives,
        "share_caught": caught / found.positives if found.positives else np.nan,
        "low": low * contacted,
        "high": np.minimum(high * contacted, 1.0),
        "lift": value,
        "lift_low": low,
        "lift_high": high,
    }
    return Gains(pd.DataFrame(columns))
