"""Early alarms: each case counts once, a threshold keeps its word where it was chosen, no alarm knows the future."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.metrics.bootstrap import wilson
from cxlab.metrics.classification import roc_auc
from cxlab.metrics.earliness import earliness

CASE = ["a", "a", "a", "a", "b", "b", "c", "c", "d"]
POSITION = [1, 2, 3, 4, 1, 2, 1, 2, 1]
OUTCOME = [1, 1, 1, 1, 1, 1, 0, 0, 0]
SCORE = [0.1, 0.9, 0.2, 0.95, 0.3, 0.4, 0.85, 0.2, 0.1]
# Cases with an alarm from 0.5 on: v, w, x (2 of 3 positive); from 0.8 on: v and w, both positive.
CHOSEN_ON = (["v", "w", "x", "y"], [1, 1, 1, 1], [1, 1, 0, 0], [0.9, 0.8, 0.5, 0.1])


@st.composite
def prefixes(draw, name="c"):
    """Prefixes of a few cases, 1 to some, with tied scores."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=2, max_size=12))
    case = np.repeat([f"{name}{i}" for i in range(len(lengths))], lengths)
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    outcome = np.repeat(draw(st.lists(st.integers(0, 1), min_size=len(lengths), max_size=len(lengths))), lengths)
    score = np.array(draw(st.lists(st.integers(0, 6), min_size=len(case), max_size=len(case)))) / 6
    return case, position, outcome, score


def world(rng, cases, name, longest=12):
    """A score that knows more with each event seen."""
    lengths = rng.integers(3, longest, cases)
    case = np.repeat([f"{name}{i:05d}" for i in range(cases)], lengths)
    position = np.concatenate([np.arange(1, length + 1) for length in lengths])
    outcome = np.repeat(rng.random(cases) < 0.3, lengths).astype(int)
    steps = rng.normal(np.where(outcome == 1, 0.5, -0.5), 1.0)
    score = np.array([steps[start : start + 1 + back].sum() for start, back in _walk(lengths)])
    return case, position, outcome, score


def _walk(lengths):
    starts = np.cumsum(lengths) - lengths
    return [(start, back) for start, length in zip(starts, lengths, strict=True) for back in range(length)]


