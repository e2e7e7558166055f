"""A bundle scores as the lab does, from its folder alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxlab.errors import BundleError, DataError
from cxlab.evidence.report import Report
from cxlab.release.folder import FEW
from cxlab.release.golden import golden_rows
from cxlab.release.scorer import CONTACT, LEAVE, REVIEW, Bundle, load_bundle


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Bundle:
    return load_bundle(exported)


VALUES = st.one_of(
    st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=8), st.sampled_from(["basic", "7", " 2.5 "])
)
ROWS = st.lists(
    st.fixed_dictionaries({"calls": VALUES, "noise": VALUES, "plan": VALUES, "region": VALUES}), min_size=1, max_size=4
)


@given(rows=ROWS)
def test_few_rows_and_many_are_read_alike(bundle: Bundle, rows: list[dict]) -> None:
    few = bundle.score(rows, reasons=2)
    many = bundle.score(pd.DataFrame(rows * (FEW + 1), dtype=object), reasons=2)
    n = len(rows)
    np.testing.assert_array_equal(many.score[:n], few.score)
    assert many.reasons[:n] == few.reasons
    assert {row: why for row, why in many.problems.items() if row < n} == few.problems


@given(rows=ROWS)
def test_scores_are_the_lab_s_or_none(bundle: Bundle, reviewed: Report, rows: list[dict]) -> None:
    frame = pd.DataFrame(rows, dtype=object)
    found = bundle.score(frame)
    told = np.array([row not in found.problems for row in range(len(rows))])
    assert (np.isnan(found.score) == ~told).all()
    expected = reviewed.subject.model.predict_proba(frame)[:, 1]
    np.testing.assert_allclose(found.score[told], expected[told], atol=1e-7)


def test_the_lab_s_test_rows_score_alike(bundle: Bundle, reviewed: Report) -> None:
    subject = reviewed.subject
    np.testing.assert_allclose(bundle.score(subject.test).score, subject.score_test, atol=1e-7)


def test_shuffled_rows_give_shuffled_answers(bundle: Bundle, reviewed: Report) -> None:
    rows = reviewed.subject.test.head(40)
    order = np.random.default_rng(0).permutation(len(rows))
    plain, shuffled = bundle.score(rows, reasons=3).frame(), bundle.score(rows.iloc[order], reasons=3).frame()
    pd.testing.assert_frame_equal(plain.iloc[order].reset_index(drop=True), shuffled)


def test_decisions_follow_the_threshold_and_its_band(bundle: Bundle) -> None:
    low, value, high = (bundle.threshold[key] for key in ("low", "value", "high"))
    assert low < value < high
    scores = np.array([low - 1e-6, low, value, high, high + 1e-6])
    assert bundle.decide(scores).tolist() == [LEAVE, REVIEW, REVIEW, REVIEW, CONTACT]


def test_reasons_are_words_about_what_raises_the_risk(bundle: Bundle) -> None:
    row = {"calls": 9, "noise": 0.0, "plan": "basic", "region": "north"}
    (told,) = bundle.score([row], reasons=3).reasons
    assert told[0].startswith("9 calls, more than 9")
    assert told[1].startswith("the basic plan, like 3")
    assert not any("north" in reason or "region" in reason for reason in told)  # a segment is never named


def test_an_effect_is_the_score_less_the_score_with_the_reference(bundle: Bundle) -> None:
    rows = [{"calls": 9, "noise": 1.0, "plan": "pro", "region": "south"}]
    cast = bundle.schema.cast(pd.DataFrame(rows))
    score = bundle.probability(cast)
    effects = dict(zip(map(tuple, bundle.groups), bundle.effects(cast, score)[0], strict=True))
    without = bundle.score([rows[0] | {"calls": 2}]).score  # the training median
    expected = np.log(score / (1 - score)) - np.log(without / (1 - without))
    assert effects["calls",] == pytest.approx(expected[0], abs=1e-9)
    assert ("region",) not in effects


def test_what_cannot_be_read_is_said_and_has_no_score(bundle: Bundle) -> None:
    good = {"calls": 1, "noise": 0.1, "plan": "pro", "region": "south"}
    found = bundle.score([good | {"calls": "many"}, good, good | {"noise": 1e300}, good | {"calls": None}], reasons=1)
    assert found.problems == {
        0: "calls == 'many', must be a number.",
        2: "noise == 1e+300, must be between -3.4e+38 and 3.4e+38.",
    }
    assert np.isnan(found.score).tolist() == [True, False, True, False]
    assert found.decision[0] == "" and found.reasons[0] == ()


def test_ids_come_along_and_rows_are_counted_without(bundle: Bundle) -> None:
    row = {"calls": 1, "noise": 0.1, "plan": "pro", "region": "south"}
    assert bundle.score([row | {"customer_id": "c7"}]).frame()["id"].tolist() == ["c7"]
    assert bundle.score([row, row]).frame()["id"].tolist() == [1, 2]
    assert bundle.score(pd.DataFrame([row]).head(0)).frame().empty


def test_a_missing_column_is_named(bundle: Bundle) -> None:
    row = {"cals": 1, "noise": 0.1, "plan": "pro", "region": "south"}
    for rows in ([row], pd.DataFrame([row]), pd.DataFrame([row] * (FEW + 1))):
        with pytest.raises(DataError, match=r"Did you mean .cals."):
            bundle.score(rows)


def test_golden_rows_hold_every_category_and_every_gap(bundle: Bundle) -> None:
    rows = golden_rows(bundle.schema)
    assert set(bundle.schema.columns[2].categories) <= set(rows["plan"])
    assert rows.isna().any().all()
    assert rows.isna().all(axis=1).any()


def test_it_needs_onnxruntime_numpy_and_pandas_alone(exported: Path) -> None:
    code = f"""
import sys
class Door:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"sklearn", "lightgbm", "mlflow", "scipy", "skops", "yaml", "pydantic", "shap",
                                  "onnx", "pyarrow", "matplotlib", "jinja2", "typer", "rich"}}:
            raise ImportError(name)
sys.meta_path.insert(0, Door())
import cxlab
row = dict(calls=9, noise=0.0, plan="basic", region="north")
print(cxlab.load_bundle({str(exported)!r}).score([row], reasons=2).frame().to_csv(index=False))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True)
    assert "9 calls" in done.stdout


@pytest.mark.parametrize("name", ["model.onnx", "schema.json", "evidence/card.md", "lib/errors.py", "__pycache__"])
def test_a_changed_file_is_not_loaded(bundle_folder: Path, name: str) -> None:
    path = bundle_folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{name} differs"):
        load_bundle(bundle_folder)


def test_missing_added_and_linked_files_are_named(bundle_folder: Path) -> None:
    (bundle_folder / "golden.parquet").unlink()
    (bundle_folder / "extra.txt").write_text("x")
    (bundle_folder / "evidence" / "link").symlink_to("card.md")
    with pytest.raises(BundleError, match=r"link is a link, extra.txt is not listed, golden"):
        load_bundle(bundle_folder)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is no bundle: it has no manifest.json"),
        ("{", "manifest.json cannot be read"),
        ("[]", "is damaged: it lists no files"),
        ('{"files": {}, "format": 99}', "format == 99, must be 1"),
        ('{"files": {}, "format": 1}', "is not listed"),
    ],
)
def test_a_folder_that_is_no_bundle_is_refused(bundle_folder: Path, content: str | None, says: str) -> None:
    manifest = bundle_folder / "manifest.json"
    manifest.unlink()
    if content is not None:
        manifest.write_text(content)
    with pytest.raises(BundleError, match=says):
        load_bundle(bundle_folder)
