"""A model of many classes as the plain files of a bundle, and whether what they say is what the model says.

    files = text_contents(subject, budget=0.04)     # by file name
    apart(subject.model, bundle, rows)              # differences, shape (n,)

Members whose margins are sums become one: weights of the same terms are added up by the members' shares, so that a
blend is as large and as fast as its largest member.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline

from cxlab.errors import DataError, ParamsError
from cxlab.features.encoder import SentenceEncoder, find_encoder, read_encoder
from cxlab.features.encoder_graph import bert_graph
from cxlab.features.terms import Terms
from cxlab.models.answer import Doubt
from cxlab.models.calibration import LEAST, NoCalibration, Saturation, Temperature
from cxlab.models.deep import FineTuned
from cxlab.models.margins import LandmarkRidge, SoftMargins
from cxlab.models.subject import Subject
from cxlab.models.task import UNSEEN, Model, encoder_of
from cxlab.release.folder import REASONS, SCHEMA, THRESHOLD
from cxlab.release.text_scorer import (
    ENCODER,
    FINE_TUNED,
    MODEL,
    OWN_TOKENIZER,
    TOKENIZER,
    TextBundle,
)

GRAPHS = ("onnxruntime", "tokenizers")  # what a folder with a graph needs
CLOSE = 1e-3  # by which a sign of familiarity may differ from the model's, which is of single precision
_DAY = (1980, 1, 1, 0, 0, 0)  # of every file in an archive, so that the same model is the same bytes


def text_contents(subject: Subject) -> dict[str, Any]:
    """The files that scoring reads, by name: bytes, or what JSON holds.

    Raises:
        ParamsError: A step of the model has no conversion.
    """
    model, roles = subject.model, subject.params.data
    if model.doubt is None or model.labels is None:
        raise ParamsError(f"{subject.name} never learnt when not to answer, so it can't be exported. Train it again.")
    plain = _Plain(model)
    doubt = model.doubt
    return {
        MODEL: plain_file(plain.content()),
        **plain.files,
        SCHEMA: {
            "task": subject.params.task,
            "target": roles.target,
            "id": roles.id,
            "segments": list(roles.segments),
            "intents": list(model.labels),
            "columns": [item | {"unit": ""} for item in model.schema.plain()],
        },
        THRESHOLD: {
            "mean": list(doubt.mean),
            "deviation": list(doubt.deviation),
            "threshold": _finite(doubt.threshold),
            "far": _finite(doubt.far),
            "max_false_rejection": subject.params.abstain.max_false_rejection,
        },
        REASONS: {},
    }


def _finite(limit: float) -> float | None:
    return float(limit) if np.isfinite(limit) else None


@dataclass
class _Sum:
    """A member whose margins are a sum: c classes, weights by block, and of a sentence's vector."""

    share: float
    classes: np.ndarray
    constant: np.ndarray
    weights: dict[int, np.ndarray] = field(default_factory=dict)
    vectors: np.ndarray | None = None

    def plain(self) -> dict[str, Any]:
        weights = {str(block): np.ascontiguousarray(each, np.float32) for block, each in self.weights.items()}
        vectors = None if self.vectors is None else np.ascontiguousarray(self.vectors, np.float32)
        told = {"kind": "linear", "share": float(self.share), "classes": self.classes}
        return told | {"constant": np.asarray(self.constant, np.float64), "weights": weights, "vectors": vectors}


