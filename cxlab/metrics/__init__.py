"""Textbook metrics, each with an interval, and fair comparisons between candidates.

    evaluation = evaluate(y, {"prior": p0, "boosting": p1}, churn_metrics(0.1))
    evaluation.frame()
    evaluation.compare("prior").frame()

To add a metric, see `classification`; to see how an interval is made, `bootstrap`.
"""

from cxlab.metrics.bootstrap import Interval, wilson
from cxlab.metrics.classification import brier, churn_metrics, ece, lift, lift_at, log_loss, pr_auc, roc_auc
from cxlab.metrics.curves import Gains, Reliability, gains, reliability
from cxlab.metrics.intervals import Comparison, Evaluation, evaluate
from cxlab.metrics.sample import Metric

__all__ = [
    "Comparison",
    "Evaluation",
    "Gains",
    "Interval",
    "Metric",
    "Reliability",
    "brier",
    "churn_metrics",
    "ece",
    "evaluate",
    "gains",
    "lift",
    "lift_at",
    "log_loss",
    "pr_auc",
    "reliability",
    "roc_auc",
    "wilson",
]
