from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.timeline import LABELS, WORDS, timeline
from cxlab.errors import DataError

START = pd.Timestamp("2025-01-01", tz="UTC")
KINDS = ["page_view", "login", "complaint", "order"]


def events(*rows: tuple[str | None, str, float], **held: object) -> pd.DataFrame:
    """Customer, kind and hours since the start, each received a minute later; `held` are properties of all."""
    at = [START + pd.Timedelta(hours=hours) for *_, hours in rows]
    return pd.DataFrame(
        {
            "event_id": [f"e{number:05d}" for number in range(len(rows))],
            "customer_id": [customer for customer, *_ in rows],
            "occurred_at": pd.Series(at, dtype="datetime64[us, UTC]"),
            "received_at": pd.Series(at, dtype="datetime64[us, UTC]") + pd.Timedelta(minutes=1),
            "channel": ["email" if kind == "complaint" else "web" for _, kind, _ in rows],
            "event": [kind for _, kind, _ in rows],
            "properties": [json.dumps(held)] * len(rows),
        }
    )


@st.composite
def streams(draw: st.DrawFn) -> pd.DataFrame:
    row = st.tuples(st.sampled_from(["a", "b", "c"]), st.sampled_from(KINDS), st.integers(0, 5))
    return events(*draw(st.lists(row, min_size=1, max_size=40)))


@given(streams(), st.integers(0, 9))
def test_the_order_of_rows_changes_no_timeline(frame: pd.DataFrame, seed: int) -> None:
    shuffled = frame.sample(frac=1, random_state=seed)
    one, other = timeline(frame), timeline(shuffled)
    assert (one.customer, one.rare) == (other.customer, other.rare)
    pd.testing.assert_frame_equal(one.frame(), other.frame())


@given(streams())
def test_every_event_of_the_customer_and_no_other_is_there_in_order(frame: pd.DataFrame) -> None:
    for customer, mine in frame.groupby("customer_id"):
        rows = timeline(frame, str(customer)).frame()
        assert rows["at"].is_monotonic_increasing
        assert sorted(rows["event"]) == sorted(mine["event"])


@given(streams())
def test_without_a_name_it_is_who_did_the_most_different_things(frame: pd.DataFrame) -> None:
    by = {str(name): (-mine["event"].nunique(), -len(mine), name) for name, mine in frame.groupby("customer_id")}
    assert timeline(frame).customer == min(by, key=lambda name: by[name])


@given(streams())
def test_no_two_labels_overlap(frame: pd.DataFrame) -> None:
    ax = timeline(frame).plot()
    renderer = ax.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]
    plt.close("all")


def test_one_event_is_a_timeline() -> None:
    story = timeline(events(("a", "order", 2), amount=9.5, note=None))
    assert story.frame().to_dict("records") == [
        {
            "at": START + pd.Timedelta(hours=2),
            "channel": "web",
            "event": "order",
            "what": "amount 9.5",
            "received_after_h": pytest.approx(1 / 60),
        }
    ]
    assert story.rare == ()  # the only kind is no rarer than the average
    assert not story.plot().texts
    assert "not to be put on pages that others read" in story._repr_html_()


def test_events_of_one_time_are_drawn_and_keep_the_order_of_their_receipt() -> None:
    frame = events(*[("a", kind, 1) for kind in [*KINDS, "page_view", "page_view", "page_view"]])
    frame["received_at"] += pd.to_timedelta(np.arange(len(frame))[::-1], unit="min")
    story = timeline(frame)
    assert story.frame()["event"].tolist() == frame["event"].tolist()[::-1]
    assert {text.get_text() for text in story.plot().texts} == {"complaint", "login", "order"}


def test_an_event_of_unknown_receipt_has_no_delay() -> None:
    frame = events(("a", "order", 1), ("a", "login", 2))
    frame.loc[0, "received_at"] = pd.NaT
    assert timeline(frame).frame()["received_after_h"].isna().tolist() == [True, False]


def test_a_thousand_events_are_drawn_with_few_labels_and_those_of_rare_kinds() -> None:
    frequent = [("a", "page_view", hour) for hour in range(950)]
    story = timeline(events(*frequent, *[("a", KINDS[1 + hour % 3], hour * 20.5) for hour in range(50)]))
    ax = story.plot()
    assert len(story.frame()) == sum(len(line.get_xdata()) for line in ax.lines) == 1000
    said = [text.get_text() for text in ax.texts]
    assert len(said) <= LABELS
    assert set(said) == {"login", "complaint", "order"}


def test_properties_are_words_cut_short() -> None:
    said = timeline(events(("a", "contact", 0), intent="password", resolved=True, hold_seconds=12)).frame()["what"][0]
    assert said == "intent password, resolved yes, hold seconds 12"
    assert len(timeline(events(("a", "contact", 0), text="x" * 999)).frame()["what"][0]) == WORDS


def test_who_is_not_there_is_named_with_the_nearest() -> None:
    frame = events(("anna", "order", 0), ("bert", "order", 1), (None, "order", 2))
    with pytest.raises(DataError, match=r"Customer 'ana' is not in the events. Did you mean 'anna'\?"):
        timeline(frame, "ana")
    with pytest.raises(DataError, match="None of 1 events has a customer_id"):
        timeline(frame.tail(1))
    with pytest.raises(DataError, match="Column 'channel' is not in the data"):
        timeline(frame.drop(columns="channel"))
