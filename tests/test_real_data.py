"""On the field's public data sets, as published. Skipped where CXLAB_DATA_MIRROR is not set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxlab.data import catalog
from cxlab.data.events import read_events
from cxlab.data.quality import check
from cxlab.data.table import Table, read_table
from cxlab.data.taxonomy import load_mapping
from cxlab.errors import DataError
from cxlab.features.events import compute, load_features
from cxlab.models.splits import compare_splits
from cxlab.models.training import Training, train
from cxlab.params import Params, load_params

PARAMS = Path(__file__).parent.parent / "params"
PLAIN = ("search.candidates=[prior, logistic]", "search.trials=2")

Read = Callable[..., tuple[Table, Params]]


@pytest.fixture
def read(mirror: Path) -> Read:
    """A catalogued data set with the params that we ship for it."""

    def reader(name: str, *overrides: str) -> tuple[Table, Params]:
        catalog.get(name)
        params = load_params(PARAMS / f"{name}.yaml", overrides)
        return read_table(params.data), params

    return reader


@pytest.fixture
def trained(read: Read) -> Callable[..., Training]:
    return lambda name, *overrides: train(*read(name, *overrides), storage=None)


def test_telco_at_the_defaults_is_as_good_as_measured(trained: Callable[..., Training]) -> None:
    training = trained("ibm_telco", "search.trials=3", "split.seed=0")
    found = training.evaluation.values(training.selected)
    assert found["roc_auc"].value == pytest.approx(0.849, abs=0.003)  # measured: 0.8487
    assert found["log_loss"].value == pytest.approx(0.412, abs=0.003)  # measured: 0.4122
    verdicts = training.comparison.frame().query("candidate == 'prior'").set_index("metric")["verdict"]
    assert verdicts[["roc_auc", "log_loss", "brier"]].tolist() == ["worse"] * 3


def test_a_random_split_of_calls_in_the_order_of_time_flatters(trained: Callable[..., Training]) -> None:
    temporal, random = trained("bank_marketing", *PLAIN), trained("bank_marketing", *PLAIN, "split.method=stratified")
    later, mixed = (each.evaluation.values("logistic")["roc_auc"] for each in (temporal, random))
    assert later.high < mixed.low
    assert mixed.value - later.value > 0.1  # measured: 0.790 and 0.632
    gap = compare_splits(temporal)
    assert "the world moved" in gap.note
    assert gap.frame()["value"].tolist() == pytest.approx([mixed.value, later.value], abs=0.01)


def test_what_the_catalogue_declares_as_known_afterwards_is_refused_by_name(trained: Callable[..., Training]) -> None:
    with pytest.raises(DataError, match=r"'duration' \(says the catalogue\)"):
        trained("bank_marketing", *PLAIN, "data.drop=[]")


def test_an_undeclared_leak_is_a_suspect(read: Read, tmp_path: Path) -> None:
    """The same rows under another hash, so that the catalogue does not know them."""
    table, _ = read("bank_marketing")
    table.frame.to_csv(tmp_path / "calls.csv", index=False)
    other, _ = read("bank_marketing", f"data.path={tmp_path / 'calls.csv'}", "data.drop=[]")
    assert other.known_after == {}
    found = check(other).frame().set_index("code").loc["leak_suspects"]
    assert found["status"] == "cannot_tell"
    assert "'duration'" in found["reason"]


def test_iranian_churn_runs_as_published(read: Read) -> None:
    table, params = read("iranian_churn", "search.trials=7")
    assert "Call  Failure" in table.features
    duplicates = check(table).frame().set_index("code").loc["duplicate_rows"]
    assert (duplicates["status"], duplicates["rows"]) == ("fail", 300)
    training = train(table, params, storage=None)
    assert training.evaluation.values(training.selected)["roc_auc"].value > 0.95  # measured: 0.969


def test_what_is_known_of_a_ticket_at_its_opening(mirror: Path) -> None:
    """From the log of updates by mapping and declared features alone; nothing that is written back at the end."""
    log = mirror / "incident_log" / "incident_event_log.csv.gz"
    events = read_events(log, mapping=load_mapping(PARAMS / "events" / "incident_tickets.yaml")).accepted
    opened = events.groupby("customer_id", observed=True)["occurred_at"].min().sort_values().head(300)
    cutoffs = (opened + pd.Timedelta(minutes=1)).to_numpy()
    declared = load_features(PARAMS / "features" / "incident_opening.yaml")
    pairs = pd.DataFrame({"customer_id": opened.index.astype(str), "cutoff": cutoffs})
    frame = compute(events, declared, pairs, label=declared.label).frame()
    first = events.sort_values(["occurred_at", "event_id"]).drop_duplicates("customer_id").set_index("customer_id")
    category = first["properties"].map(json.loads).map(lambda found: found.get("category"))
    assert frame["category"].fillna("").tolist() == category[frame["customer_id"]].fillna("").tolist()
    assert 0.1 < frame["missed"].astype("float").mean() < 0.9


def test_who_buys_no_more_is_told_from_purchases(mirror: Path, tmp_path: Path) -> None:
    """Cutoffs half a year apart, so that no training label reaches into the test."""
    events = read_events(mirror / "cdnow" / "CDNOW_master.txt", mapping=load_mapping(PARAMS / "events" / "cdnow.yaml"))
    declared = load_features(PARAMS / "features" / "cdnow.yaml")
    cutoffs = ["1997-04-01", "1997-07-01", "1998-01-01"]
    found = compute(events.accepted, declared, cutoffs, label=declared.label)
    assert found.manifest["labels"]["censored"] == 0
    found.write(tmp_path / "customers.parquet")
    (tmp_path / "cdnow.yaml").write_text(
        "name: cdnow\n"
        "data: {path: customers.parquet, target: lost, positive: 'true', time: cutoff, drop: [customer_id]}\n"
        "split: {method: time, test: 0.33}\nsearch: {candidates: [prior, logistic], trials: 2}\n"
    )
    params = load_params(tmp_path / "cdnow.yaml")
    training = train(read_table(params.data), params, storage=None)
    assert training.table.frame.iloc[training.split.test]["cutoff"].nunique() == 1
    assert training.evaluation.values("logistic")["roc_auc"].value > 0.75
