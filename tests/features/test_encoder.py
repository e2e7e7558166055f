"""Sentences become vectors: as the paper computes them, each text by itself, once, and never left lying about."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import erf, softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from cxlab.display import PROGRESS_FILE
from cxlab.errors import DataError, ParamsError
from cxlab.features import encoder as room
from cxlab.features.encoder import (
    CACHE,
    DEFAULT,
    Encoder,
    SentenceEncoder,
    available,
    embeddings,
    find_encoder,
    forget_embeddings,
)
from cxlab.features.encoder_graph import bert_graph, bert_shapes
from cxlab.features.text_graph import TextGraph
from cxlab.places import store_folder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "is", "my", "card", "?", "top", "up", "failed", "##s", "the"]
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}


def some_weights(seed: int = 0, config: dict[str, Any] = CONFIG) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = bert_shapes(config)
    return {
        name: ((1 if "LayerNorm.weight" in name else 0) + rng.normal(0, 0.3, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def by_hand(w: dict[str, np.ndarray], ids: np.ndarray, mask: np.ndarray, config: dict[str, Any] = CONFIG) -> np.ndarray:
    """Hidden states of the last layer, in double precision, as the papers write them."""

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T.astype(float) + w[f"{name}.bias"]

    def normal(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config["layer_norm_eps"])
        return x * w[f"{name}.LayerNorm.weight"] + w[f"{name}.LayerNorm.bias"]

    words, places, types = (
        w[f"embeddings.{n}_embeddings.weight"].astype(float) for n in ("word", "position", "token_type")
    )
    x = normal(words[ids] + places[: ids.shape[1]] + types[0], "embeddings")
    heads = config["num_attention_heads"]
    each = config["hidden_size"] // heads
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        query, key, value = (dense(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        context = np.empty_like(x)
        for head in range(heads):
            part = slice(head * each, (head + 1) * each)
            scores = query[..., part] @ key[..., part].transpose(0, 2, 1) / math.sqrt(each)
            weights = softmax(np.where(mask[:, None, :] == 1, scores, -np.inf), axis=-1)
            context[..., part] = weights @ value[..., part]
        x = normal(dense(context, f"{name}.attention.output.dense") + x, f"{name}.attention.output")
        inner = dense(x, f"{name}.intermediate.dense")
        inner = inner * (1 + erf(inner / math.sqrt(2))) / 2
        x = normal(dense(inner, f"{name}.output.dense") + x, f"{name}.output")
    return x


def ran(graph: bytes, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    running = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return running.run(None, {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)})[0]


def some_tokens(seed: int, rows: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, tokens + 1, rows)
    return rng.integers(0, len(WORDS), (rows, tokens)), (np.arange(tokens) < lengths[:, None]).astype(int)


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 12), st.sampled_from(["mean", "cls"]), st.booleans())
def test_the_graph_is_what_the_paper_says(seed: int, rows: int, tokens: int, pooling: str, normalise: bool) -> None:
    weights, (ids, mask) = some_weights(seed), some_tokens(seed, rows, tokens)
    hidden = by_hand(weights, ids, mask)
    expected = hidden[:, 0] if pooling == "cls" else (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    if normalise:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = ran(bert_graph(weights, CONFIG, pooling=pooling, normalise=normalise), ids, mask)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-6)


@given(st.integers(0, 99), st.integers(2, 9), st.booleans())
def test_a_head_tells_classes(seed: int, classes: int, normalise: bool) -> None:
    rng = np.random.default_rng(seed)
    head = rng.normal(size=(classes, 16)).astype(np.float32), rng.normal(size=classes).astype(np.float32)
    weights, (ids, mask) = some_weights(seed), some_tokens(seed, 3, 7)
    pooled = ran(bert_graph(weights, CONFIG, normalise=normalise), ids, mask)
    found = ran(bert_graph(weights, CONFIG, head=head, normalise=normalise), ids, mask)
    np.testing.assert_allclose(found, softmax(pooled.astype(float) @ head[0].T + head[1], axis=1), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)


def test_what_is_masked_counts_for_nothing() -> None:
    graph, (ids, mask) = bert_graph(some_weights(), CONFIG), some_tokens(3, 6, 9)
    others = np.where(mask == 1, ids, (ids + 5) % len(WORDS))
    np.testing.assert_array_equal(ran(graph, ids, mask), ran(graph, others, mask))


def test_same_weights_same_bytes() -> None:
    weights = some_weights()
    graph = bert_graph(weights, CONFIG)
    assert graph == bert_graph(dict(reversed(weights.items())), CONFIG)
    assert graph == bert_graph({f"bert.{name}": value for name, value in weights.items()}, CONFIG)
    assert graph != bert_graph(some_weights(1), CONFIG)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta"}, "model_type 'roberta', must be 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu', must be 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type 'relative_key'"),
        ({"num_attention_heads": 3}, "hidden_size 16 and 3 heads"),
        ({"hidden_size": "wide"}, "does not tell its shape"),
        ({"num_hidden_layers": 3}, "lacks 16 of its 53 weights: encoder.layer.2"),
        ({"vocab_size": 99}, r"word_embeddings.weight has shape \(14, 16\), must have \(99, 16\)"),
    ],
)
def test_what_is_no_bert_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        bert_graph(some_weights(), {**CONFIG, **change})


def test_weights_that_are_no_numbers_are_refused() -> None:
    weights = some_weights()
    weights["embeddings.LayerNorm.bias"][3] = np.nan
    with pytest.raises(DataError, match=r"embeddings.LayerNorm.bias is not finite"):
        bert_graph(weights, CONFIG)


# A small encoder on disk


def made(folder: Path, seed: int = 0, **config: Any) -> Path:
    """A folder with an encoder as its makers publish them."""
    tokenizers = pytest.importorskip("tokenizers")
    safetensors = pytest.importorskip("safetensors.numpy")
    folder.mkdir(exist_ok=True)
    config = {**CONFIG, **config}
    safetensors.save_file(
        {**some_weights(seed), "pooler.dense.bias": np.zeros(16, np.float32)}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config))
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=12)  # as files often have it; it must not count
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def encoder(folder: Path) -> Iterator[Encoder]:
    forget_embeddings()
    yield find_encoder(str(folder))
    forget_embeddings()


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were computed."""
    texts: list[str] = []
    rows = TextGraph._rows

    def noted(self: TextGraph, part: list[str]) -> np.ndarray:
        texts.extend(part)
        return rows(self, part)

    monkeypatch.setattr(TextGraph, "_rows", noted)
    return texts


