"""Whatever model of words is selected can leave the lab: plain files, the same answers, nothing else needed."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from cxlab.data.rows import NULLS
from cxlab.digest import canonical, sha256_of
from cxlab.errors import BundleError, DataError, ParamsError
from cxlab.evidence.report import Report
from cxlab.evidence.words import words_for
from cxlab.features.encoder import find_encoder, read_encoder
from cxlab.features.encoder_graph import bert_graph
from cxlab.features.text import text_column
from cxlab.models.answer import Doubt
from cxlab.models.calibration import NoCalibration, Saturation, Temperature
from cxlab.models.deep import FineTuned
from cxlab.models.intent import CANDIDATES
from cxlab.models.margins import landmarks
from cxlab.models.subject import Subject
from cxlab.models.task import Model, vectors_of
from cxlab.release.bundle import PARITY, Prepared, write_bundle
from cxlab.release.folder import FEW
from cxlab.release.golden import COMMON, ODD_SAID, ODD_TEXTS, golden_texts
from cxlab.release.score import score_file
from cxlab.release.scorer import load_bundle
from cxlab.release.text_bundle import plain_file, text_contents
from cxlab.release.text_scorer import MODEL, TextBundle, plain_content
from cxlab.release.verify import verify
from cxlab.tracking.registry import TRUSTED_TYPES

BLENDS = {
    "terms": ("words", "words_characters", "prior"),
    "all": ("words", "both", "encoder", "encoder_landmarks", "fine_tuned"),
}
MODELS = (*(candidate.name for candidate in CANDIDATES), *BLENDS)
FACTS = {"model": "wants", "version": "1", "task": "intent"}
ODD = (
    *ODD_TEXTS,
    *ODD_SAID,
    "\ud83d half",
    "card " * 200_000,
    12,
    1.5,
    True,
    np.nan,
    pd.NA,
    "ß ﬁ Ǆ İ",
    "a\u0301 \u00e1",
)
every_model = pytest.mark.parametrize("name", MODELS)


class Lab:
    """Every candidate, fitted once on the texts of `reviewed_texts` with a small encoder."""

    def __init__(self, subject: Subject, encoder: Path) -> None:
        self.subject, self.encoder = subject, encoder
        self.members: dict[str, Pipeline] = {}
        self.models: dict[tuple[str, int], Model] = {}
        self.rows = subject.model.schema.encode(subject.train)
        self.y = subject.outcome_train

    def member(self, name: str) -> Pipeline:
        if name not in self.members:
            self.members[name] = self._fitted(name, self.rows, self.y)
        return self.members[name]

    def _fitted(self, name: str, rows: pd.DataFrame, y: np.ndarray) -> Pipeline:
        schema = self.subject.model.schema
        if name == "fine_tuned":
            return Pipeline([("text", text_column(schema)), ("model", self._tuned(rows, y))])
        (candidate,) = (each for each in CANDIDATES if each.name == name)
        settings = {**candidate.default, "encoder": str(self.encoder)}
        return candidate.build(schema, settings, 0).fit(rows, y)

    def _tuned(self, rows: pd.DataFrame, y: np.ndarray) -> FineTuned:
        """As if fitted, which needs torch: the encoder as it is, under a layer that knows the classes' means."""
        files, model = read_encoder(str(self.encoder)), FineTuned(str(self.encoder))
        vectors = find_encoder(str(self.encoder)).encode(rows.iloc[:, 0].tolist())
        model.classes_, codes = np.unique(y, return_inverse=True)
        means = np.stack([vectors[codes == code].mean(axis=0) for code in range(len(model.classes_))])
        head = (20 * means, -10 * (means**2).sum(axis=1))
        model.graph_ = np.frombuffer(bert_graph(files.weights(), files.config, head=head), np.uint8)
        model.tokenizer_, model.longest_, model.sha256_ = files.tokenizer, files.longest, files.sha256
        return model

    def model(self, name: str, *, without: int = 0) -> Model:
        """A model as training would register it, fitted without the first classes."""
        if (name, without) in self.models:
            return self.models[name, without]
        names = BLENDS.get(name, (name,))
        if without:
            kept = self.y >= without
            members = [self._fitted(each, self.rows[kept], self.y[kept]) for each in names]
        else:
            members = [self.member(each) for each in names]
        schema, labels = self.subject.model.schema, self.subject.labels
        weights = np.arange(1, len(names) + 1) / np.arange(1, len(names) + 1).sum()
        plain = Model(schema, members, weights.tolist(), NoCalibration(), labels)
        place = MODELS.index(name)
        learnt = [NoCalibration(), Temperature(), Temperature(floor=True), Saturation()][place % 4]
        model = Model(schema, members, weights.tolist(), learnt.fit(plain.uncalibrated(self.rows), self.y), labels)
        vectors = vectors_of(members, self.rows)
        marks = None if vectors is None else landmarks(vectors, self.y, rows=5)
        model.doubt = Doubt((0.0,) * 3, (1.0,) * 3, -np.inf, -np.inf, marks)
        spoken = model.spoken(self.rows)
        signs = Doubt.signs(spoken)
        spread = np.maximum(signs.std(axis=0), 1e-9)
        doubt = Doubt(tuple(signs.mean(axis=0).tolist()), tuple(spread.tolist()), -np.inf, -np.inf, marks)
        least, far = (float(np.quantile(each(spoken), 0.04)) for each in (doubt.familiarity, doubt.nearness))
        model.doubt = replace(doubt, threshold=least, far=far)
        self.models[name, without] = model
        return model

    def subject_of(self, name: str, *, without: int = 0) -> Subject:
        return replace(self.subject, name=name, model=self.model(name, without=without))


