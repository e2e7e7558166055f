"""What every candidate of every task promises, so that whatever is selected can leave the lab."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pandas as pd
import pytest
import skops.io
from contract_models import (
    CALIBRATORS,
    CANDIDATES,
    MODELS,
    TABLES,
    adversarial_rows,
    customers,
    fit,
    model_of,
    new_model,
    part,
    thresholds,
)
from hypothesis import given
from hypothesis import strategies as st

from cxlab.data.schema import Schema
from cxlab.models.training import BLEND
from cxlab.release.onnx import parity, scores, to_onnx
from cxlab.release.scorer import session
from cxlab.tracking.registry import TRUSTED_TYPES

LIMIT = 1e-5  # largest difference in probability between the lab and ONNX
every_model = pytest.mark.parametrize("name", MODELS)
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS)
every_table = pytest.mark.parametrize("table", TABLES)


@every_model
@every_table
def test_probabilities_are_probabilities(name, table):
    _, frame, _ = part(table)
    probability = model_of(name, "beta", table).predict_proba(frame)
    assert probability.shape == (len(frame), 2)
    assert ((probability >= 0) & (probability <= 1)).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1)


@every_model
def test_a_row_alone_scores_as_in_a_batch(name):
    model = model_of(name)
    rows = pd.concat([customers()[0].head(5), adversarial_rows(model).tail(5)], ignore_index=True)
    alone = np.vstack([model.predict_proba(rows.iloc[[i]]) for i in range(len(rows))])
    np.testing.assert_allclose(alone, model.predict_proba(rows), rtol=0, atol=1e-9)


@every_model
@given(data=st.data())
def test_the_order_of_columns_and_others_beside_them_change_nothing(name, data):
    model, (frame, y) = model_of(name), customers()
    order = data.draw(st.permutations([*frame.columns, "label", "id"]))
    changed = frame.assign(label=y, id=[f"c{i}" for i in range(len(frame))])[order]
    np.testing.assert_array_equal(model.predict_proba(changed), model.predict_proba(frame))


@every_model
@given(data=st.data())
def test_the_order_of_rows_changes_no_score(name, data):
    model, (frame, _) = model_of(name), customers()
    order = np.array(data.draw(st.permutations(range(12))))
    few = frame.iloc[:12]
    np.testing.assert_allclose(model.predict_proba(few.iloc[order]), model.predict_proba(few)[order], rtol=0, atol=1e-9)


@every_model
def test_the_same_seed_gives_the_same_model(name):
    frame, _ = customers()
    np.testing.assert_array_equal(new_model(name).predict_proba(frame), model_of(name).predict_proba(frame))


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_second_fit_forgets_the_first(name):
    schema, frame, y = part("mixed")
    estimator, encoded = fit(CANDIDATES[name]), schema.encode(frame)
    before = estimator.predict_proba(encoded)
    estimator.fit(encoded.iloc[::2], y[::2])
    np.testing.assert_array_equal(estimator.fit(encoded, y).predict_proba(encoded), before)


@every_model
@every_table
@every_calibrator
def test_onnx_scores_the_same(name, table, calibrator):
    model = model_of(name, calibrator, table)
    converted = to_onnx(model)
    assert parity(model, part(table)[1], converted) <= LIMIT
    assert parity(model, adversarial_rows(model), converted) <= LIMIT


@pytest.mark.parametrize("name", [name for name in MODELS if name != "prior"])
def test_the_adversarial_rows_sit_on_splits_and_knots(name):
    assert sum(map(len, thresholds(model_of(name)).values())) > 10


def raw_rows(schema: Schema) -> st.SearchStrategy[dict[str, object]]:
    numbers = st.none() | st.floats(width=64) | st.floats(-300, 300, width=16) | st.integers(-5, 400)
    seen = st.sampled_from(sorted({text for column in schema.columns for text in column.categories}))
    texts = st.none() | seen | st.text(st.characters(codec="utf-8"), max_size=8)
    return st.fixed_dictionaries({c.name: numbers if c.kind == "number" else texts for c in schema.columns})


@every_model
@given(data=st.data())
def test_onnx_scores_the_same_whatever_the_rows(name, data):
    model = model_of(name)
    rows = data.draw(st.lists(raw_rows(model.schema), min_size=1, max_size=20))
    frame = pd.DataFrame(rows, columns=model.schema.names)
    assert parity(model, frame, _converted(name)) <= LIMIT
    assert ((model.predict_proba(frame) >= 0) & (model.predict_proba(frame) <= 1)).all()


@every_model
def test_onnx_scores_a_row_alone_as_in_a_batch(name):
    model, (frame, _) = model_of(name), customers()
    running = session(_converted(name).SerializeToString())
    few = frame.head(10)
    alone = [scores(running, model.schema, few.iloc[[i]])[0] for i in range(len(few))]
    np.testing.assert_allclose(alone, scores(running, model.schema, few), rtol=0, atol=1e-9)


@every_model
@every_calibrator
def test_skops_holds_our_types_alone_and_gives_the_same_scores(name, calibrator):
    model, (frame, _) = model_of(name, calibrator), customers()
    data = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(TRUSTED_TYPES)
    again = skops.io.loads(data, trusted=TRUSTED_TYPES)
    np.testing.assert_array_equal(again.predict_proba(frame), model.predict_proba(frame))
    assert to_onnx(again).SerializeToString() == to_onnx(model).SerializeToString()


@every_model
def test_the_file_holds_no_pickle(name):
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model_of(name)))) as archive:
        for member in archive.namelist():
            content = archive.read(member)
            if member.endswith(".npy"):
                np.load(io.BytesIO(content), allow_pickle=False)
            else:
                assert not content.startswith(b"\x80")  # the first byte of every binary pickle


def test_a_blend_is_the_weighted_mean_of_its_members():
    frame, _ = customers()
    blend = model_of(BLEND, "none")
    members = [model_of(name, "none").predict_proba(frame) for name in list(CANDIDATES)[-2:]]
    np.testing.assert_allclose(blend.predict_proba(frame), 0.3 * members[0] + 0.7 * members[1])


_proto = {}


def _converted(name: str):
    return _proto.setdefault(name, to_onnx(model_of(name)))
