"""Occlusion of events: the cause that was planted is the event that a prediction rests on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_sequence_report import told

import cxlab
from cxlab.data.log import LogTable
from cxlab.errors import DataError, ParamsError
from cxlab.evidence.sequence_occlusion import MOST, occlusion
from cxlab.models.calibration import NoCalibration
from cxlab.models.sequence import CANDIDATES, ground
from cxlab.models.subject import Subject
from cxlab.models.task import Model

NOISE = ("walk", "talk", "read")


def caused(n: int, seed: int = 0) -> pd.DataFrame:
    """Noise, in which one event 4 to 10 steps before the end decides how it ends."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(n):
        cause, back = str(rng.choice(["storm", "sun"])), int(rng.integers(4, 11))
        events = [*rng.choice(NOISE, rng.integers(2, 5)), cause, *rng.choice(NOISE, back - 1), "ask"]
        events.append("wet" if cause == "storm" else "dry")
        start = pd.Timestamp("2025-01-01", tz="UTC") + pd.Timedelta(hours=number)
        rows += [
            {"case": f"c{number:05d}", "event": event, "at": start + pd.Timedelta(minutes=10 * place)}
            for place, event in enumerate(events)
        ]
    return pd.DataFrame(rows)


def model_of(candidate: str, folder: Path, n: int = 400) -> Subject:
    params = told(caused(n), folder)
    table = cxlab.load_table(params)
    assert isinstance(table, LogTable)
    known = ground(table, params)
    found = next(each for each in CANDIDATES if each.name == candidate)
    member = found.build(known.schema, {**found.default}, 0).fit(known.X, known.y)
    model = Model(known.schema, [member], [1.0], NoCalibration(), known.labels)
    return Subject(candidate, params, table, known.split, model, np.zeros(0))


@pytest.fixture(scope="module")
def boosted(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return model_of("lightgbm", tmp_path_factory.mktemp("caused"))


def open_cases(subject: Subject, most: int) -> list[pd.DataFrame]:
    """Test cases just before they end."""
    return [rows.iloc[:-1] for _, rows in subject.test.groupby("case", sort=False)][:most]


def test_the_event_that_decides_is_the_strongest(boosted: Subject) -> None:
    found = [occlusion(boosted, rows) for rows in open_cases(boosted, 30)]
    named = [one.frame().set_index("position").loc[one.strongest, "event"] for one in found]
    right = [one.label == {"storm": "wet", "sun": "dry"}.get(str(name)) for one, name in zip(found, named, strict=True)]
    assert np.mean(right) >= 0.9
    others = [one.frame()[~one.frame()["event"].isin(["storm", "sun"])]["change"].abs().max() for one in found]
    assert np.median([one.frame()["change"].max() for one in found]) > 5 * np.median(others) > 0


def test_it_is_the_model_asked_without_the_event(boosted: Subject) -> None:
    rows = open_cases(boosted, 1)[0]
    found = occlusion(boosted, rows)
    code = boosted.labels.index(found.label)
    assert found.probability == pytest.approx(boosted.scores(rows)[-1, code])
    assert len(found.frame()) == len(rows) - 1
    for place in range(len(rows) - 1):
        less = rows.drop(rows.index[place])
        assert found.frame()["without"][place] == pytest.approx(boosted.scores(less)[-1, code])
    logit = np.log(found.probability / (1 - found.probability))
    p = found.frame()["without"].to_numpy()
    assert found.frame()["change"].to_numpy() == pytest.approx(logit - np.log(p / (1 - p)))
    assert found.plot().get_title(loc="left").startswith(f"After 'ask', {found.label!r} is predicted")


def test_another_event_may_be_asked_about(boosted: Subject) -> None:
    rows = open_cases(boosted, 1)[0]
    one, other = (occlusion(boosted, rows, label=label) for label in ("wet", "dry"))
    assert one.probability + other.probability == pytest.approx(1, abs=0.05)
    assert one.strongest == other.strongest
    with pytest.raises(ParamsError, match="Did you mean 'wet'"):
        occlusion(boosted, rows, label="wett")


def test_what_a_markov_model_cannot_see_does_not_count(tmp_path: Path) -> None:
    subject = model_of("markov", tmp_path, 200)
    rows = next(rows for rows in open_cases(subject, 60) if len(rows) >= 12)
    change = occlusion(subject, rows).frame()["change"].to_numpy()
    assert np.abs(change[: len(rows) - 5]).max() == 0  # five events are read
    assert np.abs(change[-4:]).max() > 0


def test_one_event_leaves_nothing_to_take_away(boosted: Subject) -> None:
    found = occlusion(boosted, open_cases(boosted, 1)[0].iloc[:1])
    assert found.frame().empty and found.strongest is None
    assert "none before it" in found.plot().texts[0].get_text()


def test_of_a_long_case_the_latest_earlier_events_are_taken_away(boosted: Subject) -> None:
    rows = pd.concat([open_cases(boosted, 1)[0]] * 20)
    found = occlusion(boosted, rows).frame()
    assert len(found) == MOST and found["position"].iloc[-1] == len(rows) - 1


def test_rows_of_two_cases_are_refused(boosted: Subject) -> None:
    with pytest.raises(DataError, match="of 2 cases, must be of one"):
        occlusion(boosted, boosted.test.groupby("case").head(1).head(2))
    with pytest.raises(DataError, match="of 0 cases"):
        occlusion(boosted, boosted.test.head(0))
