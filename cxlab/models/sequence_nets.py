"""Nets that say what comes next in a case: a GRU and a small causal transformer. torch fits, onnxruntime answers.

    net = SequenceNet("gru", columns=["gap", "priority"]).fit(X, y)   # torch, a minute
    net.predict_proba(X)                                              # onnxruntime: torch is not needed any more

A row of X is an event. What has happened up to it are the rows of its case at earlier positions, and y is the class of
what happens next, of which the end of the case is one. So one pass over a case learns from all of its prefixes.

Cases are batched at random: batches of cases of like length would end all at once and teach a wrong share of ends.
Classes are not weighted, so probabilities are those of the log, of rare classes too. A case is read in stretches: at
training, what lies before a stretch is lost; at prediction, stretches overlap, so that half a stretch is always known.

Source: Tax et al. (2017), Predictive business process monitoring with LSTM neural networks, section 4, for the task;
Loshchilov and Hutter (2019), Decoupled weight decay regularization, for AdamW; Polyak and Juditsky (1992), Acceleration
of stochastic approximation by averaging, for the mean of the weights that is kept. The layers' sources are in
`cxlab.models.sequence_graph`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from cxlab.display import Progress, progress
from cxlab.errors import DataError, ParamsError, missing_column
from cxlab.features.encoder import REMEDY
from cxlab.models.deep import _settings
from cxlab.models.sequence_graph import BUCKETS, SequenceGraph, distance_buckets, sequence_graph

if TYPE_CHECKING:
    import pandas as pd
    import torch

KINDS = ("gru", "transformer")
LAYERS = {"gru": 1, "transformer": 2}
POSITION = "position"  # of an event in its case: an input that is always there
RARE = 5  # events; a level that fewer have is unknown
UNSEEN = 0.02  # share of categories that training sees as unknown
WIDEST = 32  # embedding of a column
HEAVY = 10.0  # 99th percentile over median, beyond which a column has a heavy tail
FARTHEST = 5.0  # deviations from the mean at which a number is held
FEWEST_CASES = 60  # below, no case is held out, and all epochs are trained
FEWEST_HELD_OUT = 20
LEAST = 1e-3  # share of the held-out loss by which it must fall to go on
WARM_UP = 0.1  # of all steps, but
LONGEST_WARM_UP = 200  # steps at most
LONGEST_STEP = 1.0  # norm at which a gradient is clipped
MEAN = 0.995  # weight of the past in the running mean of the weights
DECAY_BY_DISTANCE = 0.25  # of the first head's attention at the start; its power is the next head's
INNER = 2  # times the width, in a transformer's dense layers
_SPREAD = 0.3  # of embeddings at the start
_STEPS = 32  # an epoch has at least, where batches of _SMALLEST allow
_SMALLEST = 8
_TOGETHER = 16_384  # events, filled up, that go through a net together where nothing is learned
_TOLD = 10  # steps between two words of the progress bar
_MASKED = -10_000.0  # as in the graph
_LOADING = Lock()  # of fitted graphs: each once
_ONE_AT_A_TIME = Lock()  # torch's settings belong to the process


def available() -> str | None:
    """Why no net can be fitted here, in a sentence; None if one can."""
    return None if find_spec("torch") else f"A sequence net needs torch: {REMEDY}."


class SequenceNet(ClassifierMixin, BaseEstimator):
    """What comes next in a case, from all that has happened in it.

    X has one row an event and a MultiIndex of (case, position), positions counted from 1. Rows may come in any order,
    and a case's first ones may be missing: what is there is its history. Columns of numbers are squashed and
    standardised; what is not finite is missing, which is told apart where training has it. Every other column is
    categories: as text, of which a missing one is `""`, and one that is unseen or rare is unknown.

    Args:
        kind: `gru` or `transformer`.
        event: The column of what happened, always an input.
        columns: Those that are inputs too.
        width: Of every layer, >= 1; heads divide it.
        layers: One of a GRU and two of a transformer if None.
        heads: Of a transformer's attention, >= 1.
        dropout: Share in [0, 1).
        epochs: How often each case is seen, at most, >= 1.
        patience: Epochs that may pass without progress on the cases held out, >= 1.
        learning_rate: At its highest, in (0, 1).
        weight_decay: Of matrices, >= 0.
        batch: Stretches a step, >= 1; fewer where cases are few.
        longest: Events of a stretch, >= 2.
        held_out: Share of the cases that tells when to stop, in (0, 1).
        seed: Of order, cases held out and weights at the start. On a CPU, same seed, same net.

    Attributes:
        classes_: Class codes, shape (k,).
        graph_: The net as an ONNX graph, uint8.
        losses_: Log loss on the cases held out after each epoch, in nats; empty where none were.
    """

    def __init__(
        self,
        kind: str = "gru",
        *,
        event: str = "event",
        columns: Sequence[str] = (),
        width: int = 64,
        layers: int | None = None,
        heads: int = 4,
        dropout: float = 0.05,
        epochs: int = 40,
        patience: int = 3,
        learning_rate: float = 8e-3,
        weight_decay: float = 1e-2,
        batch: int = 256,
        longest: int = 128,
        held_out: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.kind = kind
        self.event = event
        self.columns = columns
        self.width = width
        self.layers = layers
        self.heads = heads
        self.dropout = dropout
        self.epochs = epochs
        self.patience = patience
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch = batch
        self.longest = longest
        self.held_out = held_out
        self.seed = seed

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        """Learns from events and the class codes of what came next, shape (n,).

        Raises:
            ParamsError: A setting is out of range, or torch is not there.
            DataError: X lacks a column or has another index, there is one class alone, or training diverged.
        """
        self._check()
        reason = available()
        if reason is not None:
            raise ParamsError(reason)
        order, cases = _cases(X)
        y = np.asarray(y)
        if y.shape != (len(X),):
            raise DataError(f"y has shape {y.shape}, must have one class code for each of the {len(X)} events.")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError("All events have one next class, must have 2 or more to tell apart.")
        self._plain = self._learned(X)
        levels, numbers = self.inputs(X)
        with _ONE_AT_A_TIME:
            weights = self._trained(_Events(levels[order], numbers[order], codes[order]), cases)
        self.graph_ = np.frombuffer(sequence_graph(weights, self.kind, self._layers(), self.heads), np.uint8)
        self.__dict__.pop("_running", None)
        return self

    def inputs(self, X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """What the graph is told of each event: levels, int64 (n, columns), and numbers, float32 (n, numbers).

        Raises:
            DataError: X lacks a column, or has text where numbers were.
        """
        import pandas as pd

        check_is_fitted(self, "classes_")
        levels = np.empty((len(X), len(self._plain["categories"])), np.int64)
        for at, item in enumerate(self._plain["categories"]):
            known = pd.Index(item["levels"], dtype=object)
            levels[:, at] = known.get_indexer(pd.Index(_texts(X, item["column"]), dtype=object)) + 1
        numbers = []
        for item in self._plain["numbers"]:
            value = _floats(X, item["column"])
            there = np.isfinite(value)
            away = (_squashed(np.where(there, value, 0.0), item["unit"]) - item["mean"]) / item["deviation"]
            numbers.append(np.where(there, np.clip(away, -FARTHEST, FARTHEST), 0.0))
            if item["missing"]:
                numbers.append((~there).astype(float))
        return levels, np.stack(numbers, axis=1).astype(np.float32)

    def plain(self) -> dict[str, Any]:
        """What turns columns into the graph's inputs, as JSON has it.

        A category's code is 1 + its place among the `levels` of its column, or 0 if it is not there; a missing one is
        `""`. A number x becomes `(sign(x) * log(1 + |x| / unit) - mean) / deviation`, held within `farthest` of 0, and
        0 if it is not finite; where `missing` is true, another number follows, 1 if it is not finite, else 0. The
        number `position` is the event's place in its case, from 1. A case of more than `longest` events is read in
        stretches of `longest`, each beginning `longest - longest // 2` after the one before; the first `longest // 2`
        logits of all but the first are not taken.
        """
        check_is_fitted(self, "graph_")
        return deepcopy(self._plain)

    def decision_function(self, X: pd.DataFrame) -> np.ndarray:
        """Logits of what comes next, shape (n, k), for two classes too."""
        check_is_fitted(self, "graph_")
        order, cases = _cases(X)
        levels, numbers = (part[order] for part in self.inputs(X))
        graph, found = self._graph(), np.empty((len(X), len(self.classes_)))
        for part in _parts(_windows(cases, self._plain["longest"])):
            start, length, known = part.T[:, :, None]
            at = np.arange(length.max())
            place = start + np.minimum(at, length - 1)  # what is behind a case's end is not taken
            logits, taken = graph.logits(levels[place], numbers[place]), (known <= at) & (at < length)
            found[order[place[taken]]] = logits[taken]
        return found

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Probabilities of what comes next, shape (n, k)."""
        return softmax(self.decision_function(X), axis=1)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """The likeliest next class of each event, shape (n,)."""
        return self.classes_[self.decision_function(X).argmax(axis=1)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_running"}

    def _check(self) -> None:
        if self.kind not in KINDS:
            raise ParamsError(f"kind == {self.kind!r}, must be one of {', '.join(KINDS)}.")
        lows = {"width": 1, "heads": 1, "epochs": 1, "patience": 1, "batch": 1, "longest": 2, "weight_decay": 0}
        for name, low in {**lows, **({} if self.layers is None else {"layers": 1})}.items():
            if not getattr(self, name) >= low:
                raise ParamsError(f"{name} == {getattr(self, name)}, must be >= {low}.")
        for name in ("learning_rate", "held_out"):
            if not 0 < getattr(self, name) < 1:
                raise ParamsError(f"{name} == {getattr(self, name)}, must be in (0, 1).")
        if not 0 <= self.dropout < 1:
            raise ParamsError(f"dropout == {self.dropout}, must be in [0, 1).")
        if self.kind == "transformer" and self.width % self.heads:
            raise ParamsError(f"width == {self.width}, must be a multiple of heads == {self.heads}.")

    def _layers(self) -> int:
        return LAYERS[self.kind] if self.layers is None else self.layers

    def _graph(self) -> SequenceGraph:
        with _LOADING:
            if "_running" not in self.__dict__:
                self._running = SequenceGraph(self.graph_.tobytes())
            return self._running

    def _learned(self, X: pd.DataFrame) -> dict[str, Any]:
        """What the columns' inputs are, see `plain`."""
        import pandas as pd

        numeric = {name for name in self.columns if name in X and pd.api.types.is_numeric_dtype(X[name])}
        categories, numbers = [], []
        for name in dict.fromkeys([self.event, *self.columns, POSITION]):
            if name == POSITION or name in numeric - {self.event}:
                value = _floats(X, name)
                there = np.isfinite(value)
                unit = _unit(value[there])
                squashed = _squashed(value[there], unit) if there.any() else np.zeros(1)
                spread = {"mean": float(squashed.mean()), "deviation": float(squashed.std()) or 1.0}
                numbers.append({"column": name, "unit": unit, **spread, "missing": not bool(there.all())})
            else:
                levels, counts = np.unique(_texts(X, name).astype(str), return_counts=True)
                categories.append({"column": name, "levels": levels[counts >= RARE].tolist()})
        return {
            "categories": categories,
            "numbers": numbers,
            "farthest": FARTHEST,
            "longest": int(self.longest),
            "classes": self.classes_.tolist(),
        }

    def _trained(self, events: _Events, cases: np.ndarray) -> dict[str, np.ndarray]:
        """The net's weights, after training."""
        import torch

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        few = len(cases) < FEWEST_CASES
        held = 0 if few else max(FEWEST_HELD_OUT, round(self.held_out * len(cases)))
        order = np.random.default_rng(self.seed).permutation(len(cases))
        kept, rest = cases[order[:held]], cases[order[held:]]
        sizes = [len(item["levels"]) + 1 for item in self._plain["categories"]]
        with _settings(self.seed, device), _one_thread(), progress("Train a net on cases") as bar:
            net = self._start(sizes, events.numbers.shape[1]).to(device)
            on = _Events(*(torch.as_tensor(part, device=device) for part in events))
            self._train(net, on, _stretches(rest, self.longest), _windows(kept, self.longest), bar)
            return {name: value.cpu().numpy() for name, value in net.state_dict().items()}

    def _start(self, sizes: list[int], numbers: int) -> torch.nn.ModuleDict:
        """A net that nobody trained, for columns of so many levels."""
        import torch
        from torch import nn

        d, layers = self.width, self._layers()
        widths = [min(WIDEST, int(np.ceil(4 * size**0.25))) for size in sizes]
        tables = nn.ModuleList(nn.Embedding(size, width) for size, width in zip(sizes, widths, strict=True))
        for table in tables:
            nn.init.normal_(table.weight, std=_SPREAD)
        net = nn.ModuleDict({"tables": tables, "into": nn.Linear(sum(widths) + numbers, d)})
        if self.kind == "gru":
            net["gru"] = nn.GRU(d, d, layers, dropout=self.dropout if layers > 1 else 0.0)
        else:
            buckets = distance_buckets()
            nearest = torch.tensor([np.flatnonzero(buckets == bucket)[0] for bucket in range(BUCKETS)])
            slopes = DECAY_BY_DISTANCE ** torch.arange(1, self.heads + 1)
            net["blocks"] = nn.ModuleList()
            for _ in range(layers):
                block = {
                    "before_attention": nn.LayerNorm(d),
                    "joint": nn.Linear(d, 3 * d),
                    "joined": nn.Linear(d, d),
                    "before_inner": nn.LayerNorm(d),
                    "inner": nn.Linear(d, INNER * d),
                    "outer": nn.Linear(INNER * d, d),
                }
                net["blocks"].append(nn.ModuleDict(block))
                net["blocks"][-1].register_parameter("distance", nn.Parameter(-slopes[:, None] * nearest))
            net["last"] = nn.LayerNorm(d)
        net["head"] = nn.Linear(d, len(self.classes_))
        return net

    def _train(
        self,
        net: torch.nn.ModuleDict,
        events: _Events,
        stretches: np.ndarray,
        held: np.ndarray,
        bar: Progress,
    ) -> None:
        """Leaves the best running mean of the weights in the net."""
        import torch

        rng = np.random.default_rng([self.seed, 1])
        size = int(np.clip(len(stretches) // _STEPS, min(_SMALLEST, self.batch), self.batch))
        epoch_steps = -(-len(stretches) // size)
        steps, usual = self.epochs * epoch_steps, stretches[:, 1].sum() / epoch_steps
        optimizer = torch.optim.AdamW(self._groups(net), fused=True)
        warm_up = min(WARM_UP * steps, LONGEST_WARM_UP)
        pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / warm_up, 1.0))
        weights = list(net.parameters())
        mean = [value.detach().clone() for value in weights]
        best, mark, waited = mean, np.inf, 0
        self.losses_: list[float] = []
        for epoch in range(self.epochs):
            order = rng.permutation(len(stretches))
            for number in range(epoch_steps):
                step = epoch * epoch_steps + number
                loss = self._losses(net.train(), events, _laid(stretches[order[number * size : (number + 1) * size]]))
                loss = loss.sum() / usual  # every event counts as much, in whichever batch
                if not torch.isfinite(loss):
                    raise DataError(
                        f"Training diverged at step {step + 1} of {steps}. Lower learning_rate == {self.learning_rate}."
                    )
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, LONGEST_STEP)
                optimizer.step()
                pace.step()
                with torch.no_grad():
                    torch._foreach_lerp_(mean, weights, 1 - min(MEAN, (1 + step) / (10 + step)))
                if step % _TOLD == 0:
                    bar.advance(step / steps, f"epoch {epoch + 1} of at most {self.epochs}")
            if len(held):
                self.losses_.append(self._loss_with(net, mean, events, held))
                if self.losses_[-1] <= min(self.losses_):
                    best = [value.clone() for value in mean]
                waited = 0 if self.losses_[-1] < mark * (1 - LEAST) else waited + 1
                mark = mark if waited else self.losses_[-1]
                if waited == self.patience:
                    break
        _put(net, best)
        if not all(bool(torch.isfinite(value).all()) for value in best):
            raise DataError(f"Training diverged at its last step. Lower learning_rate == {self.learning_rate}.")

    def _groups(self, net: torch.nn.ModuleDict) -> list[dict[str, Any]]:
        """What AdamW is told: matrices decay, while biases, of distances too, and norms do not."""
        named = {name: (value, value.ndim > 1 and "distance" not in name) for name, value in net.named_parameters()}
        return [
            {
                "params": [value for value, matrix in named.values() if matrix == decays],
                "lr": self.learning_rate,
                "weight_decay": self.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]

    def _loss_with(self, net: torch.nn.ModuleDict, weights: list[Any], events: _Events, windows: np.ndarray) -> float:
        """Log loss of a net with other weights, as `decision_function` would see the cases."""
        import torch

        own = [value.detach().clone() for value in net.parameters()]
        _put(net, weights)
        total, count = 0.0, 0
        with torch.no_grad():
            for part in _parts(windows):
                layout = _laid(part)
                losses = self._losses(net.eval(), events, layout).double().cpu().numpy()[layout.taken]
                total, count = total + losses.sum(), count + len(losses)
        _put(net, own)
        return float(total / count)

    def _losses(self, net: torch.nn.ModuleDict, events: _Events, layout: _Layout) -> torch.Tensor:
        """Log loss of each event of a layout, in nats."""
        import torch
        from torch.nn.functional import cross_entropy

        levels, numbers, codes = (part[torch.as_tensor(layout.rows, device=part.device)] for part in events)
        if net.training:
            levels = levels.masked_fill(torch.rand(levels.shape, device=levels.device) < UNSEEN, 0)
        return cross_entropy(self._forward(net, levels, numbers, layout), codes, reduction="none")

    def _forward(
        self, net: torch.nn.ModuleDict, levels: torch.Tensor, numbers: torch.Tensor, layout: _Layout
    ) -> torch.Tensor:
        """Logits of each event of a layout, (m, k), as `sequence_graph` computes them, but with dropout."""
        import torch
        from torch.nn.functional import dropout, relu

        def drop(x: torch.Tensor) -> torch.Tensor:
            return dropout(x, self.dropout, net.training)

        vectors = [table(levels[:, at]) for at, table in enumerate(net["tables"])]
        x = net["into"](torch.cat([*vectors, numbers], dim=1))
        if self.kind == "gru":
            packed = torch.nn.utils.rnn.PackedSequence(drop(relu(x)), torch.as_tensor(layout.sizes()))
            return net["head"](drop(net["gru"](packed)[0].data))
        groups, back = layout.groups(x.device)
        x = drop(x)
        for block in net["blocks"]:
            joint, found = block["joint"](block["before_attention"](x)), []
            for group in groups:
                found.append(group.attention(joint, block.distance, self.heads))
            x = x + drop(block["joined"](torch.cat(found).index_select(0, back)))
            x = x + drop(block["outer"](relu(block["inner"](block["before_inner"](x)))))
        return net["head"](net["last"](x))


class _Events(NamedTuple):
    """Levels (n, columns), numbers (n, numbers) and codes (n,) of events, case by case, as arrays or tensors."""

    levels: Any
    numbers: Any
    codes: Any


class _Group(NamedTuple):
    """Cases of like length in a batch, filled up to the longest: where their events are."""

    rows: torch.Tensor  # (cases * longest,), in the layout
    taken: torch.Tensor  # which of them are no filling
    buckets: torch.Tensor  # of distances, (longest, longest)
    future: torch.Tensor  # (longest, longest)

    def attention(self, joint: torch.Tensor, distance: torch.Tensor, heads: int) -> torch.Tensor:
        """Contexts of the group's events, case by case, from queries, keys and values of all of the layout's."""
        import torch

        longest = len(self.buckets)
        parts = joint.index_select(0, self.rows).view(-1, longest, 3, heads, joint.shape[1] // (3 * heads))
        query, key, value = parts.permute(2, 0, 3, 1, 4).flatten(1, 2)
        bias = distance[:, self.buckets].masked_fill(self.future, _MASKED).repeat(len(query) // heads, 1, 1)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=query.shape[-1] ** -0.5)
        context = torch.bmm(scores.softmax(dim=-1), value).unflatten(0, (-1, heads)).transpose(1, 2)
        return context.flatten(2).flatten(0, 1).index_select(0, self.taken)


class _Layout(NamedTuple):
    """A batch without filling: all cases' first events, then their second ones, longer cases before shorter ones."""

    rows: np.ndarray  # among all events, (m,)
    case: np.ndarray  # (m,)
    lengths: np.ndarray  # of the cases, none longer than the one before
    taken: np.ndarray  # which events are judged, (m,)

    def sizes(self) -> np.ndarray:
        """How many cases have a first event, a second one, and so on."""
        return (self.lengths > np.arange(self.lengths[0])[:, None]).sum(axis=1)

    def groups(self, device: torch.device) -> tuple[list[_Group], torch.Tensor]:
        """Cases of which none is more than twice as long as another, and the way back from their order."""
        import torch

        by_case = np.argsort(self.case, kind="stable")
        starts = np.cumsum(self.lengths) - self.lengths
        buckets = distance_buckets()
        found, first = [], 0
        while first < len(self.lengths):
            at = np.arange(self.lengths[first])
            group = slice(first, first + int((self.lengths[first:] > len(at) // 2).sum()))
            inside = at < self.lengths[group, None]
            rows = by_case[starts[group, None] + np.where(inside, at, 0)]
            back = at[:, None] - at
            parts = (rows.ravel(), np.flatnonzero(inside), buckets[np.clip(back, 0, len(buckets) - 1)], back < 0)
            found.append(_Group(*(torch.as_tensor(part, device=device) for part in parts)))
            first = group.stop
        return found, torch.as_tensor(np.argsort(by_case), device=device)


def _laid(stretches: np.ndarray) -> _Layout:
    """The layout of stretches (start, length) or windows (start, length, known)."""
    stretches = stretches[np.argsort(-stretches[:, 1], kind="stable")]
    start, length = stretches[:, 0], stretches[:, 1]
    known = stretches[:, 2] if stretches.shape[1] > 2 else np.zeros_like(start)
    at, case = np.nonzero(np.arange(length[0])[:, None] < length)
    return _Layout(start[case] + at, case, length, at >= known[case])


def _cases(X: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Rows in the order of case and position, (n,), and where cases start and how long they are, (cases, 2)."""
    from pandas.api.types import is_numeric_dtype

    if X.index.nlevels != 2:
        raise DataError(f"X has an index of {X.index.nlevels} level, must have a MultiIndex of case and position.")
    case, positions = X.index.get_level_values(0).factorize()[0], X.index.get_level_values(1)
    if not is_numeric_dtype(positions):
        raise DataError(f"X has positions of type {positions.dtype}, must have numbers.")
    place = positions.to_numpy(float)
    if (case < 0).any() or not (place >= 1).all():
        raise DataError("X has an event without case or with a position below 1, must have both, counted from 1.")
    order = np.lexsort((place, case))
    case, place = case[order], place[order]
    new = np.diff(case, prepend=-1) > 0
    twice = ~new & (np.diff(place, prepend=0) == 0)
    if twice.any():
        case_name, position = X.index[order[twice.argmax()]]
        raise DataError(f"Case {case_name!r} has position {position} twice, must have it once.")
    starts = np.flatnonzero(new)
    return order, np.stack([starts, np.diff(starts, append=len(X))], axis=1)


def _stretches(cases: np.ndarray, longest: int) -> np.ndarray:
    """Start and length of what training reads, (m, 2): every event once."""
    lengths = [(at, min(longest, length - at), start) for start, length in cases for at in range(0, length, longest)]
    return np.array([(start + at, length) for at, length, start in lengths], np.int64).reshape(-1, 2)


def _windows(cases: np.ndarray, longest: int) -> np.ndarray:
    """Start, length and how much is known already of what prediction reads, (m, 3).

    Examples:
        >>> _windows(np.array([[100, 3], [200, 9]]), longest=4)
        array([[100,   3,   0],
               [200,   4,   0],
               [202,   4,   2],
               [204,   4,   2],
               [206,   3,   2]])
    """
    half = longest // 2
    found = [
        (start + at, min(longest, length - at), half * (at > 0))
        for start, length in cases
        for at in range(0, max(length - half, 1), longest - half)
    ]
    return np.array(found, np.int64).reshape(-1, 3)


def _parts(windows: np.ndarray) -> Iterator[np.ndarray]:
    """Windows of like length, as many as go through the net together."""
    windows = windows[np.argsort(windows[:, 1], kind="stable")]
    while len(windows):
        filled = windows[:, 1] * np.arange(1, len(windows) + 1)
        many = max(1, int(np.searchsorted(filled, _TOGETHER, side="right")))
        yield windows[:many]
        windows = windows[many:]


def _texts(X: pd.DataFrame, name: str) -> np.ndarray:
    """Categories, a missing one as ""."""
    if name not in X.columns:
        raise missing_column(name, X.columns)
    return X[name].astype(object).where(X[name].notna(), "").map(str).to_numpy(object)


def _floats(X: pd.DataFrame, name: str) -> np.ndarray:
    if name == POSITION:
        return X.index.get_level_values(1).to_numpy(float)
    if name not in X.columns:
        raise missing_column(name, X.columns)
    try:
        return X[name].to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"Column {name!r} must have numbers, as in training: {error}.") from None


def _unit(values: np.ndarray) -> float:
    """What a number is divided by before its logarithm: small where tails are heavy, so that small ones differ."""
    sizes = abs(values[values != 0])
    if not len(sizes):
        return 1.0
    low, middle, high = np.quantile(sizes, [0.1, 0.5, 0.99])
    return float(low if high > HEAVY * middle else high)


def _squashed(values: np.ndarray, unit: float) -> np.ndarray:
    return np.sign(values) * np.log1p(abs(values) / unit)


def _put(net: torch.nn.ModuleDict, weights: list[Any]) -> None:
    import torch

    with torch.no_grad():
        for value, new in zip(net.parameters(), weights, strict=True):
            value.copy_(new)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps are so small that threads would wait for each other; and sums keep their order on any machine."""
    import torch

    filled = torch.utils.deterministic.fill_uninitialized_memory
    try:
        torch.set_num_threads(1)  # `_settings` puts it back
        torch.utils.deterministic.fill_uninitialized_memory = False  # costs a fifth of the time, and nothing reads it
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled
