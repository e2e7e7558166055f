"""Gates: each says pass, fail, cannot tell or not applicable and why; none passes by accident."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from cxlab.data.split import make_split
from cxlab.data.table import Source
from cxlab.errors import DataError, ParamsError, StoreError
from cxlab.evidence.report import Report
from cxlab.models.calibration import NoCalibration
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.params import SplitParams
from cxlab.release import dossier as dossiers
from cxlab.release import gates
from cxlab.release.bundle import Parity as ParityFound
from cxlab.release.bundle import Prepared
from cxlab.release.dossier import Dossier, open_dossier, rows_seen
from cxlab.release.gates import GATES, judge, load_gates
from cxlab.tracking.ledger import Ledger
from cxlab.tracking.reports import Filed

ROOT = Path(__file__).parent.parent.parent
STATUSES = {"pass", "fail", "cannot_tell", "not_applicable"}


@pytest.fixture(scope="module")
def dossier(reviewed: Report) -> Dossier:
    filed = Filed(Path("report.html"), reviewed.facts(), "run")
    return Dossier("small", "1", "ann", filed, reviewed.subject, "0" * 64, Ledger("small"))


def told(dossier: Dossier, change: Callable[[dict[str, Any]], object]) -> Dossier:
    """The same version with a report that says otherwise."""
    facts = copy.deepcopy(dossier.facts)
    change(facts)
    return replace(dossier, filed=replace(dossier.filed, facts=facts))


def status(gate: gates.Gate, dossier: Dossier) -> str:
    return gate.check(dossier).status


# --- laws


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.code)
def test_every_gate_answers_with_a_reason_and_is_stable(gate: type[gates.Gate], dossier: Dossier) -> None:
    verdict = gate().check(dossier)
    assert verdict.status in STATUSES
    assert verdict.reason.endswith(".")
    if gate.code != "fast":
        assert gate().check(dossier) == verdict
    assert gate.code.isidentifier() and gate.code.islower()
    assert gate.title[0].isupper()


def test_codes_are_unique_and_those_that_are_never_waived_are_two() -> None:
    assert len({gate.code for gate in GATES}) == len(GATES)
    assert {gate.code for gate in GATES if not gate.waivable} == {"no_leak", "parity"}


@given(low=st.floats(-1, 1), width=st.floats(0, 1), limit=st.floats(-1, 1))
def test_an_interval_passes_or_fails_only_as_a_whole(low: float, width: float, limit: float) -> None:
    high = low + width
    below, above = gates._below(low, high, limit), gates._above(low, high, limit)
    assert (below == "pass") == (high <= limit)
    assert (above == "pass") == (low > limit)
    assert not (below == "pass" and above == "pass")
    if low < limit < high:
        assert below == above == "cannot_tell"


def test_what_blocks_is_what_fails_or_cannot_be_told(dossier: Dossier) -> None:
    decision = judge(dossier)
    frame = decision.frame()
    assert tuple(frame["code"]) == tuple(gate.code for gate in GATES)
    assert set(decision.blocking) == set(frame.loc[frame["status"].isin(["fail", "cannot_tell"]), "code"])
    assert decision.plot() is not None
    assert decision.statuses["parity"] == "pass"
    assert decision.statuses["not_worse_than_champion"] == "not_applicable"


# --- each gate, both ways


def test_beats_baseline(dossier: Dossier) -> None:
    gate = gates.BeatsBaseline()
    assert status(gate, dossier) == "pass"
    assert status(gates.BeatsBaseline(margin=5.0), dossier) == "fail"

    def noise(facts: dict[str, Any]) -> None:
        for row in facts["comparison"]:
            row["diff_low"], row["diff_high"] = -0.1, 0.1

    assert status(gate, told(dossier, noise)) == "cannot_tell"
    assert status(gate, told(dossier, lambda facts: facts.update(selected="prior"))) == "fail"
    assert status(gates.BeatsBaseline(baseline="coin"), dossier) == "cannot_tell"


def test_a_gain_counts_the_right_way_round_for_metrics_where_more_is_better(dossier: Dossier) -> None:
    by_auc = told(dossier, lambda facts: facts.update(selection_metric="roc_auc"))
    assert status(gates.BeatsBaseline(), by_auc) == "pass"


def test_calibrated(dossier: Dossier) -> None:
    def error(low: float, high: float) -> Dossier:
        return told(dossier, lambda facts: facts["metrics"].update(ece={"value": low, "low": low, "high": high}))

    gate = gates.Calibrated()
    assert [status(gate, error(*ends)) for ends in ((0, 0.05), (0.04, 0.06), (0.06, 0.08))] == [
        *("pass", "cannot_tell", "fail")
    ]


def test_fair(dossier: Dossier) -> None:
    def verdicts(*names: str) -> Dossier:
        rows = [{"segment": "s", "group": str(n), "metric": "tpr", "verdict": name} for n, name in enumerate(names)]
        return told(dossier, lambda facts: facts.update(fairness=rows))

    gate = gates.Fair()
    assert status(gate, verdicts("pass", "shown")) == "pass"
    assert status(gate, verdicts("pass", "cannot tell")) == "cannot_tell"
    assert status(gate, verdicts("fail", "cannot tell")) == "fail"
    assert "s 0 (tpr)" in gate.check(verdicts("fail")).reason
    assert status(gate, verdicts("shown")) == "not_applicable"


def test_no_leak(dossier: Dossier) -> None:
    def check(code: str, status: str) -> Dossier:
        def change(facts: dict[str, Any]) -> None:
            for row in facts["quality"]:
                row["status"] = status if row["code"] == code else "pass"

        return told(dossier, change)

    gate = gates.NoLeak()
    assert status(gate, check("types", "fail")) == "pass"
    assert status(gate, check("leak_suspects", "cannot_tell")) == "cannot_tell"
    assert status(gate, check("known_after", "fail")) == "fail"
    assert status(gate, told(dossier, lambda facts: facts.update(quality=[]))) == "cannot_tell"


def test_drift_understood(dossier: Dossier) -> None:
    def moved(*columns: str, world: tuple[str, ...] = ()) -> Dossier:
        return told(dossier, lambda facts: facts.update(moved={"columns": list(columns), "world": list(world)}))

    gate = gates.DriftUnderstood()
    assert status(gate, moved()) == "pass"
    assert status(gate, moved("calls")) == "fail"
    assert status(gates.DriftUnderstood(max_moved=1), moved("calls")) == "pass"
    assert "The rate went up" in gate.check(moved(world=("the rate went up",))).reason


def test_explained(dossier: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = gates.Explained()
    assert status(gate, dossier) == "pass"
    shaky = told(dossier, lambda facts: facts["importance"][0].update(folds=1))
    assert status(gate, shaky) == "cannot_tell"
    assert status(gate, told(dossier, lambda facts: facts.update(selected="prior"))) == "not_applicable"

    def wrong(*_: object, **__: object) -> None:
        raise ArithmeticError("Contributions add up to 1, must be the margin 2.")

    monkeypatch.setattr(gates, "contributions", wrong)
    assert status(gate, dossier) == "fail"


def test_fast(dossier: Dossier) -> None:
    assert status(gates.Fast(max_ms=10_000, repeats=20), dossier) == "pass"
    assert status(gates.Fast(max_ms=1e-6, repeats=20), dossier) == "fail"


def test_parity(dossier: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(gates.Parity(), dossier) == "pass"
    monkeypatch.setattr(Prepared, "parity", ParityFound(0.1, 10, "calls"))
    verdict = gates.Parity().check(replace(dossier))
    assert (verdict.status, verdict.value) == ("fail", 0.1)
    assert "from column 'calls'" in verdict.reason


def test_a_model_without_conversion_fails_parity(dossier: Dossier) -> None:
    class Odd(BaseEstimator):
        classes_ = np.array([0, 1])
        n_features_in_ = 4

        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            return np.full((len(X), 2), 0.5)

    subject = replace(dossier.subject, model=Model(dossier.subject.model.schema, [Odd()], [1.0], NoCalibration()))
    verdict = gates.Parity().check(replace(dossier, subject=subject))
    assert verdict.status == "fail"
    assert "Odd" in verdict.reason


# --- the champion


def challenged(dossier: Dossier, champion: Subject, monkeypatch: pytest.MonkeyPatch) -> gates.Verdict:
    """The gate's word where this champion is live."""
    live = type("Live", (Ledger,), {"live": lambda self, at=None: "7"})("small")
    monkeypatch.setattr(dossiers, "open_version", lambda model, version: champion)
    return gates.NotWorseThanChampion().check(replace(dossier, ledger=live))


