"""Reasons and what-ifs: right by hand, silent about segments, and true when a change is applied."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxlab.data.split import make_split
from cxlab.data.table import Source, Table
from cxlab.errors import DataError, ParamsError
from cxlab.evidence.explain import contributions
from cxlab.evidence.reasons import phrases, reasons, what_if
from cxlab.evidence.wording import Distribution, Phrase
from cxlab.models.calibration import NoCalibration
from cxlab.models.churn import CANDIDATES
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.params import DataParams, Params

ROOT = Path(__file__).parent.parent.parent
WORDS = {
    "calls": Phrase(phrase="{value:g} calls", levels={"1": "1 call"}, unit="calls", actionable="down"),
    "discount": Phrase(phrase="a discount of {value:.0f} %", actionable="up"),
    "plan": Phrase(phrase="on the {value} plan", actionable="any"),
    "region": Phrase(phrase="in the {value}", actionable="any"),
}


def subject_of(n: int = 400, name: str = "logistic") -> Subject:
    """Calls, little discount and the basic plan raise the risk, and so does the region, which is a segment."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "calls": rng.poisson(2, n),
            "discount": rng.integers(0, 30, n).astype(float),
            "plan": rng.choice(["basic", "plus", "pro"], n),
            "region": rng.choice(["north", "south"], n),
            "age": rng.integers(18, 90, n),
        }
    )
    frame["seconds"] = 60.0 * frame["calls"]
    margin = (
        frame["calls"] - 0.1 * frame["discount"] + 1.5 * (frame["plan"] == "basic") + 2 * (frame["region"] == "north")
    )
    frame["churn"] = np.where(rng.random(n) < 1 / (1 + np.exp(2.5 - margin)), "yes", "no")
    roles = DataParams(path="x.csv", target="churn", segments=("region",))
    params = Params(name="x", data=roles)
    table = Table(frame, roles, Source("x.csv", "0", n))
    split = make_split(table, table.outcome(), params.split)
    schema = table.schema(split.train)
    candidate = next(each for each in CANDIDATES if each.name == name)
    member = candidate.build(schema, dict(candidate.default) | ({"C": 1.0} if name == "logistic" else {}), 0)
    member.fit(schema.encode(frame.iloc[split.train]), table.outcome()[split.train])
    return Subject(name, params, table, split, Model(schema, [member], [1.0], NoCalibration()), np.zeros(0))


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of()


def row_of(subject: Subject, **values) -> pd.DataFrame:
    usual = {"calls": 2, "discount": 15.0, "plan": "plus", "region": "south", "age": 50, "seconds": 120.0}
    return pd.DataFrame([usual | values])


# --- reasons


def test_reasons_say_value_and_comparison_as_counted_by_hand(subject):
    found = reasons(subject, row_of(subject, calls=7, seconds=420.0, discount=0.0, plan="basic"), wording=WORDS)
    calls, discount, plan = (subject.train[name] for name in ("calls", "discount", "plan"))
    expected = {
        f"7 calls, more than {int(100 * (calls < 7).mean())} % of customers",
        f"a discount of 0 %, less than {int(100 * (discount > 0).mean())} % of customers",
        f"on the basic plan, like {int(100 * (plan == 'basic').mean())} % of customers",
    }
    seconds = {text for text in found.texts if text.startswith("seconds is 420")}
    assert set(found.texts) - seconds <= expected
    assert len(found.texts) == 3
    assert found.frame()["contribution"].is_monotonic_decreasing
    assert (found.frame()["contribution"] > 0).all()
    assert set(found.frame()["n"]) == {len(subject.train)}
    assert set(found.frame()["direction"]) == {"raises"}
    found.plot()


def test_a_column_that_repeats_another_is_not_told_twice(subject):
    found = reasons(subject, row_of(subject, calls=7, seconds=420.0), k=9, wording=WORDS)
    assert len({"calls", "seconds"} & set(found.frame()["feature"])) == 1


@settings(max_examples=15)
@given(
    calls=st.integers(0, 9),
    region=st.sampled_from(["north", "south", "unseen"]),
    plan=st.sampled_from(["basic", "pro"]),
)
def test_a_segment_is_never_named_nor_changed(calls, region, plan):
    subject = SEGMENTED
    row = row_of(subject, calls=calls, region=region, plan=plan, seconds=60.0 * calls)
    said = reasons(subject, row, k=9, lowering=True, wording=WORDS)
    assert "region" not in set(said.frame()["feature"])
    assert not any("in the" in text for text in said.texts)
    before = subject.model.predict_proba(row)[0, 1]
    for threshold in (before / 2, (1 + before) / 2):
        assert not any("region" in change for change in what_if(subject, row, threshold, wording=WORDS).changes)


SEGMENTED = subject_of(300)


