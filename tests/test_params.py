from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.params import Params, load_events, load_params
from cxlab.params.features import Label

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(**keys: Any) -> Path:
        path = tmp_path / "p.yaml"
        path.write_text(yaml.safe_dump({"name": "a", "data": {"path": "x.csv"}} | keys), encoding="utf-8")
        return path

    return write


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 0.99))
def test_an_override_is_the_same_as_the_file(seed: int, share: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        plain, full = Path(folder) / "a.yaml", Path(folder) / "b.yaml"
        plain.write_text("name: a\ndata: {path: x.csv}\n")
        full.write_text(f"name: a\ndata: {{path: x.csv}}\nsplit: {{seed: {seed}, test: {share!r}}}\n")
        assert load_params(plain, [f"split.seed={seed}", f"split.test={share!r}"]) == load_params(full)


OF_THEIR_OWN = {"reasons", "gates", "events"}  # with loaders, and tests, of their own
OF_THEIR_OWN |= {"risk_score", "measures", "insights", "signals", "messages", "alerts", "actions"}


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "params").glob("*.yaml")) if path.stem not in OF_THEIR_OWN],
    ids=lambda path: path.name,
)
def test_every_file_of_ours_is_good(path: Path) -> None:
    load_params(path)


VALUES = {"events.label", "events.consent.compatible", "events.consent.retention", "sequence.outcome", "journey.states"}
VALUES |= {"experiment.split"}


def keys(tree: Any, above: str = "") -> set[str]:
    """Dotted names; what a label, a list or a table of names holds is a value."""
    if not isinstance(tree, dict) or above in VALUES:
        return {above}
    return {name for key, value in tree.items() for name in keys(value, f"{above}.{key}" if above else key)}


def test_the_commented_files_name_every_key() -> None:
    named = set()
    for name in ("churn", "telecom_churn", "intent", "sequence", "incident_log", "experiment"):
        path = ROOT / "params" / f"{name}.yaml"
        named |= keys(yaml.safe_load(path.read_text(encoding="utf-8")))
    known = keys(load_params(ROOT / "params" / "churn.yaml").model_dump()) - {"experiment"}
    tried = keys(load_params(ROOT / "params" / "experiment.yaml").model_dump())
    assert named == known | {name for name in tried if name.startswith("experiment.")}


def test_what_a_run_keeps_of_its_params_is_read_back_the_same() -> None:
    params = load_params(ROOT / "params" / "churn.yaml")
    assert Params.model_validate_json(params.model_dump_json()) == params
    assert params.flat()["events.features"][:2] == ["page_views_90d", "visits_30d"]


EVENTS: dict[str, Any] = {
    "features": [{"kind": "count", "event": "login"}],
    "cutoffs": ["2025-01-01"],
    "horizon_days": 30,
    "purge_days": 2,
    "label": {"event": "left", "name": "gone"},
}


def test_events_give_the_rows_their_roles(file: Any) -> None:
    params = load_params(file(events=EVENTS))
    roles = params.data
    assert (roles.id, roles.target, roles.time, roles.outcome_days) == ("customer_id", "gone", "cutoff", 32)
    assert params.split.method == "time"
    assert load_params(file(events=EVENTS, split={"method": "group"})).split.method == "group"
    assert params.events is not None
    assert params.events.outcome() == Label(event=("left",), name="gone", horizon=30, purge=2)


