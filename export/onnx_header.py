"""What an encoded ONNX model says of its format, read without the onnx package.

Fields of ``ModelProto`` in protobuf's encoding: a tag, which is field number · 8 + wire type, then a varint,
or a length and as many bytes. Source: onnx.proto, and protobuf's encoding guide.
"""

from collections.abc import Iterator
from typing import NamedTuple

IR_VERSION = 9
OPSET = 18
OPSETS = {"": OPSET}
"""Version of every operator domain that an artefact uses: ONNX's own, which has no name."""

_VARINT, _BYTES = 0, 2
_IR_VERSION, _OPSET_IMPORT = 1, 8  # of ModelProto
_DOMAIN, _VERSION = 1, 2  # of OperatorSetIdProto


class Header(NamedTuple):
    """Versions that a model needs."""

    ir_version: int
    opsets: dict[str, int]
    """Version by domain."""


def read_header(model: bytes) -> Header:
    """Versions in an encoded model.

    Raises:
        ValueError: it is no protobuf message, or not such a one.
    """
    ir_version, opsets = 0, {}
    for number, value in _fields(model):
        if number == _IR_VERSION and isinstance(value, int):
            ir_version = value
        elif number == _OPSET_IMPORT and not isinstance(value, int):
            parts = dict(_fields(bytes(value)))
            domain, version = parts.get(_DOMAIN, b""), parts.get(_VERSION, 0)
            if isinstance(domain, int) or not isinstance(version, int):
                raise ValueError("an operator set has no readable version")
            opsets[bytes(domain).decode()] = version
    return Header(ir_version, opsets)


def _fields(message: bytes) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field, in order; the bytes of a long one are not copied."""
    view, place = memoryview(message), 0
    while place < len(view):
        tag, place = _varint(view, place)
        number, wire_type = tag >> 3, tag & 7
        if wire_type not in (_VARINT, _BYTES):
            raise ValueError(f"byte {place}: unexpected wire type {wire_type}")
        value, place = _varint(view, place)
        if wire_type == _VARINT:
            yield number, value
            continue
        if place + value > len(view):
            raise ValueError(f"byte {place}: a field of {value} bytes ends behind the file")
        yield number, view[place : place + value]
        place += value


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """Integer at a place, seven bits a byte and the low ones first, and the place behind it."""
    value = 0
    for shift in range(0, 64, 7):
        if place >= len(view):
            break
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise ValueError(f"byte {place}: no end of an integer")
