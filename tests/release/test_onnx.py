"""The ONNX door on its own: the steps that other converters get wrong, names, and what cannot be converted."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from cxlab.data.schema import Column, Schema
from cxlab.errors import DataError, ParamsError
from cxlab.features.tabular import HingeBasis, columns
from cxlab.models.calibration import BetaCalibration, NoCalibration
from cxlab.models.task import Model
from cxlab.release.onnx import parity, scores, to_onnx
from cxlab.release.scorer import session

RNG = np.random.default_rng(3)
NUMBERS = Schema((Column("a", "number"), Column("b", "number")))
FRAME = pd.DataFrame({"a": RNG.normal(size=200), "b": RNG.integers(-4, 5, 200) / 2.0})
Y = (FRAME["a"] + FRAME["b"] + RNG.normal(0, 0.5, 200) > 0).astype(int).to_numpy()


def model_of(member, schema=NUMBERS, frame=FRAME, calibrator=None):
    return Model(schema, [member.fit(schema.encode(frame), Y)], [1.0], calibrator or NoCalibration())


def boosted(**settings):
    """LightGBM behind the encoder, as the candidates have it."""
    trees = LGBMClassifier(n_estimators=15, min_child_samples=5, n_jobs=1, random_state=0, verbose=-1, **settings)
    return make_pipeline(columns(NUMBERS, numbers="passthrough", seed=0), trees)


def constant_logit(a, b, c):
    calibrator = BetaCalibration()
    calibrator.a_, calibrator.b_, calibrator.c_ = a, b, c
    return calibrator


# --- trees


@pytest.mark.parametrize("share_missing", [0.0, 0.3])
@pytest.mark.parametrize("settings", [{}, {"use_missing": False}], ids=str)
def test_missing_values_take_lightgbms_side(share_missing, settings):
    frame = FRAME.mask(np.random.default_rng(0).random(FRAME.shape) < share_missing)
    model = model_of(boosted(**settings), frame=frame)
    with_gaps = pd.DataFrame({"a": [np.nan, np.nan, *FRAME["a"][:50]], "b": [np.nan, *FRAME["b"][:50], np.nan]})
    assert parity(model, with_gaps) < 1e-7


def test_every_split_is_decided_as_in_lightgbm():
    model = model_of(boosted())
    splits = model.members[0][-1].booster_.trees_to_dataframe().dropna(subset="threshold")
    single = splits["threshold"].to_numpy().astype(np.float32)
    cells = np.concatenate([single, np.nextafter(single, np.float32(-9)), np.nextafter(single, np.float32(9))])
    grid = pd.DataFrame([(a, b) for a in np.unique(cells)[::3] for b in (-1.0, 0.0, 1.0)], columns=["a", "b"])
    assert parity(model, grid) < 1e-7
    assert parity(model, grid.rename(columns={"a": "b", "b": "a"})) < 1e-7


@given(arrays(np.float32, (8, 2), elements=st.floats(-3, 3, width=32) | st.just(np.float32(np.nan))))
def test_bags_of_trees_score_the_same(rows):
    assert parity(BAGGED, pd.DataFrame(rows, columns=["a", "b"]), BAGGED_GRAPH) < 1e-7


BAGGED = model_of(
    make_pipeline(
        columns(NUMBERS, numbers="passthrough", seed=0),
        BaggingClassifier(boosted()[-1], n_estimators=3, max_samples=0.8, bootstrap=False, random_state=0),
    )
)
BAGGED_GRAPH = to_onnx(BAGGED)


def test_boosting_that_found_no_split_converts():
    assert parity(model_of(boosted(min_split_gain=1e9)), FRAME) < 1e-7


# --- calibration in the tails, where single precision would show


@pytest.mark.parametrize("calibrator", [constant_logit(0.3, 0.3, 2.0), constant_logit(0.0, 2.0, -25.0)], ids=str)
def test_overconfident_scores_are_calibrated_the_same(calibrator):
    certain = (FRAME["a"] > 0).astype(int).to_numpy()
    line = make_pipeline(columns(NUMBERS, numbers=HingeBasis(), seed=0), LogisticRegression(C=1e6))
    for member in (boosted(learning_rate=1.0), line):
        member.fit(NUMBERS.encode(FRAME), certain)
        raw = member.predict_proba(NUMBERS.encode(FRAME))[:, 1]
        assert raw.max() > 1 - 1e-5  # or there would be no tail to test
        assert parity(Model(NUMBERS, [member], [1.0], calibrator), FRAME) < 1e-6


# --- names, files, edges


@pytest.mark.parametrize("name", ["double  space", "probability", "Add", "a/b", "é ✓", "constant"])
def test_a_column_keeps_its_name_whatever_it_is(name):
    schema = Schema((Column(name, "number"), Column("b", "number")))
    frame = FRAME.rename(columns={"a": name})
    model = model_of(
        make_pipeline(columns(schema, numbers=StandardScaler(), seed=0), LogisticRegression()), schema, frame
    )
    running = session(to_onnx(model).SerializeToString())
    assert [item.name for item in running.get_inputs()] == [name, "b"]
    np.testing.assert_allclose(scores(running, schema, frame), model.predict_proba(frame)[:, 1], atol=1e-6)


def test_the_output_is_like_predict_proba():
    model = model_of(boosted())
    running = session(to_onnx(model).SerializeToString())
    feeds = {name: NUMBERS.encode(FRAME)[[name]].to_numpy() for name in ("a", "b")}
    (output,) = running.get_outputs()
    assert (output.name, output.type, output.shape) == ("probability", "tensor(double)", ["rows", 2])
    np.testing.assert_allclose(running.run(None, feeds)[0], model.predict_proba(FRAME), atol=1e-7)


def test_a_file_scores_as_the_graph(tmp_path):
    model = model_of(boosted())
    path = tmp_path / "model.onnx"
    path.write_bytes(to_onnx(model).SerializeToString())
    assert parity(model, FRAME, path) == parity(model, FRAME)


def test_no_rows_no_scores():
    assert scores(session(BAGGED_GRAPH.SerializeToString()), NUMBERS, FRAME.head(0)).shape == (0,)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="Column 'b' is not in the data"):
        scores(session(BAGGED_GRAPH.SerializeToString()), NUMBERS, FRAME[["a"]])


def test_parity_sees_another_model():
    other = to_onnx(model_of(make_pipeline(StandardScaler(), DummyClassifier())))
    assert parity(BAGGED, FRAME, other) > 0.1


# --- what goes through skl2onnx, and what does not convert


@pytest.mark.parametrize(
    "classifier",
    [
        DecisionTreeClassifier(max_depth=3, random_state=0),
        GaussianNB(),
        BaggingClassifier(DecisionTreeClassifier(max_depth=2), n_estimators=3, max_features=1, random_state=0),
        BaggingClassifier(LGBMClassifier(n_estimators=3, verbose=-1), n_estimators=2, max_features=1, random_state=0),
    ],
    ids=lambda classifier: type(classifier).__name__,
)
def test_other_classifiers_convert(classifier):
    assert parity(model_of(make_pipeline(StandardScaler(), classifier)), FRAME) < 1e-5


class Coin(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        return self

    def predict_proba(self, X):
        return np.full((len(X), 2), 0.5)


class Shrug(NoCalibration):
    pass


CITY = Schema((Column("city", "category"),))
CITIES = pd.DataFrame({"city": np.where(FRAME["a"] > 0, "here", "there")})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (make_pipeline(StandardScaler(), Coin()), "Coin has no conversion to ONNX"),
        (make_pipeline(FunctionTransformer(np.sinh), LogisticRegression()), "FunctionTransformer"),
        (make_pipeline(StandardScaler(), DummyClassifier(strategy="uniform")), "strategy == 'uniform'"),
        (boosted(zero_as_missing=True), "zero_as_missing"),
    ],
    ids=lambda item: item if isinstance(item, str) else None,
)
def test_what_cannot_leave_the_lab_is_refused_by_name(step, message):
    with pytest.raises(ParamsError, match=message):
        to_onnx(model_of(step))


def test_categorical_splits_are_refused():
    model = model_of(boosted())
    raw = NUMBERS.encode(FRAME).assign(b=(FRAME["b"] * 2 + 8).astype(int))
    trees = LGBMClassifier(n_estimators=9, verbose=-1, min_data_per_group=1, cat_smooth=1)
    model.members[0].steps[-1] = ("lgbmclassifier", trees.fit(raw.to_numpy(), Y, categorical_feature=[1]))
    with pytest.raises(ParamsError, match="split '=='"):
        to_onnx(model)


def test_encoders_that_refuse_unseen_levels_are_refused():
    member = make_pipeline(OneHotEncoder(sparse_output=False), LogisticRegression())
    with pytest.raises(ParamsError, match="handle_unknown='error'"):
        to_onnx(model_of(member, CITY, CITIES))


def test_an_unknown_calibrator_is_refused():
    class Isotonic:
        def apply(self, probability):
            return probability

    with pytest.raises(ParamsError, match="Isotonic has no conversion"):
        to_onnx(model_of(boosted(), calibrator=Isotonic()))


def test_a_model_that_saw_one_class_is_refused():
    member = make_pipeline(StandardScaler(), boosted()[-1]).fit(NUMBERS.encode(FRAME), np.zeros(len(FRAME), int))
    with pytest.raises(ParamsError, match=r"must be \[0, 1\]"):
        to_onnx(Model(NUMBERS, [member], [1.0], NoCalibration()))


def test_importing_the_door_opens_nothing():
    code = (
        "import sys, cxlab.release.onnx as _; print({'onnx', 'skl2onnx', 'onnxruntime', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
