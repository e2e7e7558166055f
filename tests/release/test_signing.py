"""Signatures over a folder: whatever changes is found, nothing else is, and no network is asked."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cxlab.errors import ParamsError
from cxlab.release import signing
from cxlab.release.signing import SIGNATURE, problems, sign, signing_key, verify_key

model_signing = pytest.importorskip("model_signing")

from cryptography.hazmat.primitives import serialization as pem  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: E402

FILES = {"model.onnx": b"\x00\x01weights", "card/README.md": b"# Card\n", ".hidden": b"", f"card/{SIGNATURE}": b"{}"}
GIT = [".git/config", ".gitignore", ".gitattributes", ".github/workflows/ci.yml"]


def write_pair(folder: Path, name: str, key, password: bytes | None = None) -> tuple[Path, Path]:
    hidden = pem.BestAvailableEncryption(password) if password else pem.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("keys")
    return {
        "ours": write_pair(folder, "ours", ec.generate_private_key(ec.SECP256R1())),
        "theirs": write_pair(folder, "theirs", ec.generate_private_key(ec.SECP384R1())),
        "locked": write_pair(folder, "locked", ec.generate_private_key(ec.SECP521R1()), b"sesame"),
        "rsa": write_pair(folder, "rsa", rsa.generate_private_key(65537, 2048)),
        "koblitz": write_pair(folder, "koblitz", ec.generate_private_key(ec.SECP256K1())),
    }


def fill(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return fill(tmp_path / "bundle")


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, keys) -> Path:
    """Signed once; to be copied, never changed."""
    folder = fill(tmp_path_factory.mktemp("signed") / "bundle")
    sign(folder, keys["ours"][0])
    return folder


def wrong(signed: Path, keys, change) -> list[str]:
    """The problems of a copy after a change."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(shutil.copytree(signed, Path(place, "copy")))
        change(copy)
        return problems(copy, keys["ours"][1])


def flipped(path: Path, position: int, mask: int) -> None:
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= mask
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_what_is_signed_and_untouched_has_no_problem_wherever_it_goes(bundle, keys, tmp_path, name):
    private, public = keys[name]
    assert sign(bundle, private) == bundle / SIGNATURE
    assert problems(bundle, public) == []
    assert problems(bundle.rename(tmp_path / "elsewhere"), public) == []


def test_only_the_signature_is_written(bundle, keys):
    before = set(bundle.parent.rglob("*"))
    sign(bundle, keys["ours"][0])
    sign(bundle, keys["ours"][0])
    assert set(bundle.parent.rglob("*")) - before == {bundle / SIGNATURE}


@given(st.sampled_from([name for name, content in FILES.items() if content]), st.integers(0, 999), st.integers(1, 255))
def test_any_changed_byte_is_found_and_named(signed, keys, name, position, mask):
    assert wrong(signed, keys, lambda copy: flipped(copy / name, position, mask)) == [
        f"{name!r} was changed after signing."
    ]


@given(st.integers(0, 5000), st.integers(1, 255))
def test_any_changed_byte_of_the_signature_is_found(signed, keys, position, mask):
    [problem] = wrong(signed, keys, lambda copy: flipped(copy / SIGNATURE, position, mask))
    assert problem.startswith("model.sig ")
    assert problem.endswith(" the key of 'ours.pub.pem'.")


def test_the_bits_that_base64_does_not_use_are_covered_too(signed, keys, tmp_path):
    """Lengths of every remainder by three: the last letter before `=` has two or four bits that decode to nothing."""
    padded = 0
    for extra in range(3):
        copy = Path(shutil.copytree(signed, tmp_path / str(extra)))
        (copy / ("n" * (extra + 1))).touch()
        content = sign(copy, keys["ours"][0]).read_bytes()
        assert problems(copy, keys["ours"][1]) == []
        for end in range(len(content)):
            if content[end - 1 : end] not in (b"=", b'"') and content[end : end + 1] == b"=":
                padded += 1
                for mask in range(1, 128):
                    flipped(copy / SIGNATURE, end - 1, mask)
                    assert problems(copy, keys["ours"][1]) != []
                    (copy / SIGNATURE).write_bytes(content)
    assert padded


