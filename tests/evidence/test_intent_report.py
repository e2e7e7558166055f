"""The report of many classes: planted faults are found, nothing is found where none are, and no customer is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_report import Page

from cxlab.data.table import read_table
from cxlab.errors import DataError, ParamsError
from cxlab.evidence.abstained import turned_away
from cxlab.evidence.confused import most_confused
from cxlab.evidence.drift import CONFIDENCE, FAMILIARITY, INTENT, drift_between, score_drift
from cxlab.evidence.intent_report import IntentReport
from cxlab.evidence.page import Text, without_customers
from cxlab.evidence.report import review
from cxlab.evidence.text_quality import text_quality
from cxlab.models.subject import Subject, subject_of
from cxlab.models.training import Training, train
from cxlab.params import Params

WHOLE = 4  # words from which a text is a customer's own


@pytest.fixture(scope="module")
def report(spoken: Training) -> IntentReport:
    found = review(spoken)
    assert isinstance(found, IntentReport)
    return found


@pytest.fixture(scope="module")
def html(report: IntentReport) -> str:
    return report.html()


def same(one: Any, other: Any) -> None:
    """Equal but for the order of additions."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            same(left, right)
    else:
        assert one == (pytest.approx(other, rel=1e-6, abs=1e-9) if isinstance(one, float) else other)


def test_the_order_of_test_rows_changes_no_figure(spoken: Training, report: IntentReport) -> None:
    order = np.random.default_rng(3).permutation(len(spoken.split.test))
    shuffled = replace(
        spoken,
        split=replace(spoken.split, test=spoken.split.test[order]),
        outcome_test=spoken.outcome_test[order],
        scores={name: score[order] for name, score in spoken.scores.items()},
    )
    same({**review(shuffled).facts(), "seconds": 0}, {**report.facts(), "seconds": 0})


def test_facts_hold_no_customers_words(report: IntentReport) -> None:
    facts = json.dumps(report.facts(), allow_nan=False, ensure_ascii=False).casefold()
    table = report.subject.table.frame
    whole = [text for text in table["text"].str.casefold() if len(text.split()) >= WHOLE]
    assert len(whole) > 1000
    assert not [text for text in whole if json.dumps(text, ensure_ascii=False)[1:-1] in facts]
    assert not [name for name in table["contact_id"] if name.casefold() in facts]


def test_what_leaves_the_lab_holds_no_customers_words(report: IntentReport, html: str) -> None:
    table = report.subject.table.frame
    whole = [text for text in table["text"] if len(text.split()) >= WHOLE and re.fullmatch(r"[\w .,!?]+", text)]
    page = without_customers(html)
    assert [text for text in whole if text in html]  # the lab's page shows some
    assert not [text for text in whole if text in page]
    assert not [name for name in table["contact_id"] if name in page]


def test_the_page_stands_alone_and_can_be_heard(html: str) -> None:
    page = Page(html)
    assert page.fetched == []
    assert "<script" not in html
    assert len(html.encode()) < 2_000_000
    assert page.tables == page.captions > 15
    assert page.pictures == page.described > 8


def test_facts_are_those_that_gates_read(report: IntentReport) -> None:
    facts = report.facts()
    assert facts.keys() >= {
        *("summary", "selected", "selection_metric", "metrics", "comparison", "skipped", "doubt", "per_class"),
        *("confusions", "risk_coverage", "calibration", "fairness", "drift", "moved", "importance", "robustness"),
        *("quality", "near_duplicates", "label_errors", "classes", "estimated", "periods", "seconds", "words"),
    }
    assert len(facts["summary"]) == 5
    assert set(facts["metrics"]) == {"accuracy", "macro_f1", "log_loss", "ece"}
    assert facts["importance"][0].keys() >= {"feature", "value", "low", "high", "share", "folds"}
    assert facts["fairness"][0].keys() >= {
        *(
            "segment",
            "group",
            "metric",
            "n",
            "positives",
            "value",
            "low",
            "high",
            "difference",
            "diff_low",
            "diff_high",
        ),
        "verdict",
    }
    assert facts["drift"][0].keys() >= {
        *("column", "test", "statistic", "p_adjusted", "missing_reference", "missing_current", "verdict")
    }
    assert facts["per_class"][0].keys() >= {"class", "n_train", "n", "f1", "f1_low", "f1_high"}
    assert [row["feature"] for row in facts["importance"]] == report.importance.frame()["feature"].tolist()


