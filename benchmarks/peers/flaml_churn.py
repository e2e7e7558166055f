"""FLAML on one split. Runs in an environment of its own, without cxlab.

python flaml_churn.py TRAIN.csv TEST.csv TARGET POSITIVE BUDGET_S METRIC SEED    # prints one JSON object
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from importlib.metadata import version

import pandas as pd
from flaml import AutoML
from sklearn.metrics import log_loss, roc_auc_score


def main(told: list[str]) -> None:
    train_path, test_path, target, positive, budget, metric, seed = told
    train, test = pd.read_csv(train_path), pd.read_csv(test_path)
    automl = AutoML()
    started = time.perf_counter()
    with contextlib.redirect_stdout(sys.stderr):
        automl.fit(
            train.drop(columns=target),
            (train[target] == positive).astype(int),
            task="classification",
            metric=metric,
            time_budget=float(budget),
            seed=int(seed),
            verbose=0,
        )
    seconds = time.perf_counter() - started
    y, score = (test[target] == positive).astype(int), automl.predict_proba(test.drop(columns=target))[:, 1]
    facts = {"auc": roc_auc_score(y, score), "log_loss": log_loss(y, score), "seconds": seconds}
    print(json.dumps({**facts, "chosen": automl.best_estimator, "version": version("flaml")}))


if __name__ == "__main__":
    main(sys.argv[1:])
