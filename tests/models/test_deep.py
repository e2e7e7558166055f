"""A fine-tuned classifier: what torch learns is what onnxruntime says, and nothing but that is kept."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone

from cxlab.display import PROGRESS_FILE
from cxlab.errors import DataError, ParamsError
from cxlab.features.encoder import find_encoder, read_encoder
from cxlab.features.encoder_graph import bert_graph, bert_shapes
from cxlab.models import deep
from cxlab.models.deep import FineTuned, available

tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.numpy")

OURS = ["cxlab.models.deep.FineTuned"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "is", "my", "card", "top", "up", "failed", "again"]
CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 16,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder that nobody trained."""
    folder, rng = tmp_path_factory.mktemp("encoder"), np.random.default_rng(0)
    weights = {
        name: ((1 if "LayerNorm.weight" in name else 0) + rng.normal(0, 0.2, shape)).astype(np.float32)
        for name, shape in bert_shapes(CONFIG).items()
    }
    safetensors.save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def said(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Texts of three classes, 3, 5 and 9, each told by one word; and a word that says nothing."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, n)
    texts = [
        " ".join([*rng.choice(WORDS[4:7], rng.integers(0, 6)), WORDS[7 + kind], *rng.choice(WORDS[4:7], 2)])
        for kind in classes
    ]
    return np.array(texts, object), np.array([3, 5, 9])[classes]


def by_hand(folder: Path) -> FineTuned:
    """As if fitted: the encoder as it is, under a layer of prototypes."""
    (texts, y), files = said(), read_encoder(str(folder))
    model = FineTuned(str(folder))
    model.classes_, codes = np.unique(y, return_inverse=True)
    head = deep._prototypes(find_encoder(str(folder)).encode(texts.tolist()), codes)
    model.graph_ = np.frombuffer(bert_graph(files.weights(), files.config, head=head), np.uint8)
    model.tokenizer_, model.longest_, model.sha256_ = files.tokenizer, files.longest, files.sha256
    return model


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 9))
def test_an_epoch_has_every_text_once(lengths: list[int], size: int, seed: int) -> None:
    found = list(deep._batches(lengths, size, np.random.default_rng(seed)))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    assert max(map(len, found)) <= size
    assert len(found) == -(-len(lengths) // size)


@given(st.integers(0, 99), st.integers(2, 5))
def test_prototypes_tell_by_distance(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(40, 6))
    codes = np.arange(40) % classes
    weights, bias = deep._prototypes(vectors, codes)
    means = np.stack([vectors[codes == code].mean(axis=0) for code in range(classes)])
    nearest = ((vectors[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal((vectors @ weights.T + bias).argmax(axis=1), nearest)


def test_a_saved_model_answers_without_torch(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = by_hand(folder)
    texts, _ = said()
    expected = model.predict_proba(texts)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    content = skops.io.dumps(model)  # after it answered: what runs is not saved
    assert skops.io.get_untrusted_types(data=content) == OURS
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(deep, "read_encoder", None)  # nor is the encoder's folder needed
    again = skops.io.loads(content, trusted=OURS)
    np.testing.assert_array_equal(again.predict_proba(texts), expected)
    np.testing.assert_array_equal(again.predict(texts), model.classes_[expected.argmax(axis=1)])


def test_an_answer_does_not_depend_on_neighbours(folder: Path) -> None:
    model = by_hand(folder)
    odd = ["", "   ", "😀", "مرحبا", "\ud800 lone", "x" * 1_000_000, "my card " * 50, *said(30)[0]]
    found = model.predict_proba(np.array(odd, object))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-12)
    alone = np.concatenate([model.predict_proba(np.array([text], object)) for text in odd])
    np.testing.assert_allclose(found, alone, atol=1e-6)
    assert model.predict_proba(np.array([], object)).shape == (0, 3)
    with pytest.raises(DataError, match="Text 1 is None"):
        model.predict_proba(np.array(["card", None], object))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs == 0, must be >= 1"),
        ({"batch": 0}, "batch == 0, must be >= 1"),
        ({"learning_rate": 0}, r"learning_rate == 0, must be in \(0, 1\)"),
        ({"head_learning_rate": 2.0}, r"head_learning_rate == 2.0, must be in \(0, 1\)"),
        ({"label_smoothing": 1}, r"label_smoothing == 1, must be in \[0, 1\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        FineTuned(**settings).fit(*said())


def test_without_torch_it_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "find_spec", lambda name: None)
    assert available(str(folder)) == 'Fine-tuning needs torch: pip install "cxlab[deep]".'
    with pytest.raises(ParamsError, match="Fine-tuning needs torch"):
        FineTuned(str(folder)).fit(*said())


def test_an_encoder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep, "find_spec", lambda name: name)
    assert "neither known nor a folder" in str(available("no-such-encoder"))


# What torch learns


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def learner(folder: Path, **settings: Any) -> FineTuned:
    return FineTuned(str(folder), **{"learning_rate": 0.01, "head_learning_rate": 0.02, "batch": 8, **settings})


@pytest.fixture(scope="module")
def fitted(folder: Path) -> FineTuned:
    pytest.importorskip("torch")
    return learner(folder).fit(*said())


def test_it_learns_what_one_word_says(fitted: FineTuned, folder: Path) -> None:
    texts, y = said(200, seed=1)
    assert (fitted.predict(texts) == y).mean() > 0.97
    assert (by_hand(folder).predict(texts) == y).mean() < 0.9
    assert fitted.classes_.tolist() == [3, 5, 9]
    assert skops.io.get_untrusted_types(data=skops.io.dumps(fitted)) == OURS


def test_it_repeats(fitted: FineTuned, folder: Path) -> None:
    assert clone(fitted).fit(*said()).graph_.tobytes() == fitted.graph_.tobytes()
    assert clone(fitted).set_params(seed=1).fit(*said()).graph_.tobytes() != fitted.graph_.tobytes()


def test_fits_in_threads_do_not_meet(fitted: FineTuned) -> None:
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: clone(fitted).fit(*said()).graph_.tobytes(), range(3)))
    assert set(found) == {fitted.graph_.tobytes()}


def test_torch_is_left_as_it_was(fitted: FineTuned, torch: Any) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    threads = torch.get_num_threads()
    clone(fitted).fit(*said())
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_what_is_trained_is_what_is_served(folder: Path, torch: Any) -> None:
    files, texts = read_encoder(str(folder)), said(50)[0].tolist()
    p = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in files.weights().items()}
    with torch.no_grad():
        found = deep._forward(p, files, *deep._padded(files.ids(texts)), dropout=0.0).numpy()
    np.testing.assert_allclose(found, find_encoder(str(folder)).encode(texts), atol=2e-6)


def test_it_shows_how_far_it_is(fitted: FineTuned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress"))
    clone(fitted).fit(*said())
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [line["text"] for line in lines if line["label"] == "Fine-tune the encoder"][:2] == ["epoch 1 of 3"] * 2
    fractions = [line["fraction"] for line in lines]
    assert fractions == sorted(fractions)


def test_one_class_is_none(folder: Path, torch: Any) -> None:
    with pytest.raises(DataError, match="have one class, must have 2 or more"):
        learner(folder).fit(["card", "top up"], np.array([1, 1]))


def test_a_graph_cannot_be_trained(folder: Path, torch: Any, tmp_path: Path) -> None:
    files = read_encoder(str(folder))
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(bert_graph(files.weights(), files.config))
    with pytest.raises(DataError, match=r"cannot be trained: bring model\.safetensors"):
        learner(tmp_path).fit(*said())
