"""What is counted of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.features.terms import ANY, LONGEST, Terms, clauses, words_of

KINDS = [Terms("words", 2), Terms("pieces", 5), Terms("pairs", 4)]


@given(st.text(max_size=60))
def test_small_and_large_letters_are_one(text: str) -> None:
    for terms in KINDS:
        assert terms(text.lower().upper().lower()) == terms(text.lower().upper())


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), max_size=8))
def test_pairs_know_no_order(words: list[str]) -> None:
    pairs = Terms("pairs", 4)
    assert sorted(pairs(" ".join(words))) == sorted(pairs(" ".join(reversed(words))))


@given(st.text())
def test_any_text_has_terms_or_none(text: str) -> None:
    for terms in KINDS:
        assert all(isinstance(term, str) and term for term in terms(text))


@given(st.text(max_size=80))
def test_clauses_keep_every_word_but_the_joints(text: str) -> None:
    parts = clauses(text)
    assert len(parts) != 1
    left = words_of(text)
    for word in (word for part in parts for word in words_of(part)):
        assert word in left


@pytest.mark.parametrize(
    ("kind", "longest", "text", "terms"),
    [
        ("words", 2, "Where is it?", ["where", "is", "it", "where is", "is it"]),
        ("pieces", 3, "card", [" c", "ca", "ar", "rd", "d ", " ca", "car", "ard", "rd "]),
        ("pieces", 9, "a", [" a", "a ", " a "]),
        ("pairs", 4, "cards stolen cards", ["card stol", "card card"]),
        ("pairs", 4, "card", []),
        ("words", 1, "ﬁnance Ｃard ＥＵＲ", ["finance", "card", "eur"]),
        ("words", 2, "", []),
    ],
)
def test_named_terms(kind: str, longest: int, text: str, terms: list[str]) -> None:
    assert Terms(kind, longest)(text) == [ANY, *terms]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("My card was stolen and I want a new one", ["My card was stolen", "I want a new one"]),
        ("Hello. Where is my card?", []),
        ("I want a refund. Thanks", []),
        ("Hi, my card is lost, also the app shows nothing", ["Hi my card is lost", "the app shows nothing"]),
        ("", []),
    ],
)
def test_named_clauses(text: str, parts: list[str]) -> None:
    assert clauses(text) == parts


def test_a_long_text_is_read_to_a_limit() -> None:
    assert words_of("a " * 1_000_000) == ["a"] * (LONGEST // 2)
