"""On the field's public data sets, as published. Skipped where CXLAB_DATA_MIRROR is not set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxlab.data import catalog
from cxlab.data.events import read_events
from cxlab.data.quality import check
from cxlab.data.table import Table, read_table
from cxlab.data.taxonomy import load_mapping
from cxlab.errors import DataError
from cxlab.features.events import compute, load_features
from cxlab.features.table import load_table
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
        return load_table(params), params

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


@pytest.fixture(scope="module")
def tickets(mirror: Path) -> pd.DataFrame:
    """The log of updates by mapping: a row an event."""
    log = mirror / "incident_log" / "incident_event_log.csv.gz"
    return read_events(log, mapping=load_mapping(PARAMS / "events" / "incident_tickets.yaml")).accepted


def opening(events: pd.DataFrame) -> pd.DataFrame:
    """What is known a minute after a ticket's opening, and if its level is missed; of those opened before June 2016."""
    opened = events.groupby("customer_id", observed=True)["occurred_at"].min().sort_values()
    opened = opened[opened < pd.Timestamp("2016-06-01", tz="UTC")] + pd.Timedelta(minutes=1)
    declared = load_features(PARAMS / "features" / "incident_opening.yaml")
    pairs = pd.DataFrame({"customer_id": opened.index.astype(str), "cutoff": opened.to_numpy()})
    return compute(events, declared, pairs, label=declared.label).frame()


def test_what_is_known_of_a_ticket_at_its_opening(tickets: pd.DataFrame, tmp_path: Path) -> None:
    """By mapping and declared features alone, nothing that is written back at the end: a missed level is foretold."""
    frame = opening(tickets)
    seen = tickets.merge(frame[["customer_id", "cutoff"]], on="customer_id").query("occurred_at < cutoff")
    seen = seen.assign(category=seen["properties"].map(lambda text: json.loads(text).get("category")))
    known = seen.dropna(subset="category").sort_values(["occurred_at", "event_id"]).groupby("customer_id")["category"]
    expected = known.last().reindex(frame["customer_id"], fill_value="")
    assert frame["category"].fillna("").tolist() == expected.tolist()
    assert not {"resolved_at", "closed_at", "closed_code", "resolved_by"} & set(frame.columns)
    frame.assign(missed=frame["missed"].map({True: "yes", False: "no"})).to_parquet(tmp_path / "tickets.parquet")
    (tmp_path / "tickets.yaml").write_text(
        "name: tickets\n"
        "data: {path: tickets.parquet, id: customer_id, target: missed, time: cutoff}\n"
        "split: {method: time, test: 0.3333}\nsearch: {candidates: [prior, lightgbm], trials: 2}\n"
    )
    params = load_params(tmp_path / "tickets.yaml")
    training = train(read_table(params.data), params, storage=None)
    auc = training.evaluation.values("lightgbm")["roc_auc"]
    print(f"{len(frame):,} tickets, {len(training.outcome_test):,} tested: {auc}")
    assert auc.value > 0.78  # on seven columns, by hand: 0.771


def test_who_buys_no_more_is_told_from_purchases(read: Read) -> None:
    """Learnt from what was known half a year before the test begins, so that no label reaches into it."""
    table, params = read("cdnow", "search.trials=2", "search.candidates=[prior, logistic]")
    assert table.source.notes[0].startswith(
        "69,659 rows in = 69,659 used + 0 left out + 0 quarantined; 23,570 customers"
    )
    training = train(table, params, storage=None)
    assert training.split.purged == 0
    assert len(training.split.test) == 23_570
    assert training.evaluation.values("logistic")["roc_auc"].value == pytest.approx(0.799, abs=0.01)  # measured: 0.799


QUESTIONS = "search={trials: 1, candidates: [words_characters]}"


def test_questions_to_a_bank_are_told_apart_by_their_words(read: Read) -> None:
    table, params = read("banking77", QUESTIONS)
    training = train(table, params, storage=None)
    found = training.evaluation.values(training.selected)
    assert found["accuracy"].value == pytest.approx(0.919, abs=0.004)  # measured: 0.919
    assert found["log_loss"].value == pytest.approx(0.318, abs=0.010)  # measured: 0.318
    assert found["ece"].value < 0.02  # measured: 0.011
    turned_away = training.model.answer(table.test).abstained.mean()
    assert 0.02 < turned_away < 0.06  # 0.04 are allowed


def test_questions_of_intents_it_never_learnt_are_less_familiar(read: Read, tmp_path: Path) -> None:
    """15 of 77 intents are held out, and the model is asked about them."""
    table, params = read("banking77", QUESTIONS)
    assert table.test is not None
    unknown = np.random.default_rng(0).choice(sorted(table.frame["category"].unique()), 15, replace=False)
    data = {"path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    for name, frame in (("train.csv", table.frame), ("test.csv", table.test)):
        frame[~frame["category"].isin(unknown)].to_csv(tmp_path / name, index=False)
    params = params.model_copy(update={"data": params.data.model_copy(update=data)})
    answers = train(load_table(params), params, storage=None).model.answer(table.test)
    inside = ~table.test["category"].isin(unknown).to_numpy()
    assert roc_auc_score(inside, answers.familiarity) == pytest.approx(0.888, abs=0.01)  # measured: 0.888
    assert answers.abstained[~inside].mean() > 6 * 0.04  # measured: 0.29; of the known 0.04 may be turned away


def test_the_next_state_of_a_ticket_by_its_states_alone(trained: Callable[..., Training]) -> None:
    plain = ("search.candidates=[prior, markov]", "data.attributes=[]", "data.opened=null", "sequence.outcome=null")
    found = trained("incident_log", *plain).evaluation.values("markov")
    assert found["accuracy"].value == pytest.approx(0.7635, abs=0.002)
    assert found["log_loss"].value == pytest.approx(0.586, abs=0.004)


def test_what_a_ticket_writes_back_is_refused_by_name(trained: Callable[..., Training]) -> None:
    with pytest.raises(DataError, match=r"'resolved_at' \(says the catalogue\)"):
        trained("incident_log", "data.attributes=[priority, resolved_at]")


def test_times_that_a_ticket_writes_back_are_suspects(read: Read) -> None:
    table, _ = read("incident_log")
    assert {"resolved_at", "closed_at"} <= set(table.suspects())  # type: ignore[attr-defined]
