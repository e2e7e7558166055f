"""Runs, the registry and the leaderboard on a real store."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.errors import DataError, ParamsError, StoreError
from cxlab.models.subject import subject_of
from cxlab.models.training import Training, train
from cxlab.params import load_params
from cxlab.places import store_folder
from cxlab.tracking import artifacts
from cxlab.tracking.leaderboard import compare
from cxlab.tracking.registry import load_model, open_version
from cxlab.tracking.runs import tracked
from cxlab.tracking.store import store

Logged = Callable[..., tuple[Training, dict[str, Any]]]


@pytest.fixture
def logged(params_file: Path) -> Logged:
    def run(*overrides: str) -> tuple[Training, dict[str, Any]]:
        params = load_params(params_file, overrides)
        with tracked(params) as open_run:
            training = train(read_table(params.data), params)
            return training, open_run.log(training)

    return run


def model_files() -> list[Path]:
    folder = store_folder()
    assert folder is not None
    return list(folder.rglob("model.skops"))


def test_what_is_registered_scores_as_it_was_evaluated(logged: Logged) -> None:
    training, facts = logged()
    rows = training.table.frame.iloc[training.split.test]
    for version in (facts["version"], "challenger"):
        model = load_model("small", version)
        assert np.array_equal(model.predict_proba(rows)[:, 1], training.scores[training.selected])


def test_a_version_reopens_as_it_was(logged: Logged, params_file: Path) -> None:
    training, facts = logged()
    before, after = subject_of(training), open_version("small", facts["version"])
    assert np.array_equal(before.score_test, after.score_test)
    assert np.array_equal(before.score_valid, after.score_valid)
    assert np.array_equal(before.outcome_valid, after.outcome_valid)
    assert before.params == after.params
    data = params_file.parent / "customers.csv"
    data.write_text(data.read_text(encoding="utf-8") + "c99999,1,0.5,basic,north,yes\n", encoding="utf-8")
    with pytest.raises(StoreError, match="learnt from have changed"):
        open_version("small", "1")
    data.unlink()
    with pytest.raises(DataError, match="small version 1 learnt from are gone: No file"):
        open_version("small", "1")


def test_no_file_of_a_run_is_a_pickle(logged: Logged) -> None:
    logged()
    folder = store_folder()
    assert folder is not None
    names = [path.name for path in folder.rglob("*") if path.is_file()]
    assert "model.skops" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib"))]


def test_a_changed_model_file_is_not_loaded(logged: Logged) -> None:
    logged("search.candidates=[prior]")
    path = model_files()[0]
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StoreError, match="is not the file that was registered: its SHA-256 differs"):
        load_model("small", "1")


def test_a_foreign_type_is_not_loaded(logged: Logged) -> None:
    import hashlib

    import skops.io

    logged("search.candidates=[prior]")
    path = model_files()[0]
    skops.io.dump({"runs": foreign()}, path)
    with store() as client:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        client.set_model_version_tag("small", "1", "cxlab.model.sha256", digest)
    with pytest.raises(StoreError, match="holds foreign types"):
        load_model("small", "1")


def foreign() -> Any:
    from fractions import Fraction

    return Fraction


@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        ("smal", "1", "No registered model 'smal'. Did you mean 'small'?"),
        ("small", "7", "small has no version '7'. Versions: 1"),
        ("small", "champion", "small has no version 'champion'"),
    ],
)
def test_a_version_that_is_not_there(logged: Logged, name: str, version: str, says: str) -> None:
    logged("search.candidates=[prior]")
    with pytest.raises(ParamsError, match=says):
        load_model(name, version)


def test_children_hang_on_their_parent(logged: Logged) -> None:
    training, facts = logged()
    with store() as client:
        parent = client.get_run(facts["run_id"])
        children = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{facts['run_id']}'")
        assert {run.info.run_name for run in children} == {candidate.name for candidate in training.candidates}
        assert parent.inputs.dataset_inputs[0].dataset.name == "customers.csv"
        version = client.get_model_version_by_alias("small", "challenger")
        assert (version.run_id, str(version.version)) == (facts["run_id"], facts["version"])
        listed = {item.path for item in client.list_artifacts(facts["run_id"], "figures")}
    assert "figures/gains.png" in listed


def test_the_newest_is_the_challenger_and_the_reference_until_there_is_a_champion(logged: Logged) -> None:
    first, second = logged("search.candidates=[prior]")[1], logged("search.candidates=[logistic]")[1]
    board = compare("churn")
    assert [(item["run_id"], item["alias"]) for item in board.references] == [(second["run_id"], "challenger")]
    rows = board.frame().set_index("run_id")
    assert rows.loc[first["run_id"], "verdict"] == "worse"
    assert rows.loc[second["run_id"], "verdict"] == "reference"
    with store() as client:
        client.set_registered_model_alias("small", "champion", first["version"])
    rows = compare("small", metric="all").frame()
    better = rows[(rows["run_id"] == second["run_id"]) & (rows["metric"] == "roc_auc")]
    assert better["verdict"].item() == "better"
    assert better["diff_low"].item() > 0


def test_other_test_rows_cannot_be_told_apart(logged: Logged) -> None:
    one, _ = logged("search.candidates=[logistic]")[1], logged("search.candidates=[logistic]", "split.seed=5")[1]
    rows = compare("churn").frame().set_index("run_id")
    assert rows.loc[one["run_id"], "verdict"] == "cannot tell"
    assert pd.isna(rows.loc[one["run_id"], "difference"])


def test_keeping_a_file_is_what_mlflow_would_do(logged: Logged, tmp_path: Path) -> None:
    _, facts = logged("search.candidates=[prior]")
    (tmp_path / "one.txt").write_text("same")
    shutil.copy(tmp_path / "one.txt", tmp_path / "two.txt")
    artifacts.keep(tmp_path / "one.txt", facts["run_id"], facts["artifacts"], "kept")
    with store() as client:
        client.log_artifact(facts["run_id"], str(tmp_path / "two.txt"), "kept")
        assert {item.path for item in client.list_artifacts(facts["run_id"], "kept")} == {
            "kept/one.txt",
            "kept/two.txt",
        }


def test_an_error_closes_the_run_as_failed(params_file: Path) -> None:
    params = load_params(params_file)
    with pytest.raises(ZeroDivisionError), tracked(params):
        raise ZeroDivisionError
    with store() as client:
        found = client.search_runs([item.experiment_id for item in client.search_experiments()])
    assert [run.info.status for run in found] == ["FAILED"]


def test_a_deleted_experiment_is_named(params_file: Path) -> None:
    params = load_params(params_file)
    with tracked(params):
        pass
    with store() as client:
        client.delete_experiment(client.get_experiment_by_name("small").experiment_id)
    with pytest.raises(StoreError, match="'small' is deleted in MLflow; restore it there"), tracked(params):
        pass
