"""What the contracts are tried on: customers of every kind, a model of every candidate, rows meant to trip it."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from cxlab.data.schema import Schema, schema_of
from cxlab.models.calibration import BetaCalibration, Calibrator, NoCalibration
from cxlab.models.task import Candidate, Model
from cxlab.models.training import BLEND, task_of

TASKS = ("churn",)
CANDIDATES = {candidate.name: candidate for task in TASKS for candidate in task_of(task).candidates}
MODELS = [*CANDIDATES, BLEND]
CALIBRATORS = {"none": NoCalibration(), "sigmoid": BetaCalibration(tied=True), "beta": BetaCalibration()}
TABLES = {
    "mixed": None,
    "numbers": ["calls  made", "minutes"],
    "one number": ["minutes"],
    "one category": ["plan"],
    "many levels": ["city"],
    "constant": ["constant"],
    "all missing": ["void"],
}


@functools.cache
def customers(n: int = 240) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with missing values, a rare level, many levels, a constant and an empty column; and their outcomes."""
    rng = np.random.default_rng(7)
    minutes = rng.gamma(2.0, 60.0, n)
    calls = rng.poisson(2, n).astype(float)
    frame = pd.DataFrame(
        {
            "calls  made": np.where(rng.random(n) < 0.2, np.nan, calls),
            "minutes": minutes,
            "balance": rng.normal(0, 300, n).round(2),
            "constant": 1.0,
            "void": np.nan,
            "plan": rng.choice(["basic", "plus", "pró"], n),
            "note": np.where(rng.random(n) < 0.3, None, rng.choice(["call", "mail", "mail\u2009me"], n)),
            "rare": np.where(np.arange(n) < 3, "seldom", "often"),
            "city": [f"city {i}" for i in rng.integers(0, 40, n)],
            "probability": rng.random(n),  # a name that the graph's output would like to have
        }
    )
    risk = 1 / (1 + np.exp(2 - calls + (minutes > 120) - 0.002 * frame["balance"]))
    return frame, (rng.random(n) < risk).to_numpy().astype(np.int8)


def part(table: str) -> tuple[Schema, pd.DataFrame, np.ndarray]:
    frame, y = customers()
    frame = frame if TABLES[table] is None else frame[TABLES[table]]
    return schema_of(frame, list(frame.columns)), frame, y


def fit(candidate: Candidate, table: str = "mixed", seed: int = 0) -> BaseEstimator:
    """A candidate at its defaults, but quick."""
    schema, frame, y = part(table)
    quick = {"n_estimators": 20, "min_child_samples": 10}
    settings = {name: quick.get(name, value) for name, value in candidate.default.items()}
    return candidate.build(schema, settings, seed).fit(schema.encode(frame), y)


@functools.cache
def model_of(name: str, calibrator: str = "beta", table: str = "mixed") -> Model:
    """A model as training would register it."""
    return new_model(name, calibrator, table)


def new_model(name: str, calibrator: str = "beta", table: str = "mixed") -> Model:
    schema, frame, y = part(table)
    names, weights = (list(CANDIDATES)[-2:], [0.3, 0.7]) if name == BLEND else ([name], [1.0])
    members = [fit(CANDIDATES[each], table) for each in names]
    plain = Model(schema, members, weights, NoCalibration())
    learnt: Calibrator = NoCalibration()
    if calibrator != "none":
        learnt = BetaCalibration(tied=calibrator == "sigmoid").fit(plain.predict_proba(frame)[:, 1], y)
    return Model(schema, members, weights, learnt)


def thresholds(model: Model) -> dict[str, list[float]]:
    """Where the model bends or splits, by number column."""
    numbers = model.schema.of_kind("number")
    found: dict[str, list[float]] = {name: [] for name in numbers}
    for member in model.members:
        basis = member["columns"].named_transformers_.get("numbers")
        for source, knot in zip(getattr(basis, "source_", []), getattr(basis, "knot_", []), strict=True):
            found[numbers[source]].append(float(knot))
        for bag in getattr(member["model"], "estimators_", []):
            splits = bag.booster_.trees_to_dataframe().dropna(subset="threshold")
            for feature, threshold in zip(splits["split_feature"], splits["threshold"], strict=True):
                position = int(feature.removeprefix("Column_"))
                if position < len(numbers):
                    found[numbers[position]].append(threshold)
    return found


def adversarial_rows(model: Model) -> pd.DataFrame:
    """Training rows with one cell changed: at thresholds and beside them, extremes, nulls, unseen and odd texts."""
    frame, _ = customers()
    at = thresholds(model)
    rows = []
    for column in model.schema.columns:
        if column.kind == "number":
            near = np.unique(np.array(at[column.name], np.float64))
            single = near.astype(np.float32)
            beside = [np.nextafter(single, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf)]
            odd = [0.0, -0.0, 1e30, -1e30, 3.4e38, 1e300, -1e300, np.inf, -np.inf, 1e-40, -1e-40, np.nan, None]
            cells = [*near, *single.astype(np.float64), *beside[0], *beside[1], *odd]
        else:
            cells = [
                "",
                " ",
                "unseen",
                "(missing)",
                "PLUS",
                "infrequent_sklearn",
                "客户 ✓ é",
                "nan",
                None,
                np.nan,
                1,
                True,
            ]
        for number, cell in enumerate(cells):
            row = frame.iloc[number % len(frame)].to_dict()
            rows.append(row | {column.name: cell})
    everything_missing = dict.fromkeys(model.schema.names)
    return pd.DataFrame([*rows, everything_missing], columns=frame.columns)
