"""The last bytes of an artefact: a digest of everything before them.

They are one more entry of the ONNX model's ``metadata_props``, which protobuf allows to be appended to the
encoded model, so that any ONNX runtime still loads the file, while a changed byte is noticed without a
parser: the digest has a fixed length and a fixed place.
"""

import hashlib

DIGEST_KEY = "wpg.digest"

# Field 14 (metadata_props) of ModelProto, length-delimited; in it key (field 1) and value (field 2).
_HEAD = bytes([14 << 3 | 2, 78, 1 << 3 | 2, len(DIGEST_KEY)]) + DIGEST_KEY.encode() + bytes([2 << 3 | 2, 64])
SEAL_SIZE = len(_HEAD) + 64
"""Bytes that :func:`seal` appends."""


def seal(model: bytes) -> bytes:
    """Encoded model with its digest appended."""
    return model + _HEAD + hashlib.sha256(model).hexdigest().encode()


def is_sealed(data: bytes) -> bool:
    """Whether the bytes end in a digest, be it the right one or not."""
    return data[-SEAL_SIZE:-64] == _HEAD


def stored_digest(data: bytes) -> str:
    """The digest that sealed bytes claim to have, 64 hexadecimal digits."""
    return data[-64:].decode("ascii", "replace")


def actual_digest(data: bytes) -> str:
    """The digest that the bytes before the seal have."""
    return hashlib.sha256(memoryview(data)[:-SEAL_SIZE]).hexdigest()
