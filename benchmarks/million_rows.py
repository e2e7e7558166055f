"""A million rows scored from file to file, beside scikit-learn's `predict_proba` on the same rows in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from common import ROOT, Found

from cxlab.data.table import read_table
from cxlab.evidence.report import review
from cxlab.models.training import train
from cxlab.params import load_params
from cxlab.release.bundle import write_bundle

ROWS, REASONED, SEED = 1_000_000, 50_000, 0
ALONE = """
import json, sys, threading, time
from pathlib import Path
import psutil
from cxlab.release.score import score_file
from cxlab.release.scorer import load_bundle

held = []

def watch():
    while True:
        held.append(psutil.Process().memory_info().rss / 2**20)
        time.sleep(0.02)

bundle = load_bundle(sys.argv[1])
threading.Thread(target=watch, daemon=True).start()
found = score_file(bundle, Path(sys.argv[2]), Path(sys.argv[3]), reasons=int(sys.argv[4]))
print(json.dumps({"seconds": found.seconds, "bad": found.bad, "mib": max(held) - held[0]}))
"""


def measure(rows: int = ROWS) -> Found:
    """The churn sample, drawn with replacement; the scoring process is a fresh one."""
    params = load_params(ROOT / "params" / "telecom_churn.yaml", ["search.trials=3"])
    table = read_table(params.data)
    training = train(table, params, storage=None)
    report = review(training)
    raw = table.frame.sample(rows, replace=True, random_state=SEED, ignore_index=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        facts = {"model": "churn", "version": "1", "task": "churn"}
        bundle = write_bundle(
            report.subject, folder / "bundle", facts=facts, report=report.facts(), evidence={"card.md": "# churn"}
        )
        raw.to_csv(folder / "rows.csv", index=False)
        raw.to_parquet(folder / "rows.parquet", index=False)
        raw.head(REASONED).to_csv(folder / "few.csv", index=False)
        plain = _alone(bundle, folder / "rows.csv", folder / "scores.csv", 0)
        columns = _alone(bundle, folder / "rows.parquet", folder / "scores.parquet", 0)
        told = _alone(bundle, folder / "few.csv", folder / "told.csv", 3)
        ours = pd.read_csv(folder / "scores.csv")["score"]
    started = time.perf_counter()
    theirs = report.subject.model.predict_proba(raw)[:, 1]
    base = time.perf_counter() - started
    cases = [
        ("scikit-learn, predict_proba in memory", rows, base, None),
        ("cxlab score, CSV to CSV", rows, plain["seconds"], plain["mib"]),
        ("cxlab score, Parquet to Parquet", rows, columns["seconds"], columns["mib"]),
        ("cxlab score, CSV to CSV, 3 reasons", min(rows, REASONED), told["seconds"], told["mib"]),
    ]
    frame = pd.DataFrame(
        [
            (
                way,
                f"{count:,}",
                f"{taken:.1f}",
                f"{count / taken:,.0f}",
                f"{(count / taken) / (rows / base):.2f}",
                "" if mib is None else f"{mib:.0f}",
            )
            for way, count, taken, mib in cases
        ],
        columns=["way", "rows", "seconds", "rows a second", "times as fast", "MiB beyond imports"],
    )
    says = (f"Scores differ by at most {abs(ours - theirs).max():.0e}.",)
    return Found(f"{rows:,} rows, {len(table.features)} columns: {training.candidates[0].title}", frame, says)


def _alone(bundle: Path, source: Path, out: Path, reasons: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", "-c", ALONE, str(bundle), str(source), str(out), str(reasons)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


if __name__ == "__main__":
    from common import markdown

    found = measure(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
    print(f"{found.title}\n\n{markdown(found.frame)}\n\n- {found.says[0]}")
