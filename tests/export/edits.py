"""Artifacts with something changed, under a right digest, and what the reader says of them."""

import onnx
import pytest

from wpg.export import ArtifactError, load_artifact
from wpg.export.digest import SEAL_SIZE, seal
from wpg.export.reader import CONTRACT_KEY


def refused(data, tmp_path, error=ArtifactError) -> str:
    """The message with which a file of this content is refused."""
    file = tmp_path / "candidate.onnx"
    file.write_bytes(data)
    with pytest.raises(error) as caught:
        load_artifact(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    return message


def edited(path, change) -> bytes:
    """The artifact with ``change`` made to its model, under a right digest."""
    model = onnx.load_from_string(path.read_bytes()[:-SEAL_SIZE])
    change(model)
    return seal(model.SerializeToString())


def edited_contract(path, old: str, new: str) -> bytes:
    def change(model):
        (entry,) = (prop for prop in model.metadata_props if prop.key == CONTRACT_KEY)
        assert old in entry.value
        entry.value = entry.value.replace(old, new, 1)

    return edited(path, change)
