from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.display import Progress
from cxlab.models.search import search
from cxlab.models.task import Candidate, Space

PLAIN = Candidate("plain", "", lambda *_: None)
SEARCHED = Candidate("searched", "", lambda *_: None, {"x": 0.5, "k": 2}, Space(x=(0.0, 1.0), k=(1, 9)))
OTHER = Candidate("other", "", lambda *_: None, {"x": 0.1}, Space(x=(0.01, 1.0, "log")))


class Bowl:
    """A loss with its lowest point at x = 0.7, which counts its calls and can be interrupted."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls: list[dict[str, Any]] = []
        self.stop_at = stop_at

    def __call__(self, candidate: Candidate, settings: dict[str, Any]) -> tuple[float, np.ndarray]:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(settings)
        loss = (settings.get("x", 0.0) - 0.7) ** 2
        return loss, np.array([loss])


def run(bowl: Bowl, *, trials: int | None = 9, storage: Path | None = None, budget_s: float = 60.0) -> Any:
    candidates = [PLAIN, SEARCHED, OTHER]
    return search(
        candidates, bowl, budget_s=budget_s, trials=trials, seed=1, bar=Progress(""), key="k", storage=storage
    )


def losses(found: Any) -> dict[str, list[float]]:
    return {name: [trial["loss"] for trial in result.history] for name, result in found.items()}


@given(st.integers(1, 14))
def test_more_trials_only_add_to_fewer(trials: int) -> None:
    few, many = losses(run(Bowl(), trials=trials)), losses(run(Bowl(), trials=14))
    assert sum(map(len, few.values())) == max(trials, 3)
    for name, values in few.items():
        assert many[name][: len(values)] == values


def test_defaults_come_first_and_the_best_is_kept() -> None:
    bowl = Bowl()
    found = run(bowl)
    assert bowl.calls[:3] == [{}, {"x": 0.5, "k": 2}, {"x": 0.1}]
    assert [len(found[name].history) for name in ("plain", "searched", "other")] == [1, 4, 4]
    for result in found.values():
        assert result.loss == min(trial["loss"] for trial in result.history)
        assert result.predictions.tolist() == [result.loss]


@pytest.mark.parametrize("stop_at", range(9))
def test_an_interrupted_search_ends_where_an_uninterrupted_one_does(stop_at: int, tmp_path: Path) -> None:
    storage = tmp_path / "search.db"
    with pytest.raises(KeyboardInterrupt):
        run(Bowl(stop_at), storage=storage)
    rest = Bowl()
    resumed = run(rest, storage=storage)
    assert losses(resumed) == losses(run(Bowl()))
    assert len(rest.calls) <= 9 - stop_at + 2  # what was done is not done again, but for the best's predictions


def test_a_finished_search_is_not_taken_up(tmp_path: Path) -> None:
    storage = tmp_path / "search.db"
    for _ in range(2):
        bowl = Bowl()
        run(bowl, storage=storage)
        assert len(bowl.calls) == 9


def test_a_search_that_somebody_is_at_work_on_is_left_alone(tmp_path: Path) -> None:
    storage = tmp_path / "search.db"

    class Beside(Bowl):
        """In mid-search, the same search is started by somebody else."""

        def __call__(self, candidate: Candidate, settings: dict[str, Any]) -> tuple[float, np.ndarray]:
            if len(self.calls) == 5:
                other = Bowl()
                run(other, storage=storage)
                assert len(other.calls) == 9
            return super().__call__(candidate, settings)

    bowl = Beside()
    run(bowl, storage=storage)
    assert len(bowl.calls) == 9


def test_a_spent_budget_still_tries_everyone_once() -> None:
    found = run(Bowl(), trials=None, budget_s=1e-9)
    assert [len(result.history) for result in found.values()] == [1, 1, 1]
