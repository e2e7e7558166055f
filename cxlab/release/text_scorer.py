"""A bundle's answers to words, from its folder alone.

    bundle = load_bundle("release/intents-2")
    found = bundle.score([{"text": "My card was stolen"}], reasons=3)
    found.frame()      # id, intent, confidence, abstained, intent_2, ..., out_of_scope, several, reason_1, ...

The model is plain: vocabularies, weights, and where sentence vectors are used an ONNX graph. `model.skops` is a file of
skops that holds mappings, lists, JSON values and arrays alone, and anything else in it is refused; it is read here, so
that neither skops nor scikit-learn is needed, whose import would take seconds, and so that it can be read as long as
this module lies beside it.

This module travels with every bundle and needs numpy and pandas, and where the folder holds a graph onnxruntime and
tokenizers. Texts are answered one by one: what is said of one depends on it alone.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from ..data.schema import Schema
from ..errors import BundleError
from ..features.holders import occurrences, without
from ..features.terms import LONGEST, Terms, words_of
from ..features.text_graph import TextGraph, unit
from ..models.answer import Answers, Doubt, Spoken, answer
from .folder import Answered, AnyBundle, Kind, Rows, Whole

MODEL = "model.skops"
ENCODER, FINE_TUNED = "encoder.onnx", "fine_tuned.onnx"
TOKENIZER, OWN_TOKENIZER = "tokenizer.json", "fine_tuned_tokenizer.json"
ANSWERED, ABSTAINED, FOREIGN = "answered", "abstained", "out_of_scope"
BATCH = 512  # texts answered at once
SMALL = 1e-9  # a smaller contribution to a margin is no reason
SAID = 64  # distinct words of a text that are left out in turn
SAME, SAME_GRAPH = 1e-9, 1e-4  # golden answers may differ by this between machines; a graph's are of single precision


class Weighed(NamedTuple):
    """A text's terms that the model knows: t of them, where they stand in the vocabulary, and their weights."""

    terms: list[str]
    place: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Block:
    """Terms weighed by TF-IDF, to length 1.

    Attributes:
        terms: Texts to terms.
        place: Where each term of the vocabulary stands, m of them.
        idf: Shape (m,).
    """

    terms: Terms
    place: dict[str, int] = field(repr=False)
    idf: np.ndarray = field(repr=False)

    def __call__(self, text: str) -> Weighed:
        """The known terms of a text with (1 + log tf) idf, scaled to length 1."""
        counts = Counter(self.terms(text))
        found = {term: place for term in counts if (place := self.place.get(term)) is not None}
        places = np.fromiter(found.values(), np.intp, len(found))
        often = np.fromiter((counts[term] for term in found), np.float64, len(found))
        weight = (1 + np.log(often)) * self.idf[places]
        return Weighed(list(found), places, weight / max(float(np.sqrt(weight @ weight)), 1e-300))


@dataclass(frozen=True)
class Linear:
    """Margins that are sums over terms and over the numbers of a sentence's vector.

    Attributes:
        share: Among the members.
        classes: Their codes, c of them.
        constant: Shape (c,).
        weights: By the place of a block among the model's: shape (m, c).
        vectors: Weights of the sentence's vector, shape (d, c); None where it is not used.
    """

    share: float
    classes: np.ndarray
    constant: np.ndarray
    weights: dict[int, np.ndarray] = field(repr=False)
    vectors: np.ndarray | None = field(repr=False)

    def margins(self, heard: Heard) -> np.ndarray:
        found = np.tile(self.constant, (len(heard.texts), 1))
        for block, weights in self.weights.items():
            for row, weighed in enumerate(heard.weighed[block]):
                found[row] += weighed.weight @ weights[weighed.place]
        return found if self.vectors is None else found + heard.vectors @ self.vectors


@dataclass(frozen=True)
class Landmarks:
    """Kernel ridge regression on landmarks.

    Attributes:
        share: Among the members.
        classes: Their codes, c of them.
        g: How fast the kernel exp(g (x.z - 1)) falls.
        scale: The length of vectors.
        landmarks: z, shape (m, d).
        weights: Shape (m, c).
    """

    share: float
    classes: np.ndarray
    g: float
    scale: float
    landmarks: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)

    def margins(self, heard: Heard) -> np.ndarray:
        near: np.ndarray = np.exp(self.g * (self.scale * (heard.vectors @ self.landmarks.T) - 1))
        return near @ self.weights