def many(n: int = 40) -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS[4:], rng.integers(0, 12))) + f" {i}" for i in range(n)]


anything = st.text(
    st.one_of(st.characters(), st.characters(categories=["Cs"]), st.sampled_from("card is ?")), max_size=60
)


@given(st.lists(anything, min_size=1, max_size=8))
def test_any_text_has_a_vector_of_its_own_and_of_length_one(folder: Path, texts: list[str]) -> None:
    encoder = find_encoder(str(folder))
    found = encoder.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_array_equal(found, alone)  # to the last bit: neighbours do not count
    np.testing.assert_array_equal(found[::-1], encoder.encode(texts[::-1]))


def test_a_vector_is_the_mean_of_its_tokens(encoder: Encoder) -> None:
    ids = np.array([[2, 4, 5, 6, 7, 12, 8, 3]])  # [CLS] where is my card ##s ? [SEP]
    hidden = by_hand(some_weights(), ids, np.ones_like(ids)).mean(axis=1)
    np.testing.assert_allclose(encoder.encode(["Where is MY cards?"]), hidden / np.linalg.norm(hidden), atol=2e-6)
    assert (encoder.width, encoder.longest) == (16, 12)


def test_long_texts_are_cut(encoder: Encoder) -> None:
    long = "my card " * 200_000
    np.testing.assert_array_equal(encoder.encode([long]), encoder.encode(["my card my card my card my card my card"]))
    blank = " " * 1_000_000 + "top up"
    np.testing.assert_array_equal(encoder.encode([blank, ""]), encoder.encode(["top up", " "]))


def test_no_text_is_no_row(encoder: Encoder) -> None:
    assert encoder.encode([]).shape == embeddings(encoder, []).shape == (0, 16)


