"""Points of cases as groups, and whether there are any: more apart than chance would set the cases of one process.

The mean silhouette (Rousseeuw 1987, Silhouettes: a graphical aid) says how far apart groups are, but two halves of one
blob are apart as well. So the same is done with data in which there is one process only, 19 times (the parametric
bootstrap of Hennig and Lin 2015, Flexible parametric bootstrap for testing homogeneity against clustering and assessing
the number of clusters). By how much the silhouette exceeds the mean of theirs, in their standard deviations, has to be
above the largest such excess of any of the 19 against the others, for any number of groups: luck alone comes so far in
5 % of data. Features are asked group by group and all together, within the same 5 %, and segments are made of those
that tell by themselves, of all of them where only all tell: what splits nothing would blur what does.

Of the numbers of groups, that of the largest excess is taken whose groups come back when half of the cases are grouped
anew; where there is none, there are no segments.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd

from cxlab.metrics.groupings import best_jaccard

Array = np.ndarray
Method = Literal["kmeans", "hdbscan"]

NONE = -1  # the group of what is in none
KS = (2, 3, 4, 5, 6, 8, 10, 12)  # numbers of segments tried: nobody acts on more than a dozen
FEWEST = 5  # cases a group on average, else so many are not tried
STARTS, FEW_STARTS = 5, 3  # of k-means, the best kept; the fewer to see how far chance comes
SAMPLE = 1_000  # cases that the silhouette is taken of, in the data and in each set of one process
FEW_KS, SCREENED = (2, 3, 4, 5), 500  # numbers, and cases, to see which features tell
USUAL, LONGER = 0.95, 4  # of the pauses after an event; times the longest case that a case may be as long as
DAY, PAUSE = 86_400_000_000, 21_600_000_000  # microseconds; a pause after which a day's habits decide
LEAST_SD = 0.002  # of silhouettes by chance
NUMBERS = ("k", "silhouette", "by_chance", "excess", "luck", "stability", "taken")
CHANCE = 19  # sets of one process: the data above them all happens by luck in one of twenty
RESAMPLES, RESAMPLED = 20, 1_000  # halves drawn to see how stable groups are, and the most cases in one
SHAKY = 0.6  # Hennig (2007), section 4 on how to read the mean Jaccard similarity: below, not to be trusted
DENSE, SHARE = 5, 20  # HDBSCAN's min_samples; a group has one in so many of the points, or 10
FITTED = 5_000  # points that HDBSCAN, whose time grows with the square of them, is fitted to


@dataclass(frozen=True)
class Grouping:
    """Groups that new points can be put into.

    Attributes:
        anchors: Points that stand for groups: the centres of k-means, the fitted points of HDBSCAN; shape (a, d).
        codes: The group of each anchor, the largest group 0, or -1 for none, shape (a,).
        reach: How far from an anchor a point may be to be of its group, shape (a,).
    """

    anchors: Array
    codes: Array
    reach: Array

    @property
    def k(self) -> int:
        return int(self.codes.max(initial=NONE)) + 1

    def of(self, points: Array) -> tuple[Array, Array]:
        """The group of the nearest anchor of each point, and the distance to it."""
        from scipy.spatial import cKDTree

        if not len(points):
            return np.empty(0, np.int64), np.empty(0)
        # Several anchors may be as near: of those, the first counts.
        distance, place = cKDTree(self.anchors).query(points, k=min(2, len(self.anchors)))
        if distance.ndim == 2:
            tie = distance[:, 1] <= distance[:, 0]
            place = np.where(tie, place.min(axis=1), place[:, 0])
            distance = distance[:, 0]
        near = distance <= self.reach[place]
        return np.where(near, self.codes[place], NONE), distance


def everybody(points: Array) -> Grouping:
    """All in one group."""
    return Grouping(points.mean(axis=0, keepdims=True), np.zeros(1, np.int64), np.full(1, np.inf))


def group(
    points: Array, method: Method, k: int | None, seed: int, *, whole: int | None = None, starts: int = STARTS
) -> Grouping:
    """Groups of points by k-means, or by HDBSCAN (Campello, Moulavi and Sander 2013), which finds how many.

    Args:
        points: Shape (n, d).
        method: `kmeans` or `hdbscan`.
        k: Groups, of k-means alone.
        seed: Of the starts of k-means, and of the points that HDBSCAN is fitted to where there are more than 5,000.
        whole: Of how many points these are a part; the least size of a dense group shrinks with it.
        starts: Of k-means, the best kept.
    """
    if method == "hdbscan":
        return _dense(points, seed, whole or len(points))
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a resample may hold fewer distinct points than groups
        found = KMeans(min(k or 1, len(points)), n_init=starts, random_state=seed).fit(points)
    _, order = _by_size(found.labels_)
    return Grouping(found.cluster_centers_[order], np.arange(len(order)), np.full(len(order), np.inf))


def _dense(points: Array, seed: int, whole: int) -> Grouping:
    from scipy.spatial import cKDTree
    from sklearn.cluster import HDBSCAN

    fitted = some(points, FITTED, seed)
    least = max(10, round(min(whole, FITTED) / SHARE)) * len(fitted) / min(whole, FITTED)
    none = Grouping(fitted[:1], np.full(1, NONE), np.full(1, np.inf))
    if len(fitted) < max(DENSE, least) or len(np.unique(fitted, axis=0)) < 2:
        return none
    labels = HDBSCAN(min_cluster_size=max(DENSE, round(least)), min_samples=DENSE, copy=True).fit(fitted).labels_
    codes, order = _by_size(labels)
    reach = np.full(len(fitted), np.inf)  # what is nearest to a point of none is of none
    for one in range(len(order)):
        own = codes == one
        reach[own] = cKDTree(fitted[own]).query(fitted[own], k=2)[0][:, 1].max()
    return Grouping(fitted, codes, reach) if len(order) else none


def _by_size(labels: Array) -> tuple[Array, Array]:
    """Codes with the largest group first, of equals the one that begins first; and the labels in that order."""
    found, first, count = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    order = found[np.lexsort((first, -count))]
    rank = np.full(int(labels.max(initial=0)) + 2, NONE)
    rank[order] = np.arange(len(order))
    return rank[labels], order


def some(points: Array, most: int, seed: int) -> Array:
    """Rows drawn without replacement, in their order; all where they are no more."""
    if len(points) <= most:
        return points
    return points[np.sort(np.random.default_rng(seed).choice(len(points), most, replace=False))]


def silhouette(distances: Array, codes: Array) -> float:
    """The mean silhouette in [-1, 1]; a point of no group has 0, and so has everything where there is one group.

    Args:
        distances: Between points, shape (n, n).
        codes: Their groups, or -1 for none, shape (n,).
    """
    there = np.flatnonzero(codes != NONE)
    _, own, size = np.unique(codes[there], return_inverse=True, return_counts=True)
    if len(size) < 2:
        return 0.0
    sums = distances[np.ix_(there, there)] @ np.eye(len(size))[own]
    rows = np.arange(len(there))
    within = sums[rows, own] / np.maximum(size[own] - 1, 1)
    others = sums / size
    others[rows, own] = np.inf
    nearest = others.min(axis=1)
    far = np.maximum(np.maximum(within, nearest), 1e-300)
    return float(np.where(size[own] > 1, (nearest - within) / far, 0).sum() / len(codes))


@dataclass(frozen=True)
class Stability:
    """What comes back when half of the cases are grouped anew.

    Attributes:
        jaccard: Of each group, the mean over halves of its Jaccard similarity with the most similar of the new groups
            (Hennig 2007, Cluster-wise assessment of cluster stability, section 3; halves drawn without replacement);
            shape (k,), NaN where no half held any of it.
        rand: The adjusted Rand index (Hubert and Arabie 1985) of all cases as one half groups them and as the next
            does, shape (19,).
    """

    jaccard: Array
    rand: Array

    @property
    def least(self) -> float:
        """Of the group that comes back least; 0 where there is none."""
        return float(np.nanmin(self.jaccard)) if np.isfinite(self.jaccard).any() else 0.0


def stability(points: Array, codes: Array, method: Method, k: int, seed: int) -> Stability:
    from sklearn.metrics import adjusted_rand_score

    rng, size = np.random.default_rng([seed, 1]), min(len(points) // 2, RESAMPLED)
    if not size or not k:
        return Stability(np.full(k, np.nan), np.empty(0))
    seen, best, others = some(points, 2 * RESAMPLED, seed), np.full((RESAMPLES, k), np.nan), []
    for draw in range(RESAMPLES):
        rows = np.sort(rng.choice(len(points), size, replace=False))
        again = group(points[rows], method, k, draw, whole=len(points))
        best[draw] = best_jaccard(codes[rows], again.of(points[rows])[0], k)
        others.append(again.of(seen)[0])
    held = np.isfinite(best)
    jaccard = np.where(held, best, 0).sum(axis=0) / np.where(held.any(axis=0), held.sum(axis=0), np.nan)
    return Stability(jaccard, np.array([adjusted_rand_score(one, other) for one, other in pairwise(others)]))


def scored(points: Array, ks: Sequence[int | None], method: Method, seed: int) -> Array:
    """The silhouette of each number of groups, shape (len(ks),)."""
    from scipy.spatial.distance import cdist

    distances = cdist(points, points)
    found = [group(points, method, k, seed, starts=FEW_STARTS) for k in ks]
    return np.array([silhouette(distances, each.of(points)[0]) for each in found])


def beyond_luck(own: Array, sets: Array) -> tuple[Array, float]:
    """How far silhouettes are above those of one process, and how far luck comes.

    Args:
        own: Of the data, shape (views, numbers of groups), or those of one view.
        sets: Of the sets of one process, shape (s, *own.shape).
    Returns:
        The excess over the mean of the sets in their standard deviations, one a view, as `own`; and the largest such
        excess of any set over the others.
    """

    def excess(value: Array, others: Array) -> Array:
        sd = np.sqrt(others.var(axis=0, ddof=1).mean(axis=-1, keepdims=True))
        return (value - others.mean(axis=0)) / np.maximum(sd, LEAST_SD)

    luck = max(float(excess(sets[one], np.delete(sets, one, axis=0)).max()) for one in range(len(sets)))
    return excess(own, sets), luck


def choose(
    points: Array, chance: Callable[[int], Array], method: Method, k: int | None, seed: int, *, told: bool | None = None
) -> tuple[Grouping, pd.DataFrame]:
    """The grouping with the number of groups that the criterion takes, and how each number did.

    Args:
        points: Of all cases, shape (n, d).
        chance: Points of `SAMPLE` cases (or of n, if they are fewer) of one process, given the number of the set.
        method: See `group`.
        k: That number alone, and whatever the criterion says.
        seed: Of all draws.
        told: Whether it is known that they are more apart than luck has it; None to judge by these points.
    Returns:
        The grouping; and one row a number of groups: k, silhouette, by_chance (the mean of one process), excess (in
        standard deviations of these), luck (the most that it comes to by luck), stability (of the group that comes back
        least; missing where it was not needed), taken. `k` is 0 for HDBSCAN where it found none.
    """
    seen = some(points, SAMPLE, seed)
    distinct = len(np.unique(seen, axis=0))
    tried: list[int | None] = [n for n in KS if n <= min(distinct, len(seen) // FEWEST)]
    if method == "hdbscan":
        tried = [None]
    elif k is not None:
        tried = [k] if 1 < k <= distinct else []
    if distinct < 2 or not tried:
        whole = everybody(points) if k is None or k == 1 else group(points, method, k, seed)
        return whole, pd.DataFrame(columns=list(NUMBERS))
    own = scored(seen, tried, method, seed)
    sets = np.array([scored(chance(number), tried, method, seed) for number in range(CHANCE)])
    excess, luck = beyond_luck(own, sets)
    by_chance = sets.mean(axis=0)
    table = pd.DataFrame({"k": tried, "silhouette": own, "by_chance": by_chance, "excess": excess, "luck": luck})
    table["stability"], table["taken"], chosen = np.nan, False, everybody(points)
    apart = own - by_chance
    telling = apart > 0 if told else excess > luck if told is None else np.zeros(len(tried), bool)
    for row in np.argsort(-apart, kind="stable").tolist():
        if not telling[row] and k is None:
            continue
        found = group(points, method, tried[row], seed)
        steady = stability(points, found.of(points)[0], method, found.k, seed).least
        table.at[row, "stability"] = steady
        if k is not None or (found.k > 1 and steady >= SHAKY):
            table.at[row, "taken"], chosen = True, found
            break
    if method == "hdbscan":
        table["k"] = group(points, method, None, seed).k
    return chosen, table.astype({"k": int})


def one_blob(points: Array, seed: int) -> Callable[[int], Array]:
    """Sets of a normal distribution with the covariance of the points (as Liu et al. 2008, Statistical significance of
    clustering for high-dimension, low-sample size data).
    """
    n, spread = min(len(points), SAMPLE), points.std(axis=0)  # components, so they are not correlated
    return lambda number: np.random.default_rng([seed, 2, number]).normal(size=(n, len(spread))) * spread


@dataclass(frozen=True)
class OneProcess:
    """A log as one process would make it: a first-order Markov chain of events, learnt of some cases.

    Each case begins when and with what one of the cases began, ends after so many events as often as they do (where a
    case is silent for no longer than nineteen of twenty pauses after such an event, it is the log that ended), goes
    from an event to the next as often as they do, waits as long as one of them did between these two events, and is cut
    where the log ends. All have the same habits: after six hours or more the time of day is that of any case's event
    after such a pause, and a shorter wait is one that began at about this time of day. A process with a longer memory
    than the last event, or with bursts that die down, is no such chain, and may look like segments of its own.

    Attributes:
        events: Their names, shape (e,).
        starts: Codes of first events, shape (c,), and when they were, shape (c,), microseconds.
        ends: The chance to end after so many events, of those that came so far, shape (longest,).
        chances: Of each next event given one, summed up along the row, shape (e, e).
        gaps: Microseconds between events, by the pair of events; shape (g,).
        short: Waits below six hours by the pair of events and the time of day that they began: pair times a day plus
            this time, and the wait; shape (2, w).
        clock: Microseconds since midnight of events after a pause, shape (p,).
        pairs: Where those of each pair begin among them, and how many there are; shape (2, e * e).
    """

    events: Array
    starts: tuple[Array, Array]
    ends: Array
    chances: Array
    gaps: Array
    pairs: Array
    short: Array
    clock: Array
    end: int

    @classmethod
    def learn(cls, frame: pd.DataFrame) -> OneProcess:
        """Of case, event, time, position, in the order of cases and positions."""
        codes, events = pd.factorize(frame["event"], sort=True)
        time = frame["time"].astype("datetime64[us]").astype("int64").to_numpy()
        first = frame["position"].to_numpy() == 1
        step = np.flatnonzero(~first)  # those that follow another
        e = len(events)
        counts = np.zeros((e, e))
        np.add.at(counts, (codes[step - 1], codes[step]), 1)
        pair = codes[step - 1] * e + codes[step]
        order = np.argsort(pair, kind="stable")
        size, gap = np.bincount(pair, minlength=e * e), time[step] - time[step - 1]
        position, last = frame["position"].to_numpy() - 1, np.flatnonzero(np.append(first[1:], True))
        usual = np.zeros(e)  # an event that nothing ever follows ends a case
        for code in np.unique(codes[step - 1]):
            usual[code] = np.quantile(gap[codes[step - 1] == code], USUAL)
        over = time.max() - time[last] > usual[codes[last]]
        ended, silent = (np.bincount(position[last[part]], minlength=position.max() + 1) for part in (over, ~over))
        short = np.array([pair * DAY + time[step - 1] % DAY, gap])[:, gap < PAUSE]
        return cls(
            events=np.asarray(events, dtype=object),
            starts=(codes[first], time[first]),
            ends=ended / np.maximum(np.bincount(position) - silent, 1),
            chances=np.cumsum(counts, axis=1) / np.maximum(counts.sum(axis=1, keepdims=True), 1),
            gaps=gap[order],
            short=short[:, np.argsort(short[0], kind="stable")],
            clock=time[step][gap >= PAUSE] % DAY,
            pairs=np.array([np.cumsum(size) - size, size]),
            end=int(time.max()),
        )

    def draw(self, n: int, rng: np.random.Generator) -> pd.DataFrame:
        """n cases, with the columns of `Steps.table`."""
        e = len(self.events)
        begun = rng.integers(0, len(self.starts[0]), n)
        case, code, at = np.arange(n), self.starts[0][begun], self.starts[1][begun]
        parts, most = [(case, code, at)], LONGER * len(self.ends)
        while len(case) and len(parts) < most:
            on = (rng.random(len(case)) >= self.ends[min(len(parts), len(self.ends)) - 1]) & (
                self.chances[code, -1] > 0
            )  # some events are always the last
            case, code, at = case[on], code[on], at[on]
            following = (rng.random(len(code))[:, None] >= self.chances[code]).sum(axis=1)
            pair = code * e + following
            start, size = self.pairs[:, pair]
            gap = self.gaps[start + (rng.random(len(size)) * size).astype(np.int64)]
            paused = gap >= PAUSE
            gap[~paused] = self._short(pair[~paused], at[~paused] % DAY, rng)
            code, was, at = following, at, at + gap
            at[paused] += rng.choice(self.clock, int(paused.sum())) - at[paused] % DAY if paused.any() else 0
            at = np.where(paused & (at <= was), at + DAY, at)
            on = at <= self.end
            case, code, at = case[on], code[on], at[on]
            parts.append((case, code, at))
        which, codes, when = (np.concatenate(column) for column in zip(*parts, strict=True))
        position = np.concatenate([np.full(len(part[0]), place) for place, part in enumerate(parts, start=1)])
        order = np.lexsort((position, which))
        which, codes, when, position = which[order], codes[order], when[order], position[order]
        ends = np.append(which[1:] != which[:-1], True)
        time = pd.Series(when.astype("datetime64[us]"))
        event = pd.Series(self.events[codes])
        width = len(str(n))
        return pd.DataFrame(
            {
                "case": [str(number).zfill(width) for number in which],
                "event": event,
                "time": time,
                "position": position,
                "next_event": event.shift(-1).where(~ends, "(end)"),
                "next_time": time.shift(-1).where(~ends),
                "case_number": which,
            }
        )

    def _short(self, pair: Array, clock: Array, rng: np.random.Generator) -> Array:
        """Short waits of pairs of events, each one of those that began nearest to a time of day."""
        first = np.searchsorted(self.short[0], pair * DAY)
        last = np.searchsorted(self.short[0], (pair + 1) * DAY) - 1
        near = 2 + (last - first) // 40
        place = np.searchsorted(self.short[0], pair * DAY + clock) + np.floor((2 * rng.random(len(pair)) - 1) * near)
        return self.short[1][np.clip(place.astype(np.int64), first, last)]
