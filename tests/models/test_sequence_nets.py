"""Nets on cases: what torch learns is what onnxruntime says, the future is not seen, and planted causes are found."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax
from sklearn.base import clone

from cxlab.errors import DataError, ParamsError
from cxlab.models import sequence_nets
from cxlab.models.sequence_graph import SequenceGraph, graph_bytes, sequence_graph
from cxlab.models.sequence_nets import KINDS, SequenceNet

OURS = ["cxlab.models.sequence_nets.SequenceNet"]
COLUMNS = ["channel", "gap"]
lengths_of_cases = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def cases(events: list[Any], **columns: np.ndarray) -> pd.DataFrame:
    """One row an event, from one sequence a case."""
    index = [(f"c{case}", place) for case, those in enumerate(events) for place in range(1, len(those) + 1)]
    return pd.DataFrame(
        {"event": np.concatenate(events).astype(str).astype(object), **columns},
        index=pd.MultiIndex.from_tuples(index, names=["case", "position"]),
    )


def drawn(lengths: list[int], seed: int = 0) -> pd.DataFrame:
    """Cases of such lengths without any rule."""
    rng, n = np.random.default_rng(seed), sum(lengths)
    gap = np.where(rng.random(n) < 0.2, np.nan, rng.lognormal(8, 3, n)).astype(np.float32)
    return cases(
        [rng.choice(list("abc"), length) for length in lengths],
        channel=rng.choice(np.array(["web", "shop", None], object), n),
        gap=gap,
    )


def caused(n: int, back: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Cases whose last event is X or Y, told by an event so far back, A or B; all others are noise."""
    rng, events = np.random.default_rng(seed), []
    for _ in range(n):
        first, noise = rng.integers(2), rng.choice(list("1234"), rng.integers(5) + back - 1)
        events.append([*noise[back - 1 :], "AB"[first], *noise[: back - 1], "XY"[first ^ (rng.random() < 0.05)]])
    told = np.concatenate([[*those[1:], "end"] for those in events])
    return cases(events), told, np.isin(told, ["X", "Y"])


def unfitted(kind: str, X: pd.DataFrame, **settings: Any) -> SequenceNet:
    """A net that nobody trained, but made as if it were."""
    torch = pytest.importorskip("torch")
    net = SequenceNet(kind, columns=COLUMNS, width=16, **settings)
    net.classes_ = np.arange(4)
    net._plain = net._learned(X)
    torch.manual_seed(0)
    sizes = [len(item["levels"]) + 1 for item in net._plain["categories"]]
    module = net._start(sizes, net.inputs(X)[1].shape[1]).eval()
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    net.graph_ = np.frombuffer(sequence_graph(weights, kind, net._layers(), net.heads), np.uint8)
    net.module = module
    return net


@given(lengths_of_cases, st.integers(2, 9))
def test_every_event_is_read_once_with_its_history(lengths: list[int], longest: int) -> None:
    bounds = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    trained = [np.arange(start, start + length) for start, length in sequence_nets._stretches(bounds, longest)]
    assert sorted(np.concatenate(trained)) == list(range(sum(lengths)))
    seen = []
    for start, length, known in sequence_nets._windows(bounds, longest):
        assert length <= longest
        case = bounds[np.searchsorted(bounds[:, 0], start, side="right") - 1]
        for place in range(start + known, start + length):
            seen.append(place)
            assert place - start >= min(place - case[0], longest // 2)
    assert sorted(seen) == list(range(sum(lengths)))


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=lengths_of_cases, seed=st.integers(0, 99))
@settings(max_examples=15)
def test_the_graph_says_what_torch_says(kind: str, lengths: list[int], seed: int) -> None:
    torch = pytest.importorskip("torch")
    X = drawn(lengths, seed)
    net = unfitted(kind, X, layers=2)
    levels, numbers = net.inputs(X)
    bounds = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
    layout = sequence_nets._laid(bounds)
    expected = np.empty((len(X), 4))
    with torch.no_grad():
        rows = layout.rows
        told = net._forward(net.module, torch.tensor(levels[rows]), torch.tensor(numbers[rows]), layout)
        expected[rows] = told.numpy()
    np.testing.assert_allclose(net.predict_proba(X), softmax(expected, axis=1), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=lengths_of_cases, seed=st.integers(0, 99))
