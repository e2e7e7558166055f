"""A text classifier that learns all of an encoder, not a model on top of a frozen one. The one door to torch.

    model = FineTuned(epochs=3).fit(texts, codes)    # torch, minutes
    model.predict_proba(texts)                       # onnxruntime, milliseconds: torch is not needed any more

What is fitted is an ONNX graph and a tokenizer, so a model is saved and served without torch.

Source: Devlin et al. (2019), BERT, section 4.1: a linear layer on the sentence's vector, all weights trained with Adam,
warm-up and linear decay. Before it, the linear layer alone is trained on the frozen encoder (Kumar et al. 2022,
Fine-tuning can distort pretrained features and underperform out-of-distribution, section 3.4). Label smoothing: Szegedy
et al. (2016), Rethinking the Inception architecture, section 7.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from cxlab.display import Progress, progress
from cxlab.errors import DataError, ParamsError
from cxlab.features import encoder as encoders
from cxlab.features.encoder import DEFAULT, REMEDY, Files, embeddings, find_encoder, read_encoder
from cxlab.features.encoder_graph import bert_graph, bert_weights
from cxlab.features.text_graph import TextGraph

if TYPE_CHECKING:
    import torch

    Parameters = dict[str, torch.nn.Parameter]
    Trained = tuple[dict[str, np.ndarray], tuple[np.ndarray, np.ndarray]]

WORDS = "embeddings.word_embeddings.weight"
DECAY = 0.01  # of AdamW, on matrices
WARM_UP = 0.1  # of all steps
LONGEST_STEP = 1.0  # norm at which a gradient is clipped
DROPOUT = 0.1
SHARPNESS = 20.0  # of the layer at its start: what a cosine is multiplied by, as the encoder's makers did
_POOL = 64  # batches that are cut from texts sorted by length
_TOLD = 10  # steps between two words of the progress bar
_LOADING = Lock()  # of fitted graphs: each once
_ONE_AT_A_TIME = Lock()  # one training has all cores; torch's settings belong to the process


def available(name_or_path: str = DEFAULT) -> str | None:
    """Why nothing can be fine-tuned here, in a sentence; None if it can."""
    if find_spec("torch") is None:
        return f"Fine-tuning needs torch: {REMEDY}."
    return encoders.available(name_or_path)


class FineTuned(ClassifierMixin, BaseEstimator):
    """An encoder and a linear layer, trained together on labelled texts.

    Args:
        encoder: A known name, or a folder with the weights of a BERT; see `find_encoder`.
        epochs: How often each text is seen, >= 1.
        learning_rate: Of the encoder, at its highest, > 0.
        head_learning_rate: Of the linear layer, at its highest, > 0.
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).
        batch: Texts a step, >= 1.
        seed: Of order and dropout. On a CPU, same seed and cores, same model.

    Attributes:
        classes_: Class codes, shape (k,).
        sha256_: Of the weights that it began with.
        graph_: The trained model as an ONNX graph, uint8.
        tokenizer_: The text of its `tokenizer.json`.
        longest_: Tokens of a text that it reads.
    """

    def __init__(
        self,
        encoder: str = DEFAULT,
        *,
        epochs: int = 3,
        learning_rate: float = 2e-4,
        head_learning_rate: float = 2e-3,
        label_smoothing: float = 0.1,
        batch: int = 32,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.label_smoothing = label_smoothing
        self.batch = batch
        self.seed = seed

    def fit(self, X: Any, y: np.ndarray) -> Self:
        """Learns from texts of shape (n,) and class codes of shape (n,).

        Raises:
            ParamsError: A setting is out of range, torch or the encoder is not there.
            DataError: There is one class alone, the encoder is no BERT, or training diverged.
        """
        self._check()
        reason = available(self.encoder)
        if reason is not None:
            raise ParamsError(reason)
        files = read_encoder(self.encoder)
        if files.is_graph:
            raise DataError(f"Encoder {self.encoder!r} is a graph, which cannot be trained: bring model.safetensors.")
        texts = np.asarray(X, object).tolist()
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("All texts have one class, must have 2 or more to tell apart.")
        with _ONE_AT_A_TIME:
            weights, head = self._trained(files, texts, codes)
        graph = bert_graph(weights, files.config, head=head, pooling=files.pooling)
        self.graph_ = np.frombuffer(graph, np.uint8)
        self.tokenizer_, self.longest_, self.sha256_ = files.tokenizer, files.longest, files.sha256
        self.__dict__.pop("_running", None)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of texts of shape (n,), shape (n, k)."""
        check_is_fitted(self)
        texts = encoders.checked(np.asarray(X, object).tolist())
        if not len(texts):
            return np.empty((0, len(self.classes_)))
        return self._graph()(texts)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each text, shape (n,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_running"}

    def _check(self) -> None:
        for name, low in (("epochs", 1), ("batch", 1)):
            if getattr(self, name) < low:
                raise ParamsError(f"{name} == {getattr(self, name)}, must be >= {low}.")
        for name in ("learning_rate", "head_learning_rate"):
            if not 0 < getattr(self, name) < 1:
                raise ParamsError(f"{name} == {getattr(self, name)}, must be in (0, 1).")
        if not 0 <= self.label_smoothing < 1:
            raise ParamsError(f"label_smoothing == {self.label_smoothing}, must be in [0, 1).")

    def _graph(self) -> TextGraph:
        with _LOADING:
            if "_running" not in self.__dict__:
                self._running = TextGraph(
                    self.graph_.tobytes(), self.tokenizer_, self.longest_, threads=encoders.cores()
                )
            return self._running

    def _trained(self, files: Files, texts: list[str], codes: np.ndarray) -> Trained:
        """The encoder's weights and the layer's, after training."""
        import torch

        ids = files.ids(texts)
        weights = bert_weights(files.weights(), files.config)
        seen = np.unique(np.concatenate(ids))  # a word that no text has keeps its vector, so it need not travel along
        place = np.zeros(len(weights[WORDS]), np.int64)
        place[seen] = np.arange(len(seen))
        ids = [place[item] for item in ids]
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        head = _prototypes(embeddings(find_encoder(self.encoder), texts), codes)
        with _settings(self.seed, device):
            start = {**weights, WORDS: weights[WORDS][seen], "head.weight": head[0], "head.bias": head[1]}
            p = {name: torch.nn.Parameter(torch.tensor(value, device=device)) for name, value in start.items()}
            with progress("Fine-tune the encoder") as bar:
                self._train(p, files, ids, torch.as_tensor(codes, device=device), bar)
            found = {name: value.detach().cpu().numpy() for name, value in p.items()}
        words = weights[WORDS].copy()
        words[seen] = found[WORDS]
        return {**found, WORDS: words}, (found.pop("head.weight"), found.pop("head.bias"))

    def _train(self, p: Parameters, files: Files, ids: list[np.ndarray], codes: torch.Tensor, bar: Progress) -> None:
        import torch
        from torch.nn.functional import cross_entropy, linear

        device, rng = codes.device, np.random.default_rng(self.seed)
        optimizer = torch.optim.AdamW(self._groups(p), fused=True)
        steps = self.epochs * -(-len(ids) // self.batch)
        pace = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / (WARM_UP * steps), (steps - step) / ((1 - WARM_UP) * steps))
        )
        batches = (rows for _ in range(self.epochs) for rows in _batches([len(item) for item in ids], self.batch, rng))
        for step, rows in enumerate(batches):
            tokens, mask = (part.to(device) for part in _padded([ids[row] for row in rows]))
            with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
                vectors = _forward(p, files, tokens, mask, DROPOUT)
            logits = linear(vectors.float(), p["head.weight"], p["head.bias"])
            loss = cross_entropy(
                logits, codes[torch.as_tensor(rows, device=device)], label_smoothing=self.label_smoothing
            )
            if not torch.isfinite(loss):
                raise DataError(
                    f"Fine-tuning diverged at step {step + 1} of {steps}. Lower learning_rate == {self.learning_rate}."
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(p.values(), LONGEST_STEP)
            optimizer.step()
            pace.step()
            if step % _TOLD == 0:
                bar.advance(step / steps, f"epoch {1 + step * self.epochs // steps} of {self.epochs}")

    def _groups(self, p: Parameters) -> list[dict[str, Any]]:
        """What AdamW is told: matrices decay, while words, which not every text has, vectors and the layer do not."""
        head = [value for name, value in p.items() if name.startswith("head.")]
        rest = {name: value for name, value in p.items() if not name.startswith("head.")}
        matrices = [value for name, value in rest.items() if value.ndim == 2 and name != WORDS]
        others = [value for name, value in rest.items() if value.ndim == 1 or name == WORDS]
        return [
            {"params": matrices, "lr": self.learning_rate, "weight_decay": DECAY},
            {"params": others, "lr": self.learning_rate, "weight_decay": 0.0},
            {"params": head, "lr": self.head_learning_rate, "weight_decay": 0.0},
        ]


@contextmanager
def _settings(seed: int, device: torch.device) -> Iterator[None]:
    """torch with all cores, repeatable on a CPU; as it was afterwards."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
            torch.manual_seed(seed)
            torch.set_num_threads(encoders.cores())
            torch.use_deterministic_algorithms(device.type == "cpu")
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)


def _prototypes(vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A layer that tells classes by the distance to their mean vector, (k, d) and (k,)."""
    means = np.stack([vectors[codes == code].mean(axis=0) for code in range(codes.max() + 1)])
    return SHARPNESS * means, -SHARPNESS / 2 * (means**2).sum(axis=1)


def _batches(lengths: list[int], size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Every text once, in batches of like length, in random order."""
    order = rng.permutation(len(lengths))
    found = []
    for start in range(0, len(order), _POOL * size):
        pool = sorted(order[start : start + _POOL * size], key=lengths.__getitem__)
        found += [np.array(pool[at : at + size]) for at in range(0, len(pool), size)]
    for place in rng.permutation(len(found)):
        yield found[place]


def _padded(ids: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and which of them are some, both (n, tokens)."""
    import torch

    tokens = np.zeros((len(ids), max(len(item) for item in ids)), np.int64)
    mask = np.zeros(tokens.shape, bool)
    for row, item in enumerate(ids):
        tokens[row, : len(item)], mask[row, : len(item)] = item, True
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def _forward(p: Parameters, files: Files, tokens: torch.Tensor, mask: torch.Tensor, dropout: float) -> torch.Tensor:
    """Sentences' vectors at length 1, (n, d), as `bert_graph` computes them, but with dropout."""
    from torch.nn import functional

    heads, epsilon = int(files.config["num_attention_heads"]), float(files.config.get("layer_norm_eps", 1e-12))

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    def normal(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], epsilon)

    def drop(x: torch.Tensor) -> torch.Tensor:
        return functional.dropout(x, dropout)

    places = p["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = functional.embedding(tokens, p[WORDS]) + places + p["embeddings.token_type_embeddings.weight"][0]
    x = drop(normal(x, "embeddings.LayerNorm"))
    for number in range(int(files.config["num_hidden_layers"])):
        name = f"encoder.layer.{number}"
        query, key, value = (
            dense(x, f"{name}.attention.self.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        context = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask[:, None, None, :], dropout_p=dropout
        )
        context = dense(context.transpose(1, 2).flatten(2), f"{name}.attention.output.dense")
        x = normal(drop(context) + x, f"{name}.attention.output.LayerNorm")
        inner = dense(functional.gelu(dense(x, f"{name}.intermediate.dense")), f"{name}.output.dense")
        x = normal(drop(inner) + x, f"{name}.output.LayerNorm")
    kept = mask[..., None].to(x.dtype)
    pooled = x[:, 0] if files.pooling == "cls" else (x * kept).sum(dim=1) / kept.sum(dim=1)
    return functional.normalize(drop(pooled.float()), dim=-1)
