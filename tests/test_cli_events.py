"""Events by the command line: a world, its checks, and a customer who is erased."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from cxlab.places import store_folder

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def world(cxlab: Call, tmp_path: Path) -> Path:
    status, out, _ = cxlab("simulate", "--out", tmp_path / "world", "--customers", "40", "--seed", "3", "--json")
    assert status == 0
    assert json.loads(out)["rows"]["customers"] == 40
    return tmp_path / "world"


def test_a_world_keeps_the_contract_and_the_sum_is_told(world: Path, cxlab: Call) -> None:
    _, out, _ = cxlab("data", "check", world / "events.parquet", "--events", "--json")
    told = json.loads(out)
    rows = len(pd.read_parquet(world / "events.parquet"))
    assert told["events"] == {"rows": rows, "accepted": rows, "quarantined": {}}
    assert {row["code"] for row in told["checks"]} >= {"conformance", "duplicates", "late_events", "gaps", "volume"}


def test_what_breaks_the_contract_is_set_aside_with_status_1(world: Path, cxlab: Call, tmp_path: Path) -> None:
    events = pd.read_parquet(world / "events.parquet")
    events.loc[events.index[:100], "event"] = "teleported"
    events.to_parquet(tmp_path / "odd.parquet")
    status, out, _ = cxlab("data", "check", tmp_path / "odd.parquet", "--events")
    assert status == 1
    assert f"{len(events):,} rows in = {len(events) - 100:,} accepted + 100 quarantined." in out
    assert "Quarantined: 100 unknown_event." in out


def test_a_customer_is_erased_from_every_table(world: Path, cxlab: Call) -> None:
    name = pd.read_parquet(world / "customers.parquet")["customer_id"].iloc[0]
    status, out, _ = cxlab("forget", name, "--folder", world, "--json")
    assert status == 0
    assert json.loads(out)["erased"] > 1
    for path in sorted(world.rglob("*.parquet")):
        frame = pd.read_parquet(path)
        assert "customer_id" not in frame or name not in set(frame["customer_id"]), path.name
    assert json.loads(cxlab("forget", name, "--folder", world, "--json")[1])["erased"] == 0


def test_who_is_forgotten_leaves_no_sentence_vector(world: Path, cxlab: Call) -> None:
    kept = store_folder() / "embeddings.db"
    kept.write_bytes(b"")
    assert cxlab("forget", "nobody", "--folder", world)[0] == 0
    assert not kept.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("simulate", "--out", "w", "--plant", "leek"), "Plant 'leek' is not known. Did you mean 'leak'?"),
        (("simulate", "--out", "w", "--customers", "0"), "customers == 0, must be in 1.."),
        (("data", "check", "nowhere.parquet", "--events"), "No file nowhere.parquet"),
        (("data", "check", "x.csv", "--mapping", "nowhere.yaml"), "No file nowhere.yaml"),
        (("forget", "c1", "--kind", "adress"), "adress"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_a_mistake_is_told_with_status_2(
    cxlab: Call, words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, said = cxlab(*words)
    assert (status, out) == (2, "")
    assert says in said
    assert list(tmp_path.iterdir()) == []


def test_the_checks_of_events_are_a_page_too(world: Path, cxlab: Call, tmp_path: Path) -> None:
    cxlab("data", "check", world / "events.parquet", "--events", "--page", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Events per day" in page
    assert "quarantined." in page
    assert 'src="http' not in page and 'href="http' not in page
    status, _, said = cxlab("data", "check", "x.csv", "--page", tmp_path / "other.html")
    assert (status, "--page is about events" in said) == (2, True)


def test_freshness_is_relative_to_a_moment(world: Path, cxlab: Call) -> None:
    def fresh(*words: str) -> str:
        told = json.loads(cxlab("data", "check", world / "events.parquet", "--events", "--json", *words)[1])
        return next(row["status"] for row in told["checks"] if row["code"] == "freshness")

    assert fresh() == "cannot_tell"
    assert fresh("--now", "2025-06-30") == "pass"
    assert fresh("--now", "2026-06-30") == "fail"


def test_features_are_a_row_a_customer_and_cutoff(world: Path, cxlab: Call, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    declared = Path(__file__).parent.parent / "params" / "features" / "service_company.yaml"
    told = ("--params", declared, "--cutoff", "2024-08-01", "--cutoff", "2024-12-01", "--out", out, "--json")
    status, said, _ = cxlab("features", world / "events.parquet", *told)
    assert status == 0
    facts = json.loads(said)
    frame = pd.read_parquet(out)
    assert len(frame) == facts["rows"] > 40
    assert not frame.duplicated(["customer_id", "cutoff"]).any()
    assert frame.shape[1] == 2 + 40 + 1
    assert json.loads(Path(facts["manifest"]).read_text())["definitions_sha256"] == facts["definitions_sha256"]
    status, _, error = cxlab("features", world / "events.parquet", *told[:2], "--cutoff", "soon", "--out", out)
    assert (status, "soon" in error) == (2, True)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("events.label.event=acount_closed", "left: Event 'acount_closed' is not in the taxonomy. Did you mean"),
        ("events.cutoffs=[]", "events.cutoffs == [], must hold at least one time"),
        ("events.cutoffs=[2025-13-01]", "'[2025-13-01]' is not a YAML value"),
        ("events.cutoffs=[soon]", "cutoff == 'soon', must be a time"),
        ("events.attributes.columns=[tarif]", "Did you mean 'tariff'?"),
        ("events.attributes.path=nowhere.csv", "No file"),
        ("events.consent.purpose=spying", "events.consent.purpose == 'spying'"),
    ],
)
def test_a_mistake_in_the_events_section_is_told(
    world: Path, cxlab: Call, tmp_path: Path, told: str, says: str
) -> None:
    params = Path(__file__).parent.parent / "params" / "churn.yaml"
    words = ("features", world / "events.parquet", "--params", params, "--out", tmp_path / "f.parquet", "--set", told)
    status, out, said = cxlab(*words)
    assert (status, out) == (2, "")
    assert says in said
    assert not list(tmp_path.glob("f.*"))


def test_features_by_the_params_of_a_model(world: Path, cxlab: Call, tmp_path: Path) -> None:
    params = Path(__file__).parent.parent / "params" / "churn.yaml"
    words = ("features", world / "events.parquet", "--params", params, "--out", tmp_path / "f.parquet", "--json")
    status, out, _ = cxlab(*words, "--cutoff", "2025-01-01", "--set", "events.attributes=null")
    told = json.loads(out)
    frame = pd.read_parquet(tmp_path / "f.parquet")
    assert (status, told["cutoffs"], len(frame)) == (0, ["2025-01-01T00:00:00+00:00"], told["rows"])
    assert {"left", "visits_30d"} < set(frame.columns)
    assert told["rows_in"] == told["used"] + sum(told["left_out"].values()) + sum(told["quarantined"].values())
    manifest = json.loads((tmp_path / "f.manifest.json").read_text())
    assert manifest["events"]["purpose"] == "analytics"
