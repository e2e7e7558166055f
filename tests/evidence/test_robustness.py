"""The same said otherwise: what must stay stays, what must be noticed is, and no verdict without enough texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import DataError
from cxlab.evidence.robustness import CHECKS, FORM, robustness
from cxlab.features.terms import words_of
from cxlab.models.subject import Subject


@pytest.fixture(scope="module")
def frame(spoken_subject: Subject) -> pd.DataFrame:
    return robustness(spoken_subject).frame().set_index("test")


def test_a_model_of_words_does_not_see_case_space_and_stops(frame: pd.DataFrame) -> None:
    unseen = frame.loc[["upper case", "lower case", "more white space", "stop at the end"]]
    assert (unseen["share"] == 1).all()
    assert (unseen["verdict"] == "pass").all()


def test_shares_have_their_counts_and_limits(frame: pd.DataFrame, spoken_subject: Subject) -> None:
    assert (frame["held"] == (frame["share"] * frame["n"]).round()).all()
    assert (frame["n"] <= len(spoken_subject.test)).all()
    for row in frame.itertuples():
        told = "pass" if row.low >= row.limit else "fail" if row.high < row.limit else "cannot tell"
        assert row.verdict == told


def test_the_order_of_the_rows_changes_nothing(frame: pd.DataFrame, spoken_subject: Subject) -> None:
    order = np.random.default_rng(1).permutation(spoken_subject.split.test)
    shuffled = replace(spoken_subject, split=replace(spoken_subject.split, test=order))
    pd.testing.assert_frame_equal(robustness(shuffled).frame().set_index("test"), frame)


def test_a_second_intent_is_noticed(frame: pd.DataFrame) -> None:
    assert frame.loc["another intent added", "kind"] == "direction"
    assert frame.loc["another intent added", "share"] > 0.9


def test_a_model_that_reads_case_fails(spoken_subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes every shouted text for the first intent."""
    model, true = spoken_subject.model, spoken_subject.model.predict
    monkeypatch.setattr(
        model, "predict", lambda X: np.where([text.isupper() for text in X["text"]], 0, true(X)), raising=True
    )
    found = robustness(spoken_subject)
    assert found.failed == ["upper case"]
    told = found.changed[found.changed["test"] == "upper case"]
    assert (told["became"] == spoken_subject.labels[0]).all()
    assert (told["other"] == told["text"].str.upper()).all()


def test_paraphrases_of_the_user_are_asked(spoken_subject: Subject) -> None:
    same = pd.DataFrame({"text": ["my bill is wrong"] * 60, "other": ["there is an error on my bill"] * 60})
    row = robustness(spoken_subject, paraphrases=same).frame().set_index("test").loc["paraphrase"]
    assert (row["n"], row["held"], row["verdict"]) == (60, 60, "pass")
    other = same.assign(other="my password does not work")
    assert robustness(spoken_subject, paraphrases=other).failed == ["paraphrase"]


def test_few_paraphrases_cannot_tell(spoken_subject: Subject) -> None:
    few = pd.DataFrame({"text": ["my bill is wrong", None], "other": ["my bill is so wrong", "x"]})
    row = robustness(spoken_subject, paraphrases=few).frame().set_index("test").loc["paraphrase"]
    assert (row["n"], row["verdict"]) == (1, "cannot tell")


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (pd.DataFrame({"text": ["a"], "others": ["b"]}), "Did you mean 'others'"),
        (pd.DataFrame({"text": [None], "other": ["b"]}), "has 0 pairs, must have at least 1"),
    ],
)
def test_pairs_that_cannot_be_read_are_refused(spoken_subject: Subject, pairs: pd.DataFrame, says: str) -> None:
    with pytest.raises(DataError, match=says):
        robustness(spoken_subject, paraphrases=pairs)


@given(
    st.text(max_size=40) | st.sampled_from(["Where is my card?", "über Straße", "a b c", "\ud800 lone"]),
    st.integers(0, 9),
)
def test_changes_are_what_they_are_called(text: str, seed: int) -> None:
    changed = {check.name: check.change(text, np.random.default_rng(seed)) for check in CHECKS}
    again = {check.name: check.change(text, np.random.default_rng(seed)) for check in CHECKS}
    assert changed == again
    assert words_of(changed["more white space"]) == words_of(text)
    assert words_of(changed["stop at the end"]) == words_of(text)
    assert len(changed["two letters swapped"]) == len(text)
    assert len(text) - len(changed["a letter left out"]) in (0, 1)
    assert text in changed["polite at the end"]
    assert text in changed["polite at the start"]


def test_limits_say_what_is_expected() -> None:
    assert {check.name for check in CHECKS if check.limit == FORM} == {
        *("upper case", "lower case", "more white space", "stop at the end")
    }


def test_it_is_drawn(spoken_subject: Subject) -> None:
    ax = robustness(spoken_subject, rows=40).plot()
    assert len(ax.get_yticklabels()) == len(CHECKS) + 1
