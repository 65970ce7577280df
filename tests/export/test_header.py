"""Another ONNX version, another operator set and foreign metadata are named, and refused."""

import pytest
from edits import edited, refused
from onnx import helper

from wpg.export import ContractError, CorruptArtifactError
from wpg.export.digest import seal


@pytest.mark.parametrize("version", [17, 19, 99])
def test_another_operator_set(path, tmp_path, version):
    def change(model):
        model.opset_import[0].version = version

    message = refused(edited(path, change), tmp_path, ContractError)
    assert message.endswith(
        f"operator sets: expected {{'': 18}}, found {{'': {version}}}: export it with wpg"
    )


def test_operators_of_another_domain(path, tmp_path):
    def change(model):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))

    message = refused(edited(path, change), tmp_path, ContractError)
    assert "expected {'': 18}, found {'': 18, 'com.microsoft': 1}" in message


@pytest.mark.parametrize("key", ["note", "wpg.contract", ""])
def test_further_metadata(path, tmp_path, key):
    def change(model):
        model.metadata_props.add(key=key, value="{}")

    message = refused(edited(path, change), tmp_path, CorruptArtifactError)
    assert f"expected wpg.contract, wpg.digest, found wpg.contract, {key}, wpg.digest" in message


@pytest.mark.parametrize("version", [7, 12])
def test_another_onnx_version(path, tmp_path, version):
    def change(model):
        model.ir_version = version

    assert f"ONNX IR version: expected 9, found {version}" in refused(
        edited(path, change), tmp_path, ContractError
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (b"\x42\x01\x08", "no end of an integer"),
        (b"\x08" + 10 * b"\xff", "no end of an integer"),
        (b"\x3a\x7f" + b"graph", "ends behind the file"),
        (b"\x09" + 8 * b"\0", "unexpected wire type 1"),
        (b"\x42\x02\x12\x00", "no readable version"),
        (b"\x42\x02\x08\x01", "a number where a message is expected"),
        (b"\x70\x01", "a number where a message is expected"),
        (b"\x42\x03\x0a\x01\xff", "no ONNX model"),
    ],
)
def test_what_is_no_model_under_a_right_digest(tmp_path, model, says):
    assert says in refused(seal(model), tmp_path, CorruptArtifactError)
