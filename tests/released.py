"""Fixtures of release and serving: small models, made, reviewed and exported once; tests get a copy of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.evidence.report import Report, review
from cxlab.evidence.wording import Phrase
from cxlab.features.encoder_graph import bert_shapes
from cxlab.models.training import train
from cxlab.params import load_params
from cxlab.release.bundle import write_bundle

WORDING = {"calls": Phrase(phrase="{value:g} calls", unit="calls"), "plan": Phrase(phrase="the {value} plan")}

SAID = {  # by intent: words that tell it
    "card_lost": ("card", "lost", "stolen", "missing"),
    "refund": ("refund", "money", "back", "return"),
    "late_parcel": ("parcel", "late", "waiting", "delivery"),
    "change_address": ("address", "move", "moved", "street"),
    "cancel": ("cancel", "contract", "end", "leave"),
}
FILLERS = ("please", "my", "the", "is", "can", "you", "help", "with", "about", "today", "i", "want", "me", "hello")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def said(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Small contacts of five intents, each told by two or three words among others; one in ten says another's."""
    rng = np.random.default_rng(seed)
    intents = rng.choice(list(SAID), n)
    texts = [
        " ".join(rng.permutation([*rng.choice(SAID[meant], rng.integers(2, 4)), *rng.choice(FILLERS, 4)]).tolist())
        for meant in np.where(rng.random(n) < 0.1, rng.permutation(intents), intents)
    ]
    ids, channel = [f"m{i:04d}" for i in range(n)], rng.choice(["chat", "mail"], n)
    return pd.DataFrame({"message_id": ids, "text": texts, "channel": channel, "intent": intents})


def new_encoder(folder: Path) -> Path:
    """A small encoder that nobody trained; it knows the words of `said`, and others by their letters."""
    safetensors, tokenizers = pytest.importorskip("safetensors.numpy"), pytest.importorskip("tokenizers")
    known = [*FILLERS, *(word for words in SAID.values() for word in words), *LETTERS]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *dict.fromkeys(known), *(f"##{letter}" for letter in LETTERS)]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"model_type": "bert", **sizes, "vocab_size": len(words), "max_position_embeddings": 32}
    rng = np.random.default_rng(0)
    weights = {}
    for name, shape in bert_shapes(config).items():
        centre, spread = ("LayerNorm.weight" in name) * 1.0, 1.0 if "word_embeddings" in name else 0.1
        weights[name] = rng.normal(centre, spread, shape).astype(np.float32)  # so that words tell vectors apart
    safetensors.save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    pieces = {word: place for place, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="session")
def reviewed_texts(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A model trained on 300 small contacts, with its report."""
    folder = tmp_path_factory.mktemp("reviewed_texts")
    said().to_csv(folder / "said.csv", index=False)
    (folder / "wants.yaml").write_text(
        "task: intent\nname: wants\n"
        "data: {path: said.csv, id: message_id, text: text, target: intent, segments: [channel]}\n"
        "search: {trials: 1, candidates: [prior, words, words_characters]}\n",
        encoding="utf-8",
    )
    params = load_params(folder / "wants.yaml")
    return review(train(read_table(params.data), params, storage=None))


@pytest.fixture(scope="session")
def exported_texts(tmp_path_factory: pytest.TempPathFactory, reviewed_texts: Report) -> Path:
    """The bundle of that model; not to be changed."""
    to = tmp_path_factory.mktemp("exported_texts") / "wants-1"
    facts = {"model": "wants", "version": "1", "task": "intent"}
    report, evidence = reviewed_texts.facts(), {"card.md": "# wants"}
    return write_bundle(reviewed_texts.subject, to, facts=facts, report=report, evidence=evidence)


@pytest.fixture
def text_folder(exported_texts: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(exported_texts, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def reviewed(tmp_path_factory: pytest.TempPathFactory, customers: Callable[..., pd.DataFrame]) -> Report:
    """A trained model on 400 small customers, with its report."""
    folder = tmp_path_factory.mktemp("reviewed")
    customers().to_csv(folder / "customers.csv", index=False)
    (folder / "small.yaml").write_text(
        "task: churn\nname: small\n"
        "data: {path: customers.csv, id: customer_id, target: churn, segments: [region], known_before: [calls]}\n"
        "search: {trials: 3, candidates: [prior, logistic, lightgbm]}\n",
        encoding="utf-8",
    )
    params = load_params(folder / "small.yaml")
    return review(train(read_table(params.data), params, storage=None))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, reviewed: Report) -> Path:
    """The bundle of that model; not to be changed."""
    to = tmp_path_factory.mktemp("exported") / "small-1"
    facts = {"model": "small", "version": "1", "task": "churn"}
    return write_bundle(
        reviewed.subject, to, facts=facts, report=reviewed.facts(), evidence={"card.md": "# small"}, wording=WORDING
    )


@pytest.fixture
def bundle_folder(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def lab_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for the tests of this folder: making one takes seconds, a model of one's own does not."""
    return f"sqlite:///{tmp_path_factory.mktemp('lab')}/mlflow.db"


@pytest.fixture
def register(lab_store: str, reviewed: Report, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Registers the small model under a name, with its report, as a training does; returns the version."""
    from cxlab.tracking import records, registry
    from cxlab.tracking.runs import log_records
    from cxlab.tracking.store import experiment_id, store

    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab_store)
    needed = {records.PARAMS, records.OUT_OF_FOLD, records.REPORT_PAGE, records.REPORT_FACTS, records.PREDICTIONS}

    def make(name: str, *, author: str = "ann", report: Report = reviewed) -> str:
        monkeypatch.setenv("CXLAB_USER", author)
        params = report.training.params.model_copy(update={"name": name})
        training = replace(report.training, params=params)
        made = [*records.of_training(training), *records.of_report(report)]
        kept = [r for r in made if isinstance(r, records.Tag) or getattr(r, "path", None) in needed]
        with store() as client:
            run_id = client.create_run(experiment_id(client, name)).info.run_id
            log_records(client, run_id, kept)
            client.update_run(run_id, "FINISHED")
        version = registry.register(training, run_id, report.facts())
        monkeypatch.setenv("CXLAB_USER", "bob")
        return version

    return make
