"""What every test may use: a store of its own, and small tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "cxlab", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("cxlab")

pytest_plugins = ["released", "released_cases"]
ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test writes into mlruns/ or the user's cache, and none acts as the system's user."""
    folder = tmp_path_factory.mktemp("places")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/store/mlflow.db")
    monkeypatch.setenv("CXLAB_DATA", str(folder / "data"))
    monkeypatch.setenv("CXLAB_USER", "tester")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The offline mirror of public data sets; tests on real data skip without it."""
    folder = os.environ.get("CXLAB_DATA_MIRROR")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CXLAB_DATA_MIRROR is not set to a folder: no real data here")
    return Path(folder)


@pytest.fixture(scope="session")
def customers() -> Callable[..., pd.DataFrame]:
    """A maker of small customer tables in which `calls` and `plan` decide churn and `noise` does not."""

    def make(n: int = 400, seed: int = 0) -> pd.DataFrame:
        rng = np.random.default_rng(seed)
        calls, plan = rng.poisson(2, n), rng.choice(["basic", "plus", "pro"], n)
        risk = 1 / (1 + np.exp(-(calls - 2.5 + (plan == "basic"))))
        return pd.DataFrame(
            {
                "customer_id": [f"c{i:05d}" for i in range(n)],
                "calls": calls,
                "noise": rng.normal(size=n).round(3),
                "plan": plan,
                "region": rng.choice(["north", "south"], n),
                "churn": np.where(rng.random(n) < risk, "yes", "no"),
            }
        )

    return make


@pytest.fixture
def params_file(tmp_path: Path, customers: Callable[..., pd.DataFrame]) -> Path:
    """A params file on a small table beside it, quick to train."""
    customers().to_csv(tmp_path / "customers.csv", index=False)
    path = tmp_path / "small.yaml"
    path.write_text(
        "task: churn\nname: small\n"
        "data: {path: customers.csv, id: customer_id, target: churn, segments: [region]}\n"
        "search: {trials: 3}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def cxlab(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: status, stdout, stderr."""
    from cxlab import cli

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cxlab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, " ".join(said.err.split())

    return call