def test_features_and_label_come_from_a_file_of_their_own(file: Any, tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text("features: [{kind: count}]\nlabel: {event: left, horizon: 60, purge: 7}\n")
    params = load_params(file(events={"features": "f.yaml"}))
    assert params.events is not None
    assert params.events.outcome() == Label(event=("left",), horizon=60, purge=7)
    told, zone = load_events(tmp_path / "f.yaml")
    assert told == params.events and zone == "UTC"
    own = load_params(file(events={**EVENTS, "features": "f.yaml"})).events
    assert own is not None and own.outcome() == Label(event=("left",), name="gone", horizon=30, purge=2)


@pytest.mark.parametrize(
    ("events", "data", "says"),
    [
        ({"featurs": []}, {}, "Key 'events.featurs' is not known. Did you mean 'features'?"),
        ({"features": []}, {}, "events.features"),
        ({"features": "nowhere.yaml"}, {}, "No features file"),
        ({"horizon_days": None}, {}, "must be given with both label and horizon_days"),
        ({"horizon_days": 0}, {}, "events.horizon_days == 0"),
        ({"cutoffs": 3}, {}, "events.cutoffs == 3"),
        ({"consent": {"purpose": "spying"}}, {}, "events.consent.purpose == 'spying'"),
        ({"identity": {"linked": 0}}, {}, "events.identity.linked == 0"),
        ({"attributes": {}}, {}, "Key 'events.attributes.path' is missing"),
        ({"quality": {"late": 2}}, {}, "events.quality.late == 2"),
        ({}, {"id": "who"}, "p.yaml: data.id == 'who', must be 'customer_id' or left out"),
        ({}, {"target": "churn"}, "data.target == 'churn', must be 'gone'"),
    ],
)
def test_a_wrong_word_about_events_is_named(file: Any, events: Any, data: Any, says: str) -> None:
    path = file(events={**EVENTS, **events}, data={"path": "x.csv", **data})
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert says in str(caught.value)


def test_a_file_without_events_says_so(file: Any) -> None:
    with pytest.raises(ParamsError, match="has no events section"):
        load_events(file())


def test_paths_are_relative_to_the_file_and_overrides_to_the_shell(
    file: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_params(path).data.path == str(tmp_path / "x.csv")
    assert load_params(path, ["data.path=y.csv"]).data.path == str(elsewhere / "y.csv")
    assert load_params(path, ["data.path=catalog:cdnow"]).data.path == "catalog:cdnow"


def test_yes_and_true_and_1_are_read_as_text(file: Any) -> None:
    for given_, read in ((True, "yes"), (1, "1"), ("yes", "yes"), ("Yes", "Yes")):
        assert load_params(file(data={"path": "x", "positive": given_})).data.positive == read


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["serch.budget_s=5"], "Key 'serch' is not known. Did you mean 'search'?"),
        (["search.buget_s=5"], "Key 'search.buget_s' is not known. Did you mean 'budget_s'?"),
        (["search.budget_s=0"], "search.budget_s == 0, must be greater than 0."),
        (["search.budget_s=soon"], "search.budget_s == 'soon', must be a valid number"),
        (["search.trials=0"], "search.trials == 0, must be greater than or equal to 1."),
        (
            ["search.select=bst"],
            "search.select == 'bst', must be one of best, simplest_within_noise. Did you mean 'best'?",
        ),
        (["split.method=tim"], "Did you mean 'time'?"),
        (["split.test=1"], "split.test == 1, must be less than 1."),
        (["task=chrun"], "task == 'chrun', must be one of churn, intent, sequence. Did you mean 'churn'?"),
        (["name="], "name == None"),
        (["search.budget_s"], "has no value; write --set search.budget_s=10."),
        (["search.budget_s=[1"], "is not a YAML value"),
        (["data=5"], "data == 5"),
    ],
)
def test_what_is_wrong_is_said_with_the_remedy(file: Any, overrides: list[str], says: str) -> None:
    with pytest.raises(ParamsError) as caught:
        load_params(file(), overrides)
    assert says in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text("name: [", encoding="utf-8")
    (tmp_path / "list.yaml").write_text("- a\n", encoding="utf-8")
    for name, says in (
        ("chrn.yaml", "Did you mean 'churn.yaml'?"),
        ("churn.yaml", "is not YAML"),
        ("list.yaml", "no keys"),
    ):
        with pytest.raises(ParamsError, match=says):
            load_params(tmp_path / name)
    with pytest.raises(ParamsError, match="cannot be read"):
        load_params(tmp_path)


def test_params_are_frozen(file: Any) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_params(file()).name = "b"  # type: ignore[misc]


def test_a_day_that_does_not_exist_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("name: a\ndata: {path: x.csv}\nevents: {cutoffs: [2025-02-30]}\n")
    with pytest.raises(ParamsError, match=r"p.yaml is not YAML: day is out of range for month"):
        load_params(tmp_path / "p.yaml")
