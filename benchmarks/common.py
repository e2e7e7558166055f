"""What the benchmarks share: the repository's place, a reason to skip, the time a call takes, a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

ROOT = Path(__file__).parent.parent


class Skipped(Exception):  # noqa: N818 - no error: what is needed is not here
    """Why a benchmark cannot run here, and what to do about it."""


class Found(NamedTuple):
    """What a benchmark measured.

    Attributes:
        title: What stands side by side.
        frame: One row a contender and case.
        says: Sentences made of this run's numbers.
    """

    title: str
    frame: pd.DataFrame
    says: tuple[str, ...]


def seconds(call: Callable[[], Any], *, at_least: float = 1.0) -> float:
    """Seconds a call takes: the median of the calls that fit into `at_least` seconds, after one to warm up."""
    call()
    taken: list[float] = []
    while sum(taken) < at_least or len(taken) < 3:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return float(pd.Series(taken).median())


def markdown(frame: pd.DataFrame) -> str:
    """A table as Markdown; numbers as the frame holds them, which is text where digits matter."""
    rows = [list(map(str, frame.columns)), ["---"] * frame.shape[1], *frame.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
