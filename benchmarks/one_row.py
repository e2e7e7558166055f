"""One customer scored: the model as ONNX beside the scikit-learn model it was made from."""

from __future__ import annotations

import pandas as pd
from common import ROOT, Found, seconds

from cxlab.data.table import read_table
from cxlab.models.training import train
from cxlab.params import load_params
from cxlab.release.onnx import parity, scores, to_onnx
from cxlab.release.scorer import session


def measure() -> Found:
    """The bagged LightGBMs on the churn sample, at their defaults."""
    overrides = ["search.candidates=[lightgbm]", "search.trials=1"]
    params = load_params(ROOT / "params" / "churn.yaml", overrides)
    table = read_table(params.data)
    training = train(table, params, storage=None)
    model, row = training.model, table.frame.iloc[[0]]
    graph = to_onnx(model)
    running, encoded = session(graph.SerializeToString()), model.schema.encode(row)
    feeds = {name: encoded[[name]].to_numpy() for name in model.schema.names}
    taken = {
        "scikit-learn, from a raw row": seconds(lambda: model.predict_proba(row)),
        "ONNX, from a raw row": seconds(lambda: scores(running, model.schema, row)),
        "ONNX, from a row already cast": seconds(lambda: running.run(None, feeds)),
    }
    base = next(iter(taken.values()))
    rows = [(way, f"{1000 * each:.3f}", f"{base / each:.1f}") for way, each in taken.items()]
    frame = pd.DataFrame(rows, columns=["way", "milliseconds a row", "times as fast"])
    apart = parity(model, table.frame.iloc[training.split.test], graph)
    return Found(training.candidates[0].title, frame, (f"Scores differ by at most {apart:.0e}.",))