def test_the_doubt_is_told_with_how_sure_it_is(report: IntentReport) -> None:
    doubt, answers = report.facts()["doubt"], report.subject.answers_test
    assert doubt["threshold"] == report.training.model.doubt.threshold
    assert doubt["max_false_rejection"] == 0.04
    assert 0 < doubt["certainty"] < 1
    test = doubt["test"]
    assert test["turned_away"]["value"] == pytest.approx(answers.abstained.mean())
    right = answers.code[:, 0] == report.subject.outcome_test
    assert test["accuracy_answered"]["value"] == pytest.approx(right[~answers.abstained].mean())
    for found in test.values():
        assert found["low"] <= found["value"] <= found["high"]


def test_figures_for_mlflow(report: IntentReport) -> None:
    figures = report.key_figures()
    assert {"worst_group_gap", "fairness_failed", "drifted_share", "seconds_report"} <= set(figures)
    assert {"turned_away_share", "accuracy_answered", "label_errors", "near_duplicates"} <= set(figures)
    assert all(np.isfinite(value) for value in figures.values())
    assert {"importance", "fairness", "robustness", "per_class"} <= set(report.figures())


def test_answers_are_judged_whatever_the_params_say(report: IntentReport) -> None:
    frame = report.audit.frame()
    assert report.subject.params.fairness.metrics == ("tpr", "fpr")
    judged = set(frame.loc[frame["verdict"] != "shown", "metric"])
    assert judged == {"accuracy", "answered"}
    assert set(frame["metric"]) == {"accuracy", "answered", "accuracy_answered", "calibration_error"}
    assert "whatever fairness.metrics says" in report.audit.note
    right = report.subject.answers_test.code[:, 0] == report.subject.outcome_test
    channel = report.subject.test["channel"].to_numpy()
    for row in frame[frame["metric"] == "accuracy"].itertuples():
        assert row.value == pytest.approx(right[channel == row.group].mean())
        assert row.difference == pytest.approx(right[channel == row.group].mean() - right[channel != row.group].mean())


def test_a_garbled_group_fails_and_a_random_one_does_not(said: pd.DataFrame, learn: Any) -> None:
    rng = np.random.default_rng(0)
    garbled, chance = rng.random(len(said)) < 0.4, rng.random(len(said)) < 0.4
    letters = [" ".join("".join(rng.permutation(list(word))) for word in text.split()) for text in said["text"]]
    frame = said.assign(
        text=np.where(garbled, letters, said["text"]),
        style=np.where(garbled, "garbled", "plain"),
        coin=np.where(chance, "heads", "tails"),
    )
    report = review(learn(frame, segments=["style", "coin"]))
    found = report.audit.frame().query("metric == 'accuracy' and group in ['garbled', 'heads']").set_index("group")
    assert found.loc["garbled", "verdict"] == "fail"
    assert found.loc["heads", "verdict"] != "fail"
    assert "style garbled (accuracy)" in report.summary[2]["answer"]


def test_a_planted_label_error_and_a_planted_twin_are_listed(said: pd.DataFrame, learn: Any) -> None:
    clear = said[said["text"].str.contains("password", case=False) & (said["intent"] == "password")]
    wrong = clear.index[0]
    parts = said.drop(index=said.index[-200:]).copy(), said.tail(200).copy()
    parts[0].loc[wrong, "intent"] = "outage"
    twin = parts[0]["text"][parts[0]["text"].str.split().str.len() > 6].iloc[0]
    parts[1].loc[parts[1].index[0], "text"] = f"  {twin.upper()}!! "
    subject = subject_of(learn(*parts, id="contact_id"))
    found = text_quality(subject)
    assert said.loc[wrong, "contact_id"] in found.suspects(50)["id"].tolist()
    row = found.suspects(50).set_index("id").loc[said.loc[wrong, "contact_id"]]
    assert (row["given"], row["suggested"]) == ("outage", "password")
    twins = found.twin_texts(most=1000)
    assert twin in twins["training_text"].tolist()
    assert 0 in found.twins.rows
    facts = found.facts()["near_duplicates"]
    assert facts["accuracy_without"]["n"] == 200 - facts["test_rows"]


