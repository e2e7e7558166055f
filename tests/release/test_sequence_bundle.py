"""A model of sequences leaves the lab: plain files, the same answers, nothing else needed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from released_cases import with_members

import cxlab as lab
from cxlab.data.times import UNKNOWN, microseconds_of
from cxlab.digest import canonical, sha256_of
from cxlab.errors import BundleError, DataError, ParamsError
from cxlab.evidence.report import Report
from cxlab.evidence.sequence_occlusion import occlusion
from cxlab.features.prefixes import END, Cases, PrefixSchema, microseconds
from cxlab.models.sequence import CANDIDATES
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.release import sequence_scorer
from cxlab.release.bundle import PARITY, Prepared
from cxlab.release.folder import MANIFEST
from cxlab.release.gates import NotWorseThanChampion, judge
from cxlab.release.onnx import trees_onnx
from cxlab.release.scorer import load_bundle, session
from cxlab.release.sequence_bundle import golden_log, sequence_contents
from cxlab.release.sequence_scorer import PARTS, TABLES, TREES_IN, TREES_OUT, SequenceBundle
from cxlab.release.verify import holds_pickle, verify

LIBRARIES = {"cxlab", "mlflow", "sklearn", "scipy", "skops", "lightgbm", "onnx", "pyarrow", "joblib", "torch"}
WHO = {"channel": "web", "worker": "w1", "agent": None}
OUTSIDE = """
import importlib.util, json, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
sys.dont_write_bytecode = True
place = {folder!r} + "/lib"
spec = importlib.util.spec_from_file_location("told", place + "/__init__.py", submodule_search_locations=[place])
sys.modules["told"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["told"])
bundle = importlib.import_module("told.release.scorer").load_bundle({folder!r})
print(json.dumps(bundle.score(json.loads({rows!r}), reasons=2).plain()))
"""


@pytest.fixture(scope="module")
def subject(reviewed_cases: Report) -> Subject:
    return reviewed_cases.subject


@pytest.fixture(scope="module")
def bundle(exported_cases: Path) -> SequenceBundle:
    found = load_bundle(exported_cases)
    assert isinstance(found, SequenceBundle)
    return found


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


# --- laws


@given(st.data())
def test_order_of_rows_and_other_cases_change_nothing(
    bundle: SequenceBundle,
    open_cases: pd.DataFrame,
    data: st.DataObject,
) -> None:
    names = sorted(open_cases["ticket"].unique())
    some = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=6, unique=True))
    rows = open_cases[open_cases["ticket"].isin(some)]
    rows = rows.iloc[data.draw(st.permutations(range(len(rows))))]
    whole = bundle.score(open_cases).frame().set_index("case")
    found = bundle.score(rows).frame().set_index("case")
    assert found.index.tolist() == list(dict.fromkeys(rows["ticket"]))
    columns = [name for name in found if found[name].dtype == float]
    np.testing.assert_allclose(found[columns], whole.loc[found.index, columns], rtol=1e-6)
    assert found["next_event"].tolist() == whole.loc[found.index, "next_event"].tolist()


@given(st.data())
def test_few_rows_are_encoded_as_many_are(subject: Subject, data: st.DataObject) -> None:
    schema, log = subject.model.schema, subject.test
    assert isinstance(schema, PrefixSchema)
    encoded = schema.encode(log)  # hundreds of rows
    name = data.draw(st.sampled_from(sorted(log["ticket"].unique())))
    there = np.flatnonzero(log["ticket"] == name)
    own = log.iloc[there[: data.draw(st.integers(1, len(there)))]]
    values = {column.name: column.cast(own[column.name].tolist()) for column in schema.columns}
    made = schema.arrays(Cases.of(own["ticket"]), values, microseconds(own["at"]), None)
    assert list(made) == list(encoded)
    for column, found in made.items():
        np.testing.assert_array_equal(found, encoded[column].to_numpy()[there[: len(own)]], err_msg=column)


MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2050, 1, 1)).map(lambda moment: moment.replace(microsecond=0))


@given(moments=st.lists(MOMENTS, min_size=1, max_size=5), zone=st.sampled_from(["UTC", "Asia/Kolkata", "America/Lima"]))
def test_a_time_is_read_alike_however_it_is_written(moments: list[datetime], zone: str) -> None:
    expected = [int(moment.replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000 for moment in moments]
    zoned = [moment.replace(tzinfo=ZoneInfo(zone)).isoformat() for moment in moments]
    day_first = [moment.strftime("%d/%m/%Y %H:%M:%S") for moment in moments]
    for texts in (
        [moment.isoformat() for moment in moments],
        zoned,
        [text.replace("T", " ") for text in zoned],
        moments,
    ):
        assert microseconds_of(texts, None, zone).tolist() == expected
        assert microseconds_of(texts * 70, None, zone)[: len(moments)].tolist() == expected  # as many are read
    for texts in (day_first, day_first * 70):
        assert microseconds_of(texts, "%d/%m/%Y %H:%M:%S", zone)[: len(moments)].tolist() == expected
    assert microseconds_of(pd.Series(pd.to_datetime(moments)), None, zone).tolist() == expected


def test_texts_with_and_without_an_offset_stand_side_by_side() -> None:
    texts = ["2026-07-01T10:00+02:00", "2026-07-01T10:00", "20260701T101500", "2026-07-01", "2026-07-01T10:00Z"]
    few = microseconds_of(texts, None, "UTC")
    np.testing.assert_array_equal(microseconds_of(texts * 20, None, "UTC")[:5], few)
    noon = datetime(2026, 7, 1, tzinfo=UTC)
    hours = [(int(value) / 1e6 - noon.timestamp()) / 3600 for value in few]
    assert hours == [8, 10, 10.25, 0, 10]


@pytest.mark.parametrize(
    "value", ["", "soon", None, 5, 20260701, True, float("nan"), pd.NaT, "2026-13-01", "0001-01-01"]
)
def test_what_is_no_time_is_unknown(value: Any) -> None:
    assert microseconds_of([value], None, "UTC").tolist() == [UNKNOWN]
    assert set(microseconds_of([value] * 70, None, "UTC").tolist()) == {UNKNOWN}


def test_clocks_that_change_are_read_as_the_log_is() -> None:
    twice, never = microseconds_of(["2026-10-25T02:30", "2026-03-29T02:30"], None, "Europe/Berlin").tolist()
    assert datetime.fromtimestamp(twice / 1e6, UTC) == datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    assert datetime.fromtimestamp(never / 1e6, UTC) == datetime(2026, 3, 29, 1, 0, tzinfo=UTC)


# --- the same answers as the lab


def test_model_and_bundle_agree(subject: Subject, exported_cases: Path) -> None:
    found = Prepared.of(subject, {}).parity
    assert found.largest <= PARITY
    told = json.loads((exported_cases / MANIFEST).read_bytes())
    assert told["parity"]["largest"] <= PARITY and told["parity"]["rows"] == found.rows
    assert told["reasons"]["first"] > 0.95 and told["reasons"]["top3"] > 0.95  # but for ties


@pytest.mark.parametrize("name", ["prior", "markov", "lightgbm", "gru", "transformer"])
def test_every_candidate_can_leave(subject: Subject, name: str) -> None:
    if name in ("gru", "transformer") and find_spec("torch") is None:
        pytest.skip("networks are trained with torch")
    schema, model = subject.model.schema, subject.model
    candidate = next(each for each in CANDIDATES if each.name == name)
    settings = {**candidate.default, **({"epochs": 2, "longest": 16} if name in ("gru", "transformer") else {})}
    X, y = schema.encode(subject.train), subject.outcome_train
    alone = Model(schema, [candidate.build(schema, settings, 0).fit(X, y)], [1.0], model.calibrator, model.labels)
    alone.ahead = model.ahead
    assert Prepared.of(with_members(subject, alone), {}).parity.largest <= PARITY


def test_a_case_is_answered_as_the_model_does(subject: Subject, bundle: SequenceBundle) -> None:
    log, model = subject.test, subject.model
    assert model.ahead is not None
    last = np.flatnonzero(log["ticket"].ne(log["ticket"].shift(-1)))
    probability, labels = model.predict_proba(log)[last], np.array(model.labels)
    found = bundle.score(log).frame()
    assert found["case"].tolist() == log["ticket"].iloc[last].tolist()
    assert found["next_event"].tolist() == labels[probability.argmax(axis=1)].tolist()
    ranked = -np.sort(-probability, axis=1)[:, :3]
    np.testing.assert_allclose(found[["probability", "probability_2", "probability_3"]], ranked, atol=1e-9)
    ahead = model.ahead.columns(model.schema.encode(log).iloc[last])
    for name, values in ahead.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-5, err_msg=name)
    assert list(found)[7:] == ["outcome", *(name for name in ahead if name != "outcome")]


def test_reasons_are_the_labs(subject: Subject, bundle: SequenceBundle) -> None:
    told = 0
    for _, rows in subject.test.groupby("ticket", sort=False):
        changes = occlusion(subject, rows).frame()["change"].to_numpy()[::-1][: sequence_scorer.OCCLUDED]
        np.testing.assert_allclose(bundle.spoken_for(rows), changes, atol=1e-6)
        if len(changes) and changes.max() > 0.01:
            strongest = int(np.argmax(changes))
            said = f"{rows['step'].iloc[-2 - strongest]} {strongest + 1} event{'s' * (strongest > 0)} ago"
            assert bundle.score(rows, reasons=3).reasons[0][0] == said
            told += 1
    assert told > 5
    rows = subject.test.head(1)
    assert bundle.score(rows.head(1), reasons=3).reasons == [()]  # one event: nothing can be left out


@pytest.mark.parametrize(
    ("data", "more"),
    [
        (
            {"order": "place", "opened": "opened", "ignore": ("Reply",), "timezone": "Europe/Berlin"},
            {"sequence": {"outcome": {"event": "Escalated"}, "horizons_days": (1, 2)}},
        ),
        ({"attributes": (), "segments": (), "ends": ("Resolved",)}, {"sequence": {"level": 0.5}}),
    ],
)
def test_other_roles_leave_as_well(odd_subject: Callable[..., Subject], data: Any, more: Any) -> None:
    subject = odd_subject(data=data, **more)
    prepared = Prepared.of(subject, {})
    assert prepared.parity.largest <= PARITY
    bundle = prepared.bundle
    assert isinstance(bundle, SequenceBundle)
    assert bundle.time_format == "%d/%m/%Y %H:%M"
    rows = pd.read_csv(subject.params.data.path)
    found = bundle.score(rows).frame().set_index("case")
    log = lab.load_table(subject.params).frame
    last = np.flatnonzero(log["ticket"].ne(log["ticket"].shift(-1)))
    probability = subject.model.predict_proba(log)[last]
    np.testing.assert_allclose(found.loc[log["ticket"].iloc[last], "probability"], probability.max(axis=1), atol=1e-9)
    wanted = "within_1_days" if "order" in data else "rest_days"
    assert wanted in found and "outcome" not in found


def test_trees_are_lightgbms(subject: Subject) -> None:
    boost = next(member for member in subject.model.members if type(member).__name__ == "PrefixBoost")
    X = subject.model.schema.encode(subject.test)
    table = boost.step_.transform(X)
    margins = session(trees_onnx(boost.model_)).run([TREES_OUT], {TREES_IN: table})[0]
    expected = boost.model_.booster_.predict(table, raw_score=True)
    np.testing.assert_allclose(margins, expected.reshape(margins.shape), rtol=1e-6, atol=1e-6)


# --- the folder


def test_golden_cases_are_nobodys_and_odd(bundle: SequenceBundle, exported_cases: Path, subject: Subject) -> None:
    rows = golden_log(bundle.prefixes, time_format=None, ordinal=False)
    assert rows.equals(golden_log(bundle.prefixes, time_format=None, ordinal=False))
    assert not set(rows["ticket"]) & set(subject.table.frame["ticket"])
    by_case = rows.assign(at=pd.to_datetime(rows["at"], format="ISO8601")).groupby("ticket", sort=False)
    sizes = by_case.size()
    assert sizes.min() == 1 and sizes.max() >= 200
    assert set(rows["step"]) - set(subject.table.frame["step"]) >= {"unseen in training"}
    assert (by_case["at"].nunique() == 1)[sizes > 1].any()  # equal times
    assert rows["team"].isna().any() and rows["amount"].isna().any()
    held = pd.read_parquet(exported_cases / "golden.parquet")
    assert len(held) == len(rows)
    values = np.stack(held["score"].tolist())
    assert np.isfinite(values).all() and values.shape[1] == len(bundle.prefixes.labels) + len(bundle.model.names)


def test_nothing_in_it_is_a_pickle_and_it_verifies(exported_cases: Path) -> None:
    found = verify(exported_cases)
    assert found.ok, found.problems
    names = {path.relative_to(exported_cases).as_posix() for path in exported_cases.rglob("*") if path.is_file()}
    assert {"model.onnx", "next.onnx", "rest.onnx", "outcome.onnx", TABLES, PARTS, "schema.json"} <= names
    assert not any(holds_pickle((exported_cases / name).read_bytes()) for name in names)


CHANGED = ("model.onnx", "next.onnx", TABLES, PARTS, "schema.json", "golden.parquet", "lib/release/sequence_scorer.py")


@pytest.mark.parametrize("name", CHANGED)
def test_any_changed_byte_is_found(cases_folder: Path, name: str) -> None:
    content = bytearray((cases_folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (cases_folder / name).write_bytes(content)
    assert any(name in problem for problem in verify(cases_folder).problems)
    with pytest.raises(BundleError, match="is not what was exported"):
        load_bundle(cases_folder)


def test_another_model_under_the_same_manifest_is_found(cases_folder: Path) -> None:
    told = json.loads((cases_folder / PARTS).read_bytes())
    told["times"]["next"]["edges"][-1] *= 1.001
    _rewritten(cases_folder, PARTS, canonical(told))
    assert [problem for problem in verify(cases_folder).problems if "golden rows score otherwise" in problem]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (TABLES, b"no archive"),
        (PARTS, b"{}"),
        (PARTS, b'{"members": [{"share": 1, "codes": [0], "kind": "oracle"}], "vocabulary": []}'),
        ("next.onnx", b"no graph"),
    ],
)
def test_files_that_do_not_fit_are_told(cases_folder: Path, name: str, content: bytes) -> None:
    _rewritten(cases_folder, name, content)
    with pytest.raises(BundleError, match="do not fit together"):
        load_bundle(cases_folder)


def _rewritten(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = sha256_of(folder / name)
    (folder / MANIFEST).write_bytes(canonical(manifest))


def test_it_scores_where_nothing_of_ours_is_and_writes_nothing(
    exported_cases: Path,
    bundle: SequenceBundle,
    open_cases: pd.DataFrame,
) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported_cases.rglob("*")}
    rows = rows_of(open_cases.head(30))
    code = OUTSIDE.format(blocked=LIBRARIES, folder=str(exported_cases), rows=json.dumps(rows))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    expected = bundle.score(rows, reasons=2)
    assert json.loads(done.stdout) == expected.plain()
    assert {path: path.stat().st_mtime_ns for path in exported_cases.rglob("*")} == before


def test_mlflow_answers_alike(exported_cases: Path, bundle: SequenceBundle, open_cases: pd.DataFrame) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(exported_cases))
    found = model.predict(open_cases, params={"reasons": 2})
    pd.testing.assert_frame_equal(found, bundle.score(open_cases, reasons=2).frame())
    typed = open_cases.assign(at=pd.to_datetime(open_cases["at"]), ticket=open_cases["ticket"].str[2:].astype(int))
    np.testing.assert_allclose(model.predict(typed)["probability"], found["probability"], rtol=1e-6)


def test_what_has_no_conversion_is_told(subject: Subject) -> None:
    model = subject.model
    boost = next(member for member in model.members if type(member).__name__ == "PrefixBoost")
    twice = Model(model.schema, [boost, boost], [0.5, 0.5], model.calibrator, model.labels)
    twice.ahead = model.ahead
    with pytest.raises(ParamsError, match=r"two members that would be model\.onnx"):
        sequence_contents(with_members(subject, twice))
    twice.ahead = None
    with pytest.raises(ParamsError, match="never learnt what lies ahead"):
        sequence_contents(with_members(subject, twice))


# --- rows


def test_an_answer_has_a_row_a_case(bundle: SequenceBundle) -> None:
    rows = [
        {"ticket": "b", "step": "Created", "at": "2026-01-31T10:00", "team": None, "amount": None} | WHO,
        {"ticket": "a", "step": "never seen", "at": "2026-01-31T09:00", "team": "moon", "amount": 5} | WHO,
        {"ticket": "b", "step": "Resolved", "at": "2026-01-31T12:00", "team": "north", "amount": "7.5", "more": 1}
        | WHO,
    ]
    found = bundle.score(rows)
    frame = found.frame()
    assert frame["case"].tolist() == ["b", "a"] and not found.problems
    assert frame["next_event"].tolist()[0] == END
    assert list(frame.columns[:7]) == [
        *("case", "next_event", "probability", "next_event_2", "probability_2", "next_event_3", "probability_3")
    ]
    assert ((frame["probability"] > 0) & (frame["probability"] <= 1)).all()
    assert set(found.outcome) <= set(bundle.outcomes)


def test_rows_that_cannot_be_read_are_told_and_leave_the_others(bundle: SequenceBundle) -> None:
    good = {"ticket": "a", "step": "Created", "at": "2026-01-31T10:00", "team": "north", "amount": 1} | WHO
    bad = [
        good | {"step": " "},
        good | {"at": "yesterday"},
        good | {"at": None},
        good | {"ticket": None},
        good | {"amount": "few"},
        good | {"ticket": "b", "at": 20260131},
    ]
    found = bundle.score([good, *bad])
    assert found.frame()["case"].tolist() == ["a", "b"]
    assert found.frame()["next_event"].tolist()[1] is None and np.isnan(found.frame()["probability"][1])
    alone = bundle.score([good]).frame()
    pd.testing.assert_frame_equal(found.frame().head(1), alone)
    said = [found.problems[row] for row in range(1, 7)]
    assert said == [
        "step is missing, must name what happened.",
        "at == 'yesterday', must be a time such as 2026-01-31T10:00.",
        "at is missing, must be a time such as 2026-01-31T10:00.",
        "ticket is missing, must say whose event it is.",
        "amount == 'few', must be a number.",
        "at == 20260131, must be a time such as 2026-01-31T10:00.",
    ]
    with pytest.raises(DataError, match="'at' is not in the data"):
        bundle.score([{"ticket": "a", "step": "Created"}])
    assert len(bundle.score([])) == 0 and len(bundle.score(pd.DataFrame([good]).head(0))) == 0


def test_of_a_long_case_the_latest_events_are_read(bundle: SequenceBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"ticket": "a", "step": step, "at": begin + timedelta(hours=hour), "team": "north", "amount": 1} | WHO
        for hour, step in enumerate(["Created", "Assigned", "Waiting", "Assigned", "Resolved"])
    ]
    monkeypatch.setattr(sequence_scorer, "LONGEST", 3)
    found = bundle.score(rows)
    assert found.cut == 2
    pd.testing.assert_frame_equal(found.frame(), bundle.score(rows[2:]).frame())


@pytest.mark.parametrize("size", [1, 7, 50])
def test_parts_change_nothing(
    bundle: SequenceBundle,
    open_cases: pd.DataFrame,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    whole = bundle.score(open_cases, reasons=2)
    monkeypatch.setattr(sequence_scorer, "ROWS", size)
    monkeypatch.setattr(sequence_scorer, "CELLS", 30)
    found = bundle.score(open_cases, reasons=2)
    pd.testing.assert_frame_equal(found.frame(), whole.frame(), rtol=1e-6)


# --- the registry and the way out


def test_the_whole_way(
    register: Callable[..., str],
    reviewed_cases: Report,
    open_cases: pd.DataFrame,
    tmp_path: Path,
) -> None:
    from cxlab.release.dossier import open_dossier
    from cxlab.tracking import records
    from cxlab.tracking.runs import log_records
    from cxlab.tracking.store import store

    version = register("tickets", report=reviewed_cases)  # trained by ann; bob acts
    again = lab.open_version("tickets", version)
    training = reviewed_cases.training
    np.testing.assert_allclose(again.score_test, training.model.predict_proba(again.test)[again.judged], atol=1e-12)
    found = judge(open_dossier("tickets", version)).frame().set_index("code")["status"]
    assert found["parity"] == found["fast"] == found["no_leak"] == found["explained"] == "pass"
    assert found[["abstains_within_budget", "robust", "not_worse_than_champion"]].eq("not_applicable").all()
    blocking = found[found.isin(["fail", "cannot_tell"])].index
    lab.approve("tickets", version, reason="a test", waive=dict.fromkeys(blocking, "a small log"))
    folder = lab.export("tickets", tmp_path / "bundle")
    assert verify(folder).ok
    ours = load_bundle(folder).score(open_cases).frame()
    prepared = Prepared.of(again, {}).bundle.score(open_cases).frame()
    pd.testing.assert_frame_equal(ours, prepared)

    following = register("tickets", report=reviewed_cases)
    assert NotWorseThanChampion().check(open_dossier("tickets", following)).status == "pass"
    with store() as client:  # what `tracked` logs besides
        for run in client.search_runs([item.experiment_id for item in client.search_experiments()]):
            if "cxlab.version_number" in run.data.tags:
                log_records(client, run.info.run_id, records.of_params("sequence", training.params.flat()))
    board = lab.compare("tickets").frame()
    assert set(board["verdict"]) == {"reference", "cannot tell"} and board["difference"].fillna(0).eq(0).all()


def test_served_it_answers_a_case(bundle: SequenceBundle, tmp_path: Path) -> None:
    from cxlab.serving.request_log import RequestLog
    from cxlab.serving.server import application

    sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))
    from test_serving import Client

    ask = Client(application(bundle))
    rows = [
        {"ticket": "b", "step": "Created", "at": "2026-01-31T10:00", "team": None, "amount": None} | WHO,
        {"ticket": "a", "step": "Created", "at": "2026-01-31T09:00", "team": "north", "amount": 5} | WHO,
        {"ticket": "b", "step": "Resolved", "at": "2026-01-31T12:00", "team": "north", "amount": 7.5} | WHO,
    ]
    told = ask("POST", "/score", {"rows": rows, "reasons": 2}).json["scores"]
    expected = bundle.score(rows, reasons=2)
    assert [each.pop("reasons") for each in told] == [list(each) for each in expected.reasons]
    assert told == [dict(zip(bundle.outputs, row, strict=True)) for row in zip(*expected.plain().values(), strict=True)]
    shown = ask("GET", "/docs").status, ask("POST", "/score", {"rows": [rows[0] | {"at": "soon"}]})
    assert shown[0] == 200 and shown[1].status == 422 and "must be a time" in json.dumps(shown[1].json)
    form = ask("GET", "/openapi.json").json["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]
    assert ask("POST", "/score", form["example"]).status == 200  # as the page shows it
    with pytest.raises(ParamsError, match="one answer a case"):
        RequestLog(tmp_path / "log.csv", bundle)
    assert not (tmp_path / "log.csv").exists()


def test_its_table_is_readable_by_numpy_alone(exported_cases: Path) -> None:
    with np.load(io.BytesIO((exported_cases / TABLES).read_bytes()), allow_pickle=False) as held:
        assert {"markov_0.order", "markov_0.0.kept"} <= set(held)
