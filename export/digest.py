"""The last bytes of an artifact: an optional signature, then a digest of everything before it.

Both are entries of the ONNX model's ``metadata_props``. Protobuf allows such entries to be appended to the
encoded model, so that any ONNX runtime still loads the file. They have a fixed length and place, so that a
changed byte is noticed without a parser::

    model | wpg.signature (optional): HMAC-SHA256 of the model | wpg.digest: SHA-256 of all before
"""

import hashlib
import hmac

_HEX_DIGITS = 64


def _head(key: str) -> bytes:
    """Bytes before the hexadecimal digits of an entry.

    Field 14 (metadata_props) of ModelProto, length-delimited; in it key (field 1) and value (field 2).
    """
    entry = bytes([1 << 3 | 2, len(key)]) + key.encode() + bytes([2 << 3 | 2, _HEX_DIGITS])
    return bytes([14 << 3 | 2, len(entry) + _HEX_DIGITS]) + entry


DIGEST_KEY, SIGNATURE_KEY = "wpg.digest", "wpg.signature"
_DIGEST, _SIGNATURE = _head(DIGEST_KEY), _head(SIGNATURE_KEY)
SEAL_SIZE = len(_DIGEST) + _HEX_DIGITS
"""Bytes that :func:`seal` appends."""
SIGNATURE_SIZE = len(_SIGNATURE) + _HEX_DIGITS
"""Bytes that :func:`sign` appends."""


def sign(model: bytes, key: bytes) -> bytes:
    """Encoded model with its signature appended; it is sealed afterwards."""
    return model + _SIGNATURE + _hmac(model, key)


def seal(model: bytes) -> bytes:
    """Encoded model with its digest appended."""
    return model + _DIGEST + hashlib.sha256(model).hexdigest().encode()


def is_sealed(data: bytes) -> bool:
    """Whether the bytes end in a digest, right or wrong."""
    return data[-SEAL_SIZE:-_HEX_DIGITS] == _DIGEST


def stored_digest(data: bytes) -> str:
    """The digest that sealed bytes claim to have, 64 hexadecimal digits."""
    return data[-_HEX_DIGITS:].decode("ascii", "replace")


def actual_digest(data: bytes) -> str:
    """The digest of the bytes before the stored one."""
    return hashlib.sha256(memoryview(data)[:-SEAL_SIZE]).hexdigest()


def is_signed(data: bytes) -> bool:
    """Whether a signature, right or wrong, stands before the digest."""
    return data[-SEAL_SIZE - SIGNATURE_SIZE :][: len(_SIGNATURE)] == _SIGNATURE


def is_signed_with(data: bytes, key: bytes) -> bool:
    """Whether the signature before the digest was made with this key."""
    found = data[-SEAL_SIZE - _HEX_DIGITS : -SEAL_SIZE]
    return is_signed(data) and hmac.compare_digest(found, _hmac(data[: -SEAL_SIZE - SIGNATURE_SIZE], key))


def _hmac(model: bytes, key: bytes) -> bytes:
    # The prefix keeps this use of the key apart from its other uses.
    code = hmac.new(key, SIGNATURE_KEY.encode(), "sha256")
    code.update(model)
    return code.hexdigest().encode()
