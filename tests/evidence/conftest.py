"""A small training on customers' words, for every test of its evidence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.models.subject import Subject, subject_of
from cxlab.models.training import Training, train
from cxlab.params import Params

CONTACTS = Path(__file__).parents[2] / "data_samples" / "service_company" / "contacts.parquet"

Learn = Callable[..., Training]


@pytest.fixture(scope="session")
def said() -> pd.DataFrame:
    """1,500 contacts of the ten commonest intents of the simulated company."""
    frame = pd.read_parquet(CONTACTS)
    common = frame["intent"].value_counts().index[:10]
    return frame[frame["intent"].isin(common)].head(1500).reset_index(drop=True)


@pytest.fixture(scope="session")
def learn(tmp_path_factory: pytest.TempPathFactory) -> Learn:
    """Trains on a frame of `text` and `intent`; other roles by keyword."""

    def make(frame: pd.DataFrame, test: pd.DataFrame | None = None, **data: Any) -> Training:
        folder = tmp_path_factory.mktemp("said")
        frame.to_parquet(folder / "said.parquet")
        roles: dict[str, Any] = {"path": str(folder / "said.parquet"), "text": "text", "target": "intent", **data}
        if test is not None:
            test.to_parquet(folder / "test.parquet")
            roles["test_path"] = str(folder / "test.parquet")
        search = {"trials": 1, "candidates": ["prior", "words"]}
        params = Params.model_validate({"task": "intent", "name": "said", "data": roles, "search": search})
        return train(read_table(params.data), params, storage=None)

    return make


@pytest.fixture(scope="session")
def spoken(said: pd.DataFrame, learn: Learn) -> Training:
    return learn(said, id="contact_id", segments=["channel"])


@pytest.fixture(scope="session")
def spoken_subject(spoken: Training) -> Subject:
    return subject_of(spoken)
