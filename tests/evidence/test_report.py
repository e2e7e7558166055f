"""The one report: what it says is what was found, on a page that stands alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxlab.data.table import read_table
from cxlab.evidence.report import Report, review
from cxlab.models.training import train
from cxlab.params import load_params

Reviewed = Callable[..., Report]


@pytest.fixture
def reviewed(params_file: Path) -> Reviewed:
    def make(frame: pd.DataFrame | None = None, *overrides: str) -> Report:
        if frame is not None:
            frame.to_csv(params_file.parent / "customers.csv", index=False)
        params = load_params(params_file, ["search.candidates=[prior, logistic]", *overrides])
        return review(train(read_table(params.data), params, storage=None))

    return make


class Page(HTMLParser):
    """What a browser would fetch, and what a screen reader would miss."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tables = self.captions = self.pictures = self.described = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            value = given.get(name) or ""
            if value and not value.startswith(("#", "data:")):
                self.fetched.append(value)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.pictures += tag == "svg"
        self.described += tag == "svg" and bool(given.get("aria-label"))


def test_the_page_stands_alone_is_small_and_can_be_heard(reviewed: Reviewed) -> None:
    html = reviewed().html()
    page = Page(html)
    assert page.fetched == []
    assert not re.search(r"@import|url\((?!#)", html)
    assert "<script" not in html
    assert len(html.encode()) < 2_000_000
    assert page.tables == page.captions > 5
    assert page.pictures == page.described > 5
    assert '<html lang="en">' in html
    assert 'name="viewport"' in html


def test_page_frames_and_facts_say_the_same(reviewed: Reviewed) -> None:
    report = reviewed()
    facts = json.loads(json.dumps(report.facts(), allow_nan=False))
    assert len(facts["summary"]) == len(report.summary) == 5
    html = report.html()
    for line in report.summary:
        assert line["question"] in html
    assert len(facts["fairness"]) == len(report.audit.frame())
    assert [row["feature"] for row in facts["importance"]] == report.importance.frame()["feature"].tolist()
    assert facts["threshold"]["value"] == report.threshold.value
    assert facts["drift"][0].keys() >= {
        *("column", "test", "statistic", "p_adjusted", "missing_reference", "missing_current", "verdict")
    }
    assert facts["fairness"][0].keys() >= {
        *("segment", "group", "metric", "n", "positives", "value", "low", "high", "difference", "verdict")
    }


def test_every_figure_for_mlflow_is_one_of_the_page(reviewed: Reviewed) -> None:
    figures = reviewed().key_figures()
    assert set(figures) == {
        *("worst_group_gap", "fairness_failed", "drifted_share", "profit_per_customer", "threshold", "seconds_report")
    }
    assert np.isfinite(figures["threshold"])


def test_the_same_seed_gives_the_same_facts(reviewed: Reviewed) -> None:
    one, two = reviewed().facts(), reviewed().facts()
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_a_planted_gap_is_named_in_the_five_lines(reviewed: Reviewed) -> None:
    """Northern churners all call; southern ones never do, so the model cannot see them."""
    rng = np.random.default_rng(0)
    n = 4000
    north = rng.random(n) < 0.5
    churned = rng.random(n) < 0.3
    calls = np.where(churned & north, 9, rng.integers(0, 4, n))
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "calls": calls,
            "noise": rng.normal(size=n),
            "region": np.where(north, "north", "south"),
            "churn": np.where(churned, "yes", "no"),
        }
    )
    report = reviewed(frame, "value.capacity=0.3", "data.features=[calls, noise]")
    line = report.summary[2]["answer"]
    assert re.search(r"[1-9]\d* fail", line)
    assert "region south (tpr)" in line


def test_a_moving_world_is_said_loudly(reviewed: Reviewed) -> None:
    rng = np.random.default_rng(0)
    n = 3000
    rate = np.where(np.arange(n) < n * 0.6, 0.1, 0.5)
    frame = pd.DataFrame(
        {
            "customer_id": [f"c{i}" for i in range(n)],
            "calls": rng.poisson(2, n) + (np.arange(n) > n * 0.7) * 5,
            "region": rng.choice(["north", "south"], n),
            "churn": np.where(rng.random(n) < rate, "yes", "no"),
        }
    )
    report = reviewed(frame, "data.time=(row)", "split.method=time")
    assert "The world moved" in report.summary[3]["answer"]
    assert "On the test part the threshold contacts" in report.summary[1]["answer"]
    assert 'class="loud">The world moved' in report.html()


def test_without_segments_nothing_is_judged_and_nothing_passes(reviewed: Reviewed) -> None:
    report = reviewed(None, "data.segments=[]")
    assert report.summary[2]["answer"] == "Not asked: data.segments names no column."
    assert "pass" not in report.audit.frame()["verdict"].tolist()
    report.html()


def test_names_from_the_data_cannot_write_on_the_page(
    reviewed: Reviewed, customers: Callable[..., pd.DataFrame]
) -> None:
    frame = customers()
    frame["region"] = np.where(frame["region"] == "north", "<script>alert(1)</script>", "south & east")
    html = reviewed(frame).html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
