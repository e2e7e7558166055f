from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.errors import DataError, ParamsError
from cxlab.metrics.classification import log_loss
from cxlab.models import training as path
from cxlab.models.splits import compare_splits
from cxlab.models.training import BLEND, Training, train
from cxlab.params import load_params


@pytest.fixture
def trained(params_file: Path) -> Callable[..., Training]:
    def run(*overrides: str, storage: Path | None = None) -> Training:
        params = load_params(params_file, overrides)
        return train(read_table(params.data), params, storage=storage)

    return run


def test_with_trials_set_a_run_repeats_to_the_last_digit(trained: Callable[..., Training]) -> None:
    one, two = trained("search.trials=5"), trained("search.trials=5")
    assert one.selected == two.selected
    for name, scores in one.scores.items():
        assert np.array_equal(scores, two.scores[name])
    pd.testing.assert_frame_equal(one.frame(), two.frame())


def test_a_budgeted_run_is_replayed_by_its_count(trained: Callable[..., Training]) -> None:
    budgeted = trained("search.trials=null", "search.budget_s=1.5")
    replayed = trained(f"search.trials={budgeted.trials}")
    for name, scores in budgeted.scores.items():
        assert np.array_equal(scores, replayed.scores[name])


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    trained: Callable[..., Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, original = 0, path._fit_predict

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 17:
            raise KeyboardInterrupt
        return original(*args)

    with monkeypatch.context() as stop:
        stop.setattr(path, "_fit_predict", interrupted)
        stop.setattr(path, "_parallel", lambda items: [function(*args) for function, *args in items])
        with pytest.raises(KeyboardInterrupt):
            trained("search.trials=5", storage=tmp_path / "s.db")
    resumed, straight = trained("search.trials=5", storage=tmp_path / "s.db"), trained("search.trials=5")
    pd.testing.assert_frame_equal(resumed.frame(), straight.frame())


def test_the_test_part_decides_nothing(
    trained: Callable[..., Training], params_file: Path, customers: Callable[..., pd.DataFrame]
) -> None:
    """Other outcomes and other features in the test rows change no model and no choice."""
    before = trained("search.trials=4")
    frame = customers()
    rows = before.split.test
    frame.loc[rows, "churn"] = frame.loc[rows, "churn"].to_numpy()[::-1]
    frame.loc[rows, ["calls", "noise"]] = 0.0
    published = params_file.parent / "test.csv"
    frame.iloc[rows].to_csv(published, index=False)
    frame.drop(index=rows).to_csv(params_file.parent / "train.csv", index=False)
    train_path, test_path = params_file.parent / "train.csv", published
    after = trained("search.trials=4", f"data.path={train_path}", f"data.test_path={test_path}")
    again = trained("search.trials=4", f"data.path={train_path}", f"data.test_path={train_path}")
    assert after.selected == again.selected
    for one, two in zip(after.candidates, again.candidates, strict=True):
        assert one.settings == two.settings
        assert np.array_equal(one.validation, two.validation)


def test_what_is_kept_is_what_was_evaluated(trained: Callable[..., Training]) -> None:
    training = trained()
    rows = training.table.frame.iloc[training.split.test]
    for candidate in training.candidates:
        assert np.array_equal(candidate.model.predict_proba(rows)[:, 1], training.scores[candidate.name])


def test_the_selected_one_is_best_on_validation(trained: Callable[..., Training]) -> None:
    training = trained()
    values = {c.name: training.validation.values(c.name)["log_loss"].value for c in training.candidates}
    assert training.selected == min(values, key=lambda name: values[name])
    assert values[training.selected] < values["prior"]


def test_the_plainest_within_noise_is_no_more_complex_than_the_best(trained: Callable[..., Training]) -> None:
    best, plain = trained(), trained("search.select=simplest_within_noise")
    order = [candidate.name for candidate in best.candidates]
    assert order.index(plain.selected) <= order.index(best.selected)
    verdicts = plain.validation.compare(best.selected).frame().query("metric == 'log_loss'").set_index("candidate")
    for name in order[: order.index(plain.selected)]:
        assert verdicts.loc[name, "verdict"] == "worse"


def test_a_blend_is_there_only_where_validation_says_it_helps(trained: Callable[..., Training]) -> None:
    for seed in range(4):
        training = trained(f"split.seed={seed}")
        names = [candidate.name for candidate in training.candidates]
        if BLEND in names:
            losses = {name: training.validation.values(name)["log_loss"].value for name in names}
            assert losses[BLEND] == min(losses.values())
            assert sum(training[BLEND].model.weights) == pytest.approx(1)


def test_noise_is_not_learnt(trained: Callable[..., Training], params_file: Path) -> None:
    """Where nothing decides, no candidate is called better than the share of churners."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"a": rng.normal(size=600), "b": rng.choice(["x", "y"], 600), "churn": rng.random(600) < 0.3})
    frame.to_csv(params_file.parent / "noise.csv", index=False)
    training = trained(
        f"data.path={params_file.parent / 'noise.csv'}", "data.id=null", "data.segments=[]", "data.positive=true"
    )
    rows = training.evaluation.compare("prior").frame().query("metric == 'log_loss'")
    assert "better" not in set(rows["verdict"])


def test_planted_churn_is_found(trained: Callable[..., Training]) -> None:
    training = trained()
    interval = training.evaluation.values(training.selected)["roc_auc"]
    assert interval.low > 0.6
    prior = training.comparison.frame().query("metric == 'log_loss' and candidate == 'prior'")
    assert prior["verdict"].item() == "worse"


@pytest.mark.parametrize("metric", ["roc_auc", "brier"])
def test_another_metric_can_choose(trained: Callable[..., Training], metric: str) -> None:
    training = trained(f"search.metric={metric}")
    sign = -1 if metric == "roc_auc" else 1
    values = {c.name: sign * training.validation.values(c.name)[metric].value for c in training.candidates}
    assert values[training.selected] == min(values.values())


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        (["search.candidates=[logstic]"], ParamsError, "Candidate 'logstic' is not known. Did you mean 'logistic'?"),
        (["search.candidates=[]"], ParamsError, "search.candidates is empty"),
        (["search.metric=auc"], ParamsError, "search.metric: Metric 'auc' is not known. Did you mean 'pr_auc'?"),
        (
            ["data.id=null"],
            DataError,
            "An identifier is no feature: name it as data.id, or write data.drop: .customer_id",
        ),
        (["data.known_after=[calls]"], DataError, "refused as features: 'calls' .says the params."),
        (["data.features=[calls, churn]"], DataError, "'churn' is the target"),
        (["data.drop=[call]"], DataError, "Column 'call' is not in the data. Did you mean 'calls'?"),
        (["data.target=plan"], DataError, "Target 'plan' has 3 values .basic, plus, pro., must have 2"),
        (["data.positive=maybe"], DataError, "data.positive == 'maybe', must be one of"),
        (["data.target=null"], ParamsError, "data.target is missing"),
        (["data.features=[]"], DataError, "No column is left to learn from"),
    ],
)
def test_what_cannot_be_trained_says_why(
    trained: Callable[..., Training], overrides: list[str], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        trained(*overrides)


def test_a_moving_world_shows_between_the_splits(trained: Callable[..., Training], params_file: Path) -> None:
    rng = np.random.default_rng(0)
    n = 3000
    x = rng.normal(size=n)
    sign = np.where(np.arange(n) < 0.7 * n, 1, -1)  # what once meant churn means staying in the end
    frame = pd.DataFrame({"x": x, "churn": rng.random(n) < 1 / (1 + np.exp(-2 * sign * x))})
    frame.to_csv(params_file.parent / "moved.csv", index=False)
    overrides = [f"data.path={params_file.parent / 'moved.csv'}", "data.id=null", "data.segments=[]"]
    gap = compare_splits(trained(*overrides, "data.time=(row)", "search.candidates=[logistic]"))
    random, temporal = gap.frame()["value"]
    assert random > 0.6
    assert temporal < 0.4
    assert "the world moved" in gap.note
    assert not compare_splits(trained(*overrides, "search.candidates=[prior]")).applies


def test_out_of_fold_loss_is_what_the_leaderboard_says(trained: Callable[..., Training]) -> None:
    training = trained()
    validated = np.concatenate([valid for _, valid in training.split.folds])
    y = training.table.outcome()[training.split.train][validated]
    for candidate in training.candidates:
        said = training.validation.values(candidate.name)["log_loss"].value
        assert said == pytest.approx(log_loss(y, candidate.validation))