@pytest.fixture(scope="module")
def lab(reviewed_texts: Report, encoder_folder: Path) -> Lab:
    return Lab(reviewed_texts.subject, encoder_folder)


@pytest.fixture(scope="module")
def bundle_of(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The bundle of a model; not to be changed."""
    made: dict[tuple[str, int], Path] = {}

    def make(name: str, *, without: int = 0) -> Path:
        if (name, without) not in made:
            to = tmp_path_factory.mktemp("bundles") / f"{name}-{without}"
            evidence = {"card.md": f"# {name}"}
            made[name, without] = write_bundle(
                lab.subject_of(name, without=without), to, facts=FACTS, report={}, evidence=evidence
            )
        return made[name, without]

    return make


@pytest.fixture(scope="module")
def bundle(exported_texts: Path) -> TextBundle:
    found = load_bundle(exported_texts)
    assert isinstance(found, TextBundle)
    return found


def answers(model: Model, texts: list[Any]) -> pd.DataFrame:
    return model.answer(pd.DataFrame({"text": pd.Series(texts, dtype=object)})).frame()


# --- every candidate


@every_model
def test_a_bundle_answers_as_the_lab_does(name: str, lab: Lab, bundle_of: Callable[..., Path]) -> None:
    made = load_bundle(bundle_of(name))
    manifest = json.loads((bundle_of(name) / "manifest.json").read_bytes())
    assert manifest["parity"]["largest"] <= PARITY
    texts = [*lab.subject.test["text"], *ODD]
    ours = made.score([{"text": text} for text in texts]).frame().drop(columns="id")
    theirs = answers(lab.model(name), texts)
    assert list(ours) == list(theirs) == list(made.outputs)
    confidences = [column for column in ours if column.startswith("confidence")]
    np.testing.assert_allclose(ours[confidences], theirs[confidences], rtol=0, atol=PARITY)
    model = lab.model(name)
    spoken = model.spoken(model.schema.encode(pd.DataFrame({"text": pd.Series(texts, dtype=object)})))
    for intent, confidence in zip(("intent", "intent_2", "intent_3"), confidences, strict=True):
        codes = ours[intent].map(made.labels.index).to_numpy()  # of intents equally likely either may be named
        likely = spoken.probability[np.arange(len(texts)), codes]
        np.testing.assert_allclose(likely, theirs[confidence], rtol=0, atol=2 * PARITY)
    sure = np.abs(model.doubt.familiarity(spoken) - model.doubt.threshold) > 1e-3
    flags = ["abstained", "out_of_scope", "several"]
    assert sure.mean() > 0.9 or name == "prior"
    pd.testing.assert_frame_equal(ours.loc[sure, flags], theirs.loc[sure, flags])


@every_model
def test_golden_rows_and_every_byte_are_verified(name: str, bundle_of: Callable[..., Path]) -> None:
    found = verify(bundle_of(name))
    assert found.ok, found.problems


@every_model
def test_a_text_is_answered_alone_as_among_others(name: str, bundle_of: Callable[..., Path]) -> None:
    made = load_bundle(bundle_of(name))
    rows = [{"text": text} for text in ODD if len(str(text)) < 20_000]
    together = made.score(pd.DataFrame(rows * 2, dtype=object), reasons=2).frame()
    assert len(together) > FEW
    alone = pd.concat([made.score([row], reasons=2).frame() for row in rows], ignore_index=True)
    confidences = [column for column in alone if column.startswith("confidence")]
    first = together.head(len(rows))
    np.testing.assert_allclose(first[confidences], alone[confidences], rtol=0, atol=1e-9)
    pd.testing.assert_frame_equal(
        first.drop(columns=["id", *confidences]), alone.drop(columns=["id", *confidences]), check_dtype=False
    )


@pytest.mark.parametrize("name", ["prior", "words", "encoder_landmarks", "terms", "all"])
def test_a_class_that_no_member_saw_is_below_all_others(name: str, lab: Lab, bundle_of: Callable[..., Path]) -> None:
    made = load_bundle(bundle_of(name, without=1))
    texts = lab.subject.test["text"].tolist()
    ours = made.speak(texts)
    theirs = lab.model(name, without=1).spoken(pd.DataFrame({"text": texts}))
    np.testing.assert_allclose(ours.probability, theirs.probability, rtol=0, atol=PARITY)
    assert (ours.probability.argmax(axis=1) != 0).all()


@every_model
def test_the_registered_file_holds_our_types_alone_and_says_the_same(name: str, lab: Lab) -> None:
    model = lab.model(name)
    data = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(TRUSTED_TYPES)
    again = skops.io.loads(data, trusted=TRUSTED_TYPES)
    texts = lab.subject.test["text"].tolist()
    pd.testing.assert_frame_equal(answers(again, texts), answers(model, texts))
    vectors = read_encoder(str(lab.encoder)).weights()["embeddings.word_embeddings.weight"]
    assert (vectors[5:9].tobytes() in data) == (name in ("fine_tuned", "all"))  # else it names its encoder


@every_model
def test_what_is_exported_is_the_same_bytes_again(name: str, lab: Lab, bundle_of: Callable[..., Path]) -> None:
    again = text_contents(lab.subject_of(name))
    for file, content in again.items():
        written = content if isinstance(content, bytes) else canonical(content)
        assert (bundle_of(name) / file).read_bytes() == written, file


def test_members_of_the_same_terms_are_as_large_as_the_largest(bundle_of: Callable[..., Path]) -> None:
    sizes = {name: (bundle_of(name) / MODEL).stat().st_size for name in ("words", "words_characters", "terms")}
    assert sizes["terms"] < 1.15 * sizes["words_characters"]
    assert len(load_bundle(bundle_of("terms")).speaker.members) == 1
    assert len(load_bundle(bundle_of("terms", without=1)).speaker.members) == 3


# --- it needs little

OUTSIDE = """
import importlib, importlib.util, sys
class Door:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name)
sys.meta_path.insert(0, Door())
sys.dont_write_bytecode = True
place = {folder!r} + "/lib"
spec = importlib.util.spec_from_file_location("away", place + "/__init__.py", submodule_search_locations=[place])
module = importlib.util.module_from_spec(spec)
sys.modules["away"] = module
spec.loader.exec_module(module)
bundle = importlib.import_module("away.release.scorer").load_bundle({folder!r})
print(bundle.score([dict(text="my card was stolen, please help")], reasons=2).frame().to_csv(index=False))
"""
LIBRARIES = {
    "cxlab",
    "sklearn",
    "scipy",
    "skops",
    "mlflow",
    "torch",
    "pyarrow",
    "onnx",
    "safetensors",
    "yaml",
    "joblib",
}


@pytest.mark.parametrize(("name", "needs"), [("terms", set()), ("all", {"onnxruntime", "tokenizers"})])
def test_it_scores_where_we_are_not(name: str, needs: set[str], bundle_of: Callable[..., Path]) -> None:
    folder = bundle_of(name)
    blocked = LIBRARIES | ({"onnxruntime", "tokenizers"} - needs)
    code = OUTSIDE.format(blocked=blocked, folder=str(folder))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    expected = load_bundle(folder).score([{"text": "my card was stolen, please help"}], reasons=2).frame()
    found = pd.read_csv(io.StringIO(done.stdout))
    assert found["intent"].tolist() == expected["intent"].tolist()
    np.testing.assert_allclose(found["confidence"], expected["confidence"], rtol=0, atol=1e-9)
    assert found["reason_1"].tolist() == expected["reason_1"].tolist()
    named = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert named == {"numpy", "pandas", "mlflow"} | needs


def test_a_graph_without_its_libraries_says_what_to_install(bundle_of: Callable[..., Path]) -> None:
    code = OUTSIDE.format(blocked={"tokenizers"}, folder=str(bundle_of("encoder")))
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode
    assert "encoder.onnx needs onnxruntime and tokenizers" in done.stderr
    assert "pip install -r requirements.txt" in done.stderr


def test_skops_opens_the_file_too_and_trusts_all_of_it(exported_texts: Path) -> None:
    content = (exported_texts / MODEL).read_bytes()
    assert skops.io.get_untrusted_types(data=content) == []
    theirs, ours = skops.io.loads(content, trusted=[]), plain_content(content)
    assert [block["terms"] for block in theirs["blocks"]] == [block["terms"] for block in ours["blocks"]]
    np.testing.assert_array_equal(theirs["members"][0]["constant"], ours["members"][0]["constant"])


def test_mlflow_answers_alike(exported_texts: Path, bundle: TextBundle) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(exported_texts))
    rows = pd.DataFrame({"text": ["my card was stolen", "", "refund my money please"]})
    found = model.predict(rows, params={"reasons": 2})
    pd.testing.assert_frame_equal(found, bundle.score(rows, reasons=2).frame().drop(columns="id"))


# --- answers

TEXTS = st.lists(
    st.one_of(
        st.none(),
        st.text(max_size=30),
        st.lists(st.sampled_from(["card", "lost", "refund", "money", "parcel", "late", "and", "zzz"]), max_size=9).map(
            " ".join
        ),
    ),
    min_size=1,
    max_size=4,
)


@given(texts=TEXTS)
def test_every_text_has_an_answer(bundle: TextBundle, texts: list[str | None]) -> None:
    found = bundle.score([{"text": text} for text in texts], reasons=3)
    frame = found.frame()
    assert len(frame) == len(texts) and not found.problems
    confidence = frame[["confidence", "confidence_2", "confidence_3"]].to_numpy()
    assert ((confidence >= 0) & (confidence <= 1)).all() and (np.diff(confidence, axis=1) <= 0).all()
    assert set(frame["intent"]) <= set(bundle.labels)
    assert (~frame["out_of_scope"] | frame["abstained"]).all()
    assert set(found.outcome) <= set(bundle.outcomes)


@given(texts=TEXTS)
def test_words_of_terms_add_up_as_in_the_lab(
    bundle: TextBundle, reviewed_texts: Report, texts: list[str | None]
) -> None:
    told = words_for(reviewed_texts.subject, texts)
    for row, (text, intent) in enumerate(zip(told.texts, told.intents, strict=True)):
        theirs = told.rows[told.rows["row"] == row]
        ours = bundle.speaker.contributions(text, bundle.labels.index(intent))
        assert list(ours) == theirs["word"].tolist()
        np.testing.assert_allclose(list(ours.values()), theirs["contribution"], rtol=1e-4, atol=1e-4)


def test_reasons_are_the_words_that_speak_for_it(bundle: TextBundle) -> None:
    (told,) = bundle.score([{"text": "Please, my CARD was stolen!"}], reasons=2).reasons
    assert set(told) == {'"card" speaks for it', '"stolen" speaks for it'}
    assert bundle.score([{"text": "?!"}], reasons=2).reasons == [()]
    assert bundle.score([{"text": "card"}]).reasons == []


def test_where_only_vectors_speak_words_are_left_out(bundle_of: Callable[..., Path]) -> None:
    made = load_bundle(bundle_of("encoder"))
    text = "please help my card is lost"
    code = int(made.speak([text]).probability.argmax())
    told = made.speaker.contributions(text, code)
    whole, less = (made.speak([each]).margins[0, code] for each in (text, "please help my  is lost"))
    assert told["card"] == pytest.approx(whole - less, abs=1e-9)


def test_a_missing_text_is_an_empty_one_and_nobody_knows_what_it_wants(bundle: TextBundle) -> None:
    found = bundle.score([{"text": text} for text in (None, "", "   ", np.nan)]).frame()
    assert found.drop(columns="id").drop_duplicates().shape[0] == 1
    assert found["abstained"].all()


def test_personal_data_change_no_answer(bundle: TextBundle) -> None:
    one, other = "Refund to {} please", ("4111 1111 1111 1111", "5500 0000 0000 0004")
    found = bundle.score([{"text": one.format(card)} for card in other], reasons=5)
    assert found.frame().drop(columns="id").drop_duplicates().shape[0] == 1
    assert not any(digit in reason for row in found.reasons for reason in row for digit in "0123456789")


def test_a_missing_column_is_named(bundle: TextBundle) -> None:
    for rows in ([{"txt": "a"}], pd.DataFrame({"txt": ["a"] * (FEW + 1)})):
        with pytest.raises(DataError, match="Did you mean 'txt'"):
            bundle.score(rows)
    with pytest.raises(ValueError, match="reasons == -1"):
        bundle.score([{"text": "a"}], reasons=-1)
    assert bundle.score(pd.DataFrame({"text": []})).frame().empty


# --- golden rows


def test_golden_texts_are_no_customer_s(reviewed_texts: Report) -> None:
    subject = reviewed_texts.subject
    said, y = subject.texts(subject.train), subject.outcome_train
    found = golden_texts(said, y)
    assert not set(found) & set(said)
    counts, classes = pd.Series([word for text in said for word in set(text.split())]).value_counts(), {}
    for text, code in zip(said, y, strict=True):
        for word in text.split():
            classes.setdefault(word, set()).add(code)
    drawn = {word for text in found[:64] for word in str(text).split()}
    assert all(counts[word] >= COMMON[0] and len(classes[word]) >= COMMON[1] for word in drawn)
    assert found == golden_texts(said, y)


@given(said=st.lists(st.text(max_size=12), max_size=30))
def test_golden_texts_reveal_no_rare_word(said: list[str]) -> None:
    found = golden_texts([*said, "heidelberg 17", "my name is smith"], np.arange(len(said) + 2) % 3, plain=8)
    assert len(found) == 8 + len(ODD_TEXTS) + len(ODD_SAID)
    assert not any(word in str(text) for text in found[:8] for word in ("heidelberg", "17", "smith"))


# --- damage


def rehash(folder: Path) -> None:
    """What somebody does who knows how bundles are made: every hash is rewritten."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_bytes())
    names = [item.relative_to(folder).as_posix() for item in folder.rglob("*") if item.is_file()]
    manifest["files"] = {name: sha256_of(folder / name) for name in names if name != "manifest.json"}
    path.write_bytes(canonical(manifest))