def test_the_segment_would_have_been_the_strongest_reason(subject):
    row = row_of(subject, region="north")
    open_to_all = dataclasses.replace(subject, params=Params(name="x", data=DataParams(path="x.csv", target="churn")))
    assert reasons(open_to_all, row, wording=WORDS).texts[0].startswith("in the north, like")
    found = contributions(subject.model, row, background=subject.train)
    assert found.columns[int(np.argmax(found.values[0]))] == "region"


def test_where_nothing_raises_the_risk_there_is_a_sentence(subject):
    found = reasons(subject_of(name="prior"), row_of(subject), wording=WORDS)
    assert found.texts == ()
    assert found.frame().empty
    assert "No column" in found.note
    found.plot()


def test_what_lowers_the_risk_is_told_when_asked(subject):
    row = row_of(subject, calls=0, seconds=0.0, discount=29.0)
    assert "lowers" in set(reasons(subject, row, k=9, lowering=True, wording=WORDS).frame()["direction"])


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ([0.0, 1, 2, 3], 1.5, "more than 50 % of customers"),
        ([0.0, 1, 2, 3], -1.0, "less than 100 % of customers"),
        ([0.0, 0, 0, 1, 2], 0.0, "like 60 % of customers"),
        ([0.0, 1, 1, 1], 0.0, "like 25 % of customers"),
        ([np.nan, 1, 2, 3], np.nan, "like 25 % of customers"),
        ([0.0] * 997 + [1.0, 2.0, 3.0], 1.5, "more than 99 % of customers"),
        (["a", "b", "b"], "b", "like 66 % of customers"),
        (["a"] * 200 + ["b"], "b", "like fewer than 1 % of customers"),
        (["a", "b"], "new", "like no customer in training"),
        (["(missing)", "b"], "(missing)", "like 50 % of customers"),
    ],
)
def test_a_comparison_is_counted(column, value, expected):
    assert Distribution.of(pd.Series(column).to_numpy()).compared(value) == expected


def test_missing_and_unseen_values_have_words(subject):
    row = row_of(subject, calls=None, plan="gold")
    found = reasons(subject, row, k=9, lowering=True, wording=WORDS)
    texts = dict(zip(found.frame()["feature"], found.texts, strict=True))
    assert texts.get("calls", "calls is not known").startswith("calls is not known")
    assert texts.get("plan", "like no customer in training").endswith("like no customer in training")


@pytest.mark.parametrize("ask", [reasons, lambda subject, row: what_if(subject, row, 0.5)])
def test_anything_but_one_row_is_told(subject, ask):
    with pytest.raises(DataError, match=r"2 rows given, must be 1\. Pass one of them"):
        ask(subject, subject.test.iloc[:2])
    with pytest.raises(DataError, match="0 rows given"):
        ask(subject, subject.test.iloc[:0])
    with pytest.raises(DataError, match="The row is a Series"):
        ask(subject, subject.test.iloc[0])
    with pytest.raises(DataError, match="'discount' is not in the data"):
        ask(subject, subject.test.iloc[[0]].drop(columns="discount"))


def test_numbers_out_of_range_are_told(subject):
    with pytest.raises(ValueError, match="k == 0"):
        reasons(subject, row_of(subject), k=0)
    with pytest.raises(ValueError, match="threshold == 1"):
        what_if(subject, row_of(subject), 1)
    with pytest.raises(ValueError, match="most == 3"):
        what_if(subject, row_of(subject), 0.5, most=3)


# --- what-if


