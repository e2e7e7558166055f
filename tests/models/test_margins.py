"""Margins of many classes, and the landmarks that stand for what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from cxlab.models.margins import LandmarkRidge, SoftMargins, landmarks


@pytest.fixture
def vectors() -> tuple[np.ndarray, np.ndarray]:
    """Four clouds on a sphere, codes 1, 3, 5 and 7."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, 3, 5, 7], 50)
    X = rng.normal(size=(200, 16)) * 0.2 + np.eye(16)[np.repeat(np.arange(4), 50)]
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32), y


@pytest.mark.parametrize("model", [SoftMargins(), LandmarkRidge()])
def test_probabilities_keep_the_order_of_margins(model, vectors) -> None:
    X, y = vectors
    model.fit(X, y)
    margins, found = model.decision_function(X), model.predict_proba(X)
    assert model.classes_.tolist() == [1, 3, 5, 7]
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(found.argmax(axis=1), margins.argmax(axis=1))
    assert (model.classes_[found.argmax(axis=1)] == y).mean() > 0.95


@pytest.mark.parametrize("model", [SoftMargins(), LandmarkRidge()])
def test_two_classes_have_two_margins(model, vectors) -> None:
    X, y = vectors
    found = model.fit(X[:100], y[:100]).predict_proba(X)
    assert found.shape == (200, 2)
    assert (model.classes_[found[:100].argmax(axis=1)] == y[:100]).mean() > 0.95


@pytest.mark.parametrize("model", [SoftMargins(seed=3), LandmarkRidge(seed=3)])
def test_it_repeats(model, vectors) -> None:
    X, y = vectors
    first = model.fit(X, y).decision_function(X)
    np.testing.assert_array_equal(first, model.fit(X, y).decision_function(X))


def test_far_from_what_was_seen_every_margin_is_low(vectors) -> None:
    X, y = vectors
    model = LandmarkRidge().fit(X, y)
    strange = np.zeros((1, 16), np.float32)
    strange[0, 9] = 1
    assert model.decision_function(strange).max() < np.quantile(model.decision_function(X).max(axis=1), 0.02)


def test_landmarks_are_of_their_class_and_of_length_one(vectors) -> None:
    X, y = vectors
    marks = landmarks(X, y, rows=5)
    assert marks.shape == (40, 16)
    np.testing.assert_allclose(np.linalg.norm(marks, axis=1), 1, rtol=1e-5)
    assert ((marks @ X.T).argmax(axis=1) // 50 == np.repeat(np.arange(4), 10)).all()
    assert landmarks(X[:3], np.array([0, 1, 2]), rows=5).shape == (3, 16)  # a class of one row has itself