def test_a_changed_weight_is_found_though_every_hash_is_rewritten(text_folder: Path) -> None:
    content = plain_content((text_folder / MODEL).read_bytes())
    weights = next(iter(content["members"][0]["weights"].values()))
    weights[:, 0] += 0.01
    (text_folder / MODEL).write_bytes(plain_file(content))
    assert any("model.skops differs" in problem for problem in verify(text_folder).problems)
    rehash(text_folder)
    assert "golden rows score otherwise" in " ".join(verify(text_folder).problems)


@pytest.mark.parametrize("name", [MODEL, "schema.json", "threshold.json", "golden.parquet", "lib/models/answer.py"])
def test_a_changed_file_is_not_loaded(text_folder: Path, name: str) -> None:
    path = text_folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"{name} differs"):
        load_bundle(text_folder)


def foreign(content: bytes) -> bytes:
    return skops.io.dumps({**plain_content(content), "landmarks": np.dtype("float32")})


def evil(content: bytes) -> bytes:
    """A file that asks for a call; skops would refuse it, and so do we."""
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(found, "w") as new:
        tree = json.loads(old.read("schema.json"))
        tree["content"]["landmarks"] = {"__class__": "system", "__module__": "os", "__loader__": "FunctionNode"}
        for name in old.namelist():
            new.writestr(name, json.dumps(tree) if name == "schema.json" else old.read(name))
    return found.getvalue()


