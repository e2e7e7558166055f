"""Cases that behave alike are found where they are planted, and none where there is one process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, silhouette_score

from cxlab.errors import DataError, ParamsError
from cxlab.journey.behaviour import NOBODY, Behaviours, find_behaviours
from cxlab.journey.behaviour_features import GROUPS, Recipe
from cxlab.journey.behaviour_groups import OneProcess, silhouette
from cxlab.journey.events import steps

KINDS = ("browse", "buy", "call", "chat", "pay")
BEGIN = pd.Timestamp("2024-01-01")
STICKY = np.full((5, 5), 0.1) + 0.5 * np.eye(5)  # an event is likely to come again
LENGTH = 12


def log_of(n: int, seed: int, *, chances: Any = STICKY, gap: float = 24, hour: int | None = None) -> pd.DataFrame:
    """Cases of one process: a Markov chain, hours between events on average, all within five hours from one on."""
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(n):
        code, at = int(rng.integers(5)), float(rng.uniform(0, 24 * 60))
        for _ in range(4 + rng.poisson(LENGTH)):
            clock = at if hour is None else at // 24 * 24 + hour + rng.uniform(0, 5)
            rows.append((f"{seed}-{case:04d}", KINDS[code], BEGIN + pd.Timedelta(hours=clock)))
            code, at = int(rng.choice(5, p=chances[code])), at + rng.exponential(gap) + 24 * (hour is not None)
    return pd.DataFrame(rows, columns=["case", "event", "time"]).drop_duplicates(["case", "time"])


def likes(kind: str) -> np.ndarray:
    row = np.where(np.array(KINDS) == kind, 0.6, 0.1)
    return np.tile(row, (5, 1))


def planted(seed: int) -> pd.DataFrame:
    """Three kinds of customers, told apart by what they do."""
    parts = [log_of(60, 10 * seed + i, chances=likes(kind)) for i, kind in enumerate(("browse", "call", "pay"))]
    return pd.concat(parts, ignore_index=True)


def truth(found: Behaviours) -> list[str]:
    return [case.split("-")[0] for case in found.cases["case"]]


def blobs(seed: int, k: int, *, n: int = 150, apart: float = 6.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    which = rng.integers(0, k, n)
    middle = apart * np.eye(4)[:k]
    frame = pd.DataFrame(rng.normal(size=(n, 4)) + middle[which], columns=["calls", "logins", "bills", "visits"])
    return frame.set_axis([f"{group}-{row:03d}" for row, group in enumerate(which)])


@pytest.fixture(scope="module")
def found() -> Behaviours:
    return find_behaviours(planted(1))


# ---- laws


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=25))
def test_the_silhouette_is_that_of_scikit_learn(rows: list[tuple[int, int, int]]) -> None:
    codes, points = np.array([row[0] for row in rows]), np.array([row[1:] for row in rows], float)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    there = codes >= 0
    groups = len(set(codes[there]))
    expected = 0.0
    if 2 <= groups < there.sum():
        expected = silhouette_score(points[there], codes[there]) * there.mean()
    assert silhouette(distances, codes) == pytest.approx(expected)


@settings(max_examples=8)
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from("abc"), st.integers(0, 10**6)), min_size=1, max_size=40,
        unique_by=lambda event: (event[0], event[2]),
    ),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_features_are_those_of_the_long_way(events: list, random: Any) -> None:
    log = pd.DataFrame(events, columns=["case", "event", "second"])
    log["time"] = BEGIN + pd.to_timedelta(log["second"], "s")
    held = steps(log.iloc[random.sample(range(len(log)), len(log))])
    recipe = Recipe.learn(held, GROUPS)
    found = recipe.read(held)
    assert [feature.name for feature in recipe.features()] == list(found)
    for case, part in log.sort_values("time").groupby("case"):
        row, names, hours = found.loc[str(case)], part["event"].tolist(), part["second"].to_numpy() / 3600
        gaps = np.diff(hours) if len(hours) > 1 else np.zeros(1)
        n, days = len(names), (hours[-1] - hours[0]) / 24
        expected = {"events": n, "kinds of events": len(set(names)), "days": days, "events a day": n / max(days, 1)}
        expected |= {"hours between events": np.median(gaps), "hours of the longest gap": gaps.max()}
        expected |= {"share come again": 1 - len(set(names)) / n}
        expected |= {"share straight again": np.mean([*np.equal(names[1:], names[:-1]), False])}
        for kind in set(log["event"]):
            expected |= {f"count of {kind}": names.count(kind), f"share of {kind}": names.count(kind) / n}
        for part_of_day, first in (("at night", 0), ("in the morning", 6), ("in the afternoon", 12)):
            expected[f"share {part_of_day}"] = np.mean((hours % 24 // 6) == first // 6)
        for end, kind in (("begins", names[0]), ("ends", names[-1])):
            expected[f"{end} with {kind}"] = 1
        for name, value in expected.items():
            assert row[name] == pytest.approx(value), name


def test_the_order_of_rows_changes_no_segment(found: Behaviours) -> None:
    again = find_behaviours(planted(1).sample(frac=1, random_state=3))
    pd.testing.assert_frame_equal(again.frame(), found.frame())
    pd.testing.assert_frame_equal(again.cases, found.cases)
    pd.testing.assert_frame_equal(again.differences(), found.differences())
    pd.testing.assert_frame_equal(again.numbers, found.numbers)


def test_one_process_draws_cases_like_those_it_learnt_of() -> None:
    log = log_of(300, 5, hour=9)
    held = steps(log)
    events = held.ask(held.table.order_by("case", "position")).astype({"event": str})
    drawn = OneProcess.learn(events).draw(2_000, np.random.default_rng(0))
    assert drawn["case"].nunique() == 2_000
    assert drawn.groupby("case").size().mean() == pytest.approx(log.groupby("case").size().mean(), rel=0.05)
    assert set(drawn["time"].dt.hour) == set(log["time"].dt.hour)
    pairs = [frame[frame["next_event"] != "(end)"] for frame in (events, drawn)]
    stay = [(part["event"] == part["next_event"]).mean() for part in pairs]
    assert stay[1] == pytest.approx(stay[0], abs=0.02)
    same = steps(drawn[["case", "event", "time"]])
    back = same.ask(same.table.order_by("case", "position"))
    assert back["next_event"].tolist() == drawn["next_event"].tolist()
    assert back["position"].tolist() == drawn["position"].tolist()


# ---- what is planted is found, and nothing where nothing is


def test_planted_customers_are_found(found: Behaviours) -> None:
    assert found.k == 3
    assert found.made_of == ("mix",)
    assert adjusted_rand_score(truth(found), found.cases["segment"]) > 0.9
    assert (found.frame()["trust"] == "stable").all()
    assert found.agreement.mean() > 0.9
    names = " ".join(found.frame()["name"])
    assert all(f"much {kind}" in names for kind in ("browse", "call", "pay"))


def test_night_owls_are_found_and_those_of_new_cases() -> None:
    log = pd.concat([log_of(60, 1, hour=22), log_of(60, 2, hour=9)])
    got = find_behaviours(log)
    assert got.made_of == ("daypart",)
    assert adjusted_rand_score(truth(got), got.cases["segment"]) == 1.0
    night = int(got.frame()["name"].str.contains("at night").idxmax())
    owls = got.named({night: "night owls"})
    new = owls.assign(log_of(40, 7, hour=22))
    assert set(new["name"]) == {"night owls"}
    assert len(new) == 40
    assert "night owls" in set(owls.differences()["name"])
    assert set(owls.column()) == set(owls.frame()["name"])
    assert got.frame()["name"].iloc[night] != "night owls"


@pytest.mark.parametrize(("seed", "hour"), [(1, None), (2, 9)])
def test_one_process_has_no_segments(seed: int, hour: int | None) -> None:
    got = find_behaviours(log_of(60, seed, hour=hour))
    assert got.k == 1
    assert got.frame()[["name", "n", "share"]].to_numpy().tolist() == [["everybody", 60, 1.0]]
    assert got.note.startswith("No segments found among 60 cases: no groups are more apart than chance makes them")
    assert got.differences().empty
    assert set(got.column()) == {"everybody"}
    assert got.plot().texts[0].get_text().startswith("No segments found")


@pytest.mark.parametrize("seed", range(2))
def test_one_blob_has_no_segments_and_three_have_three(seed: int) -> None:
    stretched = blobs(seed, 1) * [1, 2, 4, 8]
    assert find_behaviours(stretched, seed=seed).k == 1
    three = find_behaviours(blobs(seed, 3), seed=seed)
    assert three.k == 3
    assert adjusted_rand_score(truth(three), three.cases["segment"]) == 1.0


def test_dense_groups_are_found_and_what_is_far_from_all_is_in_none() -> None:
    frame = pd.concat([blobs(0, 3, n=300, apart=14.0), blobs(9, 1, n=4) * 40 + 90])
    frame.index = [*frame.index[:300], *(f"far-{i}" for i in range(4))]
    got = find_behaviours(frame, how="hdbscan")
    assert got.k == 3
    inside = got.cases["segment"] >= 0
    assert adjusted_rand_score(np.array(truth(got))[inside], got.cases["segment"][inside]) == 1.0
    assert (got.column()[[f"far-{i}" for i in range(4)]] == NOBODY).all()
    last = got.frame().iloc[-1]
    assert (last["segment"], last["name"]) == (-1, NOBODY)
    assert got.frame()["n"].sum() == 304
    pd.testing.assert_frame_equal(got.assign(frame)[["case", "segment"]], got.cases[["case", "segment"]])
    with pytest.raises(ParamsError, match="segment == -1, must be one of 0, 1, 2"):
        got.named({-1: "strays"})
    assert find_behaviours(blobs(0, 1), how="hdbscan").k == 1


def test_embeddings_make_segments_that_features_describe() -> None:
    log = log_of(90, 3)
    cases = sorted(set(log["case"]))
    rng = np.random.default_rng(0)
    half = np.arange(90) % 2
    vectors = pd.DataFrame(rng.normal(size=(90, 6)) + 9 * half[:, None], index=cases)
    got = find_behaviours(log, embeddings=vectors.sample(frac=1, random_state=0))
    assert adjusted_rand_score(half, got.cases["segment"]) == 1.0
    assert "events" in set(got.differences()["feature"])
    again = got.assign(log, embeddings=vectors)
    assert again["segment"].tolist() == got.cases["segment"].tolist()
    with pytest.raises(ParamsError, match=r"found in embeddings\. Give those of these cases"):
        got.assign(log)
    with pytest.raises(DataError, match=r"1 of 90 cases have no embedding \(case '3-0000'\)"):
        find_behaviours(log, embeddings=vectors.iloc[1:])
    with pytest.raises(DataError, match="embeddings have 5 columns, must have 6"):
        got.assign(log, embeddings=vectors.iloc[:, :5])
    with pytest.raises(DataError, match="embeddings are a ndarray"):
        find_behaviours(log, embeddings=vectors.to_numpy())


# ---- the result


def test_the_counts_add_up_and_new_cases_fit(found: Behaviours) -> None:
    frame = found.frame()
    assert frame["n"].sum() == found.n == 180
    assert frame["n"].is_monotonic_decreasing
    assert ((frame["low"] <= frame["share"]) & (frame["share"] <= frame["high"])).all()
    again = found.assign(planted(1))
    pd.testing.assert_frame_equal(again[["case", "segment", "distance"]], found.cases)
    strange = planted(1).replace({"event": {"buy": "never seen"}})
    assert len(found.assign(strange)) == 180


def test_the_column_joins_to_a_table(found: Behaviours) -> None:
    customers = pd.DataFrame({"customer_id": [*found.cases["case"][:5], "who"]})
    joined = customers.join(found.column(), on="customer_id")
    assert joined["behaviour"].notna().tolist() == [True] * 5 + [False]
    assert joined["behaviour"].tolist()[:5] == found.column().tolist()[:5]


def test_differences_are_in_natural_units_and_hold_zero_where_nothing_differs(found: Behaviours) -> None:
    table = found.differences()
    segment = found.frame()["segment"][found.frame()["name"].str.contains("much call")].iloc[0]
    row = table[(table["segment"] == segment) & (table["feature"] == "share of call")].iloc[0]
    log = planted(1)
    own = log["case"].isin(found.cases.loc[found.cases["segment"] == segment, "case"])
    shares = (log["event"] == "call").groupby(log["case"]).mean()
    assert row["mean"] == pytest.approx(shares[shares.index.isin(log.loc[own, "case"])].mean())
    assert row["rest"] == pytest.approx(shares[~shares.index.isin(log.loc[own, "case"])].mean())
    assert row["low"] < row["difference"] < row["high"]
    assert row["low"] > 1
    assert row["told"]
    assert not table.loc[table["feature"].str.startswith("share in the"), "told"].any()
    assert ((table["low"] > 0) | (table["high"] < 0) | ~table["told"]).all()


def test_a_drawing_and_a_note_say_what_was_found(found: Behaviours) -> None:
    ax = found.plot()
    assert len(ax.get_xticklabels()) == 3
    assert ax.get_title(loc="left") == "3 segments of 180 cases"
    assert found.note.startswith("3 segments, made of mix, more apart than chance makes them in one process")
    assert "they do not prove them" in found.note


def test_as_many_as_asked_for_are_made_and_called_what_they_are() -> None:
    got = find_behaviours(blobs(1, 1), k=2)
    assert got.k == 2
    assert "2 segments, as asked for; but they are no more apart than chance makes them" in got.note
    assert find_behaviours(blobs(1, 3), k=1).k == 1
    assert find_behaviours(blobs(1, 3), features=["visits"]).made_of == ("visits",)


def test_one_case_and_cases_that_are_all_alike() -> None:
    one = pd.DataFrame({"case": ["x"], "event": ["a"], "time": [BEGIN]})
    for log in (one, pd.concat([one.assign(case=str(case)) for case in range(30)])):
        for how in ("kmeans", "hdbscan"):
            got = find_behaviours(log, how=how)
            assert got.k == 1
            assert "too few, or too much alike" in got.note
    same = pd.concat([one, one]).assign(event=["a", "b"])
    assert "same instant" in find_behaviours(same).note


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"how": "kmean"}, ParamsError, "Method 'kmean' is not known. Did you mean 'kmeans'"),
        ({"k": 0}, ParamsError, "k == 0, must be a whole number >= 1"),
        ({"k": 2, "how": "hdbscan"}, ParamsError, "HDBSCAN finds as many segments as there are"),
        ({"k": 99}, ParamsError, "k == 99, must be at most 20: so many cases there are"),
        ({"features": ["call"]}, ParamsError, "Feature 'call' is not known. Did you mean 'calls'"),
        ({"features": "calls"}, ParamsError, "must be a list of one name or more"),
        ({"seed": -1}, ParamsError, "seed == -1, must be a whole number"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        find_behaviours(blobs(0, 1, n=20), **asked)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame(), r"The frame has 0 rows and 0 columns"),
        (pd.DataFrame({"activity": ["a"]}), "Column 'activity' does not hold numbers"),
        (pd.DataFrame({"calls": [1.0, np.nan]}), "1 values of the features are missing or infinite"),
        (pd.DataFrame({"calls": [1, 2]}, index=["x", "x"]), "Case 'x' has two rows of features"),
    ],
)
def test_features_that_cannot_be_are_refused(frame: pd.DataFrame, said: str) -> None:
    with pytest.raises(DataError, match=said):
        find_behaviours(frame)


def test_names_are_words_and_differ(found: Behaviours) -> None:
    with pytest.raises(ParamsError, match="segment == 7, must be one of 0, 1, 2"):
        found.named({7: "who"})
    with pytest.raises(ParamsError, match="The name of segment 0 is ' ', must be some words"):
        found.named({0: " "})
    with pytest.raises(ParamsError, match="Two segments would be called 'we'"):
        found.named({0: "we", 1: "we"})
    with pytest.raises(ParamsError, match=r"without embeddings\. Leave them out"):
        found.assign(planted(1), embeddings=blobs(0, 1))