def test_against_a_champion_of_the_same_split(dossier: Dossier, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = challenged(dossier, dossier.subject, monkeypatch)
    assert (verdict.status, verdict.value) == ("pass", 0.0)
    assert "version 7" in verdict.reason

    class Oracle(Model):
        def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
            right = np.clip((X["churn"] == "yes").to_numpy(float), 0.01, 0.99)
            return np.column_stack([1 - right, right])

    best = Oracle(dossier.subject.model.schema, [], [], NoCalibration())
    verdict = challenged(dossier, replace(dossier.subject, model=best), monkeypatch)
    assert verdict.status == "fail"
    assert verdict.value is not None and verdict.value > 0.3


def test_a_champion_that_has_seen_the_test_rows_tells_nothing(
    dossier: Dossier, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = dossier.subject
    split = make_split(subject.table, subject.table.outcome(), SplitParams(seed=1))
    verdict = challenged(dossier, replace(subject, split=split), monkeypatch)
    assert verdict.status == "cannot_tell"
    assert "learnt from" in verdict.reason


@pytest.mark.parametrize(
    ("change", "says"),
    [({"target": "plan"}, "another outcome"), ({"positive": "no"}, "another outcome")],
)
def test_a_champion_of_another_outcome_tells_nothing(
    dossier: Dossier, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], says: str
) -> None:
    params = dossier.subject.params
    other = params.model_copy(update={"data": params.data.model_copy(update=change)})
    verdict = challenged(dossier, replace(dossier.subject, params=other), monkeypatch)
    assert verdict.status == "cannot_tell"
    assert says in verdict.reason


def test_rows_are_known_again_in_another_file_by_id_or_by_content(dossier: Dossier) -> None:
    subject = dossier.subject
    assert rows_seen(subject, subject) == 0
    moved = replace(subject.table, source=Source("other.csv", "1" * 64, 400))
    elsewhere = replace(subject, table=moved)
    assert rows_seen(elsewhere, subject) == 0  # the same customers train and test
    swapped = replace(elsewhere, split=replace(subject.split, train=subject.split.test))
    assert rows_seen(swapped, subject) == len(subject.test)
    roles = subject.params.model_copy(update={"data": subject.params.data.model_copy(update={"id": None})})
    assert rows_seen(replace(swapped, params=roles), replace(subject, params=roles)) == len(subject.test)


# --- limits


def test_the_committed_limits_are_the_defaults() -> None:
    assert load_gates(ROOT / "params" / "gates.yaml") == tuple(gate() for gate in GATES)
    written = yaml.safe_load((ROOT / "params" / "gates.yaml").read_text())
    assert list(written) == [gate.code for gate in GATES]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("calibratd: {}", "Gate 'calibratd' is not known. Did you mean 'calibrated'"),
        ("calibrated: {max_eror: 1}", "Key 'max_eror' is not known. Did you mean 'max_error'"),
        ("calibrated: {max_error: low}", "calibrated.max_error == 'low', must be"),
        ("calibrated: 3", "calibrated == 3, must hold keys: max_error"),
        ("- calibrated", "holds no gates"),
        ("a: [", "cannot be read as gates"),
    ],
)
def test_limits_that_do_not_fit_are_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=says):
        load_gates(path)


