"""What a run shows, decided without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.models.training import Training, train
from cxlab.params import load_params
from cxlab.tracking import records, runs


@pytest.fixture
def training(params_file: Path) -> Training:
    params = load_params(params_file)
    return train(read_table(params.data), params, storage=None)


def of_kind(items: list[records.Record], kind: type) -> dict[str, Any]:
    return {getattr(item, "key", None) or item.path: item for item in items if isinstance(item, kind)}  # type: ignore[union-attr]


def test_a_parent_shows_what_is_needed_to_repeat_and_to_trust_it(training: Training) -> None:
    items = list(records.of_training(training))
    assert of_kind(items, records.Tag)["cxlab.data.sha256"].value == training.table.source.sha256
    assert of_kind(items, records.Param)["search.trials_made"].value == str(training.trials)
    metrics = {key: item.value for key, item in of_kind(items, records.Metric).items()}
    for name, interval in training.evaluation.values(training.selected).items():
        assert (metrics[name], metrics[f"{name}_low"], metrics[f"{name}_high"]) == tuple(interval)
    frames = of_kind(items, records.Rows)
    assert set(frames) == {
        "leaderboard.csv",
        "validation.csv",
        "comparison.csv",
        "trials.csv",
        records.PREDICTIONS,
        records.OUT_OF_FOLD,
    }
    assert len(frames["trials.csv"].frame) == training.trials
    assert set(of_kind(items, records.Figure)) == {
        f"figures/{name}.png" for name in ("leaderboard", "comparison", "reliability", "gains")
    }
    assert {"environment.txt", "settings.json", records.PARAMS} == set(of_kind(items, records.Text))


def test_no_customer_is_named_in_what_is_logged(training: Training) -> None:
    frame = records.predictions_frame(training)
    assert list(frame.columns)[:2] == ["row", "outcome"]
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in frame)
    for item in records.of_training(training):
        if isinstance(item, records.Rows):
            assert not item.frame.astype(str).isin(training.table.frame["customer_id"]).any().any()


def test_params_are_known_before_anything_is_fitted(params_file: Path) -> None:
    items = list(records.of_params("churn", load_params(params_file).flat()))
    params = of_kind(items, records.Param)
    assert params["search.trials"].value == "3"
    assert of_kind(items, records.Tag)["mlflow.user"].value == "tester"


def test_a_candidate_shows_its_settings_and_both_figures(training: Training) -> None:
    for candidate in training.candidates:
        items = list(records.of_candidate(training, candidate))
        metrics = of_kind(items, records.Metric)
        assert {"roc_auc", "validation_roc_auc"} <= set(metrics)
        assert {*candidate.settings, "calibration"} == set(of_kind(items, records.Param))


def test_the_summary_is_plain_json(training: Training) -> None:
    summary = runs.summary(training)
    assert json.loads(json.dumps(summary))["data"]["rows"] == 400
    assert summary["selected"] == training.selected


def test_predictions_are_those_of_the_test_rows(training: Training) -> None:
    frame = records.predictions_frame(training)
    rows = training.table.frame.iloc[frame["row"]]
    assert np.array_equal(training.model.predict_proba(rows)[:, 1], frame[training.selected])
    assert np.array_equal((rows["churn"] == "yes").to_numpy(int), frame["outcome"])


def test_git_state_is_told_or_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXLAB_HOME", str(tmp_path))
    tags: Callable[[], set[str]] = lambda: set(of_kind(list(records.of_params("churn", {})), records.Tag))  # noqa: E731
    assert "mlflow.source.git.commit" not in tags()
