"""Probabilities that mean what they say.

Each calibrator is a few numbers learnt from out-of-fold predictions, so that every training row still trains the
model itself. Which one is kept is decided by cross-fitted log loss; "none" is always among them.

    choose(probability, y, folds)        # of a binary outcome, shape (n,)
    choose_many(probability, y, folds)   # of k classes, shape (n, k)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression

EPSILON = 1e-6  # probabilities are kept this far from 0 and 1 before a logarithm
LEAST = 1e-12  # those of many classes this far from 0: of thousands many are rightly small
HOTTEST = 100.0  # temperatures lie between this and its inverse; where all rows are right, none is cold enough
ROUNDING = 1e-9  # a smaller slope, a row, is none
CELLS = 1 << 17  # probabilities worked on at once, so that thousands of classes stay within memory


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


class Temperature(BaseEstimator):
    """Probabilities p of k classes become softmax(log p / T): one number, and no class passes another.

    Guo et al. (2017), On calibration of modern neural networks, section 4.2, where log p is the logits up to a
    constant a row, which softmax does not see. Above one T flattens, below it sharpens.

    With `floor` it is (1 - e) softmax(log p / T) + e / k: for models that call impossible what happens (neighbours,
    trees), which no temperature mends. Zhang, Kailkhura and Han (2020), Mix-n-Match, section 4.1, without their third
    part, p itself.

    Attributes:
        temperature_: T, in [0.01, 100].
        floor_: e, in [0, 1); 0 without `floor`.
    """

    def __init__(self, floor: bool = False) -> None:
        self.floor = floor

    @property
    def name(self) -> str:
        return "temperature and floor" if self.floor else "temperature"

    def fit(self, probability: np.ndarray, y: np.ndarray) -> Self:
        """Learns from probabilities, shape (n, k), and class codes, shape (n,): T of the least log loss.

        The loss is convex in 1 / T, so that its slope has one zero; where it has none within bounds T is at a bound.
        With a floor it is a search that starts from T = 1 and e = 0.01. Rows that say nothing (each class as likely
        as the next) leave T at one.
        """

        self.floor_ = 0.0

        def slope(sharpness: float) -> float:
            return -float(_own(probability, y, sharpness)[1].sum())

        flattest, sharpest = slope(1 / HOTTEST), slope(HOTTEST)
        if max(abs(flattest), abs(sharpest)) < ROUNDING * len(y):
            sharpness = 1.0
        elif self.floor:
            sharpness, self.floor_ = _sharpness_and_floor(probability, y)
        elif flattest >= 0:
            sharpness = 1 / HOTTEST
        elif sharpest <= 0:
            sharpness = HOTTEST
        else:
            sharpness = float(brentq(slope, 1 / HOTTEST, HOTTEST, xtol=1e-6, rtol=1e-6))
        self.temperature_ = 1 / sharpness
        return self

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, k), rows sum to one."""
        found = np.empty(np.shape(probability), dtype=np.float64)
        for rows, logs in _logs(probability):
            found[rows] = (1 - self.floor_) * _softmax(logs / self.temperature_) + self.floor_ / logs.shape[1]
        return found