def test_a_limit_can_be_turned(tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text("calibrated: {max_error: 0.2}\n")
    assert gates.Calibrated(max_error=0.2) in load_gates(path)
    path.write_text("")
    assert load_gates(path) == tuple(gate() for gate in GATES)


# --- opening a version


def test_a_version_that_never_reached_the_ledger_is_not_reviewed(
    register: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxlab.tracking import registry

    with monkeypatch.context() as patch:

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(registry, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            register("half")
    with pytest.raises(ParamsError, match=r"half version 1 is not in the ledger: .* Train it again"):
        open_dossier("half", "1")


def test_a_broken_ledger_is_not_built_upon(register: Callable[..., str]) -> None:
    from cxlab.tracking.ledger import HEAD
    from cxlab.tracking.store import store

    version = register("forged")
    with store() as client:
        client.set_registered_model_tag("forged", HEAD, f"5:{'a' * 64}")
    with pytest.raises(StoreError, match=r"The ledger of forged is broken: .* its end was removed"):
        open_dossier("forged", version)


def test_without_a_report_there_is_nothing_to_review(
    register: Callable[..., str], reviewed: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxlab.tracking import registry

    real = registry.register
    monkeypatch.setattr(registry, "register", lambda training, run_id, facts: real(training, run_id))
    version = register("bare")
    with pytest.raises(DataError, match=r"was registered without a report. Train it again"):
        open_dossier("bare", version)