@given(st.sampled_from(sorted(FILES)))
def test_any_removed_file_is_found_and_named(signed, keys, name):
    def remove(copy: Path) -> None:
        (copy / name).unlink()
        (copy / name).parent.joinpath("kept").write_text("")

    found = wrong(signed, keys, remove)
    assert f"{name!r} was removed after signing." in found


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40)


@given(st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=3))
@example(name=".git/config", content=b"")
@example(name=".gitignore", content=b"*")
@example(name=".gitattributes", content=b"")
@example(name=".github/workflows/ci.yml", content=b"")
@example(name="card/.model.sig", content=b"")
@example(name="model.sig.tmp", content=b"")
@example(name="two\nlines", content=b"")
def test_any_added_file_is_found_and_named(signed, keys, name, content):
    assume(not {".", ".."} & set(name.split("/")) and not (signed / name).exists())

    def add(copy: Path) -> None:
        try:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(content)
        except OSError:
            assume(False)  # no name for a file here

    found = wrong(signed, keys, add)
    assert found
    if name.isprintable():
        assert found == [f"{name!r} was added after signing."]


@pytest.mark.parametrize("name", GIT)
def test_the_names_git_uses_are_covered_like_any_other(bundle, keys, name):
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text("*")
    sign(bundle, keys["ours"][0])
    assert problems(bundle, keys["ours"][1]) == []
    (bundle / name).write_text("")
    assert problems(bundle, keys["ours"][1]) == [f"{name!r} was changed after signing."]


def test_a_signature_that_leaves_paths_out_does_not_hide_them(bundle, keys):
    """As the library's own command line makes them, and as the key's owner might."""
    skipping = model_signing.hashing.Config().set_ignored_paths(paths=[SIGNATURE, "late"], ignore_git_paths=True)
    signer = model_signing.signing.Config().use_elliptic_key_signer(private_key=keys["ours"][0])
    signer.set_hashing_config(skipping).sign(bundle, bundle / SIGNATURE)
    assert problems(bundle, keys["ours"][1]) == []
    for name in (".gitignore", "late"):
        (bundle / name).touch()
    assert problems(bundle, keys["ours"][1]) == [
        "'.gitignore' was added after signing.",
        "'late' was added after signing.",
    ]


def test_the_librarys_own_settings_verify_ours(bundle, keys):
    sign(bundle, keys["ours"][0])
    verifier = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=keys["ours"][1])
    verifier.verify(bundle, bundle / SIGNATURE)


def link(folder: Path) -> str:
    (folder / "odd").symlink_to(folder / "model.onnx")
    return "odd"


def linked_folder(folder: Path) -> str:
    (folder / "odd").symlink_to(folder / "card")
    return "odd"


def broken_link(folder: Path) -> str:
    (folder / "card" / "odd").symlink_to("nowhere")
    return "card/odd"


def empty_folder(folder: Path) -> str:
    (folder / "card" / "odd").mkdir()
    return "card/odd"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "odd")
    return "odd"


def no_utf8(folder: Path) -> str:
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff")).touch()
    return "odd\udcff"


@pytest.mark.parametrize("add", [link, linked_folder, broken_link, empty_folder, pipe, no_utf8])
def test_what_no_signature_covers_is_refused_before_and_after(bundle, keys, add, tmp_path):
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    name = add(bundle)
    said = f"{name!r} is a link, an empty folder, a special file or an unprintable name. Remove it."
    with pytest.raises(ParamsError) as caught:
        sign(bundle, keys["ours"][0])
    assert str(caught.value) == f"folder == {str(bundle)!r} can't be signed. {said}"
    assert not (bundle / SIGNATURE).exists()
    sign(other, keys["ours"][0])
    add(other)
    assert problems(other, keys["ours"][1]) == [said]