@given(prefixes("v"), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_the_threshold_is_the_lowest_that_keeps_its_word(chosen_on, precision):
    found = earliness(CASE, POSITION, OUTCOME, SCORE, chosen_on=chosen_on, precision=precision)
    case, _, outcome, score = chosen_on
    kept = []
    for threshold in {score[case == own].max() for own in case}:
        alarmed = {c: y for c, y, s in zip(case, outcome, score, strict=True) if s >= threshold}
        if np.mean(list(alarmed.values())) >= precision:
            kept.append(threshold)
    assert found.threshold == (min(kept) if kept else np.inf)
    if kept:
        assert found.chosen.value >= precision
    else:
        assert found.counts == (0, 0)
        assert (
            found.note
            == f"No threshold gives alarms that are right {100 * precision:g} % of the time, so there are none."
        )


@given(prefixes(), prefixes("v"), st.integers(0, 99))
def test_shuffling_rows_changes_nothing(rows, chosen_on, seed):
    order = np.random.default_rng(seed).permutation(len(rows[0]))
    other = np.random.default_rng(seed).permutation(len(chosen_on[0]))
    one = earliness(*rows, chosen_on=chosen_on)
    two = earliness(*(part[order] for part in rows), chosen_on=tuple(part[other] for part in chosen_on))
    np.testing.assert_allclose(one.frame(), two.frame())
    np.testing.assert_allclose(one.alarms().iloc[:, 1:], two.alarms().iloc[:, 1:])
    assert one.threshold == two.threshold


@given(prefixes(), prefixes("v"), st.floats(-1, 2))
def test_events_after_the_alarm_change_no_alarm(rows, chosen_on, later):
    case, position, outcome, score = rows
    lengths = np.array([(case == own).sum() for own in case])
    one = earliness(*rows, chosen_on=chosen_on, length=lengths, precision=0.5)
    first = {c: p for c, p, s in zip(case[::-1], position[::-1], score[::-1], strict=True) if s >= one.threshold}
    after = np.array([p > first.get(c, 99) for c, p in zip(case, position, strict=True)])
    two = earliness(
        case, position, outcome, np.where(after, later, score), chosen_on=chosen_on, length=lengths, precision=0.5
    )
    np.testing.assert_allclose(one.alarms().iloc[:, 1:], two.alarms().iloc[:, 1:])


@given(prefixes(), prefixes("v"))
def test_the_curve_is_one_row_a_case_and_ends_with_all_that_is_found(rows, chosen_on):
    case, position, outcome, score = rows
    found = earliness(*rows, chosen_on=chosen_on, precision=0.5)
    frame = found.frame()
    assert frame.events_seen.tolist() == sorted(set(position))
    for row in frame.itertuples():
        own = position == row.events_seen
        assert (row.n, row.positives) == (own.sum(), outcome[own].sum())
        assert row.auc == pytest.approx(roc_auc(outcome[own], score[own]), nan_ok=True)
    assert frame.found.iloc[-1] == pytest.approx(found.found.value, nan_ok=True)
    assert (np.diff(frame.found.fillna(0)) >= 0).all()
    assert found.n == len(set(case))


def test_alarms_by_hand():
    elapsed = [0, 2, 3, 10, 0, 5, 0, 1, 0]
    found = earliness(CASE, POSITION, OUTCOME, SCORE, chosen_on=CHOSEN_ON, precision=0.7, elapsed=elapsed)
    assert (found.threshold, found.chosen.value) == (0.8, 1.0)  # 0.5 would be right 2 times of 3
    assert (found.n, found.positives, found.counts) == (4, 2, (2, 1))  # a at its second event, c wrongly
    facts = found.alarms().set_index("fact")
    assert facts.value.tolist() == [0.5, 0.5, 2, 0.5, 8]
    assert facts.n.tolist() == [2, 2, 1, 1, 1]
    np.testing.assert_allclose(found.precision[1:], np.ravel(wilson(1, 2)))
    assert found.frame().found.tolist() == [0, 0.5, 0.5, 0.5]
    assert earliness(CASE, POSITION, OUTCOME, SCORE, chosen_on=CHOSEN_ON, precision=0.6).threshold == 0.5


def test_length_and_time_are_those_of_the_whole_case():
    lengths = [8, 8, 8, 8, 2, 2, 2, 2, 1]
    found = earliness(CASE, POSITION, OUTCOME, SCORE, chosen_on=CHOSEN_ON, length=lengths)
    assert found.share.value == 0.25
    assert np.isnan(found.left.value)


def test_a_score_that_learns_with_each_event_is_seen_to():
    rng = np.random.default_rng(0)
    found = earliness(*world(rng, 1500, "t"), chosen_on=world(rng, 1500, "v"), precision=0.7)
    frame = found.frame()
    assert frame.auc.iloc[0] < frame.high.iloc[0] < frame.low.iloc[5]
    assert found.precision.low <= found.chosen.high
    assert found.chosen.low <= found.precision.high
    assert 1 < found.events.low <= found.events.value <= found.events.high
    strict = earliness(*world(rng, 1500, "t"), chosen_on=world(rng, 1500, "v"), precision=0.9)
    assert strict.found.high < found.found.low


def test_a_score_that_says_nothing_finds_nothing():
    rng = np.random.default_rng(1)
    case, position, outcome, _ = world(rng, 800, "t")
    others = world(rng, 800, "v")[:3]
    noise = earliness(
        case, position, outcome, rng.random(len(case)), chosen_on=(*others, rng.random(len(others[0]))), precision=0.9
    )
    assert noise.counts[0] < 40
    assert ((noise.frame().low <= 0.5) & (noise.frame().high >= 0.5)).mean() >= 0.7


def test_the_median_s_interval_holds_it():
    """200 draws; at most two standard errors below the promised 95 %."""
    rng = np.random.default_rng(2)
    held = []
    for _ in range(200):
        left = rng.exponential(1.0, 30)
        case = np.repeat(np.arange(30), 2)
        elapsed = np.column_stack([np.zeros(30), left]).ravel()
        score = np.tile([1.0, 0.0], 30)
        found = earliness(
            case, np.tile([1, 2], 30), np.ones(60), score, chosen_on=([99], [1], [1], [1.0]), elapsed=elapsed
        )
        held.append(found.left.low <= np.log(2) <= found.left.high)
    assert np.mean(held) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"case": []}, r"case has shape \(0,\), must be \(n,\) with n >= 1"),
        ({"score": [1.0]}, r"score has shape \(1,\), must be \(n,\)"),
        ({"case": ["a", None, *CASE[2:]]}, "case is missing in row 1"),
        ({"outcome": [2, *OUTCOME[1:]]}, "outcome is 2 in row 0, must be 0 or 1"),
        ({"outcome": [0, *OUTCOME[1:]]}, "Case 'a' has both outcomes"),
        ({"score": [np.nan, *SCORE[1:]]}, "score is nan in row 0, must be a finite number"),
        ({"position": [0, *POSITION[1:]]}, "position is 0 in row 0, must be a whole number >= 1"),
        ({"position": [2, *POSITION[1:]]}, "Case 'a' has position 2 twice"),
        ({"precision": 80}, r"precision == 80, must be in \(0, 1\]"),
        ({"most": 0}, "most == 0, must be >= 1"),
        ({"level": 95}, r"level == 95, must be in \(0, 1\)"),
        ({"length": [3] * 9}, "length is 3 in row 3, must be at least its position, 4"),
        ({"elapsed": [1.0]}, r"elapsed has shape \(1,\) or no numbers"),
        ({"chosen_on": (["a"], [1], [1], [0.5])}, "Case 'a' is also in chosen_on"),
    ],
)
def test_an_error_says_what_is_wrong(changed, message):
    given_ = {"case": CASE, "position": POSITION, "outcome": OUTCOME, "score": SCORE, "chosen_on": CHOSEN_ON}
    with pytest.raises(ValueError, match=message):
        earliness(**(given_ | changed))


def test_a_result_is_drawn_and_shown():
    found = earliness(CASE, POSITION, OUTCOME, SCORE, chosen_on=CHOSEN_ON)
    assert found.plot().get_title(loc="left") == "4 cases, 2 positive"
    assert found.title in found._repr_html_()
    assert "was right 100 % of the time where it was chosen, and here 1 of 2 times, which finds 1 of 2" in found.note
    plt.close("all")
