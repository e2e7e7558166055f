"""Search: every candidate's defaults first, then trials by turns, until the budget or the count is used up.

The order of trials follows from their number alone, and each trial's proposal from the completed ones before it.
So N trials give the same result however often they were interrupted, and a run under a time budget is replayed by
its count. Completed trials live in SQL; a search that was killed goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxlab.display import Progress
from cxlab.places import is_gone, this_process

if TYPE_CHECKING:
    import optuna

    from cxlab.models.task import Candidate

SPENT = "seconds"  # study attribute: how much of the budget its trials have used
OWNER = "owner"  # study attribute: which process is at work on it


@dataclass
class Trials:
    """What a search found for one candidate.

    Attributes:
        settings: The best settings.
        loss: Their cross-validated loss.
        predictions: Their out-of-fold predictions, shape (n_validated, ...).
        history: One entry a trial, in order: settings and loss.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    loss: float = float("inf")
    predictions: np.ndarray = field(default_factory=lambda: np.empty(0))
    history: list[dict[str, Any]] = field(default_factory=list)


Evaluate = Callable[["Candidate", dict[str, Any]], tuple[float, np.ndarray]]


def search(
    candidates: Sequence[Candidate],
    evaluate: Evaluate,
    *,
    budget_s: float,
    trials: int | None,
    seed: int,
    bar: Progress,
    key: str = "",
    storage: Path | None = None,
) -> dict[str, Trials]:
    """Finds good settings for each candidate.

    Args:
        candidates: At least one; one without a search space is tried once.
        evaluate: Settings to (cross-validated loss, out-of-fold predictions).
        budget_s: Seconds for trials beyond each candidate's defaults; ignored where `trials` is set.
        trials: How many trials in all; at least one a candidate.
        seed: Of the proposals.
        bar: Shows how far it is.
        key: What the search depends on; an interrupted search of the same key is taken up.
        storage: A SQLite file; None keeps trials in memory.
    Returns:
        A result for each candidate by name.
    """
    found = {candidate.name: Trials() for candidate in candidates}
    with _studies(candidates, key, storage) as studies:
        clock = {"used": sum(study.user_attrs.get(SPENT, 0.0) for study in studies.values())}
        done = 0
        while (candidate := _turn(candidates, done)) is not None:
            study, result = studies[candidate.name], found[candidate.name]
            first = len(result.history) == 0
            if trials is not None and done >= max(trials, len(candidates)):
                break
            if trials is None and not first and clock["used"] + _expected(study) > budget_s:
                break
            bar.advance(min(0.99, done / trials if trials else clock["used"] / budget_s), candidate.name)
            completed = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
            completed = [trial for trial in completed if trial.value is not None]
            if len(completed) > len(result.history):
                trial = completed[len(result.history)]  # an interrupted run's
                settings, loss, predictions = trial.user_attrs["settings"], trial.value, np.empty(0)
            else:
                started = time.monotonic()
                settings, loss, predictions = _try(study, candidate, evaluate, seed + len(completed))
                clock["used"] += time.monotonic() - started
                study.set_user_attr(SPENT, study.user_attrs.get(SPENT, 0.0) + time.monotonic() - started)
            result.history.append({"settings": settings, "loss": loss})
            if loss < result.loss:
                result.settings, result.loss, result.predictions = settings, loss, predictions
            done += 1
    for candidate in candidates:
        result = found[candidate.name]
        if not result.predictions.size:  # the best trial was an interrupted run's
            result.loss, result.predictions = evaluate(candidate, result.settings)
    return found


def _turn(candidates: Sequence[Candidate], number: int) -> Candidate | None:
    """Whose turn trial `number` is: all once, then those with something to search, round and round."""
    if number < len(candidates):
        return candidates[number]
    searchable = [candidate for candidate in candidates if candidate.space.ranges]
    return searchable[(number - len(candidates)) % len(searchable)] if searchable else None


def _expected(study: optuna.Study) -> float:
    """Seconds that the study's next trial will take, by those before it."""
    done = sum(trial.value is not None for trial in study.get_trials(deepcopy=False))
    return float(study.user_attrs.get(SPENT, 0.0)) / max(done, 1)


def _try(
    study: optuna.Study, candidate: Candidate, evaluate: Evaluate, seed: int
) -> tuple[dict[str, Any], float, np.ndarray]:
    import optuna

    first = not any(trial.value is not None for trial in study.get_trials(deepcopy=False))
    # A sampler of its own for each trial: what it proposes depends on the completed trials, not on the process.
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
    trial = study.ask()
    try:
        settings = dict(candidate.default) if first else candidate.space.propose(trial)
        loss, predictions = evaluate(candidate, settings)
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        raise
    trial.set_user_attr("settings", settings)
    study.tell(trial, loss)
    return settings, loss, predictions


@contextmanager
def _studies(candidates: Sequence[Candidate], key: str, storage: Path | None) -> Iterator[dict[str, optuna.Study]]:
    """One study a candidate: taken up where a dead process left one of the same key, else new."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if storage is None:
        yield {candidate.name: optuna.create_study() for candidate in candidates}
        return
    database = optuna.storages.RDBStorage(f"sqlite:///{storage}", engine_kwargs={"connect_args": {"timeout": 30}})
    try:
        number = _free_number(database, key)
        studies = {
            candidate.name: optuna.create_study(
                storage=database, study_name=f"{key}/{number}/{candidate.name}", load_if_exists=True
            )
            for candidate in candidates
        }
        for study in studies.values():
            study.set_user_attr(OWNER, this_process())
        try:
            yield studies
        except BaseException:
            for study in studies.values():
                study.set_user_attr(OWNER, "")
            raise
        for study in studies.values():
            optuna.delete_study(study_name=study.study_name, storage=database)
    finally:
        database.engine.dispose()


def _free_number(database: Any, key: str) -> int:
    """The first number under this key that no living process works on."""
    owners: dict[int, list[str]] = {}
    for study in database.get_all_studies():
        name = study.study_name.split("/")
        if name[0] == key:
            owners.setdefault(int(name[1]), []).append(study.user_attrs.get(OWNER, ""))
    number = 0
    while any(owner and not is_gone(owner) for owner in owners.get(number, [])):
        number += 1
    return number
