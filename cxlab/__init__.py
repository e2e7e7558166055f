"""cxlab: a workbench for people who model customer experience.

    import cxlab

    params = cxlab.load_params("params/churn.yaml")
    table = cxlab.read_table(params.data)
    with cxlab.tracked(params) as run:
        training = cxlab.train(table, params)
        run.log(training)

Names load their libraries when they are first used.
"""

from __future__ import annotations

import importlib
import os
import warnings
from typing import TYPE_CHECKING, Any

# Nothing phones home: telemetry of every library below is off before it loads.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "1")
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, of JupyterLab without its widgets

if TYPE_CHECKING:
    from cxlab.data.quality import check
    from cxlab.data.table import read_table
    from cxlab.errors import CxlabError
    from cxlab.metrics.curves import gains, reliability
    from cxlab.metrics.intervals import evaluate
    from cxlab.metrics.rates import rates
    from cxlab.models.splits import compare_splits
    from cxlab.models.task import train
    from cxlab.notebooks import record
    from cxlab.params import load_params
    from cxlab.tracking.leaderboard import compare
    from cxlab.tracking.registry import load_model
    from cxlab.tracking.runs import tracked

_WHERE = {
    "CxlabError": "cxlab.errors",
    "check": "cxlab.data.quality",
    "compare": "cxlab.tracking.leaderboard",
    "compare_splits": "cxlab.models.splits",
    "evaluate": "cxlab.metrics.intervals",
    "gains": "cxlab.metrics.curves",
    "load_model": "cxlab.tracking.registry",
    "load_params": "cxlab.params",
    "rates": "cxlab.metrics.rates",
    "read_table": "cxlab.data.table",
    "record": "cxlab.notebooks",
    "reliability": "cxlab.metrics.curves",
    "tracked": "cxlab.tracking.runs",
    "train": "cxlab.models.task",
}

__all__ = [
    "CxlabError",
    "check",
    "compare",
    "compare_splits",
    "evaluate",
    "gains",
    "load_model",
    "load_params",
    "rates",
    "read_table",
    "record",
    "reliability",
    "tracked",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cxlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
