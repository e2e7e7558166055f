"""Whoever withdraws is in nothing that is made from then on: features, manifest, training table, scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from cxlab.data.identity import pseudonym, secret_key
from cxlab.data.world import simulate
from cxlab.features.table import load_table
from cxlab.params import Params, load_params

Call = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("company") / "world", customers=150, seed=2).folder


@pytest.fixture
def lake(company: Path, tmp_path: Path) -> Path:
    """A small company with a params file of its own; a test may add to its events."""
    shutil.copytree(company, tmp_path / "lake")
    tree = yaml.safe_load((ROOT / "params" / "churn.yaml").read_text(encoding="utf-8"))
    tree["data"]["path"] = "events.parquet"
    tree["events"]["attributes"]["path"] = "customers.parquet"
    tree["events"]["features"] = str(ROOT / "params" / "features" / "churn.yaml")
    (tmp_path / "lake" / "churn.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    return tmp_path / "lake"


def add(path: Path, who: str, event: str, **facts: str) -> None:
    frame = pd.read_parquet(path)
    at = pd.Timestamp("2025-06-01", tz="UTC").as_unit("us")
    row = {"event_id": f"added-{who}-{event}", "customer_id": who, "occurred_at": at, "received_at": at}
    row |= {"channel": "web", "event": event, "properties": json.dumps(facts), "purpose": "service"}
    new = pd.DataFrame([row])
    pd.concat([frame, new.astype({"occurred_at": frame["occurred_at"].dtype})], ignore_index=True).to_parquet(path)


def names(who: str) -> set[str]:
    return {who, str(pseudonym("customer_id", who, secret_key()))}


def params_of(lake: Path) -> Params:
    return load_params(lake / "churn.yaml")


def permitted_customer(lake: Path) -> str:
    """A customer who has rows, by the name of the source."""
    found = set(load_table(params_of(lake)).frame["customer_id"])
    return next(
        name for name in pd.read_parquet(lake / "customers.parquet")["customer_id"] if names(name) & found
    )  # fmt: skip


def test_a_withdrawal_reaches_features_manifest_and_training(lake: Path, cxlab: Call, tmp_path: Path) -> None:
    who = permitted_customer(lake)
    before = load_table(params_of(lake))
    add(lake / "events.parquet", who, "consent_withdrawn", purpose="analytics")
    after = load_table(params_of(lake))
    mine = before.frame["customer_id"].isin(names(who))
    assert mine.any()
    pd.testing.assert_frame_equal(after.frame, before.frame[~mine].reset_index(drop=True))  # nobody else moves
    assert before.source.sha256 != after.source.sha256
    words = ("features", lake / "events.parquet", "--params", lake / "churn.yaml", "--out", tmp_path / "f.parquet")
    status, said, _ = cxlab(*words, "--json")
    assert status == 0
    frame = pd.read_parquet(tmp_path / "f.parquet")
    written = (tmp_path / "f.manifest.json").read_text() + said
    assert not set(frame["customer_id"]) & names(who)
    assert not any(name in written for name in names(who))
    assert json.loads(said)["left_out"]["withdrawn"] > 0


def test_service_goes_on_where_analytics_was_withdrawn(lake: Path, cxlab: Call, tmp_path: Path) -> None:
    who = permitted_customer(lake)
    add(lake / "events.parquet", who, "consent_withdrawn", purpose="analytics")
    words = ("features", lake / "events.parquet", "--params", lake / "churn.yaml", "--out", tmp_path / "f.parquet")
    assert cxlab(*words, "--set", "events.consent.purpose=service")[0] == 0
    assert set(pd.read_parquet(tmp_path / "f.parquet")["customer_id"]) & names(who)


def test_who_was_forgotten_is_not_learnt_from_again(lake: Path, cxlab: Call) -> None:
    who = permitted_customer(lake)
    shutil.copy(lake / "events.parquet", lake / "backup.bin")
    assert cxlab("forget", who, "--folder", lake)[0] in (0, 1)
    shutil.move(lake / "backup.bin", lake / "events.parquet")  # somebody restores a backup
    table = load_table(params_of(lake))
    assert not set(table.frame["customer_id"]) & names(who)
    assert "forgotten" in table.source.notes[0]


def test_a_withdrawal_reaches_scores(lake: Path, bundle_folder: Path, cxlab: Call, tmp_path: Path) -> None:
    rows = pd.DataFrame({"customer_id": ["c0000000", "c0000001", "stranger"], "calls": [1, "many", 3], "noise": 0.1})
    rows.assign(plan="basic", region="north").to_csv(tmp_path / "in.csv", index=False)
    for who in ("c0000000", "c0000001"):
        add(lake / "events.parquet", who, "consent_withdrawn", purpose="all")
    words = ("score", bundle_folder, tmp_path / "in.csv", "--out", tmp_path / "out.csv")
    assert cxlab(*words)[0] == 1  # without consents, every row is there, the odd one without a score
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == rows["customer_id"].tolist()
    consents = ("--consents", lake / "events.parquet", "--params", lake / "churn.yaml")
    status, said, _ = cxlab(*words, *consents, "--json")
    told = json.loads(said)
    assert (status, told["rows"], told["left_out"], told["bad"]) == (0, 1, 2, 0)
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == ["stranger"]
    assert not (tmp_path / "out.bad.csv").exists()
    assert cxlab(*words, "--params", lake / "churn.yaml")[0] == 2
    rows.assign(plan="basic", region="north", customer_id="k1").to_csv(tmp_path / "in.csv", index=False)
    status, _, err = cxlab("score", bundle_folder, tmp_path / "in.csv", "--out", tmp_path / "new.csv", *consents)
    assert status == 2
    assert "No customer_id in in.csv is a customer of the events" in err
    assert not list(tmp_path.glob("*new*"))