@settings(max_examples=15)
def test_neither_the_future_nor_other_cases_nor_the_order_of_rows_count(
    kind: str, lengths: list[int], seed: int
) -> None:
    rng, X = np.random.default_rng(seed), drawn(lengths, seed)
    net = unfitted(kind, X, longest=8)
    found = pd.DataFrame(net.decision_function(X), X.index)
    case, position = (X.index.get_level_values(level) for level in (0, 1))
    past = X[(position <= rng.integers(1, max(lengths) + 1)) & np.isin(case, rng.choice(case.unique(), 3))]
    past = past.iloc[rng.permutation(len(past))]
    again = pd.DataFrame(net.decision_function(past), past.index)
    pd.testing.assert_frame_equal(again, found.loc[past.index], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_without_numbers(kind: str) -> None:
    torch = pytest.importorskip("torch")
    net = SequenceNet(kind, width=8)
    net.classes_ = np.arange(3)
    torch.manual_seed(0)
    weights = {name: value.numpy() for name, value in net._start([5, 2], 0).state_dict().items()}
    graph = SequenceGraph(sequence_graph(weights, kind, net._layers(), net.heads))
    levels = np.random.default_rng(0).integers(0, 2, (3, 7, 2))
    assert graph.logits(levels, np.empty((3, 7, 0), np.float32)).shape == (3, 7, 3)
    with pytest.raises(DataError, match="does not take"):
        graph.logits(levels + 9, np.empty((3, 7, 0), np.float32))
    with pytest.raises(DataError, match="cannot be read"):
        SequenceGraph(b"nothing")


def test_plain_values_make_the_inputs() -> None:
    X = drawn([20] * 20)
    X.loc[X.index[:3], "channel"] = "fax"  # too rare to be a level
    net = unfitted("gru", X)
    plain = json.loads(json.dumps(net.plain()))
    assert [item["levels"] for item in plain["categories"]] == [["a", "b", "c"], ["", "shop", "web"]]
    assert [(item["column"], item["missing"]) for item in plain["numbers"]] == [("gap", True), ("position", False)]
    levels, numbers = net.inputs(X)
    for row in range(len(X)):
        for at, item in enumerate(plain["categories"]):
            text = X[item["column"]].iloc[row] or ""
            assert levels[row, at] == (item["levels"].index(text) + 1 if text in item["levels"] else 0)
        expected = []
        for item in plain["numbers"]:
            x = float(X["gap"].iloc[row]) if item["column"] == "gap" else X.index[row][1]
            value = (np.sign(x) * np.log(1 + abs(x) / item["unit"]) - item["mean"]) / item["deviation"]
            expected.append(0.0 if np.isnan(x) else max(-plain["farthest"], min(value, plain["farthest"])))
            expected += [float(np.isnan(x))] * item["missing"]
        np.testing.assert_allclose(numbers[row], expected, rtol=1e-5, atol=1e-6)


def test_strange_values_leave_an_answer() -> None:
    X = drawn([5] * 20)
    net = unfitted("transformer", X)
    odd = X.assign(event="never", channel=np.nan, gap=np.resize([np.inf, -np.inf, 1e30, -1e30, np.nan], len(X)))
    assert np.isfinite(net.decision_function(odd)).all()
    assert net.decision_function(X.iloc[:0]).shape == (0, 4)
    long = drawn([3000])
    assert np.isfinite(net.decision_function(long)).all()


@pytest.mark.parametrize(
    ("kind", "worst"), [("gru", 0.35), ("transformer", 0.26)]
)  # the truth is 0.199; who sees 5 events back has 0.693
def test_a_cause_ten_events_back_is_found(kind: str, worst: float) -> None:
    pytest.importorskip("torch")
    X, y, told = caused(1500, 10, seed=1)
    net = SequenceNet(kind, epochs=15).fit(X, y)
    X, y, told = caused(500, 10, seed=2)
    p = net.predict_proba(X)[told]
    assert -np.log(p[np.arange(len(p)), np.searchsorted(net.classes_, y[told])]).mean() < worst
    assert (net.predict(X)[told] == y[told]).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_is_the_same_again_and_answers_without_torch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    X, y, _ = caused(150, 3, seed=0)
    net = SequenceNet(kind, epochs=3).fit(X, y)
    again = clone(net).fit(X, y)
    assert graph_bytes(net) == graph_bytes(again)
    assert graph_bytes(net) != graph_bytes(SequenceNet(kind, epochs=3, seed=1).fit(X, y))
    # what it was told of the cases held out, by torch, is what onnxruntime says of them
    names = X.index.get_level_values(0)
    held = names.unique()[np.random.default_rng(0).permutation(150)[:20]]
    rows, codes = names.isin(held), np.searchsorted(net.classes_, y)
    losses = -log_softmax(net.decision_function(X[rows]), axis=1)[np.arange(rows.sum()), codes[rows]]
    assert losses.mean() == pytest.approx(min(net.losses_), abs=1e-5)
    content = skops.io.dumps(net)  # after it answered: what runs is not saved
    assert skops.io.get_untrusted_types(data=content) == OURS
    monkeypatch.setitem(sys.modules, "torch", None)
    loaded = skops.io.loads(content, trusted=OURS)
    np.testing.assert_array_equal(loaded.predict_proba(X), net.predict_proba(X))
    with pytest.raises(ParamsError, match="torch"):
        monkeypatch.setattr(sequence_nets, "find_spec", lambda name: None)
        clone(net).fit(X, y)


def test_few_cases_train_all_epochs() -> None:
    pytest.importorskip("torch")
    X, y, told = caused(59, 2, seed=0)
    net = SequenceNet("gru", epochs=30).fit(X, y)
    assert net.losses_ == []
    X, y, told = caused(200, 2, seed=1)
    assert (net.predict(X)[told] == y[told]).mean() > 0.85


def test_the_share_of_ends_is_that_of_the_log() -> None:
    """Cases end at random: were they batched by length, batches would end all at once."""
    pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    lengths = rng.geometric(0.2, 1000)
    X = cases([np.full(length, "a") for length in lengths])
    y = np.concatenate([[*["a"] * (length - 1), "end"] for length in lengths])
    ends = SequenceNet("gru", width=16, epochs=10).fit(X, y).predict_proba(X)[:, 1]
    early = X.index.get_level_values(1) <= 10
    assert ends[early].mean() == pytest.approx(0.2, abs=0.03)
    assert ends[early].std() < 0.03


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "lstm"}, "kind == 'lstm'"),
        ({"width": 0}, "width == 0"),
        ({"layers": 0}, "layers == 0"),
        ({"longest": 1}, "longest == 1"),
        ({"held_out": 0.0}, "held_out == 0.0"),
        ({"dropout": 1.0}, "dropout == 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate == nan"),
        ({"kind": "transformer", "width": 30}, "multiple of heads == 4"),
    ],
)
def test_a_setting_out_of_range(settings: dict[str, Any], said: str) -> None:
    X = drawn([3, 3])
    with pytest.raises(ParamsError, match=said):
        SequenceNet(**settings).fit(X, np.arange(6) % 2)


