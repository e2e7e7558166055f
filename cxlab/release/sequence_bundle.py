"""A model of sequences as the plain files of a bundle, golden cases, and whether both say the same.

    files = sequence_contents(subject)              # by file name
    golden_log(prefixes, time_format=None)          # cases that nobody had, drawn from the schema
    apart(subject, bundle, rows)                    # differences, shape (n,)

LightGBM's trees become ONNX graphs on the matrix of features, with thresholds in double precision, so that no split
moves; a Markov model becomes arrays, by the numbers of its events in one vocabulary.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier

from cxlab.data.files import read_frame
from cxlab.data.log import ordered, sniffed_format
from cxlab.data.schema import LARGEST
from cxlab.data.table import locate
from cxlab.errors import ParamsError
from cxlab.features.prefixes import PrefixSchema
from cxlab.models.ahead import Ahead
from cxlab.models.calibration import EPSILON, LEAST, BetaCalibration, NoCalibration
from cxlab.models.hazard import EPSILON as LEAST_HAZARD
from cxlab.models.hazard import CalibratedTimes
from cxlab.models.markov import BETWEEN, KneserNey
from cxlab.models.prefix_boost import PrefixBoost
from cxlab.models.sequence_graph import graph_bytes
from cxlab.models.sequence_nets import SequenceNet
from cxlab.models.subject import Subject
from cxlab.models.task import UNSEEN, Model
from cxlab.release.folder import REASONS, SCHEMA, THRESHOLD
from cxlab.release.golden import ODD_NUMBERS, ODD_TEXTS, drawn
from cxlab.release.onnx import trees_onnx
from cxlab.release.sequence_scorer import OUTCOME, PARTS, TABLES, TREES, SequenceBundle, compared
from cxlab.release.text_bundle import plain_calibrator

PLAIN = 16  # golden cases without anything odd
LONG = 200  # events of the long golden case
CASES, ROWS = 200, 2_000  # test cases, and rows of them, on which the export is held against the model, at most
_BEGINS = datetime(2026, 3, 27, 22, 30, tzinfo=UTC)  # before the clocks of Europe change
_DAY = (1980, 1, 1, 0, 0, 0)  # of every array in an archive, so that the same model is the same bytes


def sequence_contents(subject: Subject) -> dict[str, Any]:
    """The files that scoring reads, by name: bytes, or what JSON holds.

    Raises:
        ParamsError: A step of the model has no conversion.
    """
    model, roles = subject.model, subject.params.data
    schema = model.schema
    if not isinstance(schema, PrefixSchema) or model.ahead is None:
        raise ParamsError(f"{subject.name} never learnt what lies ahead, so it can't be exported. Train it again.")
    plain = _Plain(model, model.ahead)
    order = None if roles.order is None else subject.table.frame[roles.order]
    return {
        **plain.files,
        TABLES: archive(plain.tables),
        PARTS: plain.told,
        SCHEMA: {
            "task": subject.params.task,
            "id": roles.case,
            "segments": list(roles.segments),
            "columns": [item | {"unit": ""} for item in schema.plain()],
            "log": schema.plain_log(),
            "ignored": list(roles.ignore),
            "time_format": time_format(subject),
            "ordinal": order is not None and pd.api.types.is_numeric_dtype(order),
        },
        THRESHOLD: {
            "dated": model.ahead.dated,
            "horizons_days": list(model.ahead.horizons),
            "level": model.ahead.level,
            "min_prefix": subject.params.sequence.min_prefix,
        },
        REASONS: {},
    }


def time_format(subject: Subject) -> str | None:
    """How the training file writes times where that is not ISO 8601."""
    roles = subject.params.data
    if roles.time_format is not None or subject.params.events is not None:  # events are read by their own rules
        return roles.time_format
    options = {"separator": roles.separator, "decimal": roles.decimal, "encoding": roles.encoding}
    times = read_frame(locate(roles.path), **options)[0][str(roles.time)]
    return None if pd.api.types.is_datetime64_any_dtype(times) else sniffed_format(times)


class _Plain:
    """A model on its way to files.

    Attributes:
        files: Graphs, by name.
        tables: Arrays, by name.
        told: How they go together, as JSON holds it.
    """

    def __init__(self, model: Model, ahead: Ahead) -> None:
        self.files: dict[str, bytes] = {}
        self.tables: dict[str, np.ndarray] = {}
        self.vocabulary: dict[str, int] = {}
        members = [self._member(share, each) for share, each in zip(model.weights, model.members, strict=True)]
        times = {kind: self._times(kind, each) for kind, each in ahead.times.items()}
        outcome = None if ahead.outcome is None else self._boost(ahead.outcome, OUTCOME)
        self.told = {
            "members": members,
            "calibrator": plain_calibrator(model.calibrator),
            "least": LEAST,
            "unseen": UNSEEN,
            "times": times,
            "outcome": outcome,
            "sure": _sure(ahead.calibrator),
            "vocabulary": list(self.vocabulary),
        }

    def _member(self, share: float, member: BaseEstimator) -> dict[str, Any]:
        told = {"share": float(share)}
        match member:
            case DummyClassifier():
                constant = np.log(np.maximum(np.asarray(member.class_prior_, np.float64), LEAST))
                made = {"kind": "prior", "codes": member.classes_.tolist(), "constant": constant.tolist()}
            case KneserNey():
                made = {"kind": "markov", "codes": member.classes_.tolist(), "table": self._markov(member)}
            case PrefixBoost():
                made = {"kind": "trees", "codes": member.classes_.tolist(), **self._boost(member, TREES)}
            case SequenceNet():
                graph = self._graph(f"{member.kind}.onnx", graph_bytes(member))
                made = {**member.plain(), "kind": "net", "codes": member.classes_.tolist(), "graph": graph}
            case _:
                raise ParamsError(
                    f"{type(member).__name__} has no conversion to plain files. Select another candidate."
                )
        return told | made

    def _graph(self, name: str, content: bytes) -> str:
        if name in self.files:
            raise ParamsError(f"The model has two members that would be {name}; a bundle holds one. Select another.")
        self.files[name] = content
        return name

    def _boost(self, model: PrefixBoost, name: str) -> dict[str, Any]:
        made = {
            "classes": int(model.classes),
            "kept": model.kept_.tolist(),
            "seen": model.seen_.tolist(),
            "shift": float(model.shift_),
            "rest": None if model.rest_ is None else self._markov(model.rest_),
            "matrix": model.step_.matrix_.plain(),
        }
        return made | {"graph": None if model.model_ is None else self._graph(name, trees_onnx(model.model_))}

    def _times(self, kind: str, times: CalibratedTimes) -> dict[str, Any]:
        hazard = times.hazard_
        return {
            "graph": self._graph(f"{kind}.onnx", trees_onnx(hazard.model_)),
            "matrix": hazard.pre_.matrix_.plain(),
            "edges": hazard.edges_.tolist(),
            "least": LEAST_HAZARD,
            "raw": times.raw_.tolist(),
            "calibrated": times.calibrated_.tolist(),
        }

    def _markov(self, model: KneserNey) -> str:
        """The name of its arrays."""
        name = f"markov_{sum(key.endswith('.order') for key in self.tables)}"
        self.tables |= {f"{name}.order": np.int64(len(model.levels_) - 1), f"{name}.classes": np.int64(model.classes)}  # type: ignore[dict-item]
        for length, level in enumerate(model.levels_):
            events = [text.split(BETWEEN) if length else [] for text in level.histories.tolist()]
            codes = [[self.vocabulary.setdefault(each, len(self.vocabulary)) for each in row] for row in events]
            made = {
                "histories": np.array(codes, np.int32).reshape(len(codes), -1 if codes and length else length),
                "begins": level.kept.indptr.astype(np.int64),
                "codes": level.kept.indices.astype(np.int32),
                "kept": level.kept.data.astype(np.float64),
                "shared": np.asarray(level.shared, np.float64),
            }
            self.tables |= {f"{name}.{length}.{part}": array for part, array in made.items()}
        return name


def _sure(found: Any) -> dict[str, Any]:
    match found:
        case None | NoCalibration():
            return {"kind": "none"}
        case BetaCalibration():
            numbers = {"a": float(found.a_), "b": float(found.b_), "c": float(found.c_)}
            return {"kind": "beta", "least": EPSILON, **numbers}
    raise ParamsError(f"{type(found).__name__} has no conversion to plain numbers. Train the model again.")


def archive(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as a file of numpy, packed, with the same bytes whenever it is written."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as made:
        for name, array in arrays.items():
            held = io.BytesIO()
            np.save(held, array, allow_pickle=False)
            made.writestr(zipfile.ZipInfo(f"{name}.npy", _DAY), held.getvalue(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def golden_log(prefixes: PrefixSchema, *, time_format: str | None, ordinal: bool, seed: int = 0) -> pd.DataFrame:
    """Cases that nobody had: plain ones, then a long one, one of a single event, and what breaks serving.

    Rows are not in order. Where times have a format they are rounded to what it tells.

    Args:
        prefixes: The schema of the model.
        time_format: Of its training file; None for ISO 8601.
        ordinal: Whether the column that orders events holds numbers.
        seed: Of what is drawn.
    Returns:
        Texts, and numbers as float64, shape (n, columns).
    """
    rng, roles = np.random.default_rng(seed), prefixes.roles
    rows: list[dict[str, Any]] = []
    for number, (events, gaps, odd) in enumerate(_cases(prefixes, rng)):
        opened = _BEGINS + timedelta(days=number)
        when = opened
        told = {column.name: drawn(column, len(events), rng) for column in prefixes.attributes}
        for place, (event, gap) in enumerate(zip(events, gaps, strict=True)):
            when += timedelta(hours=float(gap))
            row: dict[str, Any] = {roles.case: f"golden-{number:03d}", roles.event: event}
            row[roles.time] = _written(when, time_format)
            if roles.order is not None:
                row[roles.order] = float(place) if ordinal else f"{place:06d}"
            if roles.opened is not None:
                row[roles.opened] = _written(opened, time_format) if place % 3 < 2 else None
            rows.append(row | {name: values[place] for name, values in told.items()} | odd)
    made = pd.DataFrame(rows, columns=roles.names)
    numbers = {column.name for column in prefixes.attributes if column.kind == "number"}
    numbers |= {roles.order} if ordinal and roles.order is not None else set()
    types = {name: "float64" if name in numbers else "object" for name in roles.names}
    return made.astype(types).iloc[rng.permutation(len(made))].reset_index(drop=True)


def _cases(prefixes: PrefixSchema, rng: np.random.Generator) -> Iterator[tuple[list[str], np.ndarray, dict[str, Any]]]:
    """Events of a case, hours before each, and attributes that are odd."""
    names = list(prefixes.events)

    def some(size: int) -> list[str]:
        return rng.choice(np.array(names, object), size).tolist()

    for _ in range(PLAIN):
        size = int(rng.integers(2, 13))
        yield some(size), np.append(0, rng.exponential(12, size - 1)), {}
    for name in names[:3]:
        yield [name], np.zeros(1), {}
    yield some(LONG), rng.exponential(3, LONG), {}
    yield [names[0]] * 60, rng.exponential(1, 60), {}
    yield ["unseen in training"], np.zeros(1), {}
    yield [some(1)[0], "unseen in training", some(1)[0], "unseen too"], rng.exponential(12, 4), {}
    yield [*some(1), *(text for text in ODD_TEXTS if text.strip()), *some(1)], rng.exponential(1, len(ODD_TEXTS)), {}
    yield some(6), np.zeros(6), {}
    yield some(5), np.array([0, 5, -3, -8, 1.0]), {}  # the clock runs backwards
    yield some(4), np.array([0, 1e-6, 24 * 400, 24 * 365 * 20]), {}
    yield some(5), rng.exponential(12, 5), dict.fromkeys(prefixes.roles.attributes)
    for column in prefixes.attributes:
        readable = tuple(number for number in ODD_NUMBERS if abs(number) <= LARGEST)
        odd = (None, *readable) if column.kind == "number" else (None, "unseen in training", *ODD_TEXTS)
        for value in odd:
            yield some(2), rng.exponential(12, 2), {column.name: value}


def _written(when: datetime, form: str | None) -> str:
    return when.isoformat() if form is None else when.strftime(form)


def apart(subject: Subject, bundle: SequenceBundle, golden: pd.DataFrame) -> np.ndarray:
    """The largest difference of what model and bundle say after each golden row, and after rows of test cases.

    Probabilities are compared as they are, times by log(1 + t), which is relatively; where one of both says nothing
    they differ infinitely.

    Returns:
        Shape (golden rows + test rows,).
    """
    mark = "_row"
    roles = subject.params.data.model_copy(update={"time_format": bundle.time_format, "ignore": (), "segments": ()})
    lab, _ = ordered(golden.assign(**{mark: np.arange(len(golden))}), roles)
    off = np.full(len(golden), np.inf)
    off[lab[mark]] = _differences(said(subject.model, lab), bundle.golden(golden)[lab[mark]])
    test = _test_rows(subject)
    return np.append(off, _differences(said(subject.model, test), bundle.golden(test)))


def _test_rows(subject: Subject) -> pd.DataFrame:
    """Whole test cases drawn at random, no more rows than are compared where that is one case."""
    cases = subject.test[str(subject.params.data.case)]
    names = pd.Series(cases.unique()).sample(frac=1, random_state=0)[:CASES]
    sizes = cases.value_counts()[names].cumsum()
    return subject.test[cases.isin(names[: max(1, int((sizes <= ROWS).sum()))].to_numpy())]


def _differences(lab: np.ndarray, ours: np.ndarray) -> np.ndarray:
    found = np.abs(lab - ours).max(axis=1, initial=0.0)
    return np.where(np.isnan(found), np.inf, found)


def said(model: Model, log: pd.DataFrame) -> np.ndarray:
    """What a model says after each row of an ordered log, as `SequenceBundle.golden` shapes it."""
    assert model.ahead is not None
    encoded = model.schema.encode(log)
    columns = model.ahead.columns(encoded)
    names = [name for name in ("outcome",) if name in columns]
    names += [name for name in columns if name != "outcome"]
    probability = model.calibrated(encoded)
    return np.column_stack([probability, *compared({name: columns[name] for name in names})])
