"""Topics are found where they are, rise where they rise, and new intents are proposed from what fits none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from cxlab.data.world import simulate
from cxlab.errors import CxlabError, DataError, ParamsError
from cxlab.models.intent_proposals import Proposals, propose_intents
from cxlab.models.topic_trends import MOVING, _slopes
from cxlab.models.topic_words import WordSpace, read, words_of
from cxlab.models.topics import Topics, find_topics

ROOT = Path(__file__).parents[2]
WORDS = ["reset", "password", "bill", "Wrong", "my", "the", "card", "lost!", "£10", "\ud800", "where's", "中文", "?"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.sampled_from([None, "", " ", 12, float("nan")])
CORPUS = st.lists(TEXT, min_size=4, max_size=40)
SAID = {
    "lock": ["my account is locked", "locked out of the account", "unlock my locked account"],
    "fee": ["a fee was charged", "why this extra fee", "charged an extra fee"],
    "slow": ["internet is very slow", "slow wifi speed", "the speed of the internet is slow"],
    "move": ["i move house soon", "moving to a new flat", "we move to another house"],
}
POLITE = ("Dear team, ", "Good morning, ", "Hello, ", "", "", "")
THANKS = (". Thank you very much.", ". Kind regards", ", please", "", "", "")


def company(n: int, seed: int, *, polite: bool = False) -> tuple[list[str], np.ndarray]:
    """Sentences of four reasons and the number of each; with polite ones, words that say nothing of it."""
    rng = np.random.default_rng(seed)
    sentences = [text for said in SAID.values() for text in said]
    chosen = rng.integers(0, len(sentences), n)
    texts = [sentences[number] for number in chosen]
    if polite:
        texts = [f"{rng.choice(POLITE)}{text}{rng.choice(THANKS)}" for text in texts]
    return texts, chosen


def found_or_refused(call: Callable[[], Any]) -> Any:
    """What a call gives, None where it says that there is nothing to group."""
    try:
        return call()
    except DataError as error:
        assert "to group" in str(error) or "none can be grouped" in str(error)
        return None


def partition(codes: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(codes == code).tolist()) for code in set(codes.tolist()) - {-1}}


@pytest.fixture(scope="module")
def contacts() -> pd.DataFrame:
    return pd.read_parquet(ROOT / "data_samples" / "service_company" / "contacts.parquet")


@pytest.fixture(scope="module")
def sample(contacts: pd.DataFrame) -> Topics:
    return find_topics(contacts["text"], times=contacts["at"], k=40)


@pytest.fixture(scope="module")
def banking(mirror: Path) -> pd.DataFrame:
    return pd.read_csv(mirror / "banking77" / "train.csv")


# ---- topics: laws


@given(CORPUS, st.randoms(use_true_random=False), st.sampled_from(["kmeans", "hdbscan"]))
def test_the_order_of_rows_changes_no_topic(texts: list[Any], random: Any, method: str) -> None:
    rows = random.sample(range(len(texts)), len(texts))
    one = found_or_refused(lambda: find_topics(texts, method=method))
    other = found_or_refused(lambda: find_topics([texts[row] for row in rows], method=method))
    assert (one is None) == (other is None)
    if one is not None:
        assert other.topic.tolist() == one.topic[rows].tolist()
        pd.testing.assert_frame_equal(other.frame(), one.frame())


@given(CORPUS)
def test_a_text_seen_before_gets_its_topic_again_and_the_counts_add_up(texts: list[Any]) -> None:
    topics = found_or_refused(lambda: find_topics(texts))
    if topics is None:
        return
    assert topics.of(texts)["topic"].tolist() == topics.topic.tolist()
    frame = topics.frame()
    assert frame["n"].tolist() == [int((topics.topic == topic).sum()) for topic in frame["topic"]]
    assert frame["n"].is_monotonic_decreasing
    assert frame["n"].sum() + (topics.topic == -1).sum() == len(texts)
    assert (topics.topic[topics.blank] == -1).all()
    assert (frame["of"] == topics.n).all()
    assert ((frame["low"] <= frame["share"]) & (frame["share"] <= frame["high"])).all()
    assert frame["stability"].dropna().between(0, 1).all()
    same = pd.Series(topics.topic).groupby([read([text])[0] for text in texts]).nunique()
    assert (same == 1).all()  # one text, one topic


@pytest.mark.parametrize("seed", range(4))
def test_what_is_said_is_found_however_politely_it_is_said(seed: int) -> None:
    texts, sentences = company(600, seed, polite=True)
    topics = find_topics(texts, seed=seed)
    assert topics.k == 12
    assert adjusted_rand_score(sentences, topics.topic) == 1.0
    assert (topics.frame()["stability"] > 0.9).all()
    words = set(", ".join(topics.frame()["keywords"]).split(", "))
    assert not words & {"dear", "team", "good", "morning", "hello", "thank", "much", "kind", "regards", "please"}


def test_greetings_weigh_less_than_what_is_said_of_the_matter(contacts: pd.DataFrame) -> None:
    space = WordSpace.learn(read(contacts["text"]), 0)
    weight = {word: space.weights[place] for word, place in space.vocabulary.items()}
    greetings = [weight[word] for word in ("hello", "hi", "dear", "team", "regards", "excuse", "thanks")]
    matter = [weight[word] for word in ("password", "refund", "roaming", "technician", "outage", "agent", "videos")]
    assert max(greetings) < min(matter)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [3, 6])
def test_the_number_of_planted_groups_of_vectors_is_found(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.integers(0, k, 400)
    vectors = rng.normal(size=(k, 30))[true] * 3 + rng.normal(size=(400, 30))
    texts = [f"text {row}" for row in range(400)]
    topics = find_topics(texts, vectors=vectors, seed=seed)
    assert topics.k == k
    assert adjusted_rand_score(true, topics.topic) == 1.0
    assert topics.silhouettes[k] == max(topics.silhouettes.values())
    assert (topics.frame()["trust"] == "stable").all()
    assert topics.of(texts, vectors)["topic"].tolist() == topics.topic.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_hdbscan_finds_dense_groups_and_leaves_the_rest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = np.repeat(np.eye(8)[:3], 60, axis=0) + rng.normal(size=(180, 8)) * 0.1
    vectors = np.r_[dense, rng.normal(size=(60, 8))]
    topics = find_topics([f"t {row}" for row in range(240)], method="hdbscan", vectors=vectors)
    assert topics.k == 3
    assert adjusted_rand_score(np.repeat(range(3), 60), topics.topic[:180]) == 1.0
    assert (topics.topic[180:] == -1).mean() > 0.5
    assert "too few texts are like them" in topics.note
    again = topics.of(["a"] * 240, vectors)["topic"].to_numpy()
    assert (again[:180] == topics.topic[:180]).mean() > 0.9  # 95 % of a topic's own are within its reach
    assert (again[180:] == -1).mean() > 0.5


def test_what_is_one_thing_is_one_topic_and_noise_is_not_trusted() -> None:
    for method in ("kmeans", "hdbscan"):
        assert find_topics(["Reset my password!"] * 50, method=method).frame()["n"].tolist() == [50]  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    noise = find_topics([f"t {row}" for row in range(500)], vectors=rng.normal(size=(500, 40)), k=8)
    assert (noise.frame()["trust"] == "do not trust").all()
    assert "Do not trust the 8 of 8" in noise.note


def test_the_same_seed_gives_the_same_bytes() -> None:
    texts, _ = company(300, 1, polite=True)
    one, other = (find_topics(texts, seed=3) for _ in range(2))
    assert one.centres.tobytes() == other.centres.tobytes()
    assert one.frame().to_csv() == other.frame().to_csv()


def test_personal_data_is_in_no_example_and_no_keyword() -> None:
    reach = "call me on 020 7946 0958 or mail ann.lee@example.com"
    said = [f"can i insure my {pet}, {reach}" for pet in ("dog", "cat", "horse", "bird")]
    known = {"fee": SAID["fee"], "slow": SAID["slow"]}
    for table in (find_topics(said, k=1).frame(), propose_intents(said, known, least=2).frame()):
        shown = " ".join(table["examples"]) + " ".join(table["keywords"]) + " ".join(table["name"])
        assert "<phone>" in shown
        assert "<email>" in shown
        assert not any(part in shown for part in ("7946", "ann", "lee", "example.com"))


def test_examples_differ_in_words_and_are_cut() -> None:
    said = ["Lost card", "lost card!", "LOST  card", "card lost " + "and gone " * 60, "my lost card"] * 5
    shown = find_topics(said, k=1).frame()["examples"][0].split(" | ")
    assert len({tuple(words_of(text)) for text in shown}) == len(shown) == 3
    assert max(map(len, shown)) <= 160


def test_topics_of_the_sample_are_what_people_talk_about(sample: Topics, contacts: pd.DataFrame) -> None:
    assert adjusted_rand_score(contacts["intent"], sample.topic) > 0.15  # 21 intents in 120 sentences
    largest = contacts["intent"].groupby(sample.topic).agg(lambda part: part.value_counts(normalize=True).iloc[0])
    frame, largest = sample.frame(), largest.loc[range(sample.k)]
    assert largest[frame["trust"] == "stable"].mean() > largest[frame["trust"] == "do not trust"].mean() + 0.1
    assert sample.of(["my password is wrong"])["name"][0].startswith("password")
    ax = sample.plot()
    assert ax.get_title(loc="left").startswith("40 topics of 8,142 texts, the 25 largest")
    assert "40 topics" not in sample.note  # the number was given


# ---- trends


def parts(topics: Topics, times: Any) -> Topics:
    return replace(topics, times=np.array(times, "datetime64[us]"))


@given(st.integers(0, 10_000))
def test_slopes_are_those_of_weighted_least_squares(seed: int) -> None:
    rng = np.random.default_rng(seed)
    of, place = rng.integers(20, 90, 12), np.sort(rng.random(12))
    hits = rng.binomial(of, rng.random((3, 1)))
    slopes, errors = _slopes(hits, of, place)
    for row, slope, error in zip(hits, slopes, errors, strict=True):
        share, mean = row / of, row.sum() / of.sum()
        design = np.c_[np.ones(12), place]
        expected, *_ = np.linalg.lstsq(design * np.sqrt(of)[:, None], share * np.sqrt(of), rcond=None)
        assert slope == pytest.approx(expected[1])
        scatter = (of * (share - design @ expected) ** 2).sum() / 10
        inverse = np.linalg.inv(design.T @ (design * of[:, None]))
        assert error == pytest.approx(np.sqrt(max(scatter, mean * (1 - mean)) * inverse[1, 1]))


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(["day", "week", "month"]))
def test_the_shares_by_period_are_those_of_the_long_way(seed: int, period: Any) -> None:
    rng = np.random.default_rng(seed)
    texts, _ = company(80, seed)
    when = pd.Series(pd.Timestamp("2024-01-10") + pd.to_timedelta(rng.integers(0, 80 * 24, 80), unit="h"))
    texts[3], when[5] = "", pd.NaT  # type: ignore[call-overload]
    topics = find_topics(texts, times=when, k=3)
    trends = topics.over_time(period)
    assert trends.untimed == 1
    code = {"day": "D", "week": "W-SUN", "month": "M"}[period]
    held = pd.DataFrame({"topic": topics.topic, "period": when.dt.to_period(code).dt.start_time}).drop(index=3).dropna()
    for row in trends.by_period().itertuples():
        mine = held[held["period"] == row.period]
        assert row.of == len(mine)
        assert row.n == (mine["topic"] == row.topic).sum()
        assert row.share == pytest.approx(row.n / row.of if row.of else np.nan, nan_ok=True)
    inside = trends.by_period().query("whole and topic == 0")["of"].sum()
    assert inside + trends.outside == len(held)
    assert (trends.frame()["of"] == inside).all()


def test_nothing_rises_where_times_are_drawn_anew(sample: Topics) -> None:
    """20 worlds of 40 topics, at a false discovery rate of 1 %."""
    assert sample.times is not None
    for seed in range(20):
        still = parts(sample, np.random.default_rng(seed).permutation(sample.times))
        assert not still.over_time().frame()["verdict"].isin(MOVING).any()


def test_an_incident_is_a_peak_and_no_trend(sample: Topics, contacts: pd.DataFrame) -> None:
    """A wrong bill after a release: 39 % of the contacts of June 2024, 7 % before and after."""
    frame = sample.over_time().frame()
    assert not frame["verdict"].isin(MOVING).any()
    commonest = contacts["intent"].groupby(sample.topic).agg(lambda part: part.mode()[0])
    billing = frame[frame["topic"].map(commonest) == "billing_error"].nlargest(3, "n")
    assert (billing["peak"] == pd.Timestamp("2024-06-01")).all()
    assert (billing["peak_share"] > 2 * billing["share"]).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_rise_and_no_other_is_found(sample: Topics, contacts: pd.DataFrame, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert sample.times is not None
    times = rng.permutation(sample.times)
    rows = np.flatnonzero(contacts["intent"] == "slow_internet")
    start, end = times.min(), times.max()
    times[rows] = start + ((end - start) * np.sqrt(rng.random(len(rows)))).astype("timedelta64[us]")
    frame = parts(sample, times).over_time().frame()
    share = (contacts["intent"] == "slow_internet").groupby(sample.topic).mean()
    rising = frame.loc[frame["verdict"] == "rising", "topic"]
    assert len(rising) >= 1
    assert (share[rising] > 0.3).all()  # of all texts 6 % are
    assert (frame.loc[rising, "low"] > 0).all()


def test_the_drift_of_a_simulated_world_is_seen(tmp_path: Path) -> None:
    """From two thirds of the time on, more of the contacts are of slow internet."""
    world = simulate(tmp_path / "world", customers=2500, seed=103, plant=["drift"], without=["incidents"])
    held = pd.read_parquet(world.folder / "contacts.parquet")
    topics = find_topics(held["text"], times=held["at"], k=20)
    trends = topics.over_time()
    rising = trends.frame().query("verdict == 'rising'")
    commonest = held["intent"].groupby(topics.topic).agg(lambda part: part.mode()[0])
    assert set(rising["topic"].map(commonest)) == {"slow_internet"}
    axes = trends.plot().figure.axes
    assert any("rising" in ax.get_title(loc="left") for ax in axes)
    assert f"{len(rising)} rising" in trends.note


def test_a_huge_sample_makes_no_trend_of_what_does_not_matter() -> None:
    topics = find_topics(company(40, 0)[0], k=2)
    rng, n = np.random.default_rng(0), 400_000
    place = rng.random(n)
    many = replace(
        topics,
        topic=(rng.random(n) < 0.5 + 0.02 * place).astype(int),
        blank=np.zeros(n, bool),
        times=np.datetime64("2024-01-01", "us") + (place * 365 * 86_400e6).astype("timedelta64[us]"),
    )
    frame = many.over_time().frame()
    assert frame["verdict"].tolist() == ["steady", "steady"]
    assert (frame["p_adjusted"] < 1e-6).all()


def test_periods_that_are_not_whole_count_in_no_change() -> None:
    texts = company(900, 0)[0]
    hours = np.arange(900)
    begun = pd.Timestamp("2024-01-01 05:00") + pd.to_timedelta(hours * 3, unit="h")  # until 2024-04-22
    trends = find_topics(texts, times=begun, k=4).over_time("month")
    whole = trends.by_period().query("topic == 0").set_index("period")["whole"]
    assert whole.tolist() == [True, True, True, False]
    assert trends.outside == (begun >= "2024-04-01").sum()
    assert "months that are not whole" in trends.note
    ended = pd.Timestamp("2024-03-31 21:00") - pd.to_timedelta(hours[::-1] * 2, unit="h")  # from 2024-01-17
    whole = find_topics(texts, times=ended, k=4).over_time().by_period().query("topic == 0")["whole"]
    assert whole.tolist() == [False, True, True]
    dates = pd.Timestamp("2024-01-01") + pd.to_timedelta(hours % 21, unit="D")  # three weeks of dates, to a Sunday
    assert find_topics(texts, times=dates, k=4).over_time("week").by_period()["whole"].all()
    office = pd.Timestamp("2024-01-01 08:00") + pd.to_timedelta(hours // 10 * 24 + hours % 10, unit="h")
    assert find_topics(texts, times=office, k=4).over_time("day").by_period()["whole"].all()


def test_few_texts_or_one_moment_tell_nothing() -> None:
    texts = company(60, 0)[0]
    one = find_topics(texts, times=["2024-05-05"] * 60, k=4).over_time()
    assert (one.frame()["verdict"] == "cannot tell").all()
    assert one.frame()["change"].isna().all()
    assert one.plot() is not None
    day = [f"2024-05-{1 + row % 28:02d}T10:00:00+02:00" for row in range(12)] + [None] * 48
    few = find_topics(texts, times=day, k=4).over_time("day")
    assert (few.frame()["verdict"] == "cannot tell").all()
    assert few.untimed == 48
    assert "48 texts have no time" in few.note


# ---- proposals


@given(CORPUS, st.randoms(use_true_random=False), st.integers(2, 6))
def test_proposals_hold_enough_utterances_whatever_the_order(texts: list[Any], random: Any, least: int) -> None:
    rows = random.sample(range(len(texts)), len(texts))
    known = {"bill": ["my bill is wrong", None], "empty": []}
    one = propose_intents(texts, known, least=least)
    other = propose_intents([texts[row] for row in rows], known, least=least)
    assert other.proposal.tolist() == one.proposal[rows].tolist()
    pd.testing.assert_frame_equal(other.frame(), one.frame())
    frame = one.frame()
    assert (frame["utterances"] >= least).all()
    said = pd.Series([tuple(words_of(text)) for text in read(texts)])
    assert said.groupby(one.proposal).nunique().drop(-1, errors="ignore").tolist() == frame["utterances"].tolist()
    assert one.grouped == frame["n"].sum()
    assert one.n == len(texts) - one.blank.sum()
    assert f"{one.n - one.grouped:,} of {one.n:,} texts fit no group" in one.note


@pytest.mark.parametrize("seed", range(3))
def test_unknown_intents_are_proposed_and_known_ones_named(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pets = [f"can i insure my {pet} {when}" for pet in ("dog", "cat", "horse", "bird") for when in ("now", "today", "")]
    gold = [
        f"what is the price of {gold} {at}" for gold in ("gold", "silver", "copper") for at in ("here", "there", "")
    ]
    alone = ["is there a chess club", "tell me a joke", "happy new year"]
    texts = [str(text) for text in rng.permutation([*pets, *gold, *alone, *pets[:4]])]
    known = {"fee": SAID["fee"], "moving": SAID["move"], "quote": ["the price of a metal", "price of metals today"]}
    proposals = propose_intents(texts, known)
    assert partition(proposals.proposal) == partition(
        np.array([-1 if t in alone else int("insure" in t) for t in texts])
    )
    frame = proposals.frame()
    assert frame["n"].tolist() == [16, 9]
    assert frame["utterances"].tolist() == [12, 9]
    assert frame["nearest_intent"][1] == "quote"
    assert (frame["cohesion"] > 0.6).all()
    assert frame["name"].is_unique
    assert proposals.plot().get_title(loc="left") == "2 proposals from 28 texts"


def test_more_texts_than_are_compared_in_pairs_join_the_group_they_are_like(monkeypatch: pytest.MonkeyPatch) -> None:
    from cxlab.models import intent_proposals as module

    texts = [f"{text} {number}x" for number in range(20) for said in SAID.values() for text in said]
    whole = propose_intents(texts, None).proposal
    monkeypatch.setattr(module, "MOST", 150)
    part = propose_intents(texts, None).proposal
    assert (part >= 0).all()
    assert adjusted_rand_score(whole, part) > 0.95


def test_names_differ_from_those_of_known_intents() -> None:
    said = [f"insure pet {pet}" for pet in ("dog", "cat", "horse", "bird", "cow")]
    (name,) = propose_intents(said, {"other": ["why this fee"]}).frame()["name"]
    assert propose_intents(said, {name: ["why this fee"]}).frame()["name"].tolist() == [f"{name}_2"]


# ---- what cannot be

A = ["reset my password", "my bill is wrong", "card lost"] * 20
V = np.random.default_rng(0).normal(size=(60, 4))
BAD: dict[str, tuple[Callable[[], Any], type[CxlabError], str]] = {
    "one text": (lambda: find_topics("reset"), DataError, "texts is one str, must be a list"),
    "no texts": (lambda: find_topics([]), DataError, "0 of 0 texts are not blank"),
    "blank texts": (lambda: find_topics([None, " ", float("nan")]), DataError, "0 of 3 texts are not blank"),
    "surrogates": (lambda: find_topics(["\ud800"] * 9), DataError, "none can be grouped"),
    "nothing shared": (lambda: find_topics(["one", "two"]), DataError, "two or more that share a word"),
    "fewer texts than topics": (lambda: find_topics(A, k=4), ParamsError, "k == 4, must be at most 3"),
    "k": (lambda: find_topics(A, k=0), ParamsError, "k == 0, must be a whole number >= 1"),
    "k of hdbscan": (lambda: find_topics(A, k=3, method="hdbscan"), ParamsError, "Leave k out"),
    "method": (lambda: find_topics(A, method="kmean"), ParamsError, "Did you mean 'kmeans'?"),  # type: ignore[arg-type]
    "seed": (lambda: find_topics(A, seed=-1), ParamsError, "seed == -1"),
    "times of others": (lambda: find_topics(A, times=["2024-01-01"]), DataError, "1 times for 60 texts"),
    "numbers as times": (
        lambda: find_topics(A, times=range(60)),
        DataError,
        "60 of 60 times cannot be read (row 0: 0)",
    ),
    "words as times": (lambda: find_topics(A, times=["soon"] * 60), DataError, "ISO 8601"),
    "no times": (lambda: find_topics(A).over_time(), ParamsError, "times=..."),
    "no time": (lambda: find_topics(A, times=[None] * 60).over_time(), DataError, "None of 60 texts has a time"),
    "period": (lambda: find_topics(A, times=["2024"] * 60).over_time("year"), ParamsError, "Periods: day, week, month"),  # type: ignore[arg-type]
    "level": (lambda: find_topics(A, times=["2024"] * 60).over_time(level=1), ParamsError, "level == 1"),
    "ages": (lambda: find_topics(A, times=["1900", "2024"] * 30).over_time("day"), DataError, "at most 4,000"),
    "NaN vectors": (lambda: find_topics(A, vectors=V * np.nan), DataError, "60 rows of vectors (the first: 0)"),
    "huge vectors": (lambda: find_topics(A, vectors=V * 1e300), DataError, "1e+100 or more"),
    "equal vectors": (lambda: find_topics(A, vectors=np.ones((60, 3))), DataError, "all the same"),
    "few vectors": (lambda: find_topics(A, vectors=V[:5]), DataError, "shape (5, 4), must be (60, d)"),
    "flat vectors": (lambda: find_topics(A, vectors=V[:, 0]), DataError, "shape (60,), must be (60, d)"),
    "words as vectors": (lambda: find_topics(A, vectors=[["a"]] * 60), DataError, "are not numbers"),
    "of without vectors": (lambda: find_topics(A, vectors=V).of(["a"]), ParamsError, "Give vectors="),
    "of with vectors": (lambda: find_topics(A).of(["a"], V[:1]), ParamsError, "found in words"),
    "of with others": (lambda: find_topics(A, vectors=V).of(["a"], V[:1, :3]), DataError, "must be (1, 4)"),
    "least": (lambda: propose_intents(A, None, least=1), ParamsError, "least == 1, must be a whole number >= 2"),
    "known list": (lambda: propose_intents(A, ["a"]), DataError, "must map each intent"),  # type: ignore[arg-type]
    "known text": (lambda: propose_intents(A, {"a": "text"}), DataError, "known['a'] is one str"),
    "known vectors": (lambda: propose_intents(A, {"a": ["x"]}, vectors=V), DataError, "known['a'] are not numbers"),
    "known number": (lambda: propose_intents(A, {"a": 5}, vectors=V), DataError, "known['a'] is a int"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_is_said(name: str) -> None:
    call, kind, message = BAD[name]
    with pytest.raises(kind) as raised:
        call()
    assert message in str(raised.value)


def test_odd_texts_are_read_as_far_as_they_go() -> None:
    long = ["word " * 200_000, "x" * 1_000_000, "1" * 1_000_000, "x" * 1_000_000, "\ud800 password", "@" * 1_000_000]
    topics = find_topics([*A, *long, None, 12, True, b"bytes", {"a": 1}])
    assert len(topics.topic) == 71
    assert topics.blank.sum() == 1
    assert max(map(len, topics.frame()["name"])) < 100
    topics.frame()["examples"].map(str.encode)  # no lone surrogate stays
    assert "card" in topics._repr_html_()
    assert topics.of([None, "", "zebra", "reset the PASSWORD"])["topic"].tolist()[:3] == [-1, -1, -1]
    assert topics.of([]).empty


def test_where_nothing_is_found_it_is_said() -> None:
    none = find_topics(A[:6], method="hdbscan", times=["2024-01-01"] * 6)
    assert none.k == 0
    assert none.plot().texts[0].get_text() == "No topic was found."
    assert none.of(["reset my password"])["topic"].tolist() == [-1]
    assert none.over_time().frame().empty
    assert none.over_time().plot().texts[0].get_text() == "No topic was found."
    empty = propose_intents([], None)
    assert isinstance(empty, Proposals)
    assert empty.frame().empty
    assert "No 5 of 0 texts" in empty.plot().texts[0].get_text()


# ---- BANKING77


def test_topics_of_banking77(banking: pd.DataFrame) -> None:
    some = banking[banking["category"].isin(sorted(banking["category"].unique())[::3])]
    topics = find_topics(some["text"], k=26)
    assert adjusted_rand_score(some["category"], topics.topic) > 0.4
    assert (topics.topic >= 0).mean() > 0.98
    names = topics.frame().loc[topics.frame()["trust"] == "stable", "name"].str.split(", ")
    for words in ({"rate", "exchange"}, {"passcode"}, {"disposable"}, {"verification"}):
        assert any(words <= set(name) for name in names)


@pytest.mark.parametrize("seed", range(3))
def test_intents_unknown_to_the_model_are_proposed(banking: pd.DataFrame, seed: int) -> None:
    """Texts of 5 intents that are not known, and a tenth of others."""
    rng = np.random.default_rng(seed)
    unknown = rng.choice(sorted(banking["category"].unique()), 5, replace=False)
    new = banking["category"].isin(unknown)
    others = banking[~new].sample(int(new.sum() / 9), random_state=seed)
    turned_away = pd.concat([banking[new], others]).reset_index(drop=True)
    known = banking[~new].drop(others.index).groupby("category")["text"].apply(list).to_dict()
    proposals = propose_intents(turned_away["text"], known)
    intent, grouped = turned_away["category"], proposals.proposal >= 0
    assert grouped[intent.isin(unknown)].mean() >= 0.85
    commonest = intent[grouped].groupby(proposals.proposal[grouped]).agg(lambda part: part.value_counts().iloc[0])
    assert commonest.sum() / grouped.sum() >= 0.75
    assert set(unknown) <= set(intent[grouped].groupby(proposals.proposal[grouped]).agg(lambda part: part.mode()[0]))
