"""Runs side by side: which is best, and is the difference to the champion real?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from cxlab.display import Result, axes, interval_plot, row_height
from cxlab.errors import ParamsError, unknown
from cxlab.metrics.intervals import evaluate
from cxlab.models.training import task_of
from cxlab.params import TASKS, ValueParams
from cxlab.tracking.artifacts import fetched
from cxlab.tracking.records import GROUP, PREDICTIONS, read_scores
from cxlab.tracking.registry import CHALLENGER, CHAMPION, alias_versions
from cxlab.tracking.store import store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOT_PAIRED = "cannot tell"


@dataclass(frozen=True, repr=False)
class Leaderboard(Result):
    """Finished runs, newest first, each against its model's reference.

    Attributes:
        rows: One a run and metric.
        references: The runs compared with, one a model: run_id, model, version, alias.
        metric: The metric that tables and figures show.
    """

    rows: pd.DataFrame = field(repr=False)
    references: list[dict[str, Any]]
    metric: str

    title: ClassVar[str] = "Runs"
    note: ClassVar[str] = (
        "A difference is told only between runs that scored the same test rows; else the verdict is cannot tell."
    )

    def frame(self) -> pd.DataFrame:
        return self.rows

    def plot(self) -> Axes:
        rows = self.rows[self.rows["metric"] == self.metric]
        labels = [f"{row.model} v{row.version} {row.selected}" for row in rows.itertuples()]
        ax = axes(f"{self.metric} on each run's test part, 95 % interval", height=row_height(labels))
        return interval_plot(ax, labels, rows["value"], rows["low"], rows["high"])


def compare(name: str, *, metric: str | None = None, last: int = 20) -> Leaderboard:
    """Compares the finished runs of a task, or of one registered model.

    A run's reference is its model's champion; before there is one, the challenger (the newest version).

    Args:
        name: A task, or a model's name.
        metric: What to show; the task's selection metric if None, or "all".
        last: How many of the newest runs.
    Raises:
        ParamsError: No finished run has that task or name, or the metric is unknown.
    """
    with store() as client:
        runs = _finished(client, name)[:last]
        if not runs:
            raise ParamsError(_nothing(client, name))
        task = task_of(runs[0].data.tags["cxlab.task"])
        metrics = [item.name for item in task.metrics(ValueParams())]
        chosen = metric or task.selection_metric
        if chosen != "all" and chosen not in metrics:
            raise ParamsError(unknown("Metric", chosen, [*metrics, "all"]))
        models = {run.info.experiment_id: client.get_experiment(run.info.experiment_id).name for run in runs}
        references = {key: _reference(client, model) for key, model in models.items()}
        bases = {key: _predictions(client, item["run_id"]) if item else None for key, item in references.items()}
        rows = []
        for run in runs:
            key = run.info.experiment_id
            pairs = _paired(client, run, references[key], bases[key])
            for item in metrics if chosen == "all" else [chosen]:
                rows.append({"model": models[key]} | _row(run, item) | pairs.get(item, _cannot_tell(pairs)))
    shown = task.selection_metric if chosen == "all" else chosen
    return Leaderboard(pd.DataFrame(rows), [item for item in references.values() if item], shown)


def _finished(client: MlflowClient, name: str) -> list[Run]:
    experiments = client.search_experiments()
    wanted = [item.experiment_id for item in experiments if name in TASKS or item.name == name]
    filters = "attributes.status = 'FINISHED' and tags.`cxlab.version_number` LIKE '%'"
    if name in TASKS:
        filters += f" and tags.`cxlab.task` = '{name}'"
    return list(client.search_runs(wanted, filters, order_by=["attributes.start_time DESC"])) if wanted else []


def _nothing(client: MlflowClient, name: str) -> str:
    known = [*TASKS, *(item.name for item in client.search_experiments() if item.name != "Default")]
    if name in TASKS:
        return f"No finished run of {name!r} yet. Train one: cxlab run {name}"
    return unknown("Model", name, dict.fromkeys(known))


def _reference(client: MlflowClient, model: str) -> dict[str, Any]:
    """A model's champion, else its challenger; empty where it has neither."""
    aliases = alias_versions(client, model)
    alias = CHAMPION if CHAMPION in aliases else CHALLENGER
    if alias not in aliases:
        return {}
    version = client.get_model_version(model, aliases[alias])
    return {"run_id": version.run_id, "model": model, "version": str(version.version), "alias": alias}


def _predictions(client: MlflowClient, run_id: str) -> dict[str, Any]:
    run = client.get_run(run_id)
    frame = pd.read_parquet(fetched(client, run_id, PREDICTIONS))
    tags = run.data.tags
    return {"frame": frame, "sha256": tags["cxlab.data.sha256"], "score": read_scores(frame, tags["cxlab.selected"])}


def _paired(client: MlflowClient, run: Run, reference: dict[str, Any], base: Any) -> dict[str, dict[str, Any]]:
    """Differences by metric; empty where there is nothing to pair with."""
    if base is None:
        return {}
    if run.info.run_id == reference["run_id"]:
        return {"reference": {}}
    mine = _predictions(client, run.info.run_id)
    keys = ["row", "outcome"]
    if mine["sha256"] != base["sha256"] or not mine["frame"][keys].equals(base["frame"][keys]):
        return {}
    if mine["score"].shape != base["score"].shape:  # they tell other events apart
        return {}
    y = base["frame"]["outcome"].to_numpy()
    value = ValueParams(capacity=float(run.data.params["value.capacity"]))
    metrics = task_of(run.data.tags["cxlab.task"]).metrics(value)
    groups = base["frame"][GROUP].to_numpy() if GROUP in base["frame"] else None
    both = evaluate(y, {"reference": base["score"], "run": mine["score"]}, metrics, groups=groups)
    found = both.compare("reference").frame().set_index("metric")
    columns = ["difference", "diff_low", "diff_high", "verdict"]
    return {str(name): dict(row[columns]) for name, row in found.iterrows()}


def _cannot_tell(pairs: dict[str, Any]) -> dict[str, Any]:
    verdict = "reference" if "reference" in pairs else NOT_PAIRED
    return {"difference": None, "diff_low": None, "diff_high": None, "verdict": verdict}


def _row(run: Run, metric: str) -> dict[str, Any]:
    values = run.data.metrics
    return {
        "run_id": run.info.run_id,
        "version": run.data.tags["cxlab.version_number"],
        "selected": run.data.tags["cxlab.selected"],
        "data": str(run.data.params.get("data.path", "")).rsplit("/", 1)[-1],
        "split": run.data.tags["cxlab.split"],
        "metric": metric,
        "value": values.get(metric),
        "low": values.get(f"{metric}_low"),
        "high": values.get(f"{metric}_high"),
    }
