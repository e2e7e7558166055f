"""Estimators whose answer on many classes is a margin a class; softmax makes probabilities of them.

A margin is kept for what a probability forgets: how near anything that was seen a text is at all.
"""

from __future__ import annotations

from threading import Lock
from typing import Any, Self

import numpy as np
from scipy import linalg
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import KMeans
from sklearn.svm import LinearSVC

STEEPNESS = {"machine": 4.0, "ridge": 8.0}  # of softmax, so that members of a blend speak about as loudly
JITTER = 1e-6  # a row, added to a diagonal so that landmarks that coincide leave it invertible
_ONE_AT_A_TIME = Lock()  # LIBLINEAR draws from one generator a process: threads would make a fit depend on others


class _Soft(ClassifierMixin, BaseEstimator):
    """Probabilities from margins of shape (n, classes)."""

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities, shape (n, classes)."""
        return softmax(self.decision_function(X), axis=1)


class SoftMargins(_Soft):
    """A linear support vector machine, one class against the others (Fan et al. 2008, LIBLINEAR): it suits short texts
    with many classes.

    Args:
        C: Inverse strength of regularisation, > 0.
        seed: Of the solver.
    """

    def __init__(self, C: float = 0.5, seed: int = 0) -> None:
        self.C = C
        self.seed = seed

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Learns from sparse rows of shape (n, d) and class codes of shape (n,)."""
        with _ONE_AT_A_TIME:
            machine = LinearSVC(C=self.C, random_state=self.seed).fit(X, y)
        self.classes_ = machine.classes_
        weights, constant = machine.coef_, machine.intercept_
        if len(self.classes_) == 2:
            weights, constant = np.vstack([-weights, weights]), np.concatenate([-constant, constant])
        self.weights_ = np.ascontiguousarray(STEEPNESS["machine"] * weights.T, dtype=np.float32)
        self.constant_ = (STEEPNESS["machine"] * constant).astype(np.float32)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Margins, shape (n, classes)."""
        return np.asarray(X @ self.weights_ + self.constant_)


class LandmarkRidge(_Soft):
    """Kernel ridge regression of the classes on vectors of length 1, exp(g (x.z - 1)) its kernel, on landmarks z: the
    centres of k-means within each class (Zhang, Tsang and Kwok 2008, Improved Nystroem low-rank approximation).

    The model holds centres, not customers' texts. Far from all of them every margin is low.

    Args:
        rows: Training rows a landmark, >= 1.
        g: How fast the kernel falls, > 0.
        ridge: Strength of regularisation, > 0.
        seed: Of k-means.
    """

    def __init__(self, rows: int = 5, g: float = 3.0, ridge: float = 0.1, seed: int = 0) -> None:
        self.rows = rows
        self.g = g
        self.ridge = ridge
        self.seed = seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Learns from vectors of length 1, shape (n, d), and class codes, shape (n,)."""
        self.classes_, place = np.unique(y, return_inverse=True)
        self.landmarks_ = landmarks(X, place, rows=self.rows, seed=self.seed)
        told = np.eye(len(self.classes_))[place]
        mutual, near = self._kernel(self.landmarks_), self._kernel(X)
        normal = near.T @ near + self.ridge * mutual
        normal[np.diag_indices_from(normal)] += JITTER * len(X)
        solved = linalg.solve(normal, near.T @ told, assume_a="pos")
        self.weights_ = (STEEPNESS["ridge"] * solved).astype(np.float32)
        return self

    def _kernel(self, X: np.ndarray) -> np.ndarray:
        """In double precision: in single, a row alone and the same in a batch differ where near landmarks cancel."""
        return np.exp(self.g * (X.astype(np.float64) @ self.landmarks_.astype(np.float64).T - 1))

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Margins, shape (n, classes)."""
        return self._kernel(X) @ self.weights_.astype(np.float64)


def landmarks(X: np.ndarray, y: np.ndarray, *, rows: int, seed: int = 0) -> np.ndarray:
    """Centres of k-means within each class, scaled to length 1.

    Args:
        X: Vectors, shape (n, d).
        y: Class codes, shape (n,).
        rows: Of a class, about so many rows a centre; a class has one at least.
        seed: Of k-means.
    Returns:
        Shape (m, d), in the order of classes.
    """
    groups = [X[y == code] for code in np.unique(y)]
    fits = (KMeans(max(1, len(g) // rows), n_init=1, max_iter=20, random_state=seed).fit(g) for g in groups)
    centres = np.vstack([fit.cluster_centers_ for fit in fits])
    length = np.linalg.norm(centres, axis=1, keepdims=True)
    return (centres / np.maximum(length, JITTER)).astype(np.float32)
