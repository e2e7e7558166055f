"""Probabilities that mean what they say.

Each calibrator is a few numbers learnt from out-of-fold predictions, so that every training row still trains the
model itself. Which one is kept is decided by cross-fitted log loss; "none" is always among them.
"""

from __future__ import annotations

from typing import Self

import numpy as np
from scipy.special import expit, logit
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

EPSILON = 1e-6  # probabilities are kept this far from 0 and 1 before a logarithm


def clipped(probability: np.ndarray) -> np.ndarray:
    return np.clip(probability, EPSILON, 1 - EPSILON)


class NoCalibration(BaseEstimator):
    """The probability as the model gives it."""

    name = "none"

    def fit(self, probability: np.ndarray, y: np.ndarray) -> Self:  # noqa: ARG002
        return self

    def apply(self, probability: np.ndarray) -> np.ndarray:
        return probability


class BetaCalibration(BaseEstimator):
    """Probability p becomes expit(a log p - b log(1 - p) + c).

    With `tied` (a equals b) it is a logistic curve on the log-odds, Platt's sigmoid. Free, it is the three-parameter
    family of Kull, Silva Filho and Flach (2017), Beta calibration, equation 5.

    Attributes:
        a_: Weight of log p.
        b_: Weight of -log(1 - p).
        c_: Intercept.
    """

    def __init__(self, tied: bool = False) -> None:
        self.tied = tied

    @property
    def name(self) -> str:
        return "sigmoid" if self.tied else "beta"

    def fit(self, probability: np.ndarray, y: np.ndarray) -> Self:
        """Learns from probabilities of the positive class, shape (n,), and outcomes in {0, 1}."""
        p = clipped(np.asarray(probability, float))
        inputs = logit(p)[:, None] if self.tied else np.column_stack([np.log(p), -np.log1p(-p)])
        line = LogisticRegression(C=1e6, solver="newton-cholesky").fit(inputs, y)
        self.a_ = float(line.coef_[0, 0])
        self.b_ = float(line.coef_[0, -1])
        self.c_ = float(line.intercept_[0])
        return self

    def apply(self, probability: np.ndarray) -> np.ndarray:
        p = clipped(np.asarray(probability, float))
        return expit(self.a_ * np.log(p) - self.b_ * np.log1p(-p) + self.c_)


def uncertainty(probability: np.ndarray) -> np.ndarray:
    """How far calibration on so few rows may be off: the large-sample covariance of the intercept and slope of a
    logistic curve on the log-odds (the inverse Fisher information), shape (2, 2).

    Args:
        probability: Calibrated probabilities of the labelled rows it was learnt from, shape (n,).
    """
    p = clipped(np.asarray(probability, dtype=np.float64))
    design = np.column_stack([np.ones(len(p)), logit(p)])
    return np.linalg.pinv(design.T @ (design * (p * (1 - p))[:, None]), hermitian=True)


Calibrator = NoCalibration | BetaCalibration


def log_loss(y: np.ndarray, probability: np.ndarray) -> float:
    p = clipped(probability)
    return float(-np.mean(np.where(y == 1, np.log(p), np.log1p(-p))))


def choose(
    probability: np.ndarray, y: np.ndarray, folds: list[np.ndarray], *, forward: bool = False
) -> tuple[Calibrator, np.ndarray]:
    """The calibrator with the lowest cross-fitted log loss, and its cross-fitted probabilities.

    Args:
        probability: Out-of-fold probabilities of the positive class, shape (n,).
        y: Outcomes in {0, 1}, shape (n,).
        folds: Positions of each validation fold; together they are all n.
        forward: The folds are in the order of time: each is calibrated by earlier ones alone, the first by none.
    Returns:
        The calibrator fitted on all n, and probabilities of shape (n,), each from a calibrator that has not seen it.
        A calibrator that would turn the order around (a weight below zero) is not considered.
    """
    best: tuple[Calibrator, np.ndarray] = (NoCalibration(), probability)
    lowest = log_loss(y, probability)
    for calibrator in (BetaCalibration(tied=True), BetaCalibration()):
        crossed = probability.copy()
        for fold in folds[1:] if forward else folds:
            rest = np.arange(fold[0]) if forward else np.setdiff1d(np.arange(len(y)), fold)
            if len(np.unique(y[rest])) < 2:
                break
            crossed[fold] = BetaCalibration(calibrator.tied).fit(probability[rest], y[rest]).apply(probability[fold])
        else:
            calibrator.fit(probability, y)
            loss = log_loss(y, crossed)
            if min(calibrator.a_, calibrator.b_) >= 0 and loss < lowest:
                best, lowest = (calibrator, crossed), loss
    return best