class Saturation(BaseEstimator):
    """Probabilities p of k classes become expit(a log p + b), scaled to sum to one; no class passes another.

    A class against the others by Platt's sigmoid, one for all classes, normalised (Zadrozny and Elkan 2002,
    Transforming classifier scores into accurate multiclass probability estimates). Unlike a temperature it holds back
    the likely without flattening the unlikely: what margins of one class against the others want. On banking77 it
    halves the calibration error that a temperature leaves.

    Attributes:
        a_: Above zero.
        b_: Far above zero it is a temperature of 1 / a.
    """

    name = "saturation"

    def fit(self, probability: np.ndarray, y: np.ndarray) -> Self:
        """Learns from probabilities, shape (n, k), and class codes, shape (n,): a and b of the least log loss."""

        def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
            total, by_a, by_b = 0.0, 0.0, 0.0
            a, b = np.exp(place[0]), place[1]
            for rows, logs in _logs(probability):
                each, codes = np.arange(len(logs)), y[rows]
                raised = expit(a * logs + b)
                share = raised / raised.sum(axis=1, keepdims=True)
                total -= np.log(share[each, codes]).sum()
                rest = 1 - raised
                slope = rest * logs
                by_a -= (slope[each, codes] - np.einsum("nk,nk->n", share, slope)).sum()
                by_b -= (rest[each, codes] - np.einsum("nk,nk->n", share, rest)).sum()
            return total / len(y), np.array([by_a * a, by_b]) / len(y)

        widest = np.log(HOTTEST)
        found = minimize(loss, [0.0, 2.0], jac=True, method="L-BFGS-B", bounds=[(-widest, widest), (-20.0, 20.0)]).x
        self.a_, self.b_ = float(np.exp(found[0])), float(found[1])
        return self

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Probabilities, shape (n, k), rows sum to one."""
        found = np.empty(np.shape(probability), dtype=np.float64)
        for rows, logs in _logs(probability):
            raised = expit(self.a_ * logs + self.b_)
            found[rows] = raised / raised.sum(axis=1, keepdims=True)
        return found


ManyCalibrator = NoCalibration | Temperature | Saturation


def _logs(probability: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Log-probabilities, some rows at a time."""
    n, k = probability.shape
    size = max(1, CELLS // k)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, np.log(np.maximum(probability[rows].astype(np.float64), LEAST))


def _own(probability: np.ndarray, y: np.ndarray, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """What softmax(sharpness * log p) gives to the class that happened, and the slope of its logarithm, shape (n,)."""
    own, slopes = np.empty(len(y)), np.empty(len(y))
    for rows, logs in _logs(probability):
        each = np.arange(len(logs))
        soft = _softmax(sharpness * logs)
        own[rows] = soft[each, y[rows]]
        slopes[rows] = logs[each, y[rows]] - np.einsum("nk,nk->n", soft, logs)
    return own, slopes


def _sharpness_and_floor(probability: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """1 / T and e of the least log loss."""
    k = probability.shape[1]

    def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
        sharpness, floor = np.exp(place[0]), expit(place[1])
        own, slopes = _own(probability, y, sharpness)
        mixed = (1 - floor) * own + floor / k
        by_sharpness = (1 - floor) * own * slopes * sharpness / mixed
        by_floor = (1 / k - own) * floor * (1 - floor) / mixed
        return -float(np.log(mixed).mean()), -np.array([by_sharpness.mean(), by_floor.mean()])

    widest = np.log(HOTTEST)
    bounds = [(-widest, widest), (logit(EPSILON), logit(1 - EPSILON))]
    found = minimize(loss, [0.0, logit(0.01)], jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(found[0])), float(expit(found[1]))


def _softmax(logs: np.ndarray) -> np.ndarray:
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def log_loss_many(y: np.ndarray, probability: np.ndarray) -> float:
    """The mean of -log p of what happened; `y` holds class codes, `probability` has shape (n, k)."""
    own = probability[np.arange(len(y)), y].astype(np.float64)
    return float(-np.mean(np.log(np.maximum(own, LEAST))))


def choose_many(
    probability: np.ndarray, y: np.ndarray, folds: list[np.ndarray], *, forward: bool = False
) -> tuple[ManyCalibrator, np.ndarray]:
    """None, a temperature, one with a floor or a saturation: that of the lowest cross-fitted log loss, and its
    probabilities.

    An offset a class would turn the order of classes around. On banking77 (77 classes, 10,003 questions) it lowered
    the loss of naive Bayes by 0.05 nats more than a temperature, that of a good logistic regression not at all.

    Args:
        probability: Out-of-fold probabilities of k classes, shape (n, k), rows sum to one.
        y: Class codes, 0 to k - 1, shape (n,).
        folds: Positions of each validation fold; together they are all n.
        forward: The folds are in the order of time: each is calibrated by earlier ones alone, the first by none.
    Returns:
        The calibrator fitted on all n, and probabilities of shape (n, k), each from a calibrator that has not seen it.
        It is none where a fold would have to learn from rows of one class.
    """
    best: tuple[ManyCalibrator, np.ndarray] = (NoCalibration(), probability)
    lowest = log_loss_many(y, probability)
    options: tuple[Temperature | Saturation, ...] = (Temperature(), Temperature(floor=True), Saturation())
    for calibrator in options:
        crossed = np.array(probability, dtype=np.float64)
        for fold in folds[1:] if forward else folds:
            rest = np.arange(fold[0]) if forward else np.setdiff1d(np.arange(len(y)), fold)
            if len(np.unique(y[rest])) < 2:
                return best
            crossed[fold] = clone(calibrator).fit(probability[rest], y[rest]).apply(probability[fold])
        loss = log_loss_many(y, crossed)
        if loss < lowest:
            best, lowest = (calibrator.fit(probability, y), crossed), loss
    return best
