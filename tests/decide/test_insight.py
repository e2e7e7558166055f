"""The page for a supervisor: what moved is a line with its interval and an owner; what did not is no line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxlab.decide.insight import EVERYBODY, Insights, insights
from cxlab.decide.measures import measures
from cxlab.decide.risk import assess, risk_params
from cxlab.decide.risk_compare import compare_risks
from cxlab.decide.root_causes import root_causes
from cxlab.errors import ParamsError
from cxlab.params.insights import InsightParams, load_insights

DUTIES = {
    "since": "2025-01-01",
    "baseline": "2024-07-01",
    "duties": {"technology": {"owner": "network operations", "action": "Call the carrier."}},
    "others": {"owner": "customer experience", "action": "Ask."},
}


def calls(seed: int, *, broken: float) -> pd.DataFrame:
    """Half a year before and after; from January on a share of carrier gamma's calls sound bad."""
    rng = np.random.default_rng(seed)
    n = 4_000
    at = pd.Timestamp("2024-07-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 365, n), unit="D")
    carrier = rng.choice(["alpha", "beta", "gamma"], n)
    bad = rng.random(n) < 0.03 + broken * ((carrier == "gamma") & (at >= pd.Timestamp("2025-01-01", tz="UTC")))
    return pd.DataFrame(
        {
            "contact_id": [f"k{i}" for i in range(n)],
            "started_at": at,
            "queue_seconds": rng.integers(5, 200, n),
            "handle_seconds": rng.integers(60, 900, n),
            "mos": np.where(bad, 3.0, 4.2),
            "carrier": carrier,
            "site": rng.choice(["hill", "home"], n),
            "agent": [f"a{i}" for i in rng.integers(0, 80, n)],
        }
    )


def page(seed: int, *, broken: float, tree: dict[str, object] | None = None) -> Insights:
    params = InsightParams.model_validate(DUTIES | (tree or {}))
    found = assess(calls(seed, broken=broken), risk_params())
    return insights(params, risks=compare_risks(found, by="time", at=params.since), causes=root_causes(found))


def test_what_was_planted_is_the_line_with_its_group_its_reason_and_its_owner() -> None:
    (line,) = page(1, broken=0.3).lines
    assert (line.verdict, line.owner, line.action) == ("worse", "network operations", "Call the carrier.")
    assert line.low <= 10 <= line.high  # 30 % of a third
    assert line.for_whom.startswith("carrier=gamma")
    assert "MOS" in line.why
    assert "rose from" in line.what and f"{line.low:+.2g}" in line.what


def test_where_nothing_moved_there_is_nothing_to_do(tmp_path: Path) -> None:
    """In 20 of 20 worlds, as the comparison's rate of 5 % allows one."""
    found = [page(seed, broken=0.0) for seed in range(20)]
    assert sum(bool(each.lines) for each in found) <= 1
    quiet = next(each for each in found if not each.lines)
    assert quiet.frame().empty and quiet.untold == 2
    assert "nothing to do today" in quiet.html()
    assert quiet.plot() is not None


def test_a_measure_that_moved_is_a_line_of_its_own() -> None:
    rng = np.random.default_rng(0)
    n = 3_000
    at = pd.Timestamp("2024-07-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 365, n), unit="D")
    satisfied = rng.random(n) < np.where(at >= pd.Timestamp("2025-01-01", tz="UTC"), 0.5, 0.8)
    who = [f"c{i}" for i in range(n)]
    contacts = pd.DataFrame(
        {"contact_id": range(n), "customer_id": who, "at": at, "channel": rng.choice(["a", "b"], n)}
    )
    surveys = contacts[["contact_id", "customer_id"]].assign(
        sent_at=at, answered_at=at + pd.Timedelta(hours=1), csat=np.where(satisfied, 5.0, 2.0)
    )
    params = InsightParams.model_validate(DUTIES)
    found = measures(
        {"contacts": contacts, "surveys": surveys},
        by=["channel"],
        baseline=(params.baseline, params.since),
        period=(params.since, "2025-07-01"),
    )
    lines = {line.figure: line for line in insights(params, measures=found).lines}
    line = lines["Satisfied (CSAT)"]
    assert (line.verdict, line.owner) == ("worse", "customer experience")
    assert line.low <= -30 <= line.high
    assert line.for_whom == EVERYBODY or line.for_whom.startswith("channel ")


def test_the_page_is_one_screen_and_whole_or_not_there(tmp_path: Path) -> None:
    found = page(1, broken=0.3)
    path = found.write(tmp_path / "insights.html")
    html = path.read_text(encoding="utf-8")
    assert html.count("<tr>") <= 1 + found.params.most
    assert "network operations" in html and not re.search(r"(src|href)=.https?:", html)
    assert [item.name for item in tmp_path.iterdir()] == ["insights.html"]


def test_the_most_lines_are_the_surest() -> None:
    found = page(1, broken=0.3, tree={"most": 1})
    assert len(found.lines) == 1
    assert found.left_out == len(page(1, broken=0.3).lines) - 1


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"others": {"action": "Ask."}}, "owner"),
        ({"since": "2024-01-01"}, "baseline == '2024-07-01' before since == '2024-01-01'"),
        ({"dutis": {}}, "Did you mean 'duties'?"),
    ],
)
def test_params_that_do_not_fit(tree: dict[str, object], says: str, tmp_path: Path) -> None:
    import yaml

    (tmp_path / "p.yaml").write_text(yaml.safe_dump(DUTIES | tree), encoding="utf-8")
    with pytest.raises(ParamsError, match=says.replace("?", r"\?")):
        load_insights(tmp_path / "p.yaml")


def test_our_own_file_is_good() -> None:
    load_insights(Path(__file__).parents[2] / "params" / "insights.yaml")
