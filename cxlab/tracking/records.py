"""What a run shows, decided here and nowhere else: small records, made without a server and testable without one.

`of_training` yields what the parent run shows, `of_candidate` what each candidate's own run shows; `runs.py` hands
them to MLflow in one loop.
"""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cxlab.data.log import LogTable
from cxlab.errors import CxlabError
from cxlab.evidence.drift import evidently_page
from cxlab.metrics import curves
from cxlab.metrics.bootstrap import Interval
from cxlab.models.subject import subject_of
from cxlab.models.training import Fitted, Training
from cxlab.places import acting_person, home

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cxlab.evidence.report import Report

PREDICTIONS = "predictions.parquet"
GROUP = "case"  # its column that says which rows depend on one another
OUT_OF_FOLD = "out_of_fold.parquet"
PARAMS = "params.json"
REPORT_PAGE = "report/report.html"
REPORT_FACTS = "report/report.json"


@dataclass(frozen=True)
class Param:
    key: str
    value: str


@dataclass(frozen=True)
class Metric:
    key: str
    value: float


@dataclass(frozen=True)
class Tag:
    key: str
    value: str


@dataclass(frozen=True)
class Text:
    """A text artifact; the path says what it is."""

    path: str
    content: str


@dataclass(frozen=True)
class Rows:
    """A frame artifact, CSV or Parquet by its path."""

    path: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Figure:
    path: str
    draw: Callable[[], Axes]


@dataclass(frozen=True)
class Page:
    """A file that something else writes."""

    path: str
    write: Callable[[Path], object]


@dataclass(frozen=True)
class DataUsed:
    """The data set, as MLflow's own column of data sets shows it."""

    name: str
    digest: str
    source: str
    rows: int


Record = Param | Metric | Tag | Text | Rows | Figure | Page | DataUsed


def of_params(task: str, flat: dict[str, Any]) -> Iterator[Record]:
    """Known before anything is fitted."""
    yield Tag("cxlab.task", task)
    yield Tag("mlflow.user", acting_person())
    yield Tag("cxlab.version", metadata.version("cxlab"))
    yield from map(_git_tag, _git_state().items())
    for key, value in flat.items():
        yield Param(key, str(value)[:500])


def of_training(training: Training) -> Iterator[Record]:
    """The parent run: the selected model's figures, the data, and everything to repeat it."""
    source = training.table.source
    yield DataUsed(Path(source.path).name, source.sha256[:36], source.path, source.rows)
    yield Tag("cxlab.data.sha256", source.sha256)
    yield Tag("cxlab.selected", training.selected)
    yield Tag("cxlab.split", training.split.method)
    yield Tag("mlflow.note.content", description(training))
    yield Param("data.sha256", source.sha256)
    yield Param("search.trials_made", str(training.trials))
    yield from _metrics(training.evaluation.values(training.selected))
    yield Metric("seconds_fit", training.seconds)
    yield Metric("rows_train", len(training.split.train))
    yield Metric("rows_test", len(training.split.test))
    yield Rows("leaderboard.csv", training.frame())
    yield Rows("validation.csv", training.validation.frame())
    yield Rows("comparison.csv", training.comparison.frame())
    yield Rows("trials.csv", trials_frame(training))
    yield Rows(PREDICTIONS, predictions_frame(training))
    subject = subject_of(training)
    columns = score_columns("score", subject.score_valid)
    yield Rows(OUT_OF_FOLD, pd.DataFrame({"row": subject.valid_rows, **columns}))
    yield Text(PARAMS, training.params.model_dump_json(indent=2) + "\n")
    yield Text("environment.txt", "\n".join(environment()) + "\n")
    yield Text("settings.json", json.dumps({c.name: c.settings for c in training.candidates}, indent=2) + "\n")
    yield Figure("figures/leaderboard.png", training.plot)
    yield Figure("figures/comparison.png", lambda: training.comparison.plot(training.metric))
    y, score = training.outcome_test, training.scores[training.selected]
    if score.ndim == 1:
        yield Figure("figures/gains.png", curves.gains(y, score).plot)
    else:
        if training.abstention is not None:
            yield Figure("figures/abstention.png", training.abstention.plot)
        y, score = (score.argmax(axis=1) == y).astype(int), np.minimum(score.max(axis=1), 1.0)  # of being right
    yield Figure("figures/reliability.png", curves.reliability(y, score).plot)


