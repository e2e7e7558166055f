"""Points near one another as groups: k-means or HDBSCAN, how many there are, and how far to trust each.

Points are unit rows whose order does not depend on that of the texts (`topics`), so that neither does the outcome.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cxlab.errors import ParamsError
from cxlab.metrics.groupings import best_jaccard

Array = np.ndarray
Method = Literal["kmeans", "hdbscan"]

METHODS = ("kmeans", "hdbscan")
NONE = -1  # the group of what is in none
KS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60)  # numbers of topics tried: nobody reads more than sixty
FEWEST = 5  # points a group on average, else so many are not tried
STARTS = 5  # of k-means, the best kept
SAMPLE = 3_000  # points that the silhouette is taken of
RESAMPLES, RESAMPLED = 20, 3_000  # halves drawn to see how stable groups are, and the most points in one
DENSE, SHARE = 5, 250  # HDBSCAN's min_samples; a group has one in so many of the points, or 10
REACH = 0.95  # of a dense group's points that lie within its reach


@dataclass(frozen=True)
class Grouping:
    """Codes of points, shape (m,), the largest group 0; centres, shape (k, d), and how far each reaches, shape (k,)."""

    codes: Array
    centres: Array
    reach: Array


def grouped(points: Array, method: Method, k: int | None, seed: int) -> tuple[Grouping, dict[int, float]]:
    """Groups of unit rows, and the silhouette of each number of groups that was tried.

    Raises:
        ParamsError: There are fewer different points than groups.
    """
    distinct = len(np.unique(points, axis=0))
    if method == "hdbscan":  # which finds no group where all is one
        return _dense(points) if distinct > 1 else _kmeans(points, 1, seed), {}
    if k is not None:
        if k > distinct:
            raise ParamsError(f"k == {k}, must be at most {distinct:,}: so many texts differ.")
        return _kmeans(points, k, seed), {}
    ks = [k for k in KS if k <= min(distinct, len(points) // FEWEST)]
    if not ks:
        return _kmeans(points, 1, seed), {}
    tried = {k: _kmeans(points, k, seed) for k in ks}
    scores = {k: _silhouette(points, grouping.codes, seed) for k, grouping in tried.items()}
    return tried[max(scores, key=lambda k: (scores[k], -k))], scores


def _kmeans(points: Array, k: int, seed: int) -> Grouping:
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a resample may hold fewer distinct points than topics
        found = KMeans(k, n_init=STARTS, random_state=seed).fit(points)
    codes, order = _by_size(found.labels_)
    return Grouping(codes, found.cluster_centers_[order], np.full(len(order), np.inf))


def _dense(points: Array, whole: int | None = None) -> Grouping:
    """HDBSCAN; of a resample, with groups smaller by as much as it is smaller than the `whole`."""
    from sklearn.cluster import HDBSCAN

    whole = whole or len(points)
    least = max(10, round(whole / SHARE)) * len(points) / max(whole, 1)
    if len(points) < max(DENSE, least):
        return Grouping(np.full(len(points), NONE), np.empty((0, points.shape[1])), np.empty(0))
    found = HDBSCAN(min_cluster_size=max(DENSE, round(least)), min_samples=DENSE, copy=True).fit(points)
    codes, order = _by_size(found.labels_)
    centres = np.array([points[codes == group].mean(axis=0) for group in range(len(order))])
    centres = centres.reshape(len(order), points.shape[1])
    centres /= np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    own = 1 - (points * centres[codes]).sum(axis=1) if len(order) else np.empty(0)
    return Grouping(codes, centres, np.array([np.quantile(own[codes == group], REACH) for group in range(len(order))]))


def _by_size(labels: Array) -> tuple[Array, Array]:
    """Codes with the largest group first, of equals the one that begins first; and the labels in that order."""
    found, first, count = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    order = found[np.lexsort((first, -count))]
    rank = np.full(int(labels.max(initial=0)) + 2, NONE)
    rank[order] = np.arange(len(order))
    return rank[labels], order


def nearest_centre(points: Array, centres: Array) -> tuple[Array, Array]:
    """The nearest centre of each point, and the cosine distance to it."""
    topic = (points @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
    length = np.maximum(np.linalg.norm(centres, axis=1), 1e-12)
    return topic, np.clip(1 - (points * centres[topic]).sum(axis=1) / length[topic], 0, 2)


def _silhouette(points: Array, codes: Array, seed: int) -> float:
    from sklearn.metrics import silhouette_score

    sample = np.sort(np.random.default_rng(seed).choice(len(points), min(SAMPLE, len(points)), replace=False))
    groups = len(np.unique(codes[sample]))
    return float(silhouette_score(points[sample], codes[sample])) if 2 <= groups < len(sample) else -1.0


def stable(points: Array, grouping: Grouping, method: Method, seed: int) -> Array:
    """The stability of each group, each half grouped by the same method into as many groups; shape (k,)."""
    k, n = len(grouping.centres), len(points)

    def again(part: Array, draw: int) -> Array:
        found = _dense(part, n) if method == "hdbscan" else _kmeans(part, min(k, len(part)), draw)
        return found.codes

    return stability(points, grouping.codes, again, k=k, most=RESAMPLED, seed=seed)


def stability(
    points: Array, codes: Array, again: Callable[[Array, int], Array], *, k: int, most: int, seed: int
) -> Array:
    """How much of each group comes back when half of the points are grouped anew.

    The mean over 20 halves of the Jaccard similarity of the group and the most similar of the new ones (Hennig 2007,
    Cluster-wise assessment of cluster stability, section 3; halves drawn without replacement).

    Args:
        points: Shape (n, d).
        codes: Their groups, below k, or -1 for none, shape (n,).
        again: Groups of other points, given these and the number of the draw.
        k: Groups.
        most: Points in a half.
        seed: Of the draws.
    Returns:
        In [0, 1], shape (k,); NaN where no draw held any of a group.
    """
    rng, size = np.random.default_rng(seed), min(len(points) // 2, most)
    best = np.full((RESAMPLES, k), np.nan)
    for draw in range(RESAMPLES if k and size else 0):
        rows = np.sort(rng.choice(len(points), size, replace=False))
        best[draw] = best_jaccard(codes[rows], again(points[rows], draw), k)
    seen = np.isfinite(best)
    return np.where(seen, best, 0).sum(axis=0) / np.where(seen.any(axis=0), seen.sum(axis=0), np.nan)
