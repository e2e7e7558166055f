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
    from cxlab.decide.actions import suggest, what_if_limits
    from cxlab.decide.alerts import daily, watch
    from cxlab.decide.answers import Answers, acceptance
    from cxlab.decide.assignment import assign
    from cxlab.decide.average_effects import average_effects
    from cxlab.decide.decisions import announce, decisions_on, settle
    from cxlab.decide.insight import insights
    from cxlab.decide.lifetime import lifetime_value
    from cxlab.decide.lot import require_lot
    from cxlab.decide.measure_tables import tables_in
    from cxlab.decide.measures import measures
    from cxlab.decide.off_policy import policy_value
    from cxlab.decide.plans import load_plan, plan
    from cxlab.decide.qini import qini
    from cxlab.decide.readout import readout
    from cxlab.decide.replay import replay
    from cxlab.decide.risk import assess, risk_params, risk_scores
    from cxlab.decide.risk_compare import compare_risks
    from cxlab.decide.root_causes import root_causes
    from cxlab.decide.thresholds import tune
    from cxlab.decide.trials import split_decisions, trial_of
    from cxlab.decide.uplift import learn_uplift
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
    from cxlab.params.actions import load_actions
    from cxlab.params.alerts import load_alerts
    from cxlab.params.insights import load_insights
    from cxlab.params.measures import load_measures
    from cxlab.params.signals import load_signals
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
    "acceptance": "cxlab.decide.answers",
    "admit_events": "cxlab.features.table",
    "announce": "cxlab.decide.decisions",
    "Answers": "cxlab.decide.answers",
    "approve": "cxlab.release.approval",
    "assess": "cxlab.decide.risk",
    "assign": "cxlab.decide.assignment",
    "audit": "cxlab.evidence.fairness",
    "average_effects": "cxlab.decide.average_effects",
    "check": "cxlab.data.quality",
    "check_events": "cxlab.data.event_quality",
    "cohorts": "cxlab.journey.cohorts",
    "compare": "cxlab.tracking.leaderboard",
    "compare_borders": "cxlab.models.splits",
    "compare_journeys": "cxlab.journey.compare",
    "compare_risks": "cxlab.decide.risk_compare",
    "compare_splits": "cxlab.models.splits",
    "daily": "cxlab.decide.alerts",
    "decisions_on": "cxlab.decide.decisions",
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
    "insights": "cxlab.decide.insight",
    "journey_log": "cxlab.journey.log",
    "journey_map": "cxlab.journey.map",
    "learn_uplift": "cxlab.decide.uplift",
    "lifetime_value": "cxlab.decide.lifetime",
    "load_actions": "cxlab.params.actions",
    "load_alerts": "cxlab.params.alerts",
    "load_bundle": "cxlab.release.scorer",
    "load_insights": "cxlab.params.insights",
    "load_measures": "cxlab.params.measures",
    "load_params": "cxlab.params",
    "load_plan": "cxlab.decide.plans",
    "load_signals": "cxlab.params.signals",
    "load_table": "cxlab.features.table",
    "loops": "cxlab.journey.paths",
    "measures": "cxlab.decide.measures",
    "open_version": "cxlab.tracking.registry",
    "over_time": "cxlab.evidence.over_time",
    "paths_from": "cxlab.journey.paths",
    "paths_to": "cxlab.journey.paths",
    "plan": "cxlab.decide.plans",
    "policy_value": "cxlab.decide.off_policy",
    "propose_intents": "cxlab.models.intent_proposals",
    "qini": "cxlab.decide.qini",
    "rates": "cxlab.metrics.rates",
    "read_frame": "cxlab.data.files",
    "readout": "cxlab.decide.readout",
    "reasons": "cxlab.evidence.reasons",
    "record": "cxlab.notebooks",
    "reject": "cxlab.release.approval",
    "reliability": "cxlab.metrics.curves",
    "remedy": "cxlab.evidence.remedy",
    "replay": "cxlab.decide.replay",
    "report_of": "cxlab.tracking.reports",
    "require_lot": "cxlab.decide.lot",
    "review": "cxlab.evidence.report",
    "risk_params": "cxlab.decide.risk",
    "risk_scores": "cxlab.decide.risk",
    "rollback": "cxlab.release.approval",
    "root_causes": "cxlab.decide.root_causes",
    "settle": "cxlab.decide.decisions",
    "split_decisions": "cxlab.decide.trials",
    "step_times": "cxlab.journey.times",
    "suggest": "cxlab.decide.actions",
    "tables_in": "cxlab.decide.measure_tables",
    "timeline": "cxlab.data.timeline",
    "tracked": "cxlab.tracking.runs",
    "train": "cxlab.models.training",
    "trends": "cxlab.metrics.trends",
    "trial_of": "cxlab.decide.trials",
    "tune": "cxlab.decide.thresholds",
    "verify": "cxlab.release.verify",
    "watch": "cxlab.decide.alerts",
    "what_if": "cxlab.evidence.reasons",
    "what_if_limits": "cxlab.decide.actions",
}

__all__ = [
    "Answers",
    "CxlabError",
    "acceptance",
    "admit_events",
    "announce",
    "approve",
    "assess",
    "assign",
    "audit",
    "average_effects",
    "check",
    "check_events",
    "cohorts",
    "compare",
    "compare_borders",
    "compare_journeys",
    "compare_risks",
    "compare_splits",
    "daily",
    "decisions_on",
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
    "insights",
    "journey_log",
    "journey_map",
    "learn_uplift",
    "lifetime_value",
    "load_actions",
    "load_alerts",
    "load_bundle",
    "load_insights",
    "load_measures",
    "load_params",
    "load_plan",
    "load_signals",
    "load_table",
    "loops",
    "measures",
    "open_version",
    "over_time",
    "paths_from",
    "paths_to",
    "plan",
    "policy_value",
    "propose_intents",
    "qini",
    "rates",
    "read_frame",
    "readout",
    "reasons",
    "record",
    "reject",
    "reliability",
    "remedy",
    "replay",
    "report_of",
    "require_lot",
    "review",
    "risk_params",
    "risk_scores",
    "rollback",
    "root_causes",
    "settle",
    "split_decisions",
    "step_times",
    "suggest",
    "tables_in",
    "timeline",
    "tracked",
    "train",
    "trends",
    "trial_of",
    "tune",
    "verify",
    "watch",
    "what_if",
    "what_if_limits",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'cxlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(_WHERE)