def test_personal_data_never_reach_the_page(said: pd.DataFrame, learn: Any) -> None:
    """Every text names somebody, so that every example would show one."""
    frame = said.head(700).assign(text=lambda f: f["text"] + " write to ann.lee@example.com or +49 171 1234567")
    common = frame["intent"].value_counts()
    report = review(learn(frame[frame["intent"].isin(common.index[common >= 20])]))
    page = report.html()
    assert "example.com" not in page
    assert "1234567" not in page
    assert "&lt;email&gt;" in page
    assert "example.com" not in json.dumps(report.facts())


def test_a_test_part_of_the_same_world_has_not_moved(report: IntentReport) -> None:
    assert report.drift.drift.mattering == []
    assert set(report.drift.frame()["column"]) == {"text", INTENT}
    assert report.facts()["moved"] == {"columns": [], "world": []}


def test_other_words_and_other_intents_are_seen_without_outcomes(spoken_subject: Subject) -> None:
    current = spoken_subject.test[["text"]]
    still = drift_between(spoken_subject, current)
    assert not still.moved
    assert set(still.frame()["column"]) == {"text", INTENT, CONFIDENCE, FAMILIARITY}
    assert still.performance is None
    bills = spoken_subject.test[spoken_subject.test["intent"].str.startswith("bill")][["text"]]
    moved = drift_between(spoken_subject, pd.concat([bills, bills, bills]))
    assert {INTENT, "text"} <= set(moved.drift.mattering)
    foreign = current.assign(text=["warum geht das hier schon wieder nicht " * 2] * len(current))
    found = drift_between(spoken_subject, foreign, importance={"bill": 1.0}, threshold=0.5)
    assert {"text", FAMILIARITY} <= set(found.drift.mattering)
    tests = found.drift.tests().set_index(["column", "test"])
    assert tests.loc[("text", "new words"), "size"] > 0.8
    assert found.estimated.values["accuracy"].value < still.estimated.values["accuracy"].value


def test_known_outcomes_are_measured(spoken_subject: Subject) -> None:
    found = drift_between(spoken_subject, spoken_subject.test)
    assert found.performance is not None
    frame = found.performance.frame()
    assert frame["metric"].tolist() == ["accuracy", "macro_f1", "log_loss", "ece"]
    assert (frame["difference"] == 0).all()
    wrong = spoken_subject.test.assign(intent=np.roll(spoken_subject.test["intent"], 7))
    assert drift_between(spoken_subject, wrong).performance.worse  # type: ignore[union-attr]
    with pytest.raises(DataError, match="must be one of"):
        drift_between(spoken_subject, spoken_subject.test.assign(intent="never_heard"))


def test_what_the_model_says_drifts_alone(spoken_subject: Subject) -> None:
    test = spoken_subject.test
    half = len(test) // 2
    found = score_drift(spoken_subject.model, test.iloc[:half], test.iloc[half:])
    assert set(found.frame()["column"]) == {INTENT, CONFIDENCE, FAMILIARITY}
    assert not found.moved
    assert score_drift(spoken_subject.model, test, test.assign(text="qwxz vrrk")).moved


def test_those_turned_away_are_counted(spoken_subject: Subject) -> None:
    frame = turned_away(spoken_subject).frame().set_index("who")
    assert frame.loc["answered", "n"] + frame.loc["turned away", "n"] == frame.loc["all", "n"]
    assert frame.loc["out of scope", "n"] <= frame.loc["turned away", "n"]
    assert frame.loc["answered", "right"] + frame.loc["turned away", "right"] == frame.loc["all", "right"]
    assert frame.loc["answered", "accuracy"] > frame.loc["turned away", "accuracy"]


