"""Near-duplicates are those that comparing all pairs finds, no more and no fewer."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data import near_duplicates as module
from cxlab.data.near_duplicates import near_duplicates
from cxlab.errors import DataError, ParamsError

WORDS = [
    "top",
    "up",
    "card",
    "Card!",
    "my",
    "where",
    "is",
    "isn't",
    "£10",
    "fee",
    "fees",
    "😀",
    "a",
    "?",
    "中文",
    "\ud800",
]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text("ab ", max_size=6), max_size=14)
THRESHOLDS = st.sampled_from([0.05, 0.3, 0.5, 2 / 3, 0.8, 0.95, 1.0])


def shingles(text: str) -> set[str]:
    folded = module._fold(text)
    padded = f" {folded} "
    return {padded[i : i + 3] for i in range(len(padded) - 2)} if folded else set()


def long_way(left: list[str], right: list[str] | None, threshold: float) -> dict[tuple[int, int], float]:
    """Every pair compared."""
    out = {}
    for i, one in enumerate(left):
        for j, other in enumerate(left if right is None else right):
            a, b = shingles(one), shingles(other)
            if (right is not None or i < j) and a and b and len(a & b) / len(a | b) >= threshold:
                out[i, j] = len(a & b) / len(a | b)
    return out


def pairs(frame: pd.DataFrame) -> dict[tuple[int, int], float]:
    return {(i, j): value for i, j, value in zip(frame["left"], frame["right"], frame["similarity"], strict=True)}


@given(TEXTS, THRESHOLDS)
def test_the_pairs_of_a_list_are_those_of_the_long_way(texts: list[str], threshold: float) -> None:
    frame = near_duplicates(texts, threshold=threshold).frame()
    assert pairs(frame) == long_way(texts, None, threshold)
    assert len(frame) == len(pairs(frame))


@given(TEXTS, TEXTS, THRESHOLDS)
def test_the_pairs_of_two_lists_are_those_of_the_long_way(left: list[str], right: list[str], threshold: float) -> None:
    frame = near_duplicates(left, right, threshold=threshold).frame()
    assert pairs(frame) == long_way(left, right, threshold)
    assert len(frame) == len(pairs(frame))


@pytest.mark.parametrize("threshold", [0.1, 0.6, 0.8])
def test_so_are_those_of_longer_texts_in_many_steps(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEP", 500)
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}" for a in ("pay", "card", "fee", "bank") for b in ("s", "ing", "ed", "", "er", "less")])
    texts = [" ".join(rng.choice(words, rng.integers(1, 14))) for _ in range(120)]
    texts += [text[:-1] for text in texts[:40]] + [f"{text} now" for text in texts[20:60]]
    expected = long_way(texts, None, threshold)
    assert len(expected) > 50
    assert pairs(near_duplicates(texts, threshold=threshold).frame()) == expected


@given(TEXTS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_pair(texts: list[str], random: object) -> None:
    rows = random.sample(range(len(texts)), len(texts))  # type: ignore[attr-defined]
    shuffled = pairs(near_duplicates([texts[row] for row in rows], threshold=0.5).frame())
    found = {tuple(sorted((rows[i], rows[j]))): value for (i, j), value in shuffled.items()}
    assert found == pairs(near_duplicates(texts, threshold=0.5).frame())


@given(TEXTS)
def test_a_list_against_itself_has_each_pair_both_ways(texts: list[str]) -> None:
    one = pairs(near_duplicates(texts, threshold=0.7).frame())
    both = pairs(near_duplicates(texts, texts, threshold=0.7).frame())
    there = {(i, i): 1.0 for i, text in enumerate(texts) if shingles(text)}
    assert both == one | {(j, i): value for (i, j), value in one.items()} | there


def test_case_punctuation_and_white_space_do_not_count() -> None:
    texts = ["Don't  top-up, £10 NOW!", "dont top up £10 now", "Don’t top\tup £10\nnow.", "don't top up €10 now"]
    twins = near_duplicates(texts, threshold=0.6)
    assert twins.exact == 3
    assert twins.frame().query("exact")[["left", "right"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 2]]
    assert near_duplicates(texts, threshold=1.0).rows.tolist() == [0, 1, 2]


def test_texts_without_a_word_have_no_twin() -> None:
    twins = near_duplicates(["", " ", "?!", None, float("nan"), "\u200e", "...", pd.NA, ""], threshold=0.01)
    assert (twins.n, len(twins.frame())) == ((0,), 0)
    assert "No pair" in twins.plot().texts[0].get_text()


def test_the_shortest_texts_have_twins() -> None:
    twins = near_duplicates(["a", "A!", "😀", "😀", "ok", 1, 1.0, "b"])
    assert twins.frame()[["left", "right"]].to_numpy().tolist() == [[0, 1], [2, 3], [5, 6]]


def test_alike_in_every_shingle_is_not_the_same_text() -> None:
    frame = near_duplicates(["haaaa", "haaaaaa"], threshold=1.0).frame()
    assert frame[["similarity", "exact"]].to_numpy().tolist() == [[1.0, False]]


def test_two_labels_of_one_text_are_a_conflict() -> None:
    texts = ["Where is my card?", "where is my card", "where is my card!", "Fees"]
    twins = near_duplicates(texts, labels=["a", "b", None, "b"])
    frame = twins.frame()
    assert frame[["left", "right"]].to_numpy().tolist() == [[0, 1], [0, 2], [1, 2]]
    assert frame["conflict"].isna().tolist() == [False, True, True]
    assert twins.conflicts[["left", "right", "left_label", "right_label"]].to_numpy().tolist() == [[0, 1, "a", "b"]]
    assert twins.plot().get_legend() is not None
    assert near_duplicates(texts).conflicts.empty


def test_twins_of_the_test_part_are_counted_by_its_rows() -> None:
    twins = near_duplicates(
        pd.Series(["lost card", "Lost card"], index=[7, 9]), ["x", "lost card!"], labels=["a", "a"], test_labels=[1, 1]
    )
    assert twins.rows.tolist() == [1]
    assert twins.n == (2, 2)
    assert twins.frame()["left_text"].tolist() == ["lost card", "Lost card"]
    assert twins.conflicts["right_label"].tolist() == [1, 1]
    assert "2 pairs" in repr(twins)
    assert "lost card!" in twins._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        ((["a"],), {"threshold": 0}, ParamsError, r"threshold == 0, must be in \(0, 1\]"),
        ((["a"],), {"threshold": float("nan")}, ParamsError, r"must be in \(0, 1\]"),
        (("one text",), {}, DataError, "train_texts is one str"),
        ((["a"], "one text"), {}, DataError, "test_texts is one str"),
        ((["a"],), {"labels": []}, ParamsError, "0 labels for 1 texts"),
        ((["a"], ["b"]), {"labels": ["x"]}, ParamsError, "those of every list, or none"),
        ((["a"], ["b"]), {"test_labels": ["x"]}, ParamsError, "those of every list, or none"),
        ((["a"],), {"test_labels": ["x"]}, ParamsError, "those of every list, or none"),
        ((["a"], ["b"]), {"labels": ["x"], "test_labels": []}, ParamsError, "0 test_labels for 1 texts"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        near_duplicates(*arguments, **options)


def test_more_pairs_than_can_be_held_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 45)
    assert len(near_duplicates(["same"] * 10).frame()) == 45
    with pytest.raises(DataError, match=r"55 pairs of texts are alike, must be at most 45\. Raise threshold"):
        near_duplicates(["same"] * 11)
    with pytest.raises(DataError, match="48 pairs"):
        near_duplicates(["same"] * 8, ["same"] * 6)


def test_banking77_is_searched_in_seconds(mirror: Path) -> None:
    paths = [mirror / "banking77" / name for name in ("train.csv", "test.csv")]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"{paths[0].parent} does not hold train.csv and test.csv")
    train, test = map(pd.read_csv, paths)
    started = time.process_time()
    twins = near_duplicates(train["text"], test["text"], labels=train["category"], test_labels=test["category"])
    assert time.process_time() - started < 20  # measured: 1
    assert (twins.n, len(twins.frame()), twins.exact, len(twins.rows), len(twins.conflicts)) == (
        (10_003, 3_080), 428, 26, 334, 22,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    some = sorted(rng.choice(len(test), 20, replace=False))
    expected = long_way(train["text"].tolist(), test["text"].iloc[some].tolist(), 0.6)
    found = near_duplicates(train["text"], test["text"].iloc[some], threshold=0.6).frame()
    assert pairs(found) == expected
