"""Every answer is kept as it was given, and adds up."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxlab.decide.actions import Suggestions, suggest
from cxlab.decide.answers import Answers, acceptance
from cxlab.decide.uplift import Effects
from cxlab.errors import DataError, ParamsError, StoreError
from cxlab.params.actions import ActionsParams
from cxlab.params.files import checked

TREE = {
    "outcome": "stays",
    "worth": 100,
    "actions": {
        "call": {"title": "a call", "owner": "a team", "channel": "voice", "cost": 1},
        "visit": {"title": "a visit", "owner": "b", "channel": "home", "cost": 2, "eligible": {"require": ["near"]}},
    },
}


@pytest.fixture(scope="module")
def found() -> Suggestions:
    n = 60
    mean = np.tile([0.3, 0.1], (n, 1))
    draws = mean + 0.001 * np.random.default_rng(0).normal(size=(8, n, 2))
    customers = pd.DataFrame({"customer_id": [f"c{k}" for k in range(n)], "near": np.arange(n) % 2 == 0})
    effects = Effects(("call", "visit"), np.full(n, 0.5), draws.mean(axis=0), draws.astype(np.float32))
    return suggest(customers, effects, checked(TREE, ActionsParams, "test.yaml"))


def open_ones(found: Suggestions) -> list[str]:
    return found.frame().query("action == 'call'")["suggestion"].tolist()


@given(
    given_ones=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from(["accept", "reject"]), st.text(min_size=1).filter(str.strip)),
        max_size=12,
    )
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_that_was_answered_is_read_again_in_order(
    given_ones: list[tuple[int, str, str]], found: Suggestions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    answers, names = Answers(tmp_path_factory.mktemp("a") / "answers.jsonl"), open_ones(found)
    for place, answer, reason in given_ones:
        answers.give(found, names[place], answer, reason=reason)  # type: ignore[arg-type]
    table = answers.frame()
    assert table["suggestion"].tolist() == [names[place] for place, _, _ in given_ones]
    assert table["reason"].tolist() == [reason.strip() for _, _, reason in given_ones]
    assert len(answers.frame(last=True)) == len({place for place, _, _ in given_ones})
    summed = acceptance(table).frame()
    assert summed["n"].sum() == len({place for place, _, _ in given_ones})


def test_who_and_why_are_kept_and_the_last_answer_counts(
    found: Suggestions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXLAB_USER", "ana")
    answers, names = Answers(tmp_path / "deep" / "answers.jsonl"), open_ones(found)
    answers.give(found, names[0], "reject", reason="moved house")
    answers.give(found, names[0], "accept")
    answers.give(found, names[1], "reject", reason="moved house")
    answers.give(found, names[2], "edit", edited="none", reason="asked for peace")
    near = next(name for name in names if found.frame().set_index("suggestion").loc[name, "customer_id"] == "c2")
    answers.give(found, near, "edit", edited="visit", reason="lives next door")
    assert set(answers.frame()["who"]) == {"ana"}
    outcomes = pd.DataFrame({"suggestion": names[:2], "outcome": [1, 0]})
    shown = acceptance(answers.frame(), outcomes)
    row = shown.frame().iloc[0]
    assert row[["n", "accepted", "edited", "rejected"]].tolist() == [4, 1, 2, 1]
    assert row["low"] < row["share"] == 0.25 < row["high"]
    assert (row["outcome_accepted"], row["outcome_others"]) == (1, 0)
    shown.plot()
    acceptance(answers.frame().head(0)).plot()
    plt.close("all")


def test_what_no_answer_may_do(found: Suggestions, tmp_path: Path) -> None:
    answers, name = Answers(tmp_path / "answers.jsonl"), open_ones(found)[0]
    table = found.frame()
    held = table.query("status == 'held out'")["suggestion"].iloc[0]
    far = table[(table["action"] == "call") & table["customer_id"].isin(["c1", "c3", "c5", "c7", "c9"])].iloc[0]
    with pytest.raises(DataError, match="held out, which no answer changes"):
        answers.give(found, held, "accept")
    with pytest.raises(DataError, match="may not get 'visit': no near"):
        answers.give(found, far["suggestion"], "edit", edited="visit", reason="x")
    with pytest.raises(ParamsError, match="'reject' has no reason"):
        answers.give(found, name, "reject", reason=" ")
    with pytest.raises(ParamsError, match="with 'edit', and only then"):
        answers.give(found, name, "accept", edited="visit")
    with pytest.raises(ParamsError, match=r"Answer 'acept' is not one of the three. Did you mean 'accept'"):
        answers.give(found, name, "acept")  # type: ignore[arg-type]
    with pytest.raises(ParamsError, match="'call' is what was suggested"):
        answers.give(found, name, "edit", edited="call", reason="x")
    with pytest.raises(DataError, match="No suggestion 'zzz'"):
        answers.give(found, "zzz", "accept")
    assert not answers.path.exists()


def test_a_broken_file_says_where(found: Suggestions, tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.jsonl")
    answers.give(found, open_ones(found)[0], "accept")
    answers.path.write_text(answers.path.read_text() + "{}\n")
    with pytest.raises(DataError, match="line 2 is no answer"):
        answers.frame()
    with pytest.raises(StoreError, match="cannot be written"):
        Answers(tmp_path / "answers.jsonl" / "below.jsonl").give(found, open_ones(found)[0], "accept")
