"""A model of words goes the whole way: registered, asked by every gate, approved, exported, verified, gone back on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.errors import StoreError
from cxlab.evidence import words
from cxlab.evidence.report import Report
from cxlab.models.subject import Subject
from cxlab.release import gates
from cxlab.release.dossier import Dossier, open_dossier
from cxlab.release.gates import GATES, judge
from cxlab.release.scorer import load_bundle
from cxlab.release.verify import verify
from cxlab.tracking import records, registry
from cxlab.tracking.leaderboard import compare
from cxlab.tracking.ledger import Ledger
from cxlab.tracking.registry import load_model, open_version
from cxlab.tracking.reports import Filed

Command = Callable[..., tuple[int, str, str]]
WAIVE = ("fair", "robust", "explained", "calibrated", "abstains_within_budget")  # 75 test rows tell little


@pytest.fixture(scope="module")
def dossier(reviewed_texts: Report) -> Dossier:
    filed = Filed(Path("report.html"), reviewed_texts.facts(), "run")
    return Dossier("wants", "1", "ann", filed, reviewed_texts.subject, "0" * 64, Ledger("wants"))


def told(dossier: Dossier, change: Callable[[dict[str, Any]], object]) -> Dossier:
    """The same version with a report that says otherwise."""
    facts = copy.deepcopy(dossier.facts)
    change(facts)
    return replace(dossier, filed=replace(dossier.filed, facts=facts))


def away(low: float, high: float) -> Callable[[dict[str, Any]], object]:
    return lambda facts: facts["doubt"]["test"].update(turned_away={"value": low, "low": low, "high": high, "n": 75})


def robust(*verdicts: str) -> Callable[[dict[str, Any]], object]:
    rows = [{"test": f"way {place}", "verdict": verdict} for place, verdict in enumerate(verdicts)]
    return lambda facts: facts.update(robustness=rows)


# --- registered and opened again


def test_what_is_registered_is_opened_again(
    register: Callable[..., str], reviewed_texts: Report, tmp_path: Path
) -> None:
    version = register("wants_again", report=reviewed_texts)
    subject, again = reviewed_texts.subject, open_version("wants_again", version)
    assert again.labels == subject.labels and again.many
    np.testing.assert_allclose(again.score_valid, subject.score_valid, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(again.outcome_valid, subject.outcome_valid)
    theirs, ours = (each.model.answer(subject.test).frame() for each in (subject, again))
    pd.testing.assert_frame_equal(ours, theirs)
    pd.testing.assert_frame_equal(load_model("wants_again", "challenger").answer(subject.test).frame(), theirs)


def test_a_file_with_a_foreign_type_is_not_loaded(
    register: Callable[..., str], reviewed_texts: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register("wants_foreign", report=reviewed_texts)
    known = [name for name in registry.TRUSTED_TYPES if name != "cxlab.features.terms.Terms"]
    monkeypatch.setattr(registry, "TRUSTED_TYPES", known)
    with pytest.raises(StoreError, match=r"holds foreign types: cxlab.features.terms.Terms"):
        load_model("wants_foreign", version)


def test_mlflow_says_what_it_needs(register: Callable[..., str], reviewed_texts: Report) -> None:
    import mlflow

    version = register("wants_needs", report=reviewed_texts)
    with registry.store() as client:
        source = registry.find_version(client, "wants_needs", version).source
    model = mlflow.pyfunc.load_model(source)
    (output,) = model.metadata.signature.outputs.inputs
    assert output.shape == (-1, 5)
    needs = Path(mlflow.artifacts.download_artifacts(source), "requirements.txt").read_text()
    assert "skops" in needs and "lightgbm" not in needs and "torch" not in needs
    found = model.predict(pd.DataFrame({"text": ["my card was stolen"]}))
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 12)])
def test_scores_are_read_as_they_are_filed(shape: tuple[int, ...]) -> None:
    scores = np.random.default_rng(0).random(shape)
    frame = pd.DataFrame({"row": range(4), **records.score_columns("score", scores)})
    np.testing.assert_allclose(records.read_scores(frame, "score"), scores, rtol=0, atol=1e-7)


def test_what_a_run_shows_holds_no_customer_s_words(reviewed_texts: Report) -> None:
    said = set(reviewed_texts.subject.table.frame["text"])
    items = [*records.of_training(reviewed_texts.training), *records.of_report(reviewed_texts)]
    frames = [item for item in items if isinstance(item, records.Rows)]
    assert {"predictions.parquet", "out_of_fold.parquet"} <= {item.path for item in frames}
    for item in frames:
        assert not item.frame.astype(str).isin(said).any(axis=None), item.path
    figures = {item.path for item in items if isinstance(item, records.Figure)}
    assert {"figures/reliability.png", "figures/abstention.png"} <= figures
    assert not any(isinstance(item, records.Page) for item in items)


def test_runs_are_compared(
    register: Callable[..., str], reviewed_texts: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxlab.tracking.runs import tracked

    params = reviewed_texts.training.params.model_copy(update={"name": "wants_runs"})
    training = replace(reviewed_texts.training, params=params)
    for _ in range(2):
        with tracked(params) as run:
            run.log(training)
    rows = compare("wants_runs", metric="all").frame()
    other = rows[rows["verdict"] != "reference"]
    assert set(rows["metric"]) == {"accuracy", "macro_f1", "log_loss", "ece"}
    np.testing.assert_allclose(other["difference"].astype(float), 0, atol=1e-6)


# --- gates


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.code)
def test_every_gate_answers_with_a_reason(gate: type[gates.Gate], dossier: Dossier) -> None:
    verdict = gate().check(dossier)
    assert verdict.reason.endswith(".")
    assert verdict.status in ("pass", "fail", "cannot_tell", "not_applicable")


def test_those_that_can_tell_pass(dossier: Dossier) -> None:
    decision = judge(dossier)
    found = decision.statuses
    passing = ("beats_baseline", "no_leak", "drift_understood", "fast", "parity")
    assert {name: found[name] for name in passing} == dict.fromkeys(passing, "pass")
    assert found["not_worse_than_champion"] == "not_applicable"
    assert "Contributions of words add up on 75 texts" in decision.verdicts[gates.Explained].reason
    assert "of 75 test customers" in decision.verdicts[gates.AbstainsWithinBudget].reason
    assert "ways to say it" in decision.verdicts[gates.Robust].reason


@pytest.mark.parametrize(
    ("low", "high", "status"), [(0.0, 0.05, "pass"), (0.0, 0.051, "cannot_tell"), (0.06, 0.2, "fail")]
)
def test_abstains_within_budget(dossier: Dossier, low: float, high: float, status: str) -> None:
    verdict = gates.AbstainsWithinBudget().check(told(dossier, away(low, high)))
    assert verdict.status == status
    assert verdict.limit == pytest.approx(0.05)  # 4 % of the params and a margin of one
    assert "the params allow 4.0%" in verdict.reason


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [(("pass", "pass"), "pass"), (("pass", "cannot tell"), "cannot_tell"), (("cannot tell", "fail"), "fail")],
)
def test_robust(dossier: Dossier, verdicts: tuple[str, ...], status: str) -> None:
    verdict = gates.Robust().check(told(dossier, robust(*verdicts)))
    assert verdict.status == status
    assert ("way" in verdict.reason.partition(": ")[2]) == (status != "pass")


def test_what_the_report_does_not_say_cannot_be_told(dossier: Dossier) -> None:
    silent = told(dossier, lambda facts: [facts.pop("doubt"), facts.pop("robustness")])
    for gate in (gates.AbstainsWithinBudget(), gates.Robust()):
        assert gate.check(silent).status == "cannot_tell"


def test_words_that_do_not_add_up_fail(dossier: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "TOLERANCE", -1.0)  # nothing is equal enough
    verdict = gates.Explained().check(dossier)
    assert verdict.status == "fail" and "must be the margin" in verdict.reason


def test_models_of_two_outcomes_are_not_asked_of_words(reviewed: Report) -> None:
    filed = Filed(Path("report.html"), reviewed.facts(), "run")
    churn = Dossier("small", "1", "ann", filed, reviewed.subject, "0" * 64, Ledger("small"))
    for gate in (gates.AbstainsWithinBudget(), gates.Robust()):
        assert gate.check(churn).status == "not_applicable"


def rival(dossier: Dossier, monkeypatch: pytest.MonkeyPatch, change: Callable[[Subject], Subject]) -> Dossier:
    """The version as the challenger of a champion that is the same model, changed."""
    monkeypatch.setattr(Dossier, "champion", "7")
    monkeypatch.setattr("cxlab.release.dossier.open_version", lambda *_: change(dossier.subject))
    return replace(dossier)


def test_a_champion_is_beaten_or_not_on_the_same_rows(dossier: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gates.NotWorseThanChampion()
    assert gate.check(rival(dossier, monkeypatch, lambda subject: subject)).status == "pass"

    def other_intents(subject: Subject) -> Subject:
        model = copy.copy(subject.model)
        model.labels = ("other", *subject.labels[1:])
        return replace(subject, model=model)

    verdict = gate.check(rival(dossier, monkeypatch, other_intents))
    assert verdict.status == "cannot_tell" and "another outcome" in verdict.reason

    def seen(subject: Subject) -> Subject:
        every = np.arange(len(subject.table.frame))
        return replace(subject, split=replace(subject.split, train=every))

    verdict = gate.check(rival(dossier, monkeypatch, seen))
    assert verdict.status == "cannot_tell" and "learnt from" in verdict.reason


# --- the whole way


def test_from_the_lab_to_a_bundle_and_back(
    register: Callable[..., str], reviewed_texts: Report, cxlab: Command, tmp_path: Path
) -> None:
    version = register("wants_out", report=reviewed_texts)
    status, said, _ = cxlab("gate", "wants_out", version, "--json")
    blocking = json.loads(said)["blocking"]
    assert status == bool(blocking) and set(blocking) <= set(WAIVE)
    waivers = [word for code in blocking for word in ("--waive", f"{code}=few test rows")]
    status, said, error = cxlab("approve", "wants_out", version, "--reason", "it tells them apart", *waivers, "--json")
    assert status == 0, error
    status, said, error = cxlab("export", "wants_out", "--to", tmp_path / "out", "--json")
    assert status == 0, error
    manifest = json.loads(said)
    assert manifest["parity"]["largest"] <= 1e-5 and manifest["reasons"]["first"] > 0.95
    assert verify(tmp_path / "out").ok
    found = load_bundle(tmp_path / "out").score([{"text": "my card was stolen"}])
    assert found["intent"].tolist() == ["card_lost"]
    evidence = {path.name: path.read_text() for path in (tmp_path / "out" / "evidence").iterdir()}
    assert {"card.md", "report.json", "report.html", "gates.json", "fairness.json", "drift.json"} <= set(evidence)
    assert "## What is it for?" in evidence["card.md"] and "may be turned away" in evidence["card.md"]
    customers = reviewed_texts.subject.table.frame["text"]
    leaked = [name for name, text in evidence.items() if any(each in text for each in customers)]
    assert not leaked
    status, said, _ = cxlab("history", "wants_out", "--bundle", tmp_path / "out", "--json")
    assert status == 0 and json.loads(said)["live"] == version
    assert open_dossier("wants_out", version).champion is None
