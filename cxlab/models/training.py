"""One training path for every task.

split -> candidates -> search, cross-validated inside the training part -> calibration on out-of-fold
predictions -> a blend where it helps -> the untouched test part, once
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import joblib
import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from cxlab.data.quality import identifiers
from cxlab.data.split import Split, make_split
from cxlab.data.table import Table
from cxlab.display import Result, as_html, progress
from cxlab.errors import DataError, ParamsError, unknown
from cxlab.metrics.abstention import Abstention
from cxlab.metrics.classification import Metric
from cxlab.metrics.intervals import Comparison, Evaluation, evaluate
from cxlab.models import calibration
from cxlab.models.doubt import doubts
from cxlab.models.search import Trials, search
from cxlab.models.task import Candidate, Ground, Model, Task, outcomes, predictions
from cxlab.params import TASKS, Params
from cxlab.places import store_folder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLEND = "blend"
WEIGHTS = np.linspace(0.1, 0.9, 9)  # of the stronger in a blend of two


def task_of(name: str) -> Task:
    """The task of that name; its libraries are loaded only now."""
    if name == "churn":
        from cxlab.models import churn

        return churn.TASK
    if name == "intent":
        from cxlab.models import intent

        return intent.TASK
    if name == "sequence":
        from cxlab.models import sequence

        return sequence.TASK
    raise ParamsError(unknown("Task", name, list(TASKS)))


@dataclass(frozen=True)
class Fitted:
    """One line of the leaderboard.

    Attributes:
        name: The candidate.
        title: In words.
        model: What would be registered.
        settings: The settings that search chose; for a blend its members' weights.
        validation: Calibrated, cross-fitted probabilities of the validated training rows, shape (n_validated,) or
            (n_validated, classes).
        raw: Their out-of-fold predictions before calibration, as `task.predictions` shapes them.
        history: One entry a trial.
        constant: It tells nobody apart.
    """

    name: str
    title: str
    model: Model = field(repr=False)
    settings: dict[str, Any]
    validation: np.ndarray = field(repr=False)
    raw: np.ndarray = field(repr=False)
    history: list[dict[str, Any]] = field(default_factory=list, repr=False)
    constant: bool = False


@dataclass(frozen=True, repr=False)
class Training(Result):
    """What a training found.

    Attributes:
        task: The task's name.
        params: What it was told.
        table: The data.
        split: Which rows did what.
        candidates: The leaderboard's lines, from the plainest to the most capable.
        selected: The name of the chosen one.
        validation: Metrics on cross-validated training rows, by which it was chosen.
        evaluation: Metrics on the test part.
        outcome_test: Of the test rows that count, shape (n_test,).
        scores: Their probabilities by candidate, each (n_test,) or (n_test, classes).
        seconds: How long search and fits took.
        skipped: Candidates that could not run here, and why.
        abstention: When the selected model does not answer, of many classes alone.
    """

    task: str
    params: Params
    table: Table = field(repr=False)
    split: Split = field(repr=False)
    candidates: tuple[Fitted, ...]
    selected: str
    validation: Evaluation = field(repr=False)
    evaluation: Evaluation = field(repr=False)
    outcome_test: np.ndarray = field(repr=False)
    scores: dict[str, np.ndarray] = field(repr=False)
    seconds: float
    skipped: dict[str, str] = field(default_factory=dict)
    abstention: Abstention | None = field(default=None, repr=False)

    title: ClassVar[str] = "Leaderboard on the test part"
    note: ClassVar[str] = (
        "The selected candidate was chosen on cross-validated training rows; the test part was used once. "
        "Intervals are 95 %."
    )

    @property
    def model(self) -> Model:
        """The selected model."""
        return self[self.selected].model

    def __getitem__(self, name: str) -> Fitted:
        for candidate in self.candidates:
            if candidate.name == name:
                return candidate
        raise ParamsError(unknown("Candidate", name, [candidate.name for candidate in self.candidates]))

    @property
    def trials(self) -> int:
        """How many trials the search made; `search.trials` replays it."""
        return sum(len(candidate.history) for candidate in self.candidates)

    @functools.cached_property
    def comparison(self) -> Comparison:
        """Every candidate against the selected one, on the same test rows."""
        return self.evaluation.compare(self.selected)

    def frame(self) -> pd.DataFrame:
        """One row a candidate and metric."""
        frame = self.evaluation.frame()
        frame.insert(1, "selected", frame["candidate"] == self.selected)
        return frame

    def wide(self) -> pd.DataFrame:
        """One row a candidate, one column a metric, as text: value (low to high)."""
        frame = self.evaluation.frame()
        frame["text"] = [f"{r.value:.3f} ({r.low:.3f} to {r.high:.3f})" for r in frame.itertuples()]
        table = frame.pivot(index="candidate", columns="metric", values="text")
        table = table.loc[[c.name for c in self.candidates], frame["metric"].unique()].reset_index()
        table.insert(1, "", ["selected" if name == self.selected else "" for name in table["candidate"]])
        return table.rename_axis(columns=None)

    def _repr_html_(self) -> str:
        return as_html(self.title, self.wide(), f"{len(self.outcome_test):,} test rows. {self.note}")

    def plot(self, metric: str | None = None) -> Axes:
        """One metric over candidates, with intervals."""
        return self.evaluation.plot(metric or self.metric)

    def settings(self) -> pd.DataFrame:
        """What the search chose: one row a candidate, with its calibration and validation figure."""
        rows = [
            {
                "candidate": candidate.name,
                "in words": candidate.title,
                "trials": len(candidate.history),
                "settings": ", ".join(f"{key}={value:.4g}" for key, value in candidate.settings.items()),
                "calibration": candidate.model.calibrator.name,
                f"validation {self.metric}": self.validation.values(candidate.name)[self.metric].value,
            }
            for candidate in self.candidates
        ]
        return pd.DataFrame(rows)

    @property
    def metric(self) -> str:
        """The name of the metric by which the selection was made."""
        return self.params.search.metric or task_of(self.task).selection_metric


def train(table: Table, params: Params, *, storage: Path | Literal["default"] | None = "default") -> Training:
    """Trains, compares and selects.

    Args:
        table: The data with its roles.
        params: What to do; see `params/churn.yaml` for every key with a comment.
        storage: SQLite file in which an interrupted search waits to be resumed; beside the tracking store by
            default, in memory if None.
    Raises:
        CxlabError: The data or the params do not allow a fair training; the message says what to mend.
    """
    started = time.monotonic()
    task = task_of(params.task)
    candidates, skipped = chosen_candidates(task, params)
    metric = _selection_metric(task, params)
    table.check_roles()
    _refuse_identifiers(table)
    ground = _bench(task, table, params)

    def cross_validated(candidate: Candidate, settings: dict[str, Any]) -> tuple[float, np.ndarray]:
        found = ground.out_of_fold(candidate, settings)
        value = metric(ground.y_valid, ground.probability(found))
        return (-value if metric.higher_is_better else value), found

    with progress(f"Search for {params.name}") as bar:
        trials = search(
            candidates,
            cross_validated,
            budget_s=params.search.budget_s,
            trials=params.search.trials,
            seed=params.split.seed,
            bar=bar,
            key=_search_key(table, params),
            storage=_storage() if storage == "default" else storage,
        )
    fitted = _with_blend(_fit_all(candidates, trials, ground), ground, metric, task.gain)
    metrics, seed, split = task.metrics(params.value), params.split.seed, ground.split
    groups = ground.groups_of(split.train[ground.valid])
    validation = evaluate(ground.y_valid, {c.name: c.validation for c in fitted}, metrics, seed=seed, groups=groups)
    selected = _select(fitted, validation, metric, params.search.select)
    abstention = None
    if task.doubts:
        chosen = next(line for line in fitted if line.name == selected)
        with threadpool_limits(1):
            chosen.model.doubt, abstention = doubts(chosen, ground, params)
    if task.complete is not None:
        task.complete(next(line for line in fitted if line.name == selected).model, ground, table, params)
    rows = (table.frame if table.test is None else table.test).iloc[split.test]
    judged = split.counted(split.test)
    y_test = outcomes(task, fitted[0].model, table, rows)[judged]
    found = {candidate.name: candidate.model.predict_proba(rows)[judged] for candidate in fitted}
    scores = found if task.many else {name: each[:, 1] for name, each in found.items()}
    evaluation = evaluate(y_test, scores, metrics, seed=seed, groups=ground.groups_of(split.test[judged]))
    return Training(
        task=params.task,
        params=params,
        table=table,
        split=split,
        candidates=fitted,
        selected=selected,
        validation=validation,
        evaluation=evaluation,
        outcome_test=y_test,
        scores=scores,
        seconds=time.monotonic() - started,
        skipped=skipped,
        abstention=abstention,
    )


@dataclass(frozen=True)
class Bench(Ground):
    """Where candidates are tried on that ground."""

    def probability(self, raw: np.ndarray) -> np.ndarray:
        """Predictions as probabilities before calibration."""
        return raw if self.labels is None else softmax(raw, axis=1)

    def calibrated(self, raw: np.ndarray, *, constant: bool = False) -> tuple[Any, np.ndarray]:
        """A calibrator learnt from out-of-fold predictions, and what it makes of them, cross-fitted."""
        found = self.probability(raw)
        if constant:
            return calibration.NoCalibration(), found
        choose = calibration.choose if self.labels is None else calibration.choose_many
        return choose(found, self.y_valid, self.fold_positions, forward=self.split.forward)

    def tried(self, raw: np.ndarray) -> np.ndarray:
        """About what calibration would make of predictions: of many classes by one temperature, which is quick."""
        if self.labels is None:
            return self.calibrated(raw)[1]
        found = self.probability(raw)
        return calibration.Temperature().fit(found, self.y_valid).apply(found)

    def out_of_fold(self, candidate: Candidate, settings: dict[str, Any]) -> np.ndarray:
        """Predictions of the validated rows, each by a candidate that did not learn from it."""
        build = functools.partial(candidate.build, self.schema, settings, self.seed)
        classes = None if self.labels is None else len(self.labels)
        calls = ((_fit_predict, build(), self.X, self.y, fold, classes) for fold in self.split.folds)
        found = _parallel(calls)
        pairs = zip(found, self.split.folds, strict=True)
        return np.concatenate([each[self.split.counted(self.split.train[valid])] for each, (_, valid) in pairs])

    def model(self, members: list[BaseEstimator], weights: list[float], calibrator: Any) -> Model:
        return Model(self.schema, members, weights, calibrator, self.labels)


def split_of(table: Table, params: Params) -> Split:
    """Which rows train and which test, as the task splits them.

    Raises:
        DataError: The table is too small to be split, or does not hold what is asked of it.
        ParamsError: The split is none for such data.
    """
    task = task_of(params.task)
    if task.split is not None:
        return task.split(table, params)
    return make_split(table, task.outcome(table), params.split)


def _bench(task: Task, table: Table, params: Params) -> Bench:
    if task.ground is not None:
        made = task.ground(table, params)
        return Bench(made.schema, made.split, made.X, made.y, made.seed, made.labels, made.groups)
    y = task.outcome(table)
    split = make_split(table, y, params.split)
    schema = table.schema(split.train)
    X, labels = schema.encode(table.frame.iloc[split.train]), table.classes if task.many else None
    return Bench(schema, split, X, y[split.train], params.split.seed, labels)


def chosen_candidates(task: Task, params: Params) -> tuple[tuple[Candidate, ...], dict[str, str]]:
    """Those that params name, in the task's order, and those of them that can't run here with the reason; a blend comes
    of itself. Unnamed, all that are not costly.
    """
    names = params.search.candidates
    known = [candidate.name for candidate in task.candidates]
    for name in names or ():
        if name not in known:
            raise ParamsError(unknown("Candidate", name, known))
    if names is not None and not names:
        raise ParamsError(f"search.candidates is empty; name some of {', '.join(known)}, or leave it null for all.")
    wanted = [each for each in task.candidates if (not each.costly if names is None else each.name in names)]
    missing = {each.name: each.needs(params) for each in wanted if each.needs is not None}
    skipped = {name: reason for name, reason in missing.items() if reason is not None}
    chosen = tuple(_informed(each, params) for each in wanted if each.name not in skipped)
    if not chosen:
        raise ParamsError(f"No candidate can run: {'; '.join(f'{name}: {why}' for name, why in skipped.items())}")
    return chosen, skipped


def _informed(candidate: Candidate, params: Params) -> Candidate:
    """A candidate that gets, besides its settings, the params it asks for."""
    told = {name: getattr(params, name) for name in candidate.told}
    return replace(candidate, build=lambda schema, found, seed: candidate.build(schema, {**found, **told}, seed))


def _selection_metric(task: Task, params: Params) -> Metric:
    metrics = {metric.name: metric for metric in task.metrics(params.value)}
    name = params.search.metric or task.selection_metric
    if name not in metrics:
        raise ParamsError(f"search.metric: {unknown('Metric', name, metrics)}")
    return metrics[name]


def _refuse_identifiers(table: Table) -> None:
    found = {name: why for name, why in identifiers(table).items() if name != table.roles.event}
    if found:
        raise DataError(
            f"{'; '.join(found.values())}. An identifier is no feature: name it as data.id, or write "
            f"data.drop: [{', '.join(found)}]."
        )


def _storage() -> Path | None:
    folder = store_folder()
    return None if folder is None else folder / "search.db"


def _search_key(table: Table, params: Params) -> str:
    """What a search's result depends on; the budget is not among it."""
    parts: list[Any] = [table.source.sha256, params.task]
    parts += [params.data.model_dump(mode="json", exclude={"path", "test_path"})]
    parts += [params.split.model_dump(), params.search.candidates, params.search.metric]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _fit_predict(
    estimator: BaseEstimator, X: pd.DataFrame, y: np.ndarray, fold: Any, classes: int | None
) -> np.ndarray:
    rows, valid = fold
    return predictions(estimator.fit(X.iloc[rows], y[rows]), X.iloc[valid], classes)