def shorter(content: bytes) -> bytes:
    held = plain_content(content)
    held["blocks"][0]["idf"] = held["blocks"][0]["idf"][:-1]
    return plain_file(held)


def fewer(content: bytes) -> bytes:
    held = plain_content(content)
    for member in held["members"]:
        member["constant"] = member["constant"][:-1]
        member["weights"] = {block: weights[:, :-1] for block, weights in member["weights"].items()}
        member["classes"] = np.arange(99, 99 + len(member["constant"]))
    return plain_file(held)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (foreign, "holds a numpy.dtype"),
        (evil, "holds a os.system, may hold mappings, lists, JSON values and arrays alone"),
        (lambda content: content[: len(content) // 2], "do not fit together"),
        (lambda _: b"", "do not fit together"),
        (lambda _: skops.io.dumps([1, 2]), "do not fit together"),
        (lambda content: skops.io.dumps({**plain_content(content), "members": [{"kind": "oracle"}]}), "share"),
        (shorter, "terms have"),
        (fewer, "do not fit together"),
    ],
)
def test_a_damaged_model_is_refused(text_folder: Path, change: Callable[[bytes], bytes], says: str) -> None:
    path = text_folder / MODEL
    path.write_bytes(change(path.read_bytes()))
    rehash(text_folder)
    with pytest.raises(BundleError, match=says):
        load_bundle(text_folder)


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json"])
def test_a_missing_or_damaged_encoder_is_refused(name: str, bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_of("encoder"), tmp_path / "bundle"))
    (folder / name).write_bytes(b"{}")
    rehash(folder)
    with pytest.raises(BundleError, match="do not fit together"):
        load_bundle(folder)
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        load_bundle(folder)
    rehash(folder)
    with pytest.raises(BundleError, match=f"has no {name} in its manifest"):
        load_bundle(folder)


