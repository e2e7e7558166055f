"""OpenSSF signatures over every file of a folder, hidden ones too, by a key of one's own and without a network."""

from __future__ import annotations

import json
import os
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from cxlab.digest import sha256_of
from cxlab.errors import ParamsError
from cxlab.release.folder import SIGNATURE  # the only file the signature does not cover


def signing_key() -> Path | None:
    """The private key CXLAB_SIGNING_KEY names, None if unset; a ParamsError if that is no file."""
    return _named("CXLAB_SIGNING_KEY")


def verify_key() -> Path | None:
    """The public key CXLAB_VERIFY_KEY names, None if unset; a ParamsError if that is no file."""
    return _named("CXLAB_VERIFY_KEY")


def sign(folder: Path, key: Path) -> Path:
    """Writes `model.sig`, whole or not at all; a ParamsError if the extra, the key or the folder does not allow it."""
    signer, folder = _config("private key", key), folder.resolve()
    if key.resolve().is_relative_to(folder):
        raise ParamsError(f"private key == {str(key)!r}, must not lie in the folder it signs. Keep it elsewhere.")
    try:
        digests, refused = _contents(folder)
        if refused or not digests:
            raise ParamsError(f"folder == {str(folder)!r} can't be signed. {' '.join(refused) or 'It holds no file.'}")
        with tempfile.TemporaryDirectory(prefix=".signing-", dir=folder.parent) as beside:
            signer.sign(folder, Path(beside, SIGNATURE))
            return Path(beside, SIGNATURE).replace(folder / SIGNATURE)
    except OSError as error:
        raise ParamsError(f"folder == {str(folder)!r}, must be readable, and its parent writable. {error}") from None


def problems(folder: Path, public_key: Path) -> list[str]:
    """What is wrong, a sentence each; [] if all is as signed. A ParamsError if the extra or the key is none."""
    verifier, folder, said = _config("public key", public_key), folder.resolve(), ""
    if not (folder / SIGNATURE).is_file():
        return [f"There is no {SIGNATURE}: the folder is not signed."]
    try:
        digests, refused = _contents(folder)
        if refused:
            return refused
        envelope = json.loads((folder / SIGNATURE).read_bytes())["dsseEnvelope"]
        texts = [envelope["payload"], *(each["sig"] for each in envelope["signatures"])]
        if any(b64encode(b64decode(text)).decode() != text for text in texts):
            raise ValueError("base64 with stray bits, which could change unseen")
        signed = {each["name"]: each["digest"] for each in json.loads(b64decode(texts[0]))["predicate"]["resources"]}
        verifier.verify(folder, folder / SIGNATURE)
    except OSError as error:
        return [f"{str(error.filename)!r} can't be read: {error.strerror}."]
    except Exception as error:  # noqa: BLE001 - a stranger's bytes: whatever they raise, they do not verify
        said = str(error)
        if not said.startswith("Signature mismatch"):  # which says: genuine, but not of these files
            other = "was not made with" if said.startswith("Key mismatch") else "is damaged, or forged without"
            return [f"{SIGNATURE} {other} the key of {public_key.name!r}."]
    # Compared anew, for the library skips the paths that a signature tells it to skip.
    odd = [name for name in sorted({*digests, *signed}) if digests.get(name) != signed.get(name)]
    deeds = ["added" if name not in signed else "changed" if name in digests else "removed" for name in odd]
    found = [f"{name!r} was {deed} after signing." for name, deed in zip(odd, deeds, strict=True)]
    return found or ([f"{SIGNATURE} does not fit the folder: {said}."] if said else [])


def _named(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if value and not Path(value).is_file():
        raise ParamsError(f"{variable} == {value!r}, must be a file. Set it to a key in PEM form, or unset it.")
    return Path(value) if value else None


def _config(kind: str, key: Path) -> Any:
    """The library's settings to sign or verify every file."""
    try:
        from model_signing import hashing, signing, verifying
    except ImportError as error:
        raise ParamsError(f"Signatures need the extra 'sign': {error}. pip install 'cxlab[sign]'") from None
    every = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    try:
        if kind == "public key":
            return verifying.Config().set_hashing_config(every).use_elliptic_key_verifier(public_key=key)
        password = os.environ.get("CXLAB_SIGNING_PASSWORD", "").encode() or None  # model-signing 1.1 can't take a str
        return signing.Config().set_hashing_config(every).use_elliptic_key_signer(private_key=key, password=password)
    except Exception:  # noqa: BLE001 - OpenSSL's errors are of many kinds; each says that this is no such key
        raise ParamsError(
            f"{kind} == {str(key)!r}, must be of an elliptic curve (P-256, P-384 or P-521) and in PEM; any password in "
            "CXLAB_SIGNING_PASSWORD. Make it: openssl ecparam -genkey -noout -name prime256v1; openssl pkey -pubout."
        ) from None


def _contents(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The SHA-256 of every file but the signature, and what no signature covers."""
    digests, refused = {}, []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        plain = path.is_file() or (path.is_dir() and any(path.iterdir()))
        if path.is_symlink() or not plain or not name.isprintable():
            refused.append(f"{name!r} is a link, an empty folder, a special file or an unprintable name. Remove it.")
        elif path.is_file() and name != SIGNATURE:
            digests[name] = sha256_of(path)
    return digests, refused
