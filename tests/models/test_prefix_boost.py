from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cxlab.features.prefixes import LogRoles, PrefixSchema, prefix_schema
from cxlab.models.prefix_boost import FEWEST, PrefixBoost, PrefixMatrix

ROLES = LogRoles("case", "event", "time", attributes=("team",))


def log(cases: int, seed: int = 0, *, rare: int = 0) -> pd.DataFrame:
    """Cases of three events; the team, one of 40, decides what comes second."""
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        team = int(rng.integers(40))
        second = "call" if team % 2 else "mail"
        last = f"rare {case % rare}" if rare and case % 10 == 0 else "close"
        rows += [(case, "open", f"team {team}"), (case, second, f"team {team}"), (case, last, f"team {team}")]
    frame = pd.DataFrame(rows, columns=["case", "event", "team"])
    time = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(np.arange(len(frame)), unit="h")
    return frame.assign(time=time.astype("datetime64[us, UTC]"))


def parts(frame: pd.DataFrame) -> tuple[PrefixSchema, pd.DataFrame, np.ndarray]:
    schema = prefix_schema(frame, ROLES)
    return schema, schema.encode(frame), schema.following(frame)


def test_a_category_of_many_values_is_learnt() -> None:
    schema, X, y = parts(log(600))
    model = PrefixBoost(schema.features, len(schema.labels)).fit(X, y)
    fresh = log(200, 1)
    found = model.predict_proba(schema.encode(fresh))
    first = (fresh["event"] == "open").to_numpy()
    assert (found.argmax(axis=1) == schema.following(fresh))[first].mean() > 0.95
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)


def test_rates_at_training_are_of_other_cases() -> None:
    _, X, _ = parts(log(300))
    noise = np.random.default_rng(0).integers(0, 2, X.index.get_level_values(0).max() + 1)
    y = noise[X.index.get_level_values(0)]  # of the case alone: rows of one case would tell each other's
    own = X.assign(team=[f"{case}" for case in X.index.get_level_values(0)])
    step = PrefixMatrix(prefix_schema(log(300).assign(team=own["team"].to_numpy()), ROLES).features)
    made = step.fit_transform(own, y)
    at = [place for place, name in enumerate(step.matrix_.origin) if name == "team"]
    assert made[:, at[0]].std() < 1e-6, "nobody else has this value"
    assert abs(np.corrcoef(step.transform(own)[:, at[0]], y)[0, 1]) > 0.9


def test_rare_classes_are_spread_and_never_diverge() -> None:
    schema, X, y = parts(log(900, rare=60))
    model = PrefixBoost(schema.features, len(schema.labels)).fit(X, y)
    counts = np.bincount(y, minlength=len(schema.labels))
    assert set(model.kept_) == set(np.flatnonzero(counts >= FEWEST))
    found = model.predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)
    assert (found > 0).all()
    rare = np.isin(y, np.flatnonzero((counts < FEWEST) & (counts > 0)))
    assert found[rare, y[rare]].mean() > found[~rare].min()


@pytest.mark.parametrize("cases", [1, 2, 12])
def test_a_small_log_is_learnt_as_well_as_can_be(cases: int) -> None:
    schema, X, y = parts(log(cases))
    found = PrefixBoost(schema.features, len(schema.labels)).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-9)


def test_the_same_seed_gives_the_same_model() -> None:
    schema, X, y = parts(log(200))
    one, two = (PrefixBoost(schema.features, len(schema.labels)).fit(X, y).predict_proba(X) for _ in range(2))
    assert one.tobytes() == two.tobytes()