class _Plain:
    """A model on its way to a file: blocks that members share are there once.

    Attributes:
        files: Graphs and tokenizers, by name.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.files: dict[str, bytes] = {}
        self.blocks: list[dict[str, Any]] = []
        self.arrays: dict[tuple[Any, ...], np.ndarray] = {}
        self.encoder = _one_encoder(model.members)

    def content(self) -> dict[str, Any]:
        """What goes into `model.skops`."""
        made = [self._member(weight, each) for weight, each in zip(self.model.weights, self.model.members, strict=True)]
        sums = [each for each in made if isinstance(each, _Sum)]
        members = [each.plain() for each in self._added(sums)] + [each for each in made if not isinstance(each, _Sum)]
        marks = self.model.doubt.landmarks if self.model.doubt is not None else None
        return {
            "blocks": self.blocks,
            "members": members,
            "calibrator": plain_calibrator(self.model.calibrator),
            "encoder": self._encoder(),
            "landmarks": None if marks is None else self._once(marks),
            "least": LEAST,
            "unseen": UNSEEN,
        }

    def _added(self, sums: list[_Sum]) -> list[_Sum]:
        """Those that know every class as one; others apart, for what they never saw depends on each alone."""
        k = len(self.model.labels or ())
        whole = [each for each in sums if len(each.classes) == k]
        if len(whole) < 2:
            return sums
        one = _Sum(1.0, np.arange(k), sum(each.share * each.constant for each in whole))  # type: ignore[arg-type]
        for each in whole:
            for block, weights in each.weights.items():
                one.weights[block] = one.weights.get(block, 0) + each.share * weights
            if each.vectors is not None:
                one.vectors = (0 if one.vectors is None else one.vectors) + each.share * each.vectors
        return [one, *(each for each in sums if len(each.classes) < k)]

    def _member(self, share: float, member: BaseEstimator) -> _Sum | dict[str, Any]:
        if not isinstance(member, Pipeline):
            raise ParamsError(f"{type(member).__name__} has no conversion to plain weights. Select another candidate.")
        *features, last = member[1:] if len(member) > 1 else [member[-1]]
        if isinstance(last, DummyClassifier):
            constant = np.log(np.maximum(np.asarray(last.class_prior_, np.float64), LEAST))
            return _Sum(share, last.classes_, constant)
        if isinstance(last, FineTuned):
            return {"kind": "fine_tuned", "share": float(share), "classes": last.classes_, **self._tuned(last)}
        parts = [part for step in features for part in _side_by_side(step)]
        if isinstance(last, LandmarkRidge) and len(parts) == 1 and isinstance(parts[0], SentenceEncoder):
            told = {"kind": "landmarks", "share": float(share), "classes": last.classes_}
            told |= {"g": float(last.g), "scale": float(parts[0].scale), "weights": last.weights_}
            return told | {"landmarks": self._once(last.landmarks_)}
        if not isinstance(last, SoftMargins | LogisticRegression):
            raise ParamsError(f"{type(last).__name__} has no conversion to plain weights. Select another candidate.")
        weights, constant = _weights(last)
        made, start = _Sum(share, last.classes_, constant), 0
        for part in parts:
            if isinstance(part, SentenceEncoder):
                own = weights[start : start + part.width_]
                made.vectors = own * np.float32(part.scale)
            else:
                block = self._block(part)
                own = weights[start : start + len(self.blocks[block]["idf"])]
                made.weights[block] = own
            start += len(own)
        return made

    def _block(self, part: Any) -> int:
        """The place of a counter of terms among the blocks."""
        counts = isinstance(part, TfidfVectorizer) and part.sublinear_tf and part.use_idf and part.norm == "l2"
        if not counts or not isinstance(terms := part.analyzer, Terms):
            raise ParamsError(f"{type(part).__name__} is not as cxlab.features.text makes it, so it has no conversion.")
        names = "\n".join(sorted(part.vocabulary_, key=part.vocabulary_.__getitem__))
        told = {"kind": terms.kind, "longest": int(terms.longest), "terms": names}
        for place, block in enumerate(self.blocks):
            if all(block[key] == value for key, value in told.items()) and np.array_equal(block["idf"], part.idf_):
                return place
        self.blocks.append(told | {"idf": np.asarray(part.idf_, np.float32)})
        return len(self.blocks) - 1

    def _once(self, array: np.ndarray) -> np.ndarray:
        """One object for equal arrays, so that the file holds them once."""
        return self.arrays.setdefault((array.shape, array.tobytes()), array)

    def _encoder(self) -> dict[str, Any] | None:
        step = self.encoder
        if step is None:
            return None
        found = find_encoder(step.encoder, sha256=step.sha256_)
        if found.fingerprint != step.fingerprint_:
            raise DataError(f"Encoder {step.encoder!r} is not the one that the model learnt with. Train it again.")
        files = read_encoder(step.encoder, sha256=step.sha256_)
        graph = files.content if files.is_graph else bert_graph(files.weights(), files.config, pooling=files.pooling)
        self.files[ENCODER] = graph
        return {"tokenizer": self._tokenizer(files.tokenizer), "longest": files.longest, "pooling": files.pooling}

    def _tuned(self, last: FineTuned) -> dict[str, Any]:
        self.files[FINE_TUNED] = last.graph_.tobytes()
        own = self.encoder is None or read_encoder(self.encoder.encoder).tokenizer != last.tokenizer_
        name = OWN_TOKENIZER if own and self.encoder is not None else TOKENIZER
        told = {"tokenizer": self._tokenizer(last.tokenizer_, name), "longest": int(last.longest_), "pooling": "mean"}
        return told | {"least": LEAST}

    def _tokenizer(self, text: str, name: str = TOKENIZER) -> str:
        self.files[name] = text.encode("utf-8")
        return name


def plain_calibrator(found: Any) -> dict[str, Any]:
    """What a calibrator learnt, by its kind and numbers."""
    match found:
        case NoCalibration():
            return {"kind": "none"}
        case Temperature():
            return {"kind": "temperature", "temperature": float(found.temperature_), "floor": float(found.floor_)}
        case Saturation():
            return {"kind": "saturation", "a": float(found.a_), "b": float(found.b_)}
    raise ParamsError(f"{type(found).__name__} has no conversion to plain numbers. Train the model again.")


def _one_encoder(members: Iterable[BaseEstimator]) -> SentenceEncoder | None:
    """The one encoder of all members."""
    found = [each for member in members if (each := encoder_of(member)) is not None]
    if len({each.fingerprint_ for each in found}) > 1:
        raise ParamsError("The model's members have different encoders; a bundle holds one. Train them with one.")
    return found[0] if found else None


def _side_by_side(step: Any) -> list[Any]:
    if isinstance(step, FeatureUnion):
        if step.transformer_weights:
            raise ParamsError("A union of features has weights, which have no conversion.")
        return [part for _, part in step.transformer_list]
    return [step]


def _weights(last: SoftMargins | LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Weights, shape (features, c), and constants, shape (c,), as `models.task.predictions` makes margins of them."""
    if isinstance(last, SoftMargins):
        return last.weights_, last.constant_
    weights, constant = last.coef_.T, last.intercept_
    if len(last.classes_) == 2:
        weights, constant = np.hstack([-weights / 2, weights / 2]), np.concatenate([-constant / 2, constant / 2])
    return weights, constant