def test_what_has_no_plain_form_is_refused(lab: Lab) -> None:
    subject = lab.subject_of("words")
    never = Model(subject.model.schema, subject.model.members, [1.0], NoCalibration(), subject.labels)
    with pytest.raises(ParamsError, match="never learnt when not to answer"):
        text_contents(replace(subject, model=never))
    strange = Model(subject.model.schema, [NoCalibration()], [1.0], NoCalibration(), subject.labels)
    strange.doubt = subject.model.doubt
    with pytest.raises(ParamsError, match="NoCalibration has no conversion to plain weights"):
        text_contents(replace(subject, model=strange))
    plain = clone(subject.model.members[0]).set_params(terms__sublinear_tf=False).fit(lab.rows, lab.y)
    other = Model(subject.model.schema, [plain], [1.0], NoCalibration(), subject.labels)
    other.doubt = subject.model.doubt
    with pytest.raises(ParamsError, match=r"TfidfVectorizer is not as cxlab\.features\.text makes it"):
        text_contents(replace(subject, model=other))


def test_an_export_that_answers_otherwise_is_refused(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Prepared._apart
    monkeypatch.setattr(Prepared, "_apart", lambda self, frame: real(self, frame) + 0.001)
    with pytest.raises(BundleError, match=r"its plain form is off by 0\.001, must be at most 1e-05"):
        write_bundle(lab.subject_of("words"), tmp_path / "b", facts=FACTS, report={}, evidence={})


# --- files


@pytest.fixture
def run(bundle: TextBundle, tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, pd.DataFrame | None]]:
    """Scores a CSV's text: the output and the side file, read as texts."""

    def scored(text: str, **options: Any) -> tuple[pd.DataFrame, pd.DataFrame | None]:
        (tmp_path / "in.csv").write_text(text, encoding="utf-8", newline="")
        found = score_file(bundle, tmp_path / "in.csv", tmp_path / "out.csv", **options)
        out, side = (
            pd.read_csv(path, dtype=str, keep_default_na=False) if path else None for path in (found.out, found.side)
        )
        assert out is not None and len(out) == found.rows
        return out, side

    return scored


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=20).filter(
    lambda text: text.strip() not in NULLS - {""}
)


