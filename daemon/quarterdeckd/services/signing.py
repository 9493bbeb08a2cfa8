"""Signatures of bundles: Ed25519 (RFC 8032) over the bytes of the manifest, behind a word that no other use begins
with."""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec

from quarterstore.records.faults import Refused, got
from quarterstore.records.names import drawn
from quarterstore.records.remotes import FORM, LONGEST_MANIFEST, Manifest

CONTEXT = b"quarterdeck bundle 1\n"
KEY, SIGNATURE = 32, 64
"""Bytes of a public key and of a signature."""


def new_secret() -> bytes:
    """A new secret key: 32 bytes, in hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 25 ms, at the first bundle

    return Ed25519PrivateKey.generate().private_bytes_raw().hex().encode()


def public_of(secret: bytes) -> str:
    """The public half of a secret key, in base64; `ValueError` for what is no key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.decode("ascii").strip()))
    return base64.b64encode(private.public_key().public_bytes_raw()).decode()


def sign(secret: bytes, manifest: str) -> str:
    """The signature of a manifest, in base64."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret.decode("ascii").strip()))
    return base64.b64encode(private.sign(CONTEXT + manifest.encode())).decode()


def checked_key(field: str, text: str) -> str:
    """A public key as it is kept; `Invalid` for what is none."""
    return base64.b64encode(_bytes(field, text, KEY)).decode()


def signed(manifest: str, signature: str, key: str) -> Manifest:
    """What a manifest says, once its signature is that of the key; `Refused` where it is another, `Invalid` for what is
    no manifest."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(manifest) > LONGEST_MANIFEST:
        raise got("manifest", f"{len(manifest)} characters", f"at most {LONGEST_MANIFEST}")
    if not signature:
        raise Refused("the bundle is not signed", field="signature", next="send it with qd deploy --to")
    public, given = _bytes("key", key, KEY), _bytes("signature", signature, SIGNATURE)
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(given, CONTEXT + manifest.encode("utf-8", "surrogatepass"))
    except InvalidSignature as error:
        raise Refused(
            "the manifest was altered, or another key signed it", field="signature", next="send it again"
        ) from error
    try:
        found = msgspec.json.decode(manifest.encode(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise got("manifest", drawn(str(error), longest=200), "the JSON of a manifest") from error
    if found.form != FORM:
        raise got("manifest.form", found.form, FORM)
    return found


def bundle_id(manifest: str) -> str:
    """The SHA-256 of a manifest: what a bundle is called on both sides."""
    return hashlib.sha256(manifest.encode("utf-8", "surrogatepass")).hexdigest()


def upload_name(key: str, digest: str) -> str:
    """The name under which a file of a bundle grows: one sender's half does not go on with another's."""
    return "bundle-" + hashlib.sha256(f"{key} {digest}".encode()).hexdigest()[:32]


def _bytes(field: str, text: str, size: int) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise got(field, text, f"{size} bytes in base64") from error
    if len(found) != size:
        raise got(field, f"{len(found)} bytes", f"{size} bytes in base64")
    return found