def of_report(report: Report) -> Iterator[Record]:
    """The evidence, on the parent run: the page, its facts, its figures, and key figures for MLflow's own table."""
    for name, figure in report.key_figures().items():
        if math.isfinite(figure):
            yield Metric(name, figure)
    yield Text(REPORT_PAGE, report.html())
    yield Text(REPORT_FACTS, json.dumps(report.facts(), indent=1, allow_nan=False) + "\n")
    subject = report.subject
    if not subject.many:  # its page would show customers' words
        yield Page(
            "report/evidently.html",
            lambda path: evidently_page(subject.train, subject.test, subject.model.schema, path),
        )
    for name, draw in report.figures().items():
        yield Figure(f"figures/{name}.png", draw)


def of_candidate(training: Training, candidate: Fitted) -> Iterator[Record]:
    """A child run: one candidate's settings and figures."""
    yield Tag("cxlab.candidate", candidate.name)
    yield Tag("cxlab.selected", str(candidate.name == training.selected).lower())
    for key, value in candidate.settings.items():
        yield Param(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    yield Param("calibration", candidate.model.calibrator.name)
    yield Metric("trials", len(candidate.history))
    yield from _metrics(training.evaluation.values(candidate.name))
    for name, interval in training.validation.values(candidate.name).items():
        yield Metric(f"validation_{name}", interval.value)


def _metrics(values: dict[str, Interval]) -> Iterator[Metric]:
    for name, interval in values.items():
        yield Metric(name, interval.value)
        yield Metric(f"{name}_low", interval.low)
        yield Metric(f"{name}_high", interval.high)


def description(training: Training) -> str:
    """What the run found, as the Markdown that MLflow shows on its page."""
    metric, n = training.metric, len(training.outcome_test)
    against = training.comparison.frame().query("metric == @metric").set_index("candidate")
    lines = [
        f"**{training.selected}** was selected on cross-validated training rows. On the {n:,} test rows:",
        "",
        f"| candidate | {metric} | 95 % interval | against {training.selected} | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    for candidate in training.candidates:
        own = training.evaluation.values(candidate.name)[metric]
        said, apart = "selected", ""
        if candidate.name in against.index:
            row = against.loc[candidate.name]
            said, apart = str(row["verdict"]), f"{row['diff_low']:+.4f} to {row['diff_high']:+.4f}"
        lines.append(f"| {candidate.name} | {own.value:.4f} | {own.low:.4f} to {own.high:.4f} | {said} | {apart} |")
    return "\n".join([*lines, "", f"{training.trials} trials; replay with `search.trials={training.trials}`."])


def trials_frame(training: Training) -> pd.DataFrame:
    """One row a trial: candidate, number, loss, and its settings as JSON."""
    rows = [
        {"candidate": c.name, "trial": number, "loss": trial["loss"], "settings": json.dumps(trial["settings"])}
        for c in training.candidates
        for number, trial in enumerate(c.history)
    ]
    return pd.DataFrame(rows)


def predictions_frame(training: Training) -> pd.DataFrame:
    """One row a test row that counts, by row number: no customer is named. Of many classes the selected model's alone,
    of a log with the number of the case."""
    many = training.scores[training.selected].ndim > 1
    kept = {training.selected: training.scores[training.selected]} if many else training.scores
    columns = {key: held for name, scores in kept.items() for key, held in score_columns(name, scores).items()}
    rows = training.split.test[training.split.counted(training.split.test)]
    groups = {} if not isinstance(training.table, LogTable) else {GROUP: training.table.cases[rows]}
    return pd.DataFrame({"row": rows, **groups, "outcome": training.outcome_test, **columns})


def score_columns(name: str, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Probabilities as columns of a file: one, or of many classes `name.code` each, in single precision."""
    if scores.ndim == 1:
        return {name: scores}
    return {f"{name}.{code}": scores[:, code].astype(np.float32) for code in range(scores.shape[1])}


def read_scores(frame: pd.DataFrame, name: str) -> np.ndarray:
    """The inverse: shape (n,), or (n, classes)."""
    if name in frame.columns:
        return frame[name].to_numpy()
    codes = sorted(int(key.removeprefix(f"{name}.")) for key in frame.columns if key.startswith(f"{name}."))
    return frame[[f"{name}.{code}" for code in codes]].to_numpy(np.float64)


def environment() -> list[str]:
    """Python and every installed package, name==version."""
    installed = {f"{d.metadata['Name']}=={d.version}" for d in metadata.distributions()}
    return [f"python=={platform.python_version()}", *sorted(installed, key=str.casefold)]


def _git_tag(item: tuple[str, str]) -> Tag:
    return Tag(*item)


def _git_state() -> dict[str, str]:
    """The commit, and whether the tree differs from it; empty outside a checkout or without git."""
    try:
        folder = home()
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (CxlabError, OSError, subprocess.CalledProcessError):
        return {}
    return {"mlflow.source.git.commit": commit, "cxlab.git.changed": str(bool(changed)).lower()}


def _git(folder: Path, *words: str) -> str:
    run = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True)
    return run.stdout.strip()
