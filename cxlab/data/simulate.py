"""Small worlds whose truth is known, to see whether evidence finds what was planted and nothing else.

    world = binary_world(2_000, seed=1, gap=0.2)
    world.frame        # signal, noise_1, segment, score, churn
    world.truth        # a row a group: the rates that a sample without end would have
    drifted(world.frame, "noise_1", missing=0.9)

Scores follow the binormal model (Green and Swets 1966; Fawcett 2006): a signal that is normal around 0 for customers
who stay and around `strength` for those who leave, so that every rate has a formula.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
import pandas as pd

from cxlab.data.table import Source, Table
from cxlab.errors import missing_column
from cxlab.params import DataParams

NORMAL = NormalDist()


@dataclass(frozen=True)
class World:
    """Simulated customers, and what is true of them.

    Attributes:
        frame: `signal`, which decides; `noise_1`..., which decide nothing; `segment`; `score`, the probability that a
            model who knows the common truth gives; `churn`, yes or no.
        truth: Indexed by group: share, rate, and the group's selection_rate, tpr, fpr, precision, calibration_error
            (mean score minus rate) and auc.
        others: The same of everybody else, without share.
        threshold: On the score, to which the rates belong.
    """

    frame: pd.DataFrame = field(repr=False)
    truth: pd.DataFrame
    others: pd.DataFrame
    threshold: float

    @property
    def outcome(self) -> np.ndarray:
        """In {0, 1}, shape (n,)."""
        return (self.frame["churn"] == "yes").to_numpy(np.int8)

    @property
    def score(self) -> np.ndarray:
        """Probabilities, shape (n,)."""
        return self.frame["score"].to_numpy(np.float64)

    def table(self) -> Table:
        """The customers with their roles; the score is no feature."""
        roles = DataParams(path="simulated", target="churn", segments=("segment",), drop=("score",))
        return Table(self.frame, roles, Source("simulated", "", len(self.frame)))


def binary_world(
    n: int,
    seed: int,
    *,
    gap: float = 0.0,
    shares: Sequence[float] = (0.5, 0.3, 0.2),
    rates: Sequence[float] | float = 0.3,
    strength: float = 1.5,
    tpr: float = 0.6,
    noise_columns: int = 1,
) -> World:
    """Customers in groups a, b, ..., whose outcome one column foretells.

    Args:
        n: Customers.
        seed: The same seed gives the same world.
        gap: By how much the TPR of the last group is lower than that of the others; their signal is weaker.
        shares: Of the groups, each > 0; scaled to sum to 1.
        rates: Of the outcome, in (0, 1), one for all groups or one each.
        strength: How far apart the signal's means are, in standard deviations, > 0; AUC is Φ(strength / √2).
        tpr: Of the groups without a gap, in (0, 1); the threshold follows from it.
        noise_columns: How many columns decide nothing.
    Raises:
        ValueError: `tpr - gap` is not in (0, 1).
    """
    if not 0 < tpr - gap < 1:
        raise ValueError(f"tpr - gap == {tpr - gap:g}, must be in (0, 1).")
    rng = np.random.default_rng(seed)
    share = np.array(shares) / np.sum(shares)
    rate = np.broadcast_to(np.asarray(rates, dtype=np.float64), share.shape)
    cut = strength - NORMAL.inv_cdf(tpr)  # on the signal
    leave = np.full(len(share), strength)
    leave[-1] = cut + NORMAL.inv_cdf(tpr - gap)
    common = float(share @ rate)
    odds = np.log(common / (1 - common)) - strength**2 / 2

    def score_of(signal: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-(odds + strength * signal))))

    group = rng.choice(len(share), size=n, p=share)
    y = rng.random(n) < rate[group]
    signal = rng.normal(np.where(y, leave[group], 0.0), 1.0)
    noise = {f"noise_{i + 1}": rng.normal(size=n) for i in range(noise_columns)}
    names = np.array([chr(ord("a") + g) for g in range(len(share))], dtype=object)
    frame = pd.DataFrame({"signal": signal, **noise, "segment": names[group], "score": score_of(signal)})
    frame["churn"] = np.where(y, "yes", "no")

    node, weight = np.polynomial.hermite_e.hermegauss(60)  # means of the score, to double precision
    mean_leave = np.array([weight @ score_of(node + mu) for mu in leave]) / weight.sum()
    mean_stay = float(weight @ score_of(node) / weight.sum())
    hit = np.array([NORMAL.cdf(mu - cut) for mu in leave])
    ranked = np.array([NORMAL.cdf(mu / np.sqrt(2)) for mu in leave])  # against those who stay: alike in all groups

    def mixed(weights: np.ndarray) -> list[float]:
        """Rates of a mixture of groups."""
        p = float(weights @ rate / weights.sum())
        part = weights * rate / (weights @ rate)
        found, false = float(part @ hit), NORMAL.cdf(-cut)
        selected = p * found + (1 - p) * false
        mean = p * float(part @ mean_leave) + (1 - p) * mean_stay
        return [p, selected, found, false, p * found / selected, mean - p, float(part @ ranked)]

    each = np.eye(len(share)) * share
    columns = ["rate", "selection_rate", "tpr", "fpr", "precision", "calibration_error", "auc"]
    truth = pd.DataFrame([mixed(w) for w in each], index=names, columns=columns)
    rest = [mixed(share - w) if len(share) > 1 else [np.nan] * len(columns) for w in each]
    truth.insert(0, "share", share)
    return World(frame, truth, pd.DataFrame(rest, index=names, columns=columns), float(score_of(np.array(cut))))


def drifted(
    frame: pd.DataFrame, column: str, *, shift: float = 0.0, missing: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """A copy in which one number has moved.

    Args:
        frame: Rows, shape (n, any).
        column: Which.
        shift: By how many of its standard deviations.
        missing: Share of rows whose value is gone, in [0, 1], on average.
        seed: Of the rows that lose their value.
    Raises:
        DataError: The column is not there.
    """
    if column not in frame:
        raise missing_column(column, map(str, frame.columns))
    moved = frame[column] + shift * frame[column].std()
    gone = np.random.default_rng(seed).random(len(frame)) < missing
    return frame.assign(**{column: moved.mask(gone)})