@pytest.mark.parametrize(("texts", "message"), [("card", "one text"), (["card", None], "Text 1 is None, a NoneType")])
def test_what_is_no_text_is_refused(encoder: Encoder, texts: Any, message: str) -> None:
    for asked in (encoder.encode, lambda t: embeddings(encoder, t)):
        with pytest.raises(DataError, match=message):
            asked(texts)


def test_many_texts_show_how_far_it_is(encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "progress"
    monkeypatch.setenv(PROGRESS_FILE, str(told))
    encoder.encode(many(100))
    assert not told.exists()
    embeddings(encoder, many(1500))
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(line["label"], line["text"]) for line in lines[:2]] == [
        ("Encode texts", "1,024 of 1,500"),
        ("Encode texts", "1,500 of 1,500"),
    ]


# What is kept


def cache() -> Path:
    folder = store_folder()
    assert folder is not None
    return folder / CACHE


def test_each_text_is_computed_once(encoder: Encoder, computed: list[str]) -> None:
    texts = [*many(), *many()]
    found = embeddings(encoder, texts)
    assert sorted(computed) == sorted(many())
    np.testing.assert_array_equal(found, embeddings(encoder, texts))
    assert len(computed) == len(many())
    np.testing.assert_array_equal(found, encoder.encode(texts))
    assert stat.S_IMODE(cache().stat().st_mode) == 0o600
    assert b"card" not in cache().read_bytes()


def test_few_texts_leave_no_trace(encoder: Encoder) -> None:
    embeddings(encoder, many(16))
    assert not cache().exists()


def test_threads_do_not_compute_a_text_twice(encoder: Encoder, computed: list[str]) -> None:
    start = threading.Barrier(4)

    def ask(_: int) -> np.ndarray:
        start.wait()
        return embeddings(encoder, many())

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(computed) == len(many())
    for rows in found:
        np.testing.assert_array_equal(rows, encoder.encode(many()))