@pytest.mark.parametrize("name", ["logistic", "lightgbm"])
def test_every_change_crosses_the_threshold_when_it_is_applied(name):
    subject = subject_of(name=name)
    score = subject.score_test
    found_some = 0
    for position in np.argsort(score)[:: len(score) // 8]:
        row = subject.test.iloc[[position]]
        for threshold in (0.3, 0.6):
            found = what_if(subject, row, threshold, wording=WORDS)
            assert found.before == pytest.approx(score[position])
            assert found.frame()["size"].is_monotonic_increasing
            for change, after in zip(found.changes, found.frame()["after"], strict=True):
                scored = subject.model.predict_proba(row.assign(**change))[0, 1]
                assert scored == pytest.approx(after)
                assert (scored >= threshold) != (score[position] >= threshold)
                assert set(change) <= {"calls", "discount", "plan"}
                assert change.get("calls", -1) < row["calls"].item()
                assert change.get("discount", 99) > row["discount"].item()
            found_some += len(found.changes)
            found.plot()
    assert found_some > 10


def test_the_smallest_change_of_one_column_is_found_by_hand(subject):
    row = row_of(subject, calls=6, seconds=360.0, plan="basic", discount=5.0)
    scores = [subject.model.predict_proba(row.assign(calls=calls))[0, 1] for calls in range(7)]
    threshold = (scores[3] + scores[4]) / 2
    found = what_if(subject, row, threshold, most=1, wording={"calls": WORDS["calls"]})
    assert found.changes == ({"calls": 3.0},)
    assert found.frame()["size"].item() == pytest.approx(3 / subject.train["calls"].std(ddof=0))
    assert found.frame()["change"].item() == "3 calls (now 6 calls)"


def test_two_columns_together_only_where_that_takes_less(subject):
    row = row_of(subject, calls=5, seconds=300.0, plan="basic", discount=3.0)
    threshold = subject.model.predict_proba(row.assign(discount=25.0))[0, 1]
    rows = what_if(subject, row, threshold, wording=WORDS)
    assert {len(change) for change in rows.changes} == {1, 2}
    alone = {
        next(iter(change)): size
        for change, size in zip(rows.changes, rows.frame()["size"], strict=True)
        if len(change) == 1
    }
    for change, size in zip(rows.changes, rows.frame()["size"], strict=True):
        if len(change) == 2:
            assert size < min(alone.get(name, np.inf) for name in change)
    assert "below" in rows.note


def test_where_no_allowed_change_crosses_there_is_a_sentence(subject):
    row = row_of(subject, calls=0, seconds=0.0, discount=29.0, plan="pro")
    found = what_if(subject, row, 0.99, wording={})
    assert found.changes == ()
    assert found.frame().empty
    assert "No allowed change" in found.note
    assert "0.990" in found.note
    found.plot()


def test_only_the_listed_levels_are_proposed(subject):
    row = row_of(subject, plan="basic")
    scores = {plan: subject.model.predict_proba(row.assign(plan=plan))[0, 1] for plan in ("basic", "plus", "pro")}
    threshold = (scores["basic"] + max(scores["plus"], scores["pro"])) / 2
    assert scores["basic"] > threshold
    for plan in ("plus", "pro"):
        found = what_if(subject, row, threshold, wording={"plan": Phrase(actionable=(plan, "gold"))})
        assert found.changes == ({"plan": plan},)
    with pytest.raises(ParamsError, match="actionable is a list"):
        what_if(subject, row, threshold, wording={"calls": Phrase(actionable=("1",))})


# --- the phrase table


def test_our_table_fits_the_sample_and_the_telco_columns(subject):
    words = phrases()
    sample = pd.read_csv(ROOT / "data_samples" / "telecom_churn.csv").drop(columns=["customer_id", "churn"])
    assert set(sample.columns) <= set(words)
    for name in sample.columns:
        for value in sample[name].unique()[:20]:
            plain = value if isinstance(value, str) else float(value)
            text = words[name].says(name, plain)
            assert name not in text
    assert words["number_customer_service_calls"].says("x", 4.0) == "4 calls to customer service"
    assert words["number_customer_service_calls"].says("x", 1.0) == "1 call to customer service"
    assert words["Contract"].says("Contract", "Two year") == "on a contract of two years"
    assert not words["area_code"].actionable


def test_a_column_without_a_phrase_has_plain_words():
    assert Phrase().says("age", 45.07) == "age is 45.07"
    assert Phrase().says("city", "Oslo") == "city is Oslo"
    assert Phrase().says("city", "(missing)") == "city is not known"


def test_keys_that_yaml_reads_as_other_types_are_text(tmp_path):
    path = tmp_path / "reasons.yaml"
    path.write_text("plan: {levels: {yes: subscribed, no: not subscribed}}\ncalls: {levels: {1: one call}}\n")
    words = phrases(path)
    assert words["plan"].says("plan", "no") == "not subscribed"
    assert words["calls"].says("calls", 1.0) == "one call"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("calls: {phrse: x}", "Key 'phrse' is not known. Did you mean 'phrase'"),
        ("calls: {actionable: sideways}", "actionable == 'sideways', must be 'down', 'up'"),
        ("calls: {phrase: '{valu} calls'}", r"with no other fields than \{value\} and \{column\}, not \{valu\}"),
        ("calls: 3", "the entry == 3, must be"),
        ("- calls", "holds no columns"),
        ("calls: [", "cannot be read as a phrase table"),
    ],
)
def test_a_table_that_does_not_fit_is_told(tmp_path, text, message):
    path = tmp_path / "reasons.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError, match=message):
        phrases(path)


def test_a_phrase_for_numbers_does_not_fit_text():
    with pytest.raises(ParamsError, match="must fit 'basic'"):
        Phrase(phrase="{value:g} calls").says("plan", "basic")


def test_no_table_is_told_only_where_one_was_named(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("CXLAB_HOME", str(tmp_path))
    assert phrases() == {}
    with pytest.raises(ParamsError, match="cannot be read"):
        phrases(tmp_path / "none.yaml")