def test_a_linked_signature_is_refused_and_a_linked_bundle_is_not(signed, bundle, keys, tmp_path):
    (bundle / SIGNATURE).symlink_to(signed / SIGNATURE)
    [problem] = problems(bundle, keys["ours"][1])
    assert problem.startswith("'model.sig' is a link")
    (tmp_path / "latest").symlink_to(signed)
    assert problems(tmp_path / "latest", keys["ours"][1]) == []


def test_no_signature_is_named(bundle, keys, tmp_path):
    said = ["There is no model.sig: the folder is not signed."]
    assert problems(bundle, keys["ours"][1]) == said
    assert problems(tmp_path / "nowhere", keys["ours"][1]) == said
    (bundle / SIGNATURE).mkdir()
    assert problems(bundle, keys["ours"][1]) == said


def test_another_key_is_named(signed, keys):
    assert problems(signed, keys["theirs"][1]) == ["model.sig was not made with the key of 'theirs.pub.pem'."]


def test_the_signature_of_another_folder_names_what_differs(bundle, signed, keys):
    shutil.copy(signed / SIGNATURE, bundle)
    assert problems(bundle, keys["ours"][1]) == []
    (bundle / "model.onnx").rename(bundle / "new.onnx")
    (bundle / "card" / "README.md").write_text("?")
    assert problems(bundle, keys["ours"][1]) == [
        "'card/README.md' was changed after signing.",
        "'model.onnx' was removed after signing.",
        "'new.onnx' was added after signing.",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
)


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"")
@example(b"{}")
@example(b"[]")
@example(b"[" * 100_000)
@example(b'{"dsseEnvelope": {"payload": 1, "signatures": [{"sig": null}]}}')
@example(b'{"dsseEnvelope": {"payload": "e30=", "signatures": []}, "verificationMaterial": 3}')
@example(b'{"dsseEnvelope": {"payload": "eyJwcmVkaWNhdGUiOnsicmVzb3VyY2VzIjpbXX19", "signatures": []}}')
def test_any_bytes_for_a_signature_are_a_problem_and_no_traceback(signed, keys, content):
    assert wrong(signed, keys, lambda copy: (copy / SIGNATURE).write_bytes(content)) == [
        "model.sig is damaged, or forged without the key of 'ours.pub.pem'."
    ]


def test_an_encrypted_key_opens_with_its_password_only(bundle, keys, monkeypatch):
    private, public = keys["locked"]
    for password in ("", "sesam"):
        monkeypatch.setenv("CXLAB_SIGNING_PASSWORD", password)
        with pytest.raises(ParamsError, match="any password in CXLAB_SIGNING_PASSWORD"):
            sign(bundle, private)
    monkeypatch.setenv("CXLAB_SIGNING_PASSWORD", "sesame")
    sign(bundle, private)
    monkeypatch.delenv("CXLAB_SIGNING_PASSWORD")
    assert problems(bundle, public) == []


@pytest.mark.parametrize("name", ["rsa", "koblitz"])
def test_a_key_of_another_kind_is_refused(signed, bundle, keys, name):
    private, public = keys[name]
    with pytest.raises(
        ParamsError, match=r"private key == '.*', must be of an elliptic curve \(P-256, P-384 or P-521\)"
    ):
        sign(bundle, private)
    with pytest.raises(
        ParamsError, match=r"public key == '.*', must be of an elliptic curve \(P-256, P-384 or P-521\)"
    ):
        problems(signed, public)
    assert not (bundle / SIGNATURE).exists()


