"""Format versions of an encoded ONNX model, read without the onnx package.

``ModelProto`` is read in protobuf's encoding: each field has a tag, which is field number · 8 + wire type,
and then either a varint, or a length and that many bytes. Source: onnx.proto and protobuf's encoding guide.
"""

from collections.abc import Iterator
from typing import NamedTuple

IR_VERSION = 9
OPSET = 18
OPSETS = {"": OPSET}
"""Version of ONNX's own operator domain, the only one that an artifact uses."""

_VARINT, _BYTES = 0, 2
_IR_VERSION, _OPSET_IMPORT, _METADATA_PROPS = 1, 8, 14  # of ModelProto
_DOMAIN, _VERSION = 1, 2  # of OperatorSetIdProto
_KEY = 1  # of StringStringEntryProto


class Header(NamedTuple):
    """Versions that a model needs, and the names of its metadata."""

    ir_version: int
    opsets: dict[str, int]
    """Version by domain."""
    metadata: tuple[str, ...]
    """Keys in the file's order."""


def read_header(model: bytes) -> Header:
    """Versions and metadata keys in an encoded model.

    Raises:
        ValueError: the bytes are no protobuf message, or another message than ``ModelProto``.
    """
    ir_version, opsets, metadata = 0, {}, []
    for number, value in _fields(model):
        if number == _IR_VERSION and isinstance(value, int):
            ir_version = value
        elif number == _OPSET_IMPORT:
            parts = dict(_fields(_message(value)))
            version = parts.get(_VERSION, 0)
            if not isinstance(version, int):
                raise ValueError("an operator set has no readable version")
            opsets[_text(parts.get(_DOMAIN, b""))] = version
        elif number == _METADATA_PROPS:
            metadata.append(_text(dict(_fields(_message(value))).get(_KEY, b"")))
    return Header(ir_version, opsets, tuple(metadata))


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("found a number where a message is expected")
    return value


def _text(value: int | bytes) -> str:
    return _message(value).decode()


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field, in order."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in (_VARINT, _BYTES):
            raise ValueError(f"byte {place}: unexpected wire type {wire_type}")
        value, place = _varint(message, place)
        if wire_type == _VARINT:
            yield number, value
            continue
        if place + value > len(message):
            raise ValueError(f"byte {place}: a field of {value} bytes ends behind the file")
        yield number, message[place : place + value]
        place += value


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """Varint at a place, seven bits per byte with the low bits first, and the place after it."""
    value = 0
    for shift, byte in zip(range(0, 64, 7), message[place : place + 10], strict=False):
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise ValueError(f"byte {place}: no end of an integer")