def plain_file(content: Mapping[str, Any]) -> bytes:
    """A file of skops, packed, with the same bytes whenever it is written."""
    import skops.io  # takes seconds

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(content))) as made:
        tree = json.loads(made.read("schema.json"))
        names: dict[str, str] = {}
        ids: dict[int, int] = {}

        def renamed(node: Any) -> Any:
            if isinstance(node, list):
                return [renamed(item) for item in node]
            if not isinstance(node, dict):
                return node
            told = {key: renamed(item) for key, item in node.items() if key not in ("file", "__id__")}
            if "file" in node:
                told["file"] = names.setdefault(node["file"], f"{len(names)}.npy")
            if "__id__" in node:
                told["__id__"] = ids.setdefault(node["__id__"], len(ids))
            return told

        schema = json.dumps(renamed(tree))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for old, new in names.items():
                archive.writestr(zipfile.ZipInfo(new, _DAY), made.read(old), zipfile.ZIP_DEFLATED)
            archive.writestr(zipfile.ZipInfo("schema.json", _DAY), schema, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def apart(model: Model, bundle: TextBundle, frame: pd.DataFrame) -> np.ndarray:
    """The largest difference of a text's probabilities between model and bundle, shape (n,); infinite where they differ
    in how familiar it is.
    """
    encoded = model.schema.encode(frame)
    theirs, ours = model.spoken(encoded), bundle.speak(encoded.iloc[:, 0].tolist())
    difference = np.abs(theirs.probability - ours.probability).max(axis=1, initial=0.0)
    known = (np.abs(Doubt.signs(theirs) - Doubt.signs(ours)) <= CLOSE).all(axis=1)
    return np.where(known & ~np.isnan(difference), difference, np.inf)