@given(st.binary(max_size=80) | st.just(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"))
def test_a_file_that_is_no_key_is_refused(signed, content):
    with tempfile.TemporaryDirectory() as place:
        key = Path(place, "key.pem")
        key.write_bytes(content)
        with pytest.raises(ParamsError, match=r"private key == .*key\.pem'.* in PEM;"):
            sign(signed, key)
        with pytest.raises(ParamsError, match=r"public key == .*key\.pem'.* in PEM;"):
            problems(signed, key)


def test_a_key_is_not_taken_for_the_other_half_nor_from_nowhere(signed, bundle, keys, tmp_path):
    private, public = keys["ours"]
    for missing in (public, tmp_path / "nowhere.pem", tmp_path):
        with pytest.raises(ParamsError, match="and in PEM;"):
            sign(bundle, missing)
    for missing in (private, tmp_path / "nowhere.pem", tmp_path):
        with pytest.raises(ParamsError, match="and in PEM;"):
            problems(signed, missing)


def test_a_private_key_in_the_bundle_is_refused(bundle, keys):
    inside = Path(shutil.copy(keys["ours"][0], bundle / "key.pem"))
    with pytest.raises(ParamsError, match=r"must not lie in the folder it signs\. Keep it elsewhere\."):
        sign(bundle, inside)


def test_a_folder_without_a_file_is_refused(keys, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path / "empty"):
        tmp_path.joinpath("empty").mkdir(exist_ok=True)
        with pytest.raises(ParamsError, match=r"can't be signed\. It holds no file\."):
            sign(folder, keys["ours"][0])


def test_what_can_not_be_read_or_written_is_named(signed, bundle, keys, monkeypatch):
    def locked(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        real = signing.sha256_of
        patch.setattr(signing, "sha256_of", lambda path: locked(path) if path.name == "model.onnx" else real(path))
        assert problems(signed, keys["ours"][1]) == [f"'{signed}/model.onnx' can't be read: Permission denied."]
        with pytest.raises(ParamsError, match=r"must be readable, and its parent writable. .*Permission denied"):
            sign(bundle, keys["ours"][0])


def test_a_failed_signing_leaves_the_former_signature_and_no_rest(bundle, keys, monkeypatch):
    sign(bundle, keys["ours"][0])
    before = sorted(bundle.parent.rglob("*")), (bundle / SIGNATURE).read_bytes()

    def full(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ParamsError, match="No space left on device"):
        sign(bundle, keys["ours"][0])
    assert (sorted(bundle.parent.rglob("*")), (bundle / SIGNATURE).read_bytes()) == before


@pytest.mark.parametrize("variable, named", [("CXLAB_SIGNING_KEY", signing_key), ("CXLAB_VERIFY_KEY", verify_key)])
def test_keys_come_from_the_environment(variable, named, keys, tmp_path, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    assert named() is None
    monkeypatch.setenv(variable, "")
    assert named() is None
    monkeypatch.setenv(variable, str(keys["ours"][0]))
    assert named() == keys["ours"][0]
    for value in (str(tmp_path / "nowhere.pem"), str(tmp_path)):
        monkeypatch.setenv(variable, value)
        with pytest.raises(ParamsError) as caught:
            named()
        assert str(caught.value) == (
            f"{variable} == {value!r}, must be a file. Set it to a key in PEM form, or unset it."
        )


def test_without_the_extra_one_is_told_what_to_install(bundle, keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for use, key in ((sign, keys["ours"][0]), (problems, keys["ours"][1])):
        with pytest.raises(ParamsError, match=r"Signatures need the extra 'sign'.* pip install 'cxlab\[sign\]'"):
            use(bundle, key)


def test_no_network_is_asked(bundle, keys, monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    sign(bundle, keys["ours"][0])
    assert problems(bundle, keys["ours"][1]) == []


WATCH = """
import sys
from pathlib import Path
sys.dont_write_bytecode = True
seen = []
def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "subprocess.Popen"):
        seen.append(event)
    if event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+"):
        seen.append(str(details[0]))
sys.addaudithook(watch)
from cxlab.release.signing import problems, sign
assert "model_signing" not in sys.modules and "cryptography" not in sys.modules
folder, private, public = map(Path, sys.argv[1:])
sign(folder, private)
assert problems(folder, public) == []
assert all(Path(path).parent.parent == folder.parent and Path(path).name == "model.sig" for path in seen), seen
assert len(seen) == 1, seen
"""


def test_a_first_import_asks_no_network_and_writes_nothing(bundle, keys):
    private, public = keys["ours"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", WATCH, bundle, private, public], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