@dataclass(frozen=True)
class Tuned:
    """An encoder that was taught the classes: its graph gives their probabilities.

    Attributes:
        share: Among the members.
        classes: Their codes, c of them.
        least: How far a probability is kept from zero.
    """

    share: float
    classes: np.ndarray
    least: float
    graph: TextGraph = field(repr=False)

    def margins(self, heard: Heard) -> np.ndarray:
        return np.log(np.maximum(self.graph(heard.texts).astype(np.float64), self.least))


Member = Linear | Landmarks | Tuned


@dataclass(frozen=True)
class Heard:
    """Texts on their way through a model: what its members have in common is computed once."""

    texts: Sequence[str]
    blocks: Sequence[Block]
    encoder: TextGraph | None

    @cached_property
    def weighed(self) -> list[list[Weighed]]:
        """By block and text."""
        return [[block(text) for text in self.texts] for block in self.blocks]

    @cached_property
    def vectors(self) -> np.ndarray:
        """Of length 1, shape (n, d)."""
        assert self.encoder is not None
        return unit(self.encoder(self.texts)).astype(np.float64)


@dataclass(frozen=True)
class Speaker:
    """The model: texts to margins and probabilities of k classes.

    Attributes:
        classes: k.
        members: Whose margins are added up by their shares.
        calibrate: Probabilities as the members mean them to what they turn out to be, both of shape (n, k).
        unseen: How far below all others the margin of a class lies that a member never saw.
    """

    classes: int
    blocks: list[Block] = field(repr=False)
    members: list[Member] = field(repr=False)
    encoder: TextGraph | None = field(repr=False)
    calibrate: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    unseen: float

    def margins(self, heard: Heard) -> np.ndarray:
        """Shape (n, k)."""
        found = np.zeros((len(heard.texts), self.classes))
        for member in self.members if heard.texts else ():
            own = member.margins(heard)
            if own.shape[1] < self.classes:
                every = np.repeat(own.min(axis=1, keepdims=True) - self.unseen, self.classes, axis=1)
                every[:, member.classes] = own
                own = every
            found += member.share * own
        return found

    def speak(self, texts: Sequence[str], doubt: Doubt) -> Spoken:
        heard = Heard(texts, self.blocks, self.encoder)
        margins = self.margins(heard)
        closeness = None
        if doubt.landmarks is not None:
            closeness = doubt.closeness(heard.vectors) if texts else np.empty(0)
        return Spoken(margins, self.calibrate(softmax(margins)), closeness)

    @property
    def additive(self) -> list[Linear]:
        """Members with a margin that is a sum over terms."""
        return [member for member in self.members if isinstance(member, Linear) and member.weights]

    def contributions(self, text: str, code: int) -> dict[str, float]:
        """How much each distinct word of a text adds to the margin of a class.

        A term's part is that of its words, in equal shares. Where no member has terms, a word adds what the margin
        loses when it is left out.
        """
        words = words_of(text)
        if not self.additive:
            return self._left_out(text, list(dict.fromkeys(words))[:SAID], code)
        told = dict.fromkeys(words, 0.0)
        for number, block in enumerate(self.blocks):
            weighed = block(text)
            worth = dict.fromkeys(weighed.terms, 0.0)
            for member in self.additive:
                if number in member.weights and code in member.classes:
                    column = int(np.flatnonzero(member.classes == code)[0])
                    parts = member.share * weighed.weight * member.weights[number][weighed.place, column]
                    worth = {term: worth[term] + part for term, part in zip(weighed.terms, parts.tolist(), strict=True)}
            holders: dict[str, list[tuple[int, ...]]] = {}
            for term, places in occurrences(block.terms, words):
                if term in worth:
                    holders.setdefault(term, []).append(places)
            for term, each in holders.items():
                for places in each:
                    for place in places:
                        told[words[place]] += worth[term] / len(each) / len(places)
        return told

    def _left_out(self, text: str, words: list[str], code: int) -> dict[str, float]:
        texts = [text, *(without(text, word) for word in words)]
        margin = self.margins(Heard(texts, self.blocks, self.encoder))[:, code]
        return dict(zip(words, (margin[0] - margin[1:]).tolist(), strict=True))


def calibrator(told: Mapping[str, Any], least: float) -> Callable[[np.ndarray], np.ndarray]:
    """What `models.calibration` learnt, by its kind and numbers."""

    def temperature(probability: np.ndarray) -> np.ndarray:
        soft = softmax(np.log(np.maximum(probability, least)) / told["temperature"])
        return (1 - told["floor"]) * soft + told["floor"] / probability.shape[1]

    def saturation(probability: np.ndarray) -> np.ndarray:
        lifted = told["a"] * np.log(np.maximum(probability, least)) + told["b"]
        raised = 1 / (1 + np.exp(np.minimum(-lifted, 700)))
        return raised / raised.sum(axis=1, keepdims=True)

    return {"none": lambda probability: probability, "temperature": temperature, "saturation": saturation}[told["kind"]]


