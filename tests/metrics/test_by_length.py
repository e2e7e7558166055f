"""Metrics by events seen: the lengths make up the whole, and intervals are of cases."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.by_length import LENGTHS, by_length, per_event, share_by_case
from cxlab.metrics.intervals import FEWEST
from cxlab.metrics.multiclass import log_loss, per_class


def prefixes(seed: int, cases: int = 60, k: int = 4) -> tuple[np.ndarray, ...]:
    """y, probability, position, case."""
    rng = np.random.default_rng(seed)
    lengths = rng.geometric(0.2, cases)
    case = np.repeat(np.arange(cases), lengths)
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    return rng.integers(0, k, len(case)), rng.dirichlet(np.ones(k), len(case)), position, case


@given(st.integers(0, 2**31), st.integers(2, 80))
def test_lengths_make_up_the_whole(seed: int, cases: int) -> None:
    y, p, position, case = prefixes(seed, cases)
    found = by_length(y, p, position, case, resamples=5)
    for name, part in found.frame().groupby("metric"):
        assert part["n"].sum() == len(y)
        if name != "ece":
            assert np.average(part["value"], weights=part["n"]) == pytest.approx(found.whole[str(name)])
    reached = found.frame().drop_duplicates("events_seen")["cases"]
    assert (reached >= min(FEWEST, reached.max())).all() or len(reached) == 1


@given(st.integers(0, 2**31))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    y, p, position, case = prefixes(seed)
    order = np.random.default_rng(seed).permutation(len(y))
    one = by_length(y, p, position, case, resamples=50)
    other = by_length(y[order], p[order], position[order], case[order], resamples=50)
    for name in ("value", "low", "high"):
        assert one.frame()[name].to_numpy() == pytest.approx(other.frame()[name].to_numpy())


def test_a_group_is_the_metric_of_its_rows() -> None:
    y, p, position, case = prefixes(3, 400)
    found = by_length(y, p, position, case, metrics=[log_loss], resamples=20).frame().set_index("events_seen")
    there = (position == 6) | (position == 7)
    assert found.loc["6 to 7", "value"] == pytest.approx(log_loss(y[there], p[there]))
    assert found.loc["6 to 7", "cases"] == len(np.unique(case[there]))
    assert list(found.index[:5]) == ["1", "2", "3", "4", "5"] and found.index[-1].endswith("and more")
    assert set(LENGTHS) >= {1, 2, 3, 4, 5, 6, 8, 12}


def test_rows_of_a_case_that_say_the_same_are_worth_one() -> None:
    """Copies of each row within its case widen nothing and narrow nothing."""
    rng = np.random.default_rng(0)
    y, p, case = rng.integers(0, 3, 80), rng.dirichlet(np.ones(3), 80), np.arange(80)
    one = by_length(y, p, np.ones(80, int), case).frame()
    position = np.tile(np.arange(1, 21), 80)
    many = by_length(np.repeat(y, 20), np.repeat(p, 20, axis=0), position, np.repeat(case, 20)).frame()
    first = many[many["events_seen"] == "1"].reset_index(drop=True)
    assert first[["value", "low", "high"]].equals(one[["value", "low", "high"]])
    hits = (p.argmax(axis=1) == y).astype(int)
    alone = share_by_case(hits, np.ones(80), case)
    assert share_by_case(np.repeat(hits, 20), np.ones(1600), np.repeat(case, 20)) == pytest.approx(alone)


@given(st.integers(1, 60), st.integers(0, 60))
def test_with_one_row_a_case_a_share_has_wilsons_interval(n: int, hits: int) -> None:
    hit = (np.arange(n) < hits).astype(int)
    share, low, high = share_by_case(hit, np.ones(n), np.arange(n))
    assert share == pytest.approx(hit.mean())
    assert (low, high) == pytest.approx([float(end) for end in wilson(hit.sum(), n)])


def test_intervals_hold_the_truth_where_cases_differ() -> None:
    """Cases of 1 to 15 rows, each with a rate of its own; 95 % intervals hold the mean rate in at least 90 of 100."""
    rng, held, naive = np.random.default_rng(1), [], []
    for _ in range(400):
        lengths = rng.integers(1, 16, 60)
        case = np.repeat(np.arange(60), lengths)
        hit = rng.random(len(case)) < rng.beta(1.4, 0.6, 60)[case]
        _, low, high = share_by_case(hit, np.ones(len(hit)), case)
        held.append(low <= 0.7 <= high)
        ends = wilson(hit.sum(), len(hit))
        naive.append(ends[0] <= 0.7 <= ends[1])
    assert np.mean(held) >= 0.92
    assert np.mean(naive) < 0.75


def test_nothing_to_count_is_no_share() -> None:
    assert np.isnan(share_by_case([0, 0], [0, 0], [0, 1])).all()


def test_events_have_the_figures_of_classes_and_intervals_of_cases() -> None:
    y, p, _, case = prefixes(5, 200, k=3)
    found, plain = per_event(y, p, ["a", "b", "c"], case).frame(), per_class(y, p, ["a", "b", "c"]).frame()
    same = ["class", "n", "predicted", "right", "precision", "recall", "f1"]
    assert found[same].equals(plain[same])
    copies = per_event(np.repeat(y, 9), np.repeat(p, 9, axis=0), ["a", "b", "c"], np.repeat(case, 9)).frame()
    for name in ("precision_low", "recall_high", "f1_low", "f1_high"):
        assert copies[name].to_numpy() == pytest.approx(found[name].to_numpy(), abs=0.01)
        assert found[name].between(0, 1).all()
    alone = per_event(y, p, ["a", "b", "c"], np.arange(len(y))).frame()
    assert alone["f1_low"].to_numpy() == pytest.approx(plain["f1_low"].to_numpy())


def test_events_that_never_are_do_not_appear() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    assert set(per_event([0, 1], p, ["a", "b", "c"], [0, 1]).frame()["class"]) == {"a", "b"}


def test_it_is_drawn_and_shown() -> None:
    found = by_length(*prefixes(2, 200), resamples=20)
    assert found.plot("ece").get_title(loc="left").startswith("Expected calibration error")
    assert list(found.wide().columns[:4]) == ["events_seen", "n", "cases", "accuracy"]
    assert len(found.wide()) == found.frame()["events_seen"].nunique()
    with pytest.raises(ParamsError, match="Did you mean 'accuracy'"):
        found.plot("acuracy")


def test_what_does_not_fit_is_refused() -> None:
    y, p, position, case = prefixes(1)
    with pytest.raises(ValueError, match="position has shape"):
        by_length(y, p, position[1:], case)
    with pytest.raises(ValueError, match="must be whole numbers >= 1"):
        by_length(y, p, position - 1, case)
    with pytest.raises(ValueError, match="case has shape"):
        per_event(y, p, list("abcd"), case[1:])