def test_data_that_is_no_log_of_cases() -> None:
    pytest.importorskip("torch")
    X, y = drawn([3, 3]), np.arange(6) % 2
    with pytest.raises(DataError, match="MultiIndex of case and position"):
        SequenceNet().fit(X.reset_index(drop=True), y)
    with pytest.raises(DataError, match="'c0' has position 1 twice"):
        SequenceNet().fit(pd.concat([X, X.iloc[:1]]), np.arange(7) % 2)
    with pytest.raises(DataError, match="position below 1"):
        SequenceNet().fit(X.set_axis(pd.MultiIndex.from_product([["a", "b"], range(3)])), y)
    with pytest.raises(DataError, match="positions of type object"):
        SequenceNet().fit(X.set_axis(pd.MultiIndex.from_product([["a", "b"], list("xyz")])), y)
    with pytest.raises(DataError, match="Did you mean 'channel'"):
        SequenceNet(columns=["chanel"]).fit(X, y)
    with pytest.raises(DataError, match="one class code for each of the 6"):
        SequenceNet().fit(X, y[:5])
    with pytest.raises(DataError, match="2 or more"):
        SequenceNet().fit(X, np.zeros(6))
    net = unfitted("gru", X)
    with pytest.raises(DataError, match="'gap' must have numbers"):
        net.inputs(X.assign(gap="many"))


def test_a_training_that_diverges_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    forward = SequenceNet._forward
    monkeypatch.setattr(SequenceNet, "_forward", lambda *args: forward(*args) * float("nan"))
    with pytest.raises(DataError, match=r"diverged at step 1 of .* Lower learning_rate"):
        SequenceNet().fit(drawn([3, 3, 4]), np.arange(10) % 2)
