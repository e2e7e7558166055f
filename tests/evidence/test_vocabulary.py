"""The words of two samples: alike where nothing changed, apart where something did, and never a customer's own."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.schema import Column
from cxlab.evidence.shift import ALPHA, FEWEST, RARE, Finding, adjusted, column_tests
from cxlab.evidence.vocabulary import text_tests

WORDS = np.array([f"word{i}" for i in range(300)], object)
SHARES = 1 / np.arange(1, 301) / (1 / np.arange(1, 301)).sum()  # Zipf (1949)


def texts(n: int, seed: int, *, longest: int = 15) -> np.ndarray:
    rng = np.random.default_rng(seed)
    said = [" ".join(rng.choice(WORDS, size, p=SHARES)) for size in rng.integers(3, longest, n)]
    return np.array(said, object)


def by_test(before: np.ndarray, now: np.ndarray) -> dict[str, Finding]:
    return {item.test: item for item in adjusted(text_tests(before, now))}


def test_samples_of_one_world_seldom_differ() -> None:
    """60 pairs of samples; `vocabulary` is by permutation, so that its p is right whatever the words."""
    p = {name: [] for name in ("vocabulary", "new words", "length")}
    for seed in range(60):
        found = by_test(texts(400, 2 * seed), texts(150, 2 * seed + 1))
        for name, values in p.items():
            values.append(found[name].p)
        assert not [item for item in found.values() if item.verdict == "moved" and item.p_adjusted < ALPHA / 10]
    for values in p.values():
        assert (np.array(values) < 0.05).mean() < 0.15
    assert np.mean(p["vocabulary"]) == pytest.approx(0.5, abs=0.12)


@given(st.integers(0, 100))
def test_the_order_of_texts_changes_nothing(seed: int) -> None:
    before, now = texts(150, seed), texts(120, seed + 1)
    mixed = np.random.default_rng(seed).permutation(before), np.random.default_rng(seed).permutation(now)
    assert [repr(item) for item in text_tests(before, now)] == [repr(item) for item in text_tests(*mixed)]


def test_a_new_word_is_found_and_named() -> None:
    before, now = texts(600, 0), texts(400, 1)
    said = np.array([f"{text} fibre" if i % 2 else text for i, text in enumerate(now)], object)
    found = by_test(before, said)
    assert found["vocabulary"].verdict == found["new words"].verdict == "moved"
    assert "'fibre' went from 0.0% to" in found["vocabulary"].reason
    assert found["length"].verdict == "stable"
    assert 0.04 < found["new words"].size < 0.08  # half of the texts have it, of some nine words
    assert found["vocabulary"].statistic > by_test(before, now)["vocabulary"].statistic


def test_words_that_are_gone_are_found_too() -> None:
    before, now = texts(600, 0), texts(400, 1)
    found = by_test(before, np.array([re.sub(r"\bword[0-3]\b ?", "", text) for text in now], object))
    assert found["vocabulary"].verdict == found["length"].verdict == "moved"
    assert found["new words"].verdict == "stable"


def test_words_of_few_texts_are_never_named() -> None:
    before, now = texts(300, 0), texts(300, 1)
    names = [f"surname{i}" for i in range(300)]
    said = np.array([f"{text} {name} {name}" for text, name in zip(now, names, strict=True)], object)
    reasons = " ".join(item.reason for item in text_tests(before, said))
    assert "surname" not in reasons
    assert by_test(before, said)["new words"].verdict == "moved"
    assert RARE == 5


def test_few_texts_cannot_tell_and_missing_ones_are_counted() -> None:
    few = texts(FEWEST - 1, 0)
    found = {item.test: item for item in adjusted(column_tests(Column("said", "text"), few, texts(500, 1)))}
    assert found["vocabulary"].verdict == "cannot tell"
    assert "must be at least 100 of both" in found["vocabulary"].reason
    empty = np.concatenate([texts(300, 2), np.full(200, "", object)])
    lost = by_test(texts(500, 3), empty)["missing"]
    assert lost.verdict == "moved"
    assert lost.size == pytest.approx(0.4)


def test_texts_without_a_word_are_no_mistake() -> None:
    found = by_test(np.full(200, "?!", object), np.full(200, "...", object))
    assert {item.verdict for item in found.values()} == {"stable"}
    other = by_test(np.full(200, "?!", object), texts(200, 0))
    assert other["new words"].verdict == other["vocabulary"].verdict == "moved"
