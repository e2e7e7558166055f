"""Random numbers that belong to a customer, not to a place in a queue.

A draw is a hash of (seed, name, customer, ...): the same whoever else is simulated, in whatever order or chunk. The
mixing step is that of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy.special import ndtri

GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mixed(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def cumulative(weights: Any) -> np.ndarray:
    """Weights as cumulative shares, the last exactly 1, along the last axis."""
    total = np.cumsum(np.asarray(weights, dtype=np.float64), axis=-1)
    shares = total / total[..., -1:]
    shares[..., -1] = 1.0
    return shares


class Draws:
    """Draws of a seed. `keys` are integers or integer arrays that broadcast; results have their shape, at least 1-d."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._named: dict[str, np.ndarray] = {}

    def bits(self, name: str, *keys: Any) -> np.ndarray:
        """64 random bits each."""
        if name not in self._named:
            digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
            self._named[name] = np.frombuffer(digest[:8], dtype="<u8").astype(np.uint64)
        x = self._named[name]
        for key in keys:
            x = _mixed(x + (np.atleast_1d(key).astype(np.uint64) + np.uint64(1)) * GAMMA)
        return x

    def uniform(self, name: str, *keys: Any) -> np.ndarray:
        """In (0, 1)."""
        return np.asarray(((self.bits(name, *keys) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)

    def normal(self, name: str, *keys: Any) -> np.ndarray:
        """Standard normal."""
        return np.asarray(ndtri(self.uniform(name, *keys)))

    def below(self, name: str, limit: int, *keys: Any) -> np.ndarray:
        """Integers in 0..limit-1."""
        return (self.uniform(name, *keys) * limit).astype(np.int64)

    def choice(self, name: str, shares: np.ndarray, *keys: Any) -> np.ndarray:
        """Places in cumulative shares, shape (k,)."""
        return np.searchsorted(shares, self.uniform(name, *keys))

    def poisson(self, name: str, rate: np.ndarray, *keys: Any, most: int) -> np.ndarray:
        """Counts of a rate, at most `most`."""
        u = self.uniform(name, *keys)
        term = np.exp(-rate)
        total, count = term.copy(), np.zeros(np.broadcast_shapes(u.shape, rate.shape), dtype=np.int64)
        for k in range(1, most + 1):
            count += u > total
            term = term * rate / k
            total = total + term
        return count
