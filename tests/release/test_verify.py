"""Every change of a bundle is found: any byte of any file, files added and taken away, pickles, rewritten hashes."""

from __future__ import annotations

import asyncio
import io
import json
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cxlab.digest import canonical, sha256_of
from cxlab.errors import BundleError, ParamsError
from cxlab.evidence.report import Report
from cxlab.release.bundle import Prepared, write_bundle
from cxlab.release.scorer import load_bundle
from cxlab.release.verify import holds_pickle, verify

UNLISTED = ("manifest.json", "model.sig")


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rehash(folder: Path) -> None:
    """What somebody does who knows how bundles are made: every hash is rewritten."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["files"] = {name: sha256_of(folder / name) for name in files_of(folder) if name not in UNLISTED}
    path.write_bytes(canonical(manifest))


def test_an_export_is_whole_and_reading_it_changes_nothing(exported: Path) -> None:
    before = {name: sha256_of(exported / name) for name in files_of(exported)}
    found = verify(exported)
    assert found.ok, found.problems
    assert found.note.startswith("Every file is what was exported, and golden rows score alike.")
    load_bundle(exported).score([{"calls": 1, "noise": 0, "plan": "pro", "region": "x"}], reasons=3)
    assert {name: sha256_of(exported / name) for name in files_of(exported)} == before


@pytest.fixture(scope="module")
def scratch(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(exported, tmp_path_factory.mktemp("scratch") / "bundle"))


@given(data=st.data())
def test_any_byte_of_any_file(scratch: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([item for item in files_of(scratch) if (scratch / item).stat().st_size]))
    content = (scratch / name).read_bytes()
    place, flip = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    changed = bytearray(content)
    changed[place] ^= flip
    (scratch / name).write_bytes(changed)
    try:
        assert not verify(scratch).ok, f"{name} at {place}"
    finally:
        (scratch / name).write_bytes(content)
    assert verify(scratch).ok


def test_each_file_taken_away_or_emptied(scratch: Path) -> None:
    for name in files_of(scratch):
        content = (scratch / name).read_bytes()
        (scratch / name).unlink()
        assert not verify(scratch).ok, name
        (scratch / name).write_bytes(content + b"\n")
        assert not verify(scratch).ok, name
        (scratch / name).write_bytes(content)
    assert verify(scratch).ok


@given(
    name=st.from_regex(r"(evidence/|lib/|lib/data/__pycache__/|x/)?[a-z.]{1,8}(\.py|\.json|\.pyc|)", fullmatch=True),
    content=st.binary(max_size=20),
)
@example(name="lib/data/__pycache__/schema.cpython-311.pyc", content=b"x")
@example(name="registered_model_meta", content=b"")
def test_any_file_added(scratch: Path, name: str, content: bytes) -> None:
    path = scratch / name
    if path.exists() or ".." in name or name.endswith("/.") or path.name == "." or "/./" in name:
        return
    made = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        assert any("is not listed" in problem for problem in verify(scratch).problems)
    finally:
        path.unlink()
        for parent in made:
            parent.rmdir()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_planted_pickle_is_found_though_every_hash_is_rewritten(bundle_folder: Path, protocol: int) -> None:
    planted = pickle.dumps({"weights": np.arange(3)}, protocol=protocol)
    (bundle_folder / "evidence" / "notes.md").write_bytes(planted)
    rehash(bundle_folder)
    assert "evidence/notes.md holds a pickle" in " ".join(verify(bundle_folder).problems)
    (bundle_folder / "evidence" / "notes.md").unlink()
    (bundle_folder / "model.pkl").write_bytes(planted)
    rehash(bundle_folder)
    assert "model.pkl has no place in a bundle." in verify(bundle_folder).problems


def test_a_pickle_within_an_archive_is_found() -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps([1]))
    outer = io.BytesIO()
    with zipfile.ZipFile(outer, "w") as archive:
        archive.writestr("inner.zip", inner.getvalue())
    assert holds_pickle(outer.getvalue())
    saved = io.BytesIO()
    np.savez(saved, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert not holds_pickle(b"")
    assert not holds_pickle(b"# A card.\n")


def test_no_file_of_ours_is_taken_for_a_pickle(exported: Path) -> None:
    assert [name for name in files_of(exported) if holds_pickle((exported / name).read_bytes())] == []


def test_a_model_that_scores_otherwise_is_found_by_its_golden_rows(bundle_folder: Path) -> None:
    rows = pd.read_parquet(bundle_folder / "golden.parquet")
    rows.assign(score=rows["score"] + 1e-6).to_parquet(bundle_folder / "golden.parquet", index=False)
    rehash(bundle_folder)
    found = verify(bundle_folder).problems
    assert found == (f"{len(rows)} of {len(rows)} golden rows score otherwise, by up to 1e-06.",)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("manifest.json", b'{ "format": 1, "files": {} }', "manifest.json is not written as an export writes it."),
        ("schema.json", b"{}", "do not fit together"),
        ("model.onnx", b"no graph", "do not fit together"),
        ("golden.parquet", b"PAR1", "golden rows can't be scored"),
        ("reasons.json", b"[", "reasons.json is not JSON."),
    ],
)
def test_broken_files_are_told_without_a_traceback(bundle_folder: Path, name: str, content: bytes, says: str) -> None:
    (bundle_folder / name).write_bytes(content)
    if name != "manifest.json":
        rehash(bundle_folder)
    assert any(says in problem for problem in verify(bundle_folder).problems)


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no folder"):
        verify(tmp_path / "nowhere")
    assert "is no bundle: it has no manifest.json" in verify(tmp_path).problems[0]


# --- with a key


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    pytest.importorskip("model_signing", reason="the extra 'sign' is not installed")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = tmp_path / "project.pem", tmp_path / "project.pub.pem"
    no_password = form.NoEncryption()
    private.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, no_password))
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def test_signed_also_those_changes_are_found_that_rewrite_every_hash(
    bundle_folder: Path, keys: tuple[Path, Path]
) -> None:
    from cxlab.release.signing import sign

    assert verify(bundle_folder, key=keys[1]).problems == ("There is no model.sig: the folder is not signed.",)
    sign(bundle_folder, keys[0])
    assert verify(bundle_folder, key=keys[1]).ok
    assert "not checked: give --key" in verify(bundle_folder).note
    card = bundle_folder / "evidence" / "card.md"
    card.write_text(card.read_text() + "Approved by everybody.\n")
    rehash(bundle_folder)
    assert verify(bundle_folder).ok  # without the key nobody can tell
    assert "'evidence/card.md' was changed after signing." in verify(bundle_folder, key=keys[1]).problems


def test_a_key_that_is_none_is_said(bundle_folder: Path, keys: tuple[Path, Path], monkeypatch: Any) -> None:
    monkeypatch.setenv("CXLAB_VERIFY_KEY", "nowhere.pem")
    with pytest.raises(ParamsError, match=r"CXLAB_VERIFY_KEY == 'nowhere.pem', must be a file"):
        verify(bundle_folder)


# --- how it is made


def test_an_export_that_scores_otherwise_is_refused_with_its_column(
    reviewed: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Prepared._scores

    def off(self: Prepared, frame: pd.DataFrame) -> np.ndarray:
        return real(self, frame) + 0.01 * (frame["plan"] == "unseen in training").to_numpy()

    monkeypatch.setattr(Prepared, "_scores", off)
    with pytest.raises(
        BundleError, match=r"off by 0.01, must be at most 1e-05. The difference comes from column 'plan'"
    ):
        write_bundle(reviewed.subject, tmp_path / "b", facts={}, report=reviewed.facts(), evidence={})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_the_way_leaves_nothing(reviewed: Report, tmp_path: Path) -> None:
    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    told = {"facts": {}, "report": reviewed.facts(), "evidence": {}}
    with pytest.raises(OSError, match=r"No space left"):
        write_bundle(reviewed.subject, tmp_path / "b", finish=full, **told)
    assert list(tmp_path.iterdir()) == []


def test_two_exports_of_one_model_differ_in_their_time_alone(reviewed: Report, exported: Path, tmp_path: Path) -> None:
    told = {"facts": {"model": "small", "version": "1", "task": "churn"}, "evidence": {"card.md": "# small"}}
    again = write_bundle(reviewed.subject, tmp_path / "b", report=reviewed.facts(), wording={}, **told)
    differs = [name for name in files_of(exported) if (exported / name).read_bytes() != (again / name).read_bytes()]
    assert set(differs) <= {"MLmodel", "manifest.json", "reasons.json", "schema.json"}  # other phrases were given


def test_agreement_of_the_reasons_with_shap_is_in_the_manifest(exported: Path) -> None:
    told = json.loads((exported / "manifest.json").read_bytes())["reasons"]
    assert told["rows"] == 100
    assert 0.5 < told["first"] <= 1 and 0.5 < told["rank"] <= 1  # measured: about 0.8 and 0.8


# --- it is an MLflow model


def test_mlflow_gives_the_same_scores_and_leaves_the_folder_alone(exported: Path, reviewed: Report) -> None:
    import mlflow

    rows = reviewed.subject.test.head(30)
    expected = load_bundle(exported).score(rows, reasons=2).frame()
    model = mlflow.pyfunc.load_model(str(exported))
    found = model.predict(rows[["calls", "noise", "plan", "region"]], params={"reasons": 2})
    pd.testing.assert_frame_equal(found, expected.drop(columns="id"))
    assert verify(exported).ok
    assert "/" not in (exported / "MLmodel").read_text().split("model_code_path: ")[1].splitlines()[0]


def test_mlflow_serves_it_with_the_same_scores(exported: Path, reviewed: Report) -> None:
    import httpx
    import mlflow
    from mlflow.pyfunc.scoring_server import init

    async def ask(body: dict[str, Any]) -> httpx.Response:
        app = httpx.ASGITransport(init(mlflow.pyfunc.load_model(str(exported))))
        async with httpx.AsyncClient(transport=app, base_url="http://test") as client:
            return await client.post("/invocations", json=body)

    rows = reviewed.subject.test.head(20)[["calls", "noise", "plan", "region"]]
    body = {"dataframe_split": json.loads(rows.to_json(orient="split", index=False))}
    answer = asyncio.run(ask(body))
    assert answer.status_code == 200
    found = [row["score"] for row in answer.json()["predictions"]]
    np.testing.assert_array_equal(found, load_bundle(exported).score(rows).score)


def test_spark_gives_the_same_scores(exported: Path, reviewed: Report, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="the extra 'spark' is not installed")
    rows = reviewed.subject.test.head(200)
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    code = f"""
import os, sys
os.environ["PYSPARK_PYTHON"] = sys.executable
import mlflow, pandas as pd
from pyspark.sql import SparkSession
from pyspark.sql.functions import struct
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = spark.createDataFrame(pd.read_parquet({str(tmp_path / "rows.parquet")!r}))
score = mlflow.pyfunc.spark_udf(spark, {str(exported)!r}, result_type="double", env_manager="local")
names = ["calls", "noise", "plan", "region"]
found = rows.withColumn("score", score(struct(*names))).select("customer_id", "score").toPandas()
found.to_csv({str(tmp_path / "out.csv")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)
    found = pd.read_csv(tmp_path / "out.csv").set_index("customer_id")["score"]
    expected = load_bundle(exported).score(rows)
    np.testing.assert_allclose(found[rows["customer_id"]], expected.score, rtol=0, atol=1e-12)