def test_processes_share_what_is_kept(encoder: Encoder, folder: Path) -> None:
    code = (
        "import sys; from cxlab.features.encoder import embeddings, find_encoder\n"
        "e = find_encoder(sys.argv[1])\n"
        "for i in range(30): embeddings(e, [f'card {n}' for n in range(i * 10, i * 10 + 40)])"
    )
    running = [subprocess.Popen([sys.executable, "-W", "error", "-c", code, str(folder)]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    texts = [f"card {n}" for n in range(330)]
    keys = [room._key(encoder, text) for text in texts]
    assert set(room._read(keys, 16)) == set(keys)
    np.testing.assert_array_equal(embeddings(encoder, texts), encoder.encode(texts))


def test_another_encoder_has_other_vectors(encoder: Encoder, tmp_path: Path, computed: list[str]) -> None:
    embeddings(encoder, many())
    shutil.copytree(made(tmp_path / "a"), tmp_path / "b")
    (tmp_path / "b" / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    same, shorter = find_encoder(str(tmp_path / "a")), find_encoder(str(tmp_path / "b"))
    assert same.fingerprint == encoder.fingerprint  # a copy elsewhere is the same
    assert shorter.sha256 == same.sha256
    assert shorter.longest == 5
    fewer = made(tmp_path / "c", num_attention_heads=2)
    assert find_encoder(str(fewer)).fingerprint != same.fingerprint
    computed.clear()
    embeddings(same, many())
    assert computed == []
    np.testing.assert_array_equal(embeddings(shorter, many()), shorter.encode(many()))
    assert not np.array_equal(embeddings(shorter, many()), embeddings(same, many()))


@pytest.mark.parametrize("damage", ["no database", "torn", "half a vector", "long vector"])
def test_what_is_damaged_is_made_anew(encoder: Encoder, computed: list[str], damage: str) -> None:
    expected = embeddings(encoder, many(400))
    if damage == "no database":
        cache().write_bytes(b"no database" * 1000)
    elif damage == "torn":
        content = bytearray(cache().read_bytes())
        content[4096 : len(content)] = b"\xff" * (len(content) - 4096)
        cache().write_bytes(bytes(content))
    else:
        import sqlite3

        with sqlite3.connect(cache()) as database:
            vector = expected[0].tobytes()[:32] if damage == "half a vector" else (expected[0] * 2).tobytes()
            database.execute("UPDATE embeddings SET vector = ?", [vector])
        database.close()
    computed.clear()
    if damage in ("no database", "torn"):
        with pytest.warns(UserWarning, match="is damaged and thrown away"):
            found = embeddings(encoder, many(400))
    else:
        found = embeddings(encoder, many(400))
    assert len(computed) == 400
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(embeddings(encoder, many(400)), expected)
    assert len(computed) == 400


def test_a_cache_that_cannot_be_used_is_left_alone(encoder: Encoder) -> None:
    cache().mkdir(parents=True)
    with pytest.warns(UserWarning, match="cannot be used"):
        found = embeddings(encoder, many())
    np.testing.assert_array_equal(found, encoder.encode(many()))
    cache().rmdir()


def test_what_is_kept_is_bounded(encoder: Encoder, monkeypatch: pytest.MonkeyPatch, computed: list[str]) -> None:
    monkeypatch.setattr(room, "MOST_BYTES", 100_000)
    texts = many(3000)
    for start in range(0, 3000, 100):
        embeddings(encoder, texts[start : start + 100])
    assert cache().stat().st_size < 150_000
    computed.clear()
    embeddings(encoder, texts[-100:])
    assert computed == []  # the newest stay
    embeddings(encoder, texts[:100])
    assert len(computed) == 100


@pytest.mark.parametrize("uri", ["http://localhost:1", "nowhere"])
def test_without_a_folder_vectors_stay_in_memory(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch, computed: list[str], uri: str, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = embeddings(encoder, many())
    np.testing.assert_array_equal(found, embeddings(encoder, many()))
    assert len(computed) == len(many())
    assert list(tmp_path.iterdir()) == []
    assert forget_embeddings()
    assert not forget_embeddings()
    embeddings(encoder, many())
    assert len(computed) == 2 * len(many())


def test_what_is_forgotten_is_gone(encoder: Encoder, computed: list[str]) -> None:
    embeddings(encoder, many())
    assert cache().exists()
    assert forget_embeddings()
    assert list(cache().parent.iterdir()) == []
    assert not forget_embeddings()
    embeddings(encoder, many())
    assert len(computed) == 2 * len(many())


# Which encoder


def broken(folder: Path, how: str) -> None:
    weights, config, pooling = folder / "model.safetensors", folder / "config.json", folder / "1_Pooling"
    if how.startswith("without "):
        (folder / how.removeprefix("without ")).unlink()
    elif how == "torn weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "torn header":
        weights.write_bytes(weights.read_bytes()[:20])
    elif how == "other kind":
        config.write_text(json.dumps({**CONFIG, "model_type": "xlm-roberta"}))
    elif how == "bad config":
        config.write_text("{")
    elif how == "list config":
        config.write_text("[]")
    elif how == "bad tokenizer":
        (folder / "tokenizer.json").write_text("{}")
    elif how == "dense":
        (folder / "modules.json").write_text('[{"type": "sentence_transformers.models.Dense"}]')
    elif how == "bad modules":
        (folder / "modules.json").write_text('{"type": "Dense"}')
    elif how == "bad length":
        (folder / "sentence_bert_config.json").write_text('{"max_seq_length": "many"}')
        config.write_text(json.dumps({**CONFIG, "max_position_embeddings": None}))
    elif how == "no length":
        config.write_text(json.dumps({**CONFIG, "max_position_embeddings": 2}))
    else:
        pooling.mkdir()
        (pooling / "config.json").write_text(json.dumps({"pooling_mode_max_tokens": True}))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("without config.json", "config.json is missing"),
        ("without tokenizer.json", "tokenizer.json is missing"),
        ("without model.safetensors", "model.safetensors or onnx/model.onnx is missing"),
        ("torn weights", "cannot be read"),
        ("torn header", "cannot be read"),
        ("other kind", "model_type 'xlm-roberta', must be 'bert'"),
        ("bad config", "config.json is no JSON"),
        ("list config", "config.json holds a list, must hold a dict"),
        ("bad tokenizer", "tokenizer.json cannot be read"),
        ("dense", "a step Dense, may have"),
        ("bad modules", "modules.json holds a dict, must hold a list"),
        ("bad length", "max_seq_length in sentence_bert_config.json must be >= 3"),
        ("no length", "max_seq_length"),
        ("max pooling", "says pooling pooling_mode_max_tokens, must be mean or cls"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused(folder: Path, tmp_path: Path, how: str, message: str) -> None:
    here = Path(shutil.copytree(folder, tmp_path / "copy"))
    broken(here, how)
    with pytest.raises(DataError, match=message):
        find_encoder(str(here))


def test_a_name_is_never_fetched() -> None:
    for name in ("all-MiniLM-L6-v3", "intfloat/e5-small", "/no/such/folder"):
        reason = available(name)
        assert reason is not None
        assert "none is fetched" in reason
        with pytest.raises(ParamsError, match="neither known nor a folder"):
            find_encoder(name)
    assert "Did you mean 'all-MiniLM-L6-v2'?" in str(available("all-MiniLM-L6-v3"))


@pytest.mark.parametrize("library", ["tokenizers", "safetensors", "onnxruntime"])
def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    found: Callable[[str], Any] = room.find_spec
    monkeypatch.setattr(room, "find_spec", lambda name: None if name == library else found(name))
    assert available(str(folder)) == f'An encoder needs {library}: pip install "cxlab[deep]".'
    with pytest.raises(ParamsError, match=library):
        find_encoder(str(folder))


def test_a_known_encoder_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_encoder_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    weights = made(package / "model") / "model.safetensors"
    right = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(room.KNOWN, "some", room._Known("some_encoder_package", "model", right))
    assert available("some") is None
    assert find_encoder("some").sha256 == right
    assert "some_encoder_package" not in sys.modules
    monkeypatch.setitem(room.KNOWN, "some", room._Known("some_encoder_package", "model", "0" * 64))
    made(package / "model", seed=1)
    with pytest.raises(DataError, match=r"SHA-256 [0-9a-f]{12}…, must be 000000000000…"):
        find_encoder("some")


def test_a_known_encoder_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(room.KNOWN, "some", room._Known("no_such_package", "model", ""))
    assert available("some") == "Encoder 'some' is not installed, and none is fetched: pip install \"cxlab[deep]\"."


def test_another_hash_than_asked_for_is_refused(folder: Path, encoder: Encoder) -> None:
    assert find_encoder(str(folder), sha256=encoder.sha256) is encoder  # loaded once
    with pytest.raises(DataError, match="must be abc…"):
        find_encoder(str(folder), sha256="abc")


@pytest.mark.parametrize(
    "told", [{"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"pooling_mode": "cls"}]
)
def test_pooling_is_as_the_folder_says(folder: Path, tmp_path: Path, told: dict[str, Any]) -> None:
    here = Path(shutil.copytree(folder, tmp_path / "copy"))
    (here / "1_Pooling").mkdir()
    (here / "1_Pooling" / "config.json").write_text(json.dumps(told))
    ids = np.array([[2, 9, 10, 3]])
    hidden = by_hand(some_weights(), ids, np.ones_like(ids))[:, 0]
    np.testing.assert_allclose(find_encoder(str(here)).encode(["top up"]), hidden / np.linalg.norm(hidden), atol=2e-6)


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model.onnx"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "sentences"])
def test_an_encoder_may_come_as_a_graph(folder: Path, tmp_path: Path, name: str, pooling: str) -> None:
    import onnx

    here = Path(shutil.copytree(folder, tmp_path / "copy"))
    (here / "onnx").mkdir()
    graph = onnx.load_from_string(bert_graph(some_weights(), CONFIG, normalise=False))
    if pooling != "sentences":  # a vector a token, as most are published
        layer = next(n for n in reversed(graph.graph.node) if n.op_type == "LayerNormalization")
        del graph.graph.output[:]
        graph.graph.output.append(
            onnx.helper.make_tensor_value_info(layer.output[0], onnx.TensorProto.FLOAT, [None] * 3)
        )
        (here / "1_Pooling").mkdir()
        (here / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    (here / name).write_bytes(graph.SerializeToString())
    (here / "config.json").write_text(json.dumps({**CONFIG, "model_type": "other"}))  # weights of what we can't build
    found = find_encoder(str(here))
    assert found.sha256 == hashlib.sha256((here / name).read_bytes()).hexdigest()
    if pooling == "cls":
        (here / "onnx" / "model.onnx").unlink(missing_ok=True)
        (here / "model.onnx").unlink(missing_ok=True)
        (here / "config.json").write_text(json.dumps(CONFIG))
        expected = find_encoder(str(here))
    else:
        expected = find_encoder(str(folder))
    np.testing.assert_allclose(found.encode(many(20)), expected.encode(many(20)), atol=1e-6)


def test_a_vector_without_numbers_is_refused(folder: Path, tmp_path: Path) -> None:
    import onnx

    here = Path(shutil.copytree(folder, tmp_path / "copy"))
    (here / "model.safetensors").unlink()
    graph = onnx.load_from_string(bert_graph(some_weights(), CONFIG))
    table = next(item for item in graph.graph.initializer if list(item.dims) == [len(WORDS), 16])
    values = onnx.numpy_helper.to_array(table).copy()
    values[WORDS.index("failed")] = np.inf
    table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))
    (here / "model.onnx").write_bytes(graph.SerializeToString())
    encoder = find_encoder(str(here))
    assert encoder.encode(["top up"]).shape == (1, 16)
    with pytest.raises(DataError, match="has no number for a text, must have 16"):
        encoder.encode(["top up", "failed"])


def test_a_graph_that_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(folder, tmp_path / "copy"))
    (here / "model.safetensors").unlink()
    (here / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(DataError, match="graph cannot be read"):
        find_encoder(str(here))


# A step of a pipeline


def test_a_saved_pipeline_names_its_encoder(folder: Path, tmp_path: Path) -> None:
    import skops.io

    here = made(tmp_path / "mine")
    texts = np.array(many(), object)
    codes = np.arange(len(texts)) % 2
    pipe = Pipeline([("encoder", SentenceEncoder(str(here), scale=3)), ("model", LogisticRegression())])
    pipe.fit(texts, codes)
    step = pipe[0]
    assert step.width_ == 16
    np.testing.assert_allclose(np.linalg.norm(step.transform(texts), axis=1), 3, rtol=1e-6)
    assert step.transform(texts).dtype == np.float32
    content = skops.io.dumps(pipe)
    assert len(content) < 25_000  # no weights among it
    assert skops.io.get_untrusted_types(data=content) == ["cxlab.features.encoder.SentenceEncoder"]
    again = skops.io.loads(content, trusted=["cxlab.features.encoder.SentenceEncoder"])
    np.testing.assert_array_equal(again.predict_proba(texts), pipe.predict_proba(texts))
    made(here, seed=1)
    with pytest.raises(DataError, match="Use the encoder that was meant"):
        again.predict_proba(texts)
    made(here)
    (here / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    with pytest.raises(DataError, match="the fit's weights, but other layers, tokenizer, longest text or pooling"):
        again.predict_proba(texts)


def test_a_step_is_told_what_it_needs(folder: Path) -> None:
    step = clone(SentenceEncoder(str(folder), scale=2))
    assert step.get_params() == {"encoder": str(folder), "scale": 2}
    with pytest.raises(ParamsError, match="scale == 0, must be > 0"):
        SentenceEncoder(str(folder), scale=0).fit(None)
    with pytest.raises(DataError, match=r"shape \(1, 1\), must have \(n,\)"):
        step.fit(None).transform([["card"]])


# The real one


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    reason = available(DEFAULT)
    if reason is not None:
        pytest.skip(reason)
    return find_encoder()


def test_minilm_is_what_its_makers_compute(minilm: Encoder) -> None:
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    folder = room._folder(DEFAULT)
    os.environ["HF_HUB_OFFLINE"] = "1"
    texts = ["Where is my card?", "", "I topped up £10 but it's not there 😀", "word " * 400]
    theirs = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = theirs(**tokens).last_hidden_state.numpy()
    mask = tokens["attention_mask"].numpy()[..., None]
    expected = (hidden * mask).sum(1) / mask.sum(1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert np.abs(minilm.encode(texts) - expected).max() < 2e-6


def test_minilm_knows_what_is_meant(minilm: Encoder) -> None:
    asked, same, other = minilm.encode(
        ["Where is my card?", "My bank card hasn't arrived yet", "How do I change my PIN?"]
    )
    assert asked @ same > asked @ other + 0.1
    assert (minilm.width, minilm.longest) == (384, 256)
