"""Fixtures of release and serving: a small model, made, reviewed and exported once; tests get a copy of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.evidence.report import Report, review
from cxlab.evidence.wording import Phrase
from cxlab.models.training import train
from cxlab.params import load_params
from cxlab.release.bundle import write_bundle

WORDING = {"calls": Phrase(phrase="{value:g} calls", unit="calls"), "plan": Phrase(phrase="the {value} plan")}


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory: pytest.TempPathFactory, customers: Callable[..., pd.DataFrame]) -> Report:
    """A trained model on 400 small customers, with its report."""
    folder = tmp_path_factory.mktemp("reviewed")
    customers().to_csv(folder / "customers.csv", index=False)
    (folder / "small.yaml").write_text(
        "task: churn\nname: small\n"
        "data: {path: customers.csv, id: customer_id, target: churn, segments: [region], known_before: [calls]}\n"
        "search: {trials: 3, candidates: [prior, logistic, lightgbm]}\n",
        encoding="utf-8",
    )
    params = load_params(folder / "small.yaml")
    return review(train(read_table(params.data), params, storage=None))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, reviewed: Report) -> Path:
    """The bundle of that model; not to be changed."""
    to = tmp_path_factory.mktemp("exported") / "small-1"
    facts = {"model": "small", "version": "1", "task": "churn"}
    return write_bundle(
        reviewed.subject, to, facts=facts, report=reviewed.facts(), evidence={"card.md": "# small"}, wording=WORDING
    )


@pytest.fixture
def bundle_folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def lab_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for the tests of this folder: making one takes seconds, a model of one's own does not."""
    return f"sqlite:///{tmp_path_factory.mktemp('lab')}/mlflow.db"


@pytest.fixture
def register(lab_store: str, reviewed: Report, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Registers the small model under a name, with its report, as a training does; returns the version."""
    from cxlab.tracking import records, registry
    from cxlab.tracking.runs import log_records
    from cxlab.tracking.store import experiment_id, store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab_store)
    needed = {records.PARAMS, records.OUT_OF_FOLD, records.REPORT_PAGE, records.REPORT_FACTS, records.PREDICTIONS}

    def make(name: str, *, author: str = "ann", report: Report = reviewed) -> str:
        monkeypatch.setenv("CXLAB_USER", author)
        params = report.training.params.model_copy(update={"name": name})
        training = replace(report.training, params=params)
        made = [*records.of_training(training), *records.of_report(report)]
        kept = [r for r in made if isinstance(r, records.Tag) or getattr(r, "path", None) in needed]
        with store() as client:
            run_id = client.create_run(experiment_id(client, name)).info.run_id
            log_records(client, run_id, kept)
            client.update_run(run_id, "FINISHED")
        version = registry.register(training, run_id, report.facts())
        monkeypatch.setenv("CXLAB_USER", "bob")
        return version

    return make