@given(texts=st.lists(st.one_of(WORDS, st.just('my "card", and\nrefund; 007')), min_size=1, max_size=5))
def test_a_file_is_answered_as_its_rows_are(
    bundle: TextBundle, tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    frame = pd.DataFrame({"message_id": [f"m{i}" for i in range(len(texts))], "text": texts, "other": 1})
    frame.to_csv(folder / "in.csv", index=False, quoting=1)
    frame.to_parquet(folder / "in.parquet")
    expected = bundle.score(frame, reasons=2).frame()
    for source in ("in.csv", "in.parquet"):
        found = score_file(bundle, folder / source, folder / "out.parquet", reasons=2)
        assert (found.rows, found.bad) == (len(texts), 0)
        out = pd.read_parquet(folder / "out.parquet")
        reasons = ["reason_1", "reason_2"]
        out[reasons] = out[reasons].fillna("")
        pd.testing.assert_frame_equal(out, expected, check_dtype=False)


def test_texts_stay_as_they_are_written(run: Callable[..., Any], bundle: TextBundle) -> None:
    out, side = run('message_id;text\n1;"0042 card ""lost"",\nplease; help"\n2;1,50\n3;\n4;true\n')
    said = ['0042 card "lost",\nplease; help', "1,50", None, "true"]
    expected = bundle.score([{"message_id": str(i + 1), "text": text} for i, text in enumerate(said)]).frame()
    assert side is None
    assert out["id"].tolist() == ["1", "2", "3", "4"]
    assert out["confidence"].tolist() == [repr(value) for value in expected["confidence"]]
    assert out["abstained"].tolist() == [str(value).lower() for value in expected["abstained"]]


def test_rows_that_cannot_be_read_keep_their_place(run: Callable[..., Any]) -> None:
    out, side = run('message_id,text\na,lost card\nb,too,many\nc,parcel\0\nd,"never closed\n', reasons=1)
    assert out["id"].tolist() == ["a", "", "c", ""]  # of a row that cannot be cut into fields nobody knows the id
    assert out.loc[1:].drop(columns="id").eq("").all(axis=None)
    assert out.loc[0, ["intent", "reason_1"]].ne("").all()
    assert side["line"].tolist() == ["3", "4", "5"]


def test_the_command_scores_a_file_and_says_so(
    cxlab: Callable[..., tuple[int, str, str]], exported_texts: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text('text\nlost card\n"a\nb"\n')
    status, said, _ = cxlab("score", exported_texts, tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--json")
    assert status == 0 and json.loads(said)["rows"] == 2
    assert pd.read_csv(tmp_path / "out.csv")["id"].tolist() == [1, 2]
    (tmp_path / "in.csv").write_text("text\na,b\n")
    status, said, _ = cxlab("score", exported_texts, tmp_path / "in.csv", "--out", tmp_path / "out.csv", "--json")
    assert status == 1 and json.loads(said)["bad"] == 1
    status, said, _ = cxlab("verify", exported_texts, "--json")
    assert status == 0 and json.loads(said)["ok"]