def _parallel(calls: Any) -> list[Any]:
    """Calls on all cores, as threads: the work is in compiled code, and each result depends on its call alone."""
    with threadpool_limits(1):  # one core a call: else every call's matrix products would want all of them
        return joblib.Parallel(n_jobs=-1, prefer="threads")(
            joblib.delayed(function)(*args) for function, *args in calls
        )


def _fit_all(candidates: Sequence[Candidate], found: Mapping[str, Trials], ground: Bench) -> tuple[Fitted, ...]:
    """Each candidate at its best settings, on every training row, calibrated on out-of-fold predictions."""
    built = [candidate.build(ground.schema, found[candidate.name].settings, ground.seed) for candidate in candidates]
    members = _parallel((_fit, estimator, ground.X, ground.y) for estimator in built)
    lines = []
    for candidate, member in zip(candidates, members, strict=True):
        trials = found[candidate.name]
        calibrator, validation = ground.calibrated(trials.predictions, constant=candidate.constant)
        model = ground.model([member], [1.0], calibrator)
        told = (candidate.name, candidate.title, model, trials.settings, validation, trials.predictions)
        lines.append(Fitted(*told, trials.history, candidate.constant))
    return tuple(lines)


def _fit(estimator: BaseEstimator, X: pd.DataFrame, y: np.ndarray) -> BaseEstimator:
    return estimator.fit(X, y)


