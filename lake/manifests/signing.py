"""Signatures of manifests: Ed25519, beside the file, with the public key that it can be checked against.

A signature that only fits the key beside it proves no more than a checksum. Whoever wants proof against malice
keeps the public key elsewhere and names it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from lake.durable import fsync_dir, replace_file
from lake.errors import InputError
from lake.manifests.form import SIGNATURE_SUFFIX

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHM: Final = "ed25519"
PUBLIC_SUFFIX: Final = ".pub"
PRIVATE_MODE: Final = 0o600


class Signature(msgspec.Struct, frozen=True):
    """What lies beside a signed manifest; key and signature in hex."""

    algorithm: str
    public_key: str
    signature: str


def make_key(path: Path) -> Path:
    """Write a new private key to `path`, for its owner only, and the public one beside it, whose path is returned.

    Raises:
        InputError: there is a file already, which is not overwritten.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = path.with_name(path.name + PUBLIC_SUFFIX)
    for taken in (path, public):
        if taken.exists():
            raise InputError(f"{taken} is there already; a key is not overwritten: give another name")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.absolute().parent} is no folder; make it first")
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE), "wb") as file:
        file.write(pem)
        os.fsync(file.fileno())
    fsync_dir(path.absolute().parent)
    replace_file(public, _public_hex(key).encode() + b"\n")
    return public


def load_key(path: Path) -> Ed25519PrivateKey:
    """The private key in the file at `path`.

    Raises:
        InputError: there is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key: Any = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise InputError(f"{path}: the key for manifests cannot be read: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no private key; make one with `lake manifest keygen`: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(f"{path} is a key of another kind; make one with `lake manifest keygen`")
    return key


def load_public(path: Path) -> str:
    """The public key in the file at `path`, in hex.

    Raises:
        InputError: there is none.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        text = path.read_text(encoding="ascii").strip()
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(text))
    except OSError as error:
        raise InputError(f"{path}: the public key cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path} is no public key as `lake manifest keygen` writes it") from None
    return text


def signature_path(manifest: Path) -> Path:
    """Where the signature of the manifest at this path lies."""
    return manifest.with_name(manifest.name + SIGNATURE_SUFFIX)


def sign(manifest: Path, raw: bytes, key: Ed25519PrivateKey) -> None:
    """Put the signature of `raw` beside the manifest at this path, durably."""
    content = Signature(ALGORITHM, _public_hex(key), key.sign(raw).hex())
    replace_file(signature_path(manifest), msgspec.json.encode(content, order="sorted") + b"\n")


def signature_problem(manifest: Path, raw: bytes, public: str | None) -> str | None:
    """What is wrong with the signature of the manifest at this path, by the key `public` (hex) where that is given.

    None where nothing is, or where there is neither a signature nor a key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    path = signature_path(manifest)
    if not path.exists():
        return None if public is None else f"{manifest} is not signed"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Signature)
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found.public_key))
        if found.algorithm != ALGORITHM:
            return f"{path}: the algorithm {found.algorithm!r} is not known"
        if public is not None and found.public_key != public:
            return f"{manifest} is signed with another key than the one given"
        key.verify(bytes.fromhex(found.signature), raw)
    except (msgspec.MsgspecError, ValueError):
        return f"{path} is no signature, or was damaged"
    except InvalidSignature:
        return f"{path} is not the signature of {manifest.name}"
    return None


def _public_hex(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()
