"""How strong a signal is, how sure we are, and how several add up.

Each event that matches a signal is a piece of evidence of weight w and confidence c; after t hours 2^(-t / half-life)
of it is left. Over all pieces of all signals of a situation:

    strength   = 1 - exp(-sum of w * 2^(-t / h))          intensities add up, so that signals combine by noisy-or
    confidence = 1 - product of (1 - c * 2^(-t / h))      noisy-or over the pieces

Noisy-or (Pearl 1988, Probabilistic Reasoning in Intelligent Systems, section 4.3): causes act independently, and any of
them suffices. Both lie in [0, 1), grow with every piece, and shrink as time passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

HOUR = 3_600_000_000  # microseconds, in which times are counted here
FORGOTTEN = 30  # half-lives after which a piece is dropped: a billionth of it is left


class Piece(NamedTuple):
    """Evidence: its weight, its confidence, its half-life and its age in hours."""

    weight: float
    confidence: float
    half_life_h: float
    age_h: float


def left(age_h: float, half_life_h: float) -> float:
    """Share of a piece that is left; all of it where the age is negative.

    Examples:
        >>> left(48, 24)
        0.25
    """
    return 2.0 ** (-max(age_h, 0.0) / half_life_h)


def intensity(pieces: Iterable[Piece]) -> float:
    """The sum of what is left of the weights, >= 0."""
    return sum(piece.weight * left(piece.age_h, piece.half_life_h) for piece in pieces)


def strength(pieces: Iterable[Piece]) -> float:
    """How strongly the evidence speaks, in [0, 1].

    Examples:
        >>> round(strength([Piece(0.6931, 0.5, 24, 0)]), 3), round(strength([Piece(0.6931, 0.5, 24, 24)]), 3)
        (0.5, 0.293)
    """
    return -math.expm1(-intensity(pieces))


def confidence(pieces: Iterable[Piece]) -> float:
    """How sure the evidence makes, in [0, 1].

    Examples:
        >>> confidence([Piece(1, 0.5, 24, 0), Piece(1, 0.5, 24, 0)])
        0.75
    """
    doubt = 1.0
    for piece in pieces:
        doubt *= 1.0 - piece.confidence * left(piece.age_h, piece.half_life_h)
    return 1.0 - doubt


def combined(strengths: Sequence[float]) -> float:
    """Noisy-or of signals' strengths: that of all their pieces together.

    Examples:
        >>> combined([0.5, 0.5])
        0.75
    """
    return 1.0 - math.prod(1.0 - item for item in strengths)