def softmax(margins: np.ndarray) -> np.ndarray:
    raised = np.exp(margins - margins.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class TextScores(Answered):
    """What a bundle says of n texts, in their order.

    Attributes:
        answers: The likeliest intents, or that it does not know.
        reasons: Of each row the words that speak most for its likeliest intent.
        problems: Why a row could not be read, by its position; every text can.
        ids: The customers, where the rows name them.
        most: How many reasons a row were asked for.
    """

    answers: Answers
    reasons: list[tuple[str, ...]] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    ids: list[Any] | None = None
    most: int = 0

    def columns(self) -> dict[str, np.ndarray]:
        return self.answers.columns()

    @property
    def outcome(self) -> Sequence[str]:
        found = np.where(self.answers.abstained, ABSTAINED, ANSWERED)
        return np.where(self.answers.out_of_scope, FOREIGN, found).tolist()


@dataclass(frozen=True)
class TextBundle(AnyBundle):
    """An exported model of what customers want, from their words.

    Attributes:
        folder: Where it lies.
        manifest: What it is, and the SHA-256 of every file.
        schema: What it reads: one column of words.
        id: The column that names the customer; None where rows are counted.
        labels: Names of the k intents, in the order of their codes.
        doubt: When it does not answer.
        budget: The share of customers in scope who may be turned away.
        speaker: The model.
    """

    labels: tuple[str, ...] = field(repr=False)
    doubt: Doubt = field(repr=False)
    budget: float
    speaker: Speaker = field(repr=False)

    outputs: ClassVar[Mapping[str, Kind]] = {
        "intent": "text",
        "confidence": "number",
        "abstained": "truth",
        "intent_2": "text",
        "confidence_2": "number",
        "intent_3": "text",
        "confidence_3": "number",
        "out_of_scope": "truth",
        "several": "truth",
    }
    outcomes: ClassVar[tuple[str, ...]] = (ANSWERED, ABSTAINED, FOREIGN)
    about: ClassVar[str] = "Says what customers want, from their words, or that it does not know."
    platform: ClassVar[str] = "cxlab_text"
    batch: ClassVar[int] = BATCH

    @property
    def rule(self) -> str:
        return (
            f"It tells {len(self.labels)} intents apart. Where abstained is true it is not sure enough to act on: "
            f"{self.budget:.0%} of customers in scope may be turned away so. out_of_scope: the text is like nothing "
            f"that was seen. several: more than one thing is wanted. Of a text {LONGEST:,} characters are read; "
            "personal data in it are masked before."
        )

    @property
    def tolerance(self) -> float:
        graphs = self.speaker.encoder is not None or any(isinstance(each, Tuned) for each in self.speaker.members)
        return SAME_GRAPH if graphs else SAME

    def score(self, rows: Rows, *, reasons: int = 0) -> TextScores:
        """Answers and reasons.

        Args:
            rows: Raw rows: a frame of shape (n, any), or n mappings. Other columns than the text are left out; a
                missing text is an empty one.
            reasons: How many a row at most, >= 0.
        Raises:
            DataError: The text's column is not there.
        """
        if reasons < 0:
            raise ValueError(f"reasons == {reasons}, must be >= 0.")
        values = self._values(rows)
        texts = self._cast(values)[self.schema.names[0]].tolist()
        found = answer(texts, self.labels, self.doubt, self.speak)
        told = [self.why(text, int(code), reasons) for text, code in zip(texts, found.code[:, 0], strict=True)]
        return TextScores(found, told if reasons else [], {}, self._ids(values), reasons)

    def speak(self, texts: Sequence[str]) -> Spoken:
        """What the model says of cast texts."""
        return self.speaker.speak(texts, self.doubt)

    def why(self, text: str, code: int, most: int) -> tuple[str, ...]:
        """The words of a cast text that speak most for an intent, the strongest first."""
        if not most:
            return ()
        told = self.speaker.contributions(text, code)
        loud = sorted((word for word in told if told[word] > SMALL), key=lambda word: -round(told[word], 9))
        return tuple(f'"{word}" speaks for it' for word in loud[:most])

    def golden(self, rows: pd.DataFrame) -> np.ndarray:
        """Probabilities, and the signs of what is familiar, shape (n, k + 2) or (n, k + 3)."""
        spoken = self.speak(self.schema.cast(rows)[self.schema.names[0]].tolist())
        return np.column_stack([spoken.probability, self.doubt.signs(spoken)])

    def effort(self, rows: Sequence[Mapping[str, Any]], reasons: int) -> float:
        lengths = [len(value) if isinstance(value := row.get(self.schema.names[0]), str) else 0 for row in rows]
        vectors = self.speaker.encoder is not None or not self.speaker.additive
        each = (10 if vectors else 1) * (1 + bool(reasons) * (1 if self.speaker.additive else SAID / 4))
        return sum(8 + min(length, LONGEST) / 8 + length / 1000 for length in lengths) * each


def build(
    folder: Path,
    manifest: dict[str, Any],
    *,
    schema: Mapping[str, Any],
    threshold: Mapping[str, Any],
    files: Whole | Mapping[str, bytes],
) -> TextBundle:
    """A bundle from the content of its files."""
    held = plain_content(files[MODEL])
    landmarks = held["landmarks"]
    doubt = Doubt(
        tuple(threshold["mean"]),
        tuple(threshold["deviation"]),
        _from(threshold["threshold"]),
        _from(threshold["far"]),
        None if landmarks is None else landmarks.astype(np.float64),
    )
    labels = tuple(schema["intents"])
    speaker = Speaker(
        len(labels),
        [_block(each) for each in held["blocks"]],
        [_member(each, files) for each in held["members"]],
        _graph(files, ENCODER, held["encoder"]) if held["encoder"] else None,
        calibrator(held["calibrator"], held["least"]),
        held["unseen"],
    )
    made = TextBundle(
        folder=folder,
        manifest=manifest,
        schema=Schema.of_plain(schema["columns"]),
        id=schema["id"],
        labels=labels,
        doubt=doubt,
        budget=threshold["max_false_rejection"],
        speaker=speaker,
    )
    if made.speak(["so"]).probability.shape != (1, len(labels)):
        raise ValueError("its members have other classes than its schema")
    return made


def _from(limit: float | None) -> float:
    """JSON has no infinity: without a limit nothing is turned away."""
    return -np.inf if limit is None else limit


def _block(told: Mapping[str, Any]) -> Block:
    terms = told["terms"].split("\n") if told["terms"] else []
    if len(terms) != len(told["idf"]):
        raise ValueError(f"{len(terms)} terms have {len(told['idf'])} weights")
    place = {term: number for number, term in enumerate(terms)}
    return Block(Terms(told["kind"], told["longest"]), place, told["idf"].astype(np.float64))


def _member(told: Mapping[str, Any], files: Whole | Mapping[str, bytes]) -> Member:
    shared = told["share"], told["classes"]
    match told["kind"]:
        case "linear":
            weights = {int(block): each for block, each in told["weights"].items()}
            vectors = None if told["vectors"] is None else told["vectors"].astype(np.float64)
            return Linear(*shared, told["constant"].astype(np.float64), weights, vectors)
        case "landmarks":
            arrays = (told[name].astype(np.float64) for name in ("landmarks", "weights"))
            return Landmarks(*shared, told["g"], told["scale"], *arrays)
        case "fine_tuned":
            return Tuned(*shared, told["least"], _graph(files, FINE_TUNED, told))
        case other:
            raise ValueError(f"a member is of kind {other!r}")


def _graph(files: Whole | Mapping[str, bytes], name: str, told: Mapping[str, Any]) -> TextGraph:
    try:
        return TextGraph(files[name], files[told["tokenizer"]].decode("utf-8"), told["longest"], told["pooling"])
    except ImportError as error:
        raise BundleError(
            f"{name} needs onnxruntime and tokenizers: {error}. pip install -r requirements.txt, as lies in the bundle."
        ) from None


def plain_content(content: bytes) -> Any:
    """What a file of skops holds.

    Raises:
        ValueError: It holds something else than mappings, lists, JSON values and arrays.
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:

        def built(node: Mapping[str, Any]) -> Any:
            match node["__loader__"], f"{node['__module__']}.{node['__class__']}":
                case "DictNode", "builtins.dict":
                    return {key: built(item) for key, item in node["content"].items()}
                case "ListNode", "builtins.list":
                    return [built(item) for item in node["content"]]
                case "JsonNode", "builtins.str":
                    return json.loads(node["content"])
                case "NdArrayNode", "numpy.ndarray" if node["type"] == "numpy":
                    name = node["file"]
                    if name not in arrays:
                        arrays[name] = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
                    return arrays[name]
                case _, kind:
                    raise ValueError(f"{MODEL} holds a {kind}, may hold mappings, lists, JSON values and arrays alone")

        return built(json.loads(archive.read("schema.json")))
