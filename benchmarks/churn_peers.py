"""Churn on IBM's fictional telco: cxlab beside FLAML, three splits, the same rows, the same machine.

75/25, stratified, seeds 0, 1, 2, on the published row order; the customer's id is dropped and TotalCharges is a
number. FLAML gets 60 s and selects by log loss, as cxlab does; cxlab runs with what params/ibm_telco.yaml ships.
Either scores each test part once; nothing is chosen on it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import ROOT, Found, Skipped
from sklearn.model_selection import train_test_split

from cxlab.data import catalog
from cxlab.data.table import read_table
from cxlab.errors import DataError
from cxlab.models.training import train
from cxlab.params import load_params

SEEDS = (0, 1, 2)
BUDGET_S = 60
METRIC = "log_loss"  # as ours; with its default for two classes, roc_auc, its log loss is worse
PEERS = Path(__file__).parent / "peers"
VENV = Path(__file__).parent / ".venv-flaml"
FIGURES = ["auc", "log_loss", "seconds"]


def measure() -> Found:
    """Both on every split."""
    raw, python = _data(), _environment()
    rows = []
    for seed in SEEDS:
        parts = train_test_split(raw, test_size=0.25, stratify=raw["Churn"], random_state=seed)
        for tool, facts in (("cxlab", _ours(seed, parts[1])), ("FLAML", _peer(python, seed, *parts))):
            rows.append({"tool": tool, "split": seed, **facts})
            print(f"split {seed}: {rows[-1]}", file=sys.stderr, flush=True)
    return _found(pd.DataFrame(rows))


def _data() -> pd.DataFrame:
    """The table as the peers get it."""
    try:
        if os.environ.get(catalog.MIRROR):
            catalog.get("ibm_telco")
        path = catalog.local_path("ibm_telco")
    except DataError as error:
        raise Skipped(str(error)) from None
    raw = pd.read_csv(path).drop(columns="customerID")
    return raw.assign(TotalCharges=pd.to_numeric(raw["TotalCharges"], errors="coerce"))


def _environment() -> Path:
    """FLAML's own Python; made once, and anew where what is to be installed has changed."""
    wanted, installed, python = PEERS / "flaml.txt", VENV / "installed.txt", VENV / "bin" / "python"
    if not installed.exists() or installed.read_bytes() != wanted.read_bytes():
        print(f"Setting up benchmarks/{VENV.name}, once.", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        if subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=False).returncode:
            raise Skipped("FLAML could not be installed; pip says why above.")
        shutil.copyfile(wanted, installed)
    return python


def _ours(seed: int, test: pd.DataFrame) -> dict[str, Any]:
    params = load_params(ROOT / "params" / "ibm_telco.yaml", [f"split.seed={seed}"])
    table = read_table(params.data)
    started = time.perf_counter()
    training = train(table, params, storage=None)
    taken = time.perf_counter() - started
    assert np.array_equal(training.split.test, test.index), "the two tools were given other test rows"
    found = training.evaluation.values(training.selected)
    figures = {"auc": found["roc_auc"].value, "log_loss": found["log_loss"].value, "seconds": taken}
    return {**figures, "chosen": training[training.selected].title}


def _peer(python: Path, seed: int, train_part: pd.DataFrame, test_part: pd.DataFrame) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "train.csv", Path(folder) / "test.csv"]
        for path, part in zip(paths, (train_part, test_part), strict=True):
            part.to_csv(path, index=False)
        told = [*paths, "Churn", "Yes", str(BUDGET_S), METRIC, str(seed)]
        done = subprocess.run([python, PEERS / "flaml_churn.py", *told], stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _found(frame: pd.DataFrame) -> Found:
    means = frame.groupby("tool")[FIGURES].mean()
    ours, peer = means.loc["cxlab"], means.loc["FLAML"]
    verdicts = {
        "mean AUC": ours["auc"] > peer["auc"],
        "mean log loss": ours["log_loss"] < peer["log_loss"],
        "time": ours["seconds"] <= peer["seconds"],
    }
    says = [f"{what}: cxlab is {'ahead' if ahead else 'NOT AHEAD'}." for what, ahead in verdicts.items()]
    says.append(f"cxlab took {ours['seconds'] / peer['seconds']:.2f} of FLAML's time.")
    shown = pd.concat([frame, means.reset_index().assign(split="mean", chosen="")]).sort_values(
        "tool", kind="stable", key=lambda names: names.str.lower()
    )
    for name, digits in (("auc", 4), ("log_loss", 4), ("seconds", 1)):
        shown[name] = shown[name].map(f"{{:.{digits}f}}".format)
    return Found("IBM telco (fictional), test parts", shown[["tool", "split", *FIGURES, "chosen"]], tuple(says))
