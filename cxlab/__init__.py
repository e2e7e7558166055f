"""cxlab: a workbench for people who model customer experience.

    import cxlab

    params = cxlab.load_params("params/churn.yaml")
    table = cxlab.load_table(params)
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
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm, of JupyterLab without its widgets

if TYPE_CHECKING:
    from cxlab.data.event_quality import check_events
    from cxlab.data.files import read_frame
    from cxlab.data.quality import check
    from cxlab.data.timeline import timeline
    from cxlab.errors import CxlabError
    from cxlab.evidence.drift import drift_between
    from cxlab.evidence.fairness import audit
    from cxlab.evidence.importance import dependence, importance
    from cxlab.evidence.over_time import over_time
    from cxlab.evidence.reasons import reasons, what_if
    from cxlab.evidence.remedy import remedy
    from cxlab.evidence.report import review
    from cxlab.features.table import admit_events, load_table
    from cxlab.journey.behaviour import find_behaviours
    from cxlab.journey.cohorts import cohorts
    from cxlab.journey.compare import compare_journeys
    from cxlab.journey.funnel import funnel
    from cxlab.journey.log import journey_log
    from cxlab.journey.map import journey_map
    from cxlab.journey.paths import loops, paths_from, paths_to
    from cxlab.journey.times import step_times
    from cxlab.metrics.curves import gains, reliability
    from cxlab.metrics.intervals import evaluate
    from cxlab.metrics.rates import rates
    from cxlab.metrics.trends import trends
    from cxlab.models.ahead import foresee
    from cxlab.models.intent_proposals import propose_intents
    from cxlab.models.splits import compare_borders, compare_splits
    from cxlab.models.topics import find_topics
    from cxlab.models.training import train
    from cxlab.notebooks import record
    from cxlab.params import load_params
    from cxlab.release.approval import approve, gate, reject, rollback
    from cxlab.release.export import export
    from cxlab.release.history import history
    from cxlab.release.scorer import load_bundle
    from cxlab.release.verify import verify
    from cxlab.tracking.leaderboard import compare
    from cxlab.tracking.registry import open_version
    from cxlab.tracking.reports import report_of
    from cxlab.tracking.runs import tracked

_WHERE = {
    "CxlabError": "cxlab.errors",
    "admit_events": "cxlab.features.table",
    "approve": "cxlab.release.approval",
    "audit": "cxlab.evidence.fairness",
    "check": "cxlab.data.quality",
    "check_events": "cxlab.data.event_quality",
    "cohorts": "cxlab.journey.cohorts",
    "compare": "cxlab.tracking.leaderboard",
    "compare_borders": "cxlab.models.splits",
    "compare_journeys": "cxlab.journey.compare",
    "compare_splits": "cxlab.models.splits",
    "dependence": "cxlab.evidence.importance",
    "drift_between": "cxlab.evidence.drift",
    "evaluate": "cxlab.metrics.intervals",
    "export": "cxlab.release.export",
    "find_behaviours": "cxlab.journey.behaviour",
    "find_topics": "cxlab.models.topics",
    "foresee": "cxlab.models.ahead",
    "funnel": "cxlab.journey.funnel",
    "gains": "cxlab.metrics.curves",
    "gate": "cxlab.release.approval",
    "history": "cxlab.release.history",
    "importance": "cxlab.evidence.importance",
    "journey_log": "cxlab.journey.log",
    "journey_map": "cxlab.journey.map",
    "load_bundle": "cxlab.release.scorer",
    "load_params": "cxlab.params",
    "load_table": "cxlab.features.table",
    "loops": "cxlab.journey.paths",
    "open_version": "cxlab.tracking.registry",
    "over_time": "cxlab.evidence.over_time",
    "paths_from": "cxlab.journey.paths",
    "paths_to": "cxlab.journey.paths",
    "propose_intents": "cxlab.models.intent_proposals",
    "rates": "cxlab.metrics.rates",
    "read_frame": "cxlab.data.files",
    "reasons": "cxlab.evidence.reasons",
    "record": "cxlab.notebooks",
    "reject": "cxlab.release.approval",
    "reliability": "cxlab.metrics.curves",
    "remedy": "cxlab.evidence.remedy",
    "report_of": "cxlab.tracking.reports",
    "review": "cxlab.evidence.report",
    "rollback": "cxlab.release.approval",
    "step_times": "cxlab.journey.times",
    "timeline": "cxlab.data.timeline",
    "tracked": "cxlab.tracking.runs",
    "train": "cxlab.models.training",
    "trends": "cxlab.metrics.trends",
    "verify": "cxlab.release.verify",
    "what_if": "cxlab.evidence.reasons",
}

__all__ = [
    "CxlabError",
    "admit_events",
    "approve",
    "audit",
    "check",
    "check_events",
    "cohorts",
    "compare",
    "compare_borders",
    "compare_journeys",
    "compare_splits",
    "dependence",
    "drift_between",
    "evaluate",
    "export",
    "find_behaviours",
    "find_topics",
    "foresee",
    "funnel",
    "gains",
    "gate",
    "history",
    "importance",
    "journey_log",
    "journey_map",
    "load_bundle",
    "load_params",
    "load_table",
    "loops",
    "open_version",
    "over_time",
    "paths_from",
    "paths_to",
    "propose_intents",
    "rates",
    "read_frame",
    "reasons",
    "record",
    "reject",
    "reliability",
    "remedy",
    "report_of",
    "review",
    "rollback",
    "step_times",
    "timeline",
    "tracked",
    "train",
    "trends",
    "verify",
    "what_if",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cxlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