def _with_blend(fitted: tuple[Fitted, ...], ground: Bench, metric: Metric, gain: float) -> tuple[Fitted, ...]:
    """Adds a mean of the strongest where cross-validation says that it beats them all.

    Of two classes the two strongest. Of many, candidates join one at a time while that helps (Caruana et al. 2004,
    Ensemble selection from libraries of models).
    """
    sign = -1 if metric.higher_is_better else 1

    def loss(probability: np.ndarray) -> float:
        return sign * float(metric(ground.y_valid, probability))

    telling = [line for line in fitted if not line.constant]
    ranked = sorted(telling, key=lambda line: loss(line.validation))
    if len(ranked) < 2:
        return fitted
    others = ranked[1:] if ground.labels is not None else ranked[1:2]
    mixed, blend = ranked[0].raw, {ranked[0].name: 1.0}
    lowest = loss(ground.tried(mixed))
    while left := [line for line in others if line.name not in blend]:
        tried = [(float(weight), line) for line in left for weight in WEIGHTS]
        losses = [loss(ground.tried(weight * mixed + (1 - weight) * line.raw)) for weight, line in tried]
        best = int(np.argmin(losses))
        if lowest - losses[best] <= gain * abs(lowest):
            break
        lowest, (weight, line) = losses[best], tried[best]
        mixed = weight * mixed + (1 - weight) * line.raw
        blend = {name: share * weight for name, share in blend.items()} | {line.name: 1 - weight}
    calibrator, validation = ground.calibrated(mixed)
    if len(blend) < 2 or loss(validation) >= loss(ranked[0].validation):
        return fitted
    weights = {name: round(share, 4) for name, share in blend.items()}
    by_name = {line.name: line.model.members[0] for line in telling}
    model = ground.model([by_name[name] for name in weights], list(weights.values()), calibrator)
    title = " + ".join(f"{share:.0%} {name}" for name, share in weights.items())
    return (*fitted, Fitted(BLEND, title, model, dict(weights), validation, mixed))


def _select(fitted: Sequence[Fitted], validation: Evaluation, metric: Metric, how: str) -> str:
    """The best on cross-validated rows; or the plainest that the best does not beat beyond noise."""
    sign = -1 if metric.higher_is_better else 1
    values = {c.name: sign * validation.values(c.name)[metric.name].value for c in fitted}
    best = min(values, key=lambda name: values[name])
    if how == "best":
        return best
    verdicts = validation.compare(best).frame().query("metric == @metric.name").set_index("candidate")["verdict"]
    return next(c.name for c in fitted if c.name == best or verdicts[c.name] != "worse")
