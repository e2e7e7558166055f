"""Contributions to the churn sample's scores: `contributions` beside a plain `shap.Explainer` on `predict_proba`.

The plain call knows nothing of the model: it replaces values by those of background rows, here 50 of them, and
predicts again and again. It explains the probability, ours the log-odds before calibration, so only time is compared;
the rank correlation of the columns' strengths says whether both tell the same story.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import shap
from common import ROOT, Found, seconds

from cxlab.data.table import Schema, read_table
from cxlab.evidence.explain import contributions
from cxlab.models.subject import Subject, subject_of
from cxlab.models.training import train
from cxlab.params import load_params

ROWS, NAIVE_ROWS, BACKGROUND = 1000, 15, 50


def measure() -> Found:
    """Both on the bagged LightGBMs at their defaults; the plain call explains few rows, its time is scaled up."""
    overrides = ["search.candidates=[lightgbm]", "search.trials=1"]
    params = load_params(ROOT / "params" / "telecom_churn.yaml", overrides)
    subject = subject_of(train(read_table(params.data), params, storage=None))
    rows = subject.test.iloc[:ROWS]
    ours = seconds(lambda: contributions(subject.model, rows, background=subject.train))
    found = contributions(subject.model, rows.iloc[:NAIVE_ROWS], background=subject.train)
    started = time.perf_counter()
    plain = _naive(subject)
    naive = (time.perf_counter() - started) * len(rows) / NAIVE_ROWS
    together = pd.Series(found.strength).corr(pd.Series(np.abs(plain).mean(axis=0)), method="spearman")
    frame = pd.DataFrame(
        [
            ("contributions", f"{ours:.2f}", "1"),
            (f"shap.Explainer ({NAIVE_ROWS} rows, scaled)", f"{naive:.1f}", f"{naive / ours:.0f}"),
        ],
        columns=["way", "seconds", "times as long"],
    )
    says = (f"The strengths of the columns have a rank correlation of {together:.2f}.",)
    return Found(f"{len(rows):,} rows, {len(found.columns)} columns, 5 bagged LightGBMs", frame, says)


def _naive(subject: Subject) -> np.ndarray:
    """SHAP wants numbers: levels travel as codes, and are turned back before each prediction."""
    schema = subject.model.schema

    def score(codes: np.ndarray) -> np.ndarray:
        return subject.model.predict_proba(_decoded(schema, codes))[:, 1]

    background = _coded(schema, subject.train.iloc[:BACKGROUND])
    return shap.Explainer(score, background, seed=0)(_coded(schema, subject.test.iloc[:NAIVE_ROWS]), silent=True).values


def _coded(schema: Schema, rows: pd.DataFrame) -> np.ndarray:
    encoded = schema.encode(rows)
    for column in schema.columns:
        if column.kind == "category":
            encoded[column.name] = encoded[column.name].map(list(column.categories).index)
    return encoded.to_numpy(np.float64)


def _decoded(schema: Schema, codes: np.ndarray) -> pd.DataFrame:
    cells = {}
    for column, values in zip(schema.columns, codes.T, strict=True):
        levels = np.array(column.categories, object)
        cells[column.name] = levels[values.astype(int)] if column.kind == "category" else values
    return pd.DataFrame(cells)