def test_the_map_of_confusions_is_a_part_of_the_whole_table() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 30, 2000)
    p = np.full((2000, 30), 0.01)
    taken = np.where(rng.random(2000) < 0.2, (y // 2) * 2 + (1 - y % 2), y)  # each class for its twin
    p[np.arange(2000), taken] = 1
    p /= p.sum(axis=1, keepdims=True)
    found = most_confused(y, p, [f"class {i}" for i in range(30)], most=10)
    assert len(found.names) == 10
    assert found.counts.sum() == np.isin(y, [int(name.split()[1]) for name in found.names]).sum()
    assert found.wrong == (taken != y).sum()
    place = {name: i for i, name in enumerate(found.names)}
    twins = [(name, f"class {int(name.split()[1]) ^ 1}") for name in found.names]
    assert all(abs(place[one] - place[other]) == 1 for one, other in twins if other in place)
    right = most_confused(y, np.eye(30)[y], [str(i) for i in range(30)])
    assert right.names == ()
    assert right.plot() is not None


def test_paraphrases_are_of_texts(spoken: Training, params_file: Path) -> None:
    from cxlab.params import load_params

    pairs = pd.DataFrame({"text": ["my bill is wrong"], "other": ["there is an error on my bill"]})
    report = review(spoken, paraphrases=pairs)
    assert "paraphrase" in [row["test"] for row in report.facts()["robustness"]]
    params = load_params(params_file, ["search.candidates=[prior]"])
    with pytest.raises(ParamsError, match="reads no texts"):
        review(train(read_table(params.data), params, storage=None), paraphrases=pairs)


def test_the_plainest_candidate_is_reported_too(said: pd.DataFrame, tmp_path: Path) -> None:
    """The prior looks at no word: nothing it says depends on one."""
    said.to_parquet(tmp_path / "said.parquet")
    data = {"path": str(tmp_path / "said.parquet"), "text": "text", "target": "intent"}
    search = {"trials": 1, "candidates": ["prior"]}
    params = Params.model_validate({"task": "intent", "name": "p", "data": data, "search": search})
    report = review(train(read_table(params.data), params, storage=None))
    assert all(row["value"] == 0 for row in report.facts()["importance"])
    assert report.facts()["words"] == []
    assert "Not asked" in report.summary[2]["answer"]
    assert report.html()


def test_skipped_candidates_are_named_with_why(report: IntentReport, spoken: Training) -> None:
    told = replace(report, training=replace(spoken, skipped={"encoder": "no encoder is installed"}))
    texts = [part.text for part in told._performance().parts if isinstance(part, Text)]
    assert "Could not run here: encoder. no encoder is installed" in texts
    assert told.facts()["skipped"] == {"encoder": "no encoder is installed"}


def test_a_training_without_doubt_is_refused(spoken: Training) -> None:
    with pytest.raises(DataError, match="Train again"):
        review(replace(spoken, abstention=None))


@pytest.mark.parametrize("name", ["banking77"])
def test_real_texts_make_a_report(mirror: Path, name: str) -> None:
    """Real questions of 77 kinds: twins and doubtful labels are there, form does not matter, words do."""
    folder = mirror / name
    train_rows = pd.read_csv(folder / "train.csv")
    few = train_rows.groupby("category").head(30)
    parts = {"path": str(folder / "train.csv"), "test_path": str(folder / "test.csv")}
    search = {"trials": 1, "candidates": ["words"]}
    data = {**parts, "text": "text", "target": "category"}
    params = Params.model_validate({"task": "intent", "name": "b", "data": data, "search": search})
    table = replace(read_table(params.data), frame=few.reset_index(drop=True))
    report = review(train(table, params, storage=None))
    facts = report.facts()
    assert facts["near_duplicates"]["pairs"] > 20
    assert facts["label_errors"]["confident"] > 10
    assert facts["metrics"]["accuracy"]["low"] > 0.75
    verdicts = {row["test"]: row["verdict"] for row in facts["robustness"]}
    assert verdicts["upper case"] == verdicts["more white space"] == "pass"
    assert len(report.html().encode()) < 2_000_000
