"""How often drift is reported where there is none, and how often an estimate without outcomes holds the truth.

Everything is simulated from seeds 0, 1, 2, ... fixed beforehand, and every simulation counts.
"""

from __future__ import annotations

import time
import warnings

import joblib
import numpy as np
import pandas as pd
from common import Found
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from cxlab.data.table import MISSING, Column, schema_of
from cxlab.evidence.drift import compare_samples, evidently_page
from cxlab.evidence.estimate import ESTIMATED, estimate_performance
from cxlab.evidence.shift import ALPHA, adjusted, column_tests

SIMULATIONS, COLUMNS, BEFORE, NOW = 1_000, 200, 1_500, 900
ESTIMATES, ESTIMATED_ROWS, RESAMPLES = 1_000, 800, 400


def measure() -> Found:
    """Alarms on columns without drift, coverage of the estimate under covariate shift, seconds."""
    rows = [*_alarms(), *_peer_alarms(), *_coverage(), *_seconds()]
    says = (
        f"A rate may differ from its target by {_error(ALPHA, SIMULATIONS):.2%}, two binomial standard errors, at "
        f"{SIMULATIONS:,} simulations.",
        f"An alarm is an adjusted p below {ALPHA:.0%} among {COLUMNS} columns; moved asks for a size that counts, too.",
    )
    frame = pd.DataFrame(rows, columns=["what", "simulations", "found", "target"])
    return Found("Drift: false alarms, coverage, seconds", frame, says)


def _error(rate: float, simulations: int) -> float:
    return float(2 * np.sqrt(rate * (1 - rate) / simulations))


def still_world(rng: np.random.Generator, columns: int, rows: int) -> list[tuple[Column, np.ndarray]]:
    """Columns of six kinds: normal, skewed with missing values, counts, few, uneven and very many categories."""
    out = []
    for number in range(columns):
        kind = number % 6
        if kind < 3:
            values = [rng.normal, lambda size: rng.lognormal(1, 1, size), lambda size: rng.poisson(2, size)][kind](
                size=rows
            )
            values = np.where(rng.random(rows) < 0.05, np.nan, values) if kind == 1 else values.astype(float)
            out.append((Column(f"c{number}", "number"), values.astype(np.float32)))
        else:
            levels = [3, 30, 2000][kind - 3]
            names = np.array([f"v{level}" for level in range(levels)], dtype=object)
            uneven = (rng.random(rows) ** [1, 3, 1][kind - 3] * levels).astype(int)
            text = names[uneven]
            if kind == 4:
                text[rng.random(rows) < 0.02] = MISSING
            out.append((Column(f"c{number}", "category"), text))
    return out


def report_of_still_world(seed: int, columns: int = COLUMNS) -> tuple[bool, bool]:
    """Is there any alarm, and has any column moved?"""
    world = still_world(np.random.default_rng(seed), columns, BEFORE + NOW)
    found = adjusted(
        test for column, values in world for test in column_tests(column, values[:BEFORE], values[BEFORE:])
    )
    return any(item.p_adjusted < ALPHA for item in found), any(item.verdict == "moved" for item in found)


def _alarms() -> list[tuple[str, str, str, str]]:
    told = joblib.Parallel(n_jobs=2)(joblib.delayed(report_of_still_world)(seed) for seed in range(SIMULATIONS))
    alarms, moved = np.sum(told, axis=0)
    title = f"reports of {COLUMNS} still columns with an alarm ({BEFORE:,} and {NOW:,} rows)"
    return [
        (title, f"{SIMULATIONS:,}", f"{alarms / SIMULATIONS:.2%}", f"at most {ALPHA:.0%}"),
        ("the same, with a column moved", f"{SIMULATIONS:,}", f"{moved / SIMULATIONS:.2%}", f"at most {ALPHA:.0%}"),
    ]


def _peer_alarms() -> list[tuple[str, str, str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently.legacy.calculations.stattests import chi_stat_test
        from evidently.legacy.core import ColumnType
    theirs = ours = 0
    for seed in range(SIMULATIONS):
        rng = np.random.default_rng(seed)
        before, now = (rng.choice(np.array(["a", "b", "c"], dtype=object), NOW) for _ in range(2))
        theirs += chi_stat_test(pd.Series(before), pd.Series(now), ColumnType.Categorical, ALPHA).drifted
        ours += column_tests(Column("c", "category"), before, now)[0].p < ALPHA
    return [
        (f"one still column of 3 categories, {name}", f"{SIMULATIONS:,}", f"{count / SIMULATIONS:.2%}", f"{ALPHA:.0%}")
        for name, count in (("our chi-square", ours), ("Evidently's", theirs))
    ]


def estimates(seed: int, *, learnt: bool) -> dict[str, bool]:
    """Does each interval hold the metric of shifted rows? Scores are true probabilities, or learnt on 2,000 rows."""
    rng = np.random.default_rng(seed)
    slope = np.array([1.0, -0.7, 0.5, 0.0, 0.0])

    def customers(n: int, shift: float, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        X = rng.normal(shift, spread, (n, 5))
        p = expit(X @ slope - 1)
        return X, p, (rng.random(n) < p).astype(int)

    X, p, y = customers(ESTIMATED_ROWS, 0.7, 0.8)
    calibrated_on = None
    if learnt:
        train, _, outcome = customers(2_000, 0.0, 1.0)
        model = LogisticRegression(C=1e6).fit(train, outcome)
        p, calibrated_on = model.predict_proba(X)[:, 1], model.predict_proba(train)[:, 1]
    found = estimate_performance(p, calibrated_on=calibrated_on, resamples=RESAMPLES, seed=seed).values
    return {m.name: found[m.name].low <= m(y, p) <= found[m.name].high for m in ESTIMATED}


def _coverage() -> list[tuple[str, str, str, str]]:
    rows = []
    for learnt, scores in ((False, "true probabilities"), (True, "a model of 2,000 rows")):
        calls = (joblib.delayed(estimates)(seed, learnt=learnt) for seed in range(ESTIMATES))
        held = pd.DataFrame(joblib.Parallel(n_jobs=2)(calls)).mean()
        rows += [
            (f"estimate holds the {name} of shifted rows, {scores}", f"{ESTIMATES:,}", f"{share:.2%}", "at least 95%")
            for name, share in held.items()
        ]
    return rows


def _seconds() -> list[tuple[str, str, str, str]]:
    rows = []
    for n in (7_000, 100_000):
        rng = np.random.default_rng(n)
        world = {f"x{k}": rng.normal(size=2 * n) for k in range(15)}
        world |= {f"c{k}": rng.choice(["a", "b", "c", "d"], 2 * n) for k in range(15)}
        frame = pd.DataFrame(world)
        before, now, schema = frame[:n], frame[n:], schema_of(frame[:n], list(frame))
        for name, call in (
            ("compare_samples", lambda b=before, c=now, s=schema: compare_samples(b, c, s)),
            ("Evidently's page", lambda b=before, c=now, s=schema: _page(b, c, s)),
        ):
            started = time.perf_counter()
            call()
            rows.append((f"{name}, {n:,} x 30 twice", "1", f"{time.perf_counter() - started:.1f} s", ""))
    return rows


def _page(before: pd.DataFrame, now: pd.DataFrame, schema: object) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        evidently_page(before, now, schema, f"{folder}/page.html")  # type: ignore[arg-type]
