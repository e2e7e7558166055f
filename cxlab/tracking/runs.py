"""Runs on MLflow: opened before the search, so that one that dies is seen; closed whatever happens.

with tracked(params) as run:
    training = train(table, params)
    run.log(training)
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxlab.models.training import Training
from cxlab.params import Params
from cxlab.places import is_gone, this_process
from cxlab.tracking import records, registry
from cxlab.tracking.store import experiment_id, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from cxlab.evidence.report import Report

OWNER = "cxlab.owner"


@dataclass
class Run:
    """An open run.

    Attributes:
        run_id: MLflow's.
        artifact_uri: Where its files go.
        facts: What was found, once `log` was called: the content of `cxlab run --json`.
    """

    run_id: str
    artifact_uri: str
    facts: dict[str, Any] = field(default_factory=dict)
    _client: Any = None

    def log(self, training: Training, report: Report | None = None) -> dict[str, Any]:
        """Logs the training, one child run a candidate, and its report; registers the selected model.

        Returns:
            The facts of the run, ready for JSON.
        """
        log_records(self._client, self.run_id, records.of_training(training))
        experiment = self._client.get_run(self.run_id).info.experiment_id
        for candidate in training.candidates:
            tags = {"mlflow.parentRunId": self.run_id, "mlflow.runName": candidate.name}
            child = self._client.create_run(experiment, tags=tags)
            log_records(self._client, child.info.run_id, records.of_candidate(training, candidate))
            self._client.set_terminated(child.info.run_id)
        started = time.monotonic()
        if report is not None:
            log_records(self._client, self.run_id, records.of_report(report))
        drawn = time.monotonic() - started
        version = registry.register(training, self.run_id, None if report is None else report.facts())
        self.facts = {**summary(training), "run_id": self.run_id, "model": training.params.name, "version": version}
        self.facts["artifacts"] = self.artifact_uri
        if report is not None:
            self.facts["seconds"]["report"] = report.seconds + drawn
            self.facts["report"] = f"{self.artifact_uri}/{records.REPORT_PAGE}"
            self.facts["summary"] = [f"{line['question']} {line['answer']}" for line in report.summary]
        return self.facts


def summary(training: Training) -> dict[str, Any]:
    """The facts of a training, plain enough for JSON."""
    source = training.table.source
    values = {c.name: training.evaluation.values(c.name) for c in training.candidates}
    return {
        "task": training.task,
        "selected": training.selected,
        "selection_metric": training.metric,
        "candidates": [
            {"name": name, "metrics": {metric: item.value for metric, item in row.items()}}
            for name, row in values.items()
        ],
        "metrics": {
            name: {"value": item.value, "low": item.low, "high": item.high}
            for name, item in values[training.selected].items()
        },
        "comparison": training.comparison.frame().to_dict("records"),
        "data": {"path": source.path, "sha256": source.sha256, "rows": source.rows},
        "trials": training.trials,
        "seconds": {"fit": training.seconds},
    }


@contextmanager
def tracked(params: Params) -> Iterator[Run]:
    """A parent run for one training. An interrupt closes it as KILLED, an error as FAILED."""
    with store() as client:
        close_abandoned(client)
        experiment = experiment_id(client, params.name)
        owner = {OWNER: this_process()}
        opened = client.create_run(
            experiment, tags=owner, run_name=f"{params.name} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )
        run_id = opened.info.run_id
        status = "FAILED"
        try:
            log_records(client, run_id, records.of_params(params.task, params.flat()))
            yield Run(run_id, opened.info.artifact_uri, _client=client)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            client.set_terminated(run_id, status)


def close_abandoned(client: MlflowClient) -> list[str]:
    """Marks as KILLED every run whose process on this machine is gone; returns their ids."""
    experiments = [item.experiment_id for item in client.search_experiments()]
    open_runs = client.search_runs(experiments, filter_string="attributes.status = 'RUNNING'")
    gone = [run.info.run_id for run in open_runs if is_gone(run.data.tags.get(OWNER, ""))]
    for run_id in gone:
        client.set_terminated(run_id, "KILLED")
    return gone


def log_records(client: MlflowClient, run_id: str, items: Iterable[records.Record]) -> None:
    """Hands records to MLflow: numbers and words in one batch, files one by one."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    params, metrics, tags, rest = [], [], [], []
    for item in items:
        match item:
            case records.Param(key, value):
                params.append(Param(key, value))
            case records.Metric(key, value):
                metrics.append(Metric(key, value, now, 0))
            case records.Tag(key, value):
                tags.append(RunTag(key, value))
            case _:
                rest.append(item)
    client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
    files = [item for item in rest if not isinstance(item, records.DataUsed)]
    for item in rest:
        if isinstance(item, records.DataUsed):
            _log_data(client, run_id, item)
    if files:
        with tempfile.TemporaryDirectory() as folder:
            for item in files:
                path = Path(folder) / item.path
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(item, path)
            client.log_artifacts(run_id, folder)


def _write(item: records.Record, path: Path) -> None:
    match item:
        case records.Text(_, content):
            path.write_text(content, encoding="utf-8")
        case records.Rows(_, frame) if path.suffix == ".parquet":
            frame.to_parquet(path, index=False)
        case records.Rows(_, frame):
            frame.to_csv(path, index=False)
        case records.Page(_, write):
            write(path)
        case records.Figure(_, draw):
            import matplotlib.pyplot as plt

            figure = draw().get_figure(root=True)
            assert figure is not None
            figure.savefig(path, dpi=110)
            plt.close(figure)


def _log_data(client: MlflowClient, run_id: str, item: records.DataUsed) -> None:
    import json

    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": item.source})
    profile = json.dumps({"num_rows": item.rows})
    data = Dataset(item.name, item.digest, source_type="local", source=source, profile=profile)
    client.log_inputs(run_id, [DatasetInput(data, tags=[InputTag("mlflow.data.context", "training")])])
