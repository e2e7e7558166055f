"""Explanations: they add up, a column that decides nothing is told so, and the planted one comes first."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LinearRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from cxlab.data.split import make_split
from cxlab.data.table import Source, Table
from cxlab.errors import DataError, ParamsError
from cxlab.evidence import explain
from cxlab.evidence import importance as importance_module
from cxlab.evidence.explain import contributions
from cxlab.evidence.importance import dependence, importance
from cxlab.features.tabular import columns
from cxlab.models.calibration import BetaCalibration, NoCalibration
from cxlab.models.churn import CANDIDATES
from cxlab.models.subject import Subject
from cxlab.models.task import Model
from cxlab.params import DataParams, Params

BUILD = {candidate.name: candidate for candidate in CANDIDATES}
QUICK = {"n_estimators": 30, "min_child_samples": 10}
MODELS = ["prior", "logistic", "lightgbm", "blend"]


def customers(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """`calls` raises the risk, `tenure` lowers it, `plan` decides too; the rest decides nothing."""
    rng = np.random.default_rng(seed)
    calls, tenure = rng.poisson(2, n).astype(float), rng.gamma(2, 10, n)
    plan = rng.choice(["basic", "plus", "pro"], n)
    risk = expit(1.3 * (calls - 2) - 0.05 * (tenure - 20) + 1.2 * (plan == "basic") - 0.6)
    calls[rng.random(n) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "calls": calls,
            "tenure": tenure,
            "plan": plan,
            "noise": rng.normal(size=n),
            "constant": 1.0,
            "rare": np.where(np.arange(n) % 100 == 0, "seldom", "often"),
            "city": [f"city {i}" for i in rng.integers(0, 30, n)],
            "region": rng.choice(["north", "south"], n),
            "churn": np.where(rng.random(n) < risk, "yes", "no"),
        }
    )


def subject_of(frame: pd.DataFrame, name: str = "logistic", **roles) -> Subject:
    """A model of one candidate, or of two of them, fitted and calibrated on the training part."""
    roles = DataParams(path="x.csv", target="churn", **roles)
    params = Params(name="x", data=roles, split={"test": 0.5})
    table = Table(frame, roles, Source("x.csv", "0", len(frame)))
    split = make_split(table, table.outcome(), params.split)
    train, y = frame.iloc[split.train], table.outcome()[split.train]
    schema = table.schema(split.train)
    members = []
    for each in ["logistic", "lightgbm"] if name == "blend" else [name]:
        chosen = {key: QUICK.get(key, value) for key, value in BUILD[each].default.items()}
        members.append(BUILD[each].build(schema, chosen, 0).fit(schema.encode(train), y))
    weights = [0.3, 0.7] if name == "blend" else [1.0]
    plain = Model(schema, members, weights, NoCalibration())
    calibrator = BetaCalibration(tied=True).fit(plain.predict_proba(train)[:, 1], y) if name != "prior" else None
    model = Model(schema, members, weights, calibrator or NoCalibration())
    return Subject(name, params, table, split, model, np.zeros(0))


@pytest.fixture(scope="module")
def subjects() -> dict[str, Subject]:
    return {name: subject_of(customers(), name) for name in MODELS}


# --- contributions


@settings(max_examples=20)
@given(
    name=st.sampled_from(MODELS),
    calls=st.floats(-1e6, 1e6) | st.just(np.nan),
    tenure=st.floats(allow_nan=True, allow_infinity=True),
    plan=st.sampled_from(["basic", "pro", "never seen", None]),
)
def test_contributions_add_up_to_the_margin_before_calibration(subjects, name, calls, tenure, plan):
    subject = subjects[name]
    row = subject.test.iloc[:3].assign(calls=calls, tenure=tenure, plan=plan)
    found = contributions(subject.model, row, background=subject.train)
    plain = Model(subject.model.schema, subject.model.members, subject.model.weights, NoCalibration())
    assert found.base + found.values.sum(axis=1) == pytest.approx(logit(plain.predict_proba(row)[:, 1]), abs=1e-8)


@pytest.mark.parametrize("name", MODELS)
def test_a_column_that_cannot_matter_gets_nothing(subjects, name):
    found = contributions(subjects[name].model, subjects[name].test, background=subjects[name].train)
    assert np.abs(found.values[:, found.position("constant")]).max() < 1e-12
    assert name != "prior" or np.abs(found.values).max() == 0


def test_a_blend_of_a_model_with_itself_is_explained_as_that_model(subjects):
    one = subjects["lightgbm"]
    twice = Model(one.model.schema, one.model.members * 2, [0.4, 0.6], NoCalibration())
    apart = [contributions(model, one.test, background=one.train).values for model in (one.model, twice)]
    np.testing.assert_allclose(*apart, atol=1e-9)


def test_a_linear_model_is_explained_by_its_coefficients(subjects):
    subject = subjects["logistic"]
    found = contributions(subject.model, subject.test, background=subject.train)
    encoder, line = subject.model.members[0]
    encoded = subject.model.schema.encode
    weighted = (encoder.transform(encoded(subject.test)) - encoder.transform(encoded(subject.train)).mean(axis=0)) * (
        line.coef_[0]
    )
    names = encoder.get_feature_names_out()
    for column in ("calls", "tenure", "plan", "city"):
        mine = [name == column or name.startswith((f"{column} ", f"{column}_")) for name in names]
        np.testing.assert_allclose(found.values[:, found.position(column)], weighted[:, mine].sum(axis=1), atol=1e-9)


def test_contributions_do_not_depend_on_the_other_rows(subjects):
    subject = subjects["blend"]
    every = contributions(subject.model, subject.test, background=subject.train)
    one = contributions(subject.model, subject.test.iloc[[7]], background=subject.train)
    np.testing.assert_allclose(one.values[0], every.values[7], atol=1e-12)
    assert one.base == every.base
    assert list(one.frame().columns) == ["row", "feature", "value", "contribution"]
    assert len(one.frame()) == len(one.columns)
    one.plot()
    every.plot()


def test_contributions_that_do_not_add_up_are_refused():
    with pytest.raises(ArithmeticError, match="must be the margin"):
        explain._check_additive(np.array([0.0, 0.1]), np.array([0.5, 0.5]))


def test_what_cannot_be_explained_says_so(subjects):
    subject = subjects["logistic"]
    schema, y = subject.model.schema, subject.outcome_train
    bayes = make_pipeline(columns(schema, numbers="passthrough", seed=0), GaussianNB())
    for member, message in [
        (bayes, "GaussianNB has no exact contributions here. Explained are"),
        (make_pipeline(FunctionTransformer(), LinearRegression()), "must be a Pipeline of columns and model"),
    ]:
        train = schema.encode(subject.train).drop(columns="calls").assign(calls=0.0)[schema.names]
        if member is bayes:
            member.fit(train, y)
        with pytest.raises(ParamsError, match=message):
            contributions(
                Model(schema, [member], [1.0], NoCalibration()), subject.test.assign(calls=0), background=subject.train
            )


def test_no_rows_and_missing_columns_are_told(subjects):
    subject = subjects["prior"]
    with pytest.raises(DataError, match="0 rows"):
        contributions(subject.model, subject.test.iloc[:0], background=subject.train)
    with pytest.raises(DataError, match="'tenure' is not in the data"):
        contributions(subject.model, subject.test.drop(columns="tenure"), background=subject.train)


# --- importance


@pytest.mark.parametrize("name", ["logistic", "lightgbm", "blend"])
def test_the_planted_column_comes_first_with_its_direction(subjects, name):
    found = importance(subjects[name]).frame().set_index("feature")
    assert found.index[0] == "calls"
    assert found.loc["calls", "direction"] == "higher raises"
    assert found.loc["tenure", "direction"] == "lower raises"
    assert found.loc["plan", "direction"] == "basic raises"
    assert found.loc["constant", "direction"] == "no effect"
    assert found.loc["calls", "low"] > 0
    assert found.loc["calls", "folds"] == importance_module.PARTS
    assert (found.loc["constant", ["value", "low", "high", "share", "folds"]] == 0).all()
    assert found["share"].sum() == pytest.approx(1)
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()


def test_nothing_matters_to_the_prior(subjects):
    found = importance(subjects["prior"]).frame()
    assert not found[["value", "low", "high", "share", "folds"]].to_numpy().any()


def test_importance_repeats_and_draws_no_more_rows_than_told(subjects):
    found = [importance(subjects["logistic"], rows=60, seed=3).frame() for _ in range(2)]
    pd.testing.assert_frame_equal(*found)
    assert set(found[0]["n"]) == {60}
    with pytest.raises(ValueError, match="rows == 0"):
        importance(subjects["logistic"], rows=0)


def test_noise_is_told_apart_from_nothing_as_often_as_the_level_says():
    """150 simulated tables, two noise columns each; seeds fixed beforehand. At most 5 % + 2 standard errors miss."""
    missed = told = 0
    for seed in range(1000, 1150):
        rng = np.random.default_rng(seed)
        x, n = rng.normal(size=(300, 3)), 300
        frame = pd.DataFrame({"a": x[:, 0], "noise 1": x[:, 1], "noise 2": x[:, 2].round()})
        frame["churn"] = np.where(rng.random(n) < expit(frame["a"]), "yes", "no")
        found = importance(subject_of(frame), seed=seed).frame().set_index("feature").loc[["noise 1", "noise 2"]]
        told += len(found)
        missed += int(((found["low"] > 0) | (found["high"] < 0)).sum())
    assert missed / told <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / told)


def test_importance_draws_itself(subjects):
    found = importance(subjects["blend"])
    labels = [label.get_text() for label in found.plot(most=4).get_yticklabels()]
    assert labels == found.frame()["feature"].head(4).tolist()
    assert "interval" in found._repr_html_()


# --- dependence


def test_dependence_says_how_a_column_acts(subjects):
    subject = subjects["logistic"]
    everything = importance(subject).contributions
    found = dependence(subject, "tenure", found=everything)
    rows = found.frame()
    assert rows["n"].sum() == len(subject.test)
    assert rows["value"].is_monotonic_increasing
    assert rows["contribution"].iloc[0] > 0 > rows["contribution"].iloc[-1]
    at = everything.position("tenure")
    mean = np.average(rows["contribution"], weights=rows["n"])
    assert mean == pytest.approx(everything.values[:, at].mean())
    found.plot()
    pd.testing.assert_frame_equal(dependence(subject, "tenure").frame(), rows)


@pytest.mark.parametrize("feature", ["calls", "plan", "constant", "city"])
def test_dependence_of_every_kind_of_column(subjects, feature):
    found = dependence(subjects["blend"], feature)
    column = subjects["blend"].test[feature]
    assert found.frame()["n"].sum() == len(column)
    if feature == "calls":
        assert found.frame().loc[found.frame()["value"].isna(), "n"].item() == column.isna().sum()
    found.plot()


def test_a_feature_that_is_not_there_names_the_nearest(subjects):
    with pytest.raises(DataError, match="Did you mean 'tenure'"):
        dependence(subjects["prior"], "tenur")


def test_a_test_part_of_its_own_is_explained(subjects):
    subject = subjects["logistic"]
    rows = customers(40, seed=9)
    split = dataclasses.replace(subject.split, test=np.arange(40))
    other = dataclasses.replace(subject, table=dataclasses.replace(subject.table, test=rows), split=split)
    assert set(importance(other).frame()["n"]) == {40}


def test_one_row_has_no_interval(subjects):
    found = importance(subjects["logistic"], rows=1).frame()
    assert found[["low", "high"]].isna().all(axis=None)
