"""Only a whole artifact is read, and what is wrong is said in one line."""

import random

import numpy as np
import onnx
import pytest
from edits import edited, edited_contract, refused
from onnx import TensorProto, helper

from wpg.export import ContractError, CorruptArtifactError, SignatureError, load_artifact
from wpg.export.digest import SEAL_SIZE, seal
from wpg.export.reader import artifact_from_bytes


def test_golden_vectors_replay(path):
    artifact = load_artifact(path)
    assert artifact.verify_golden() < 1e-5
    golden = artifact.contract.golden
    assert len(golden.obs) == 6
    assert np.abs(np.array(golden.obs)).min(axis=1).max() > 0


def test_single_byte_flips_are_refused(path):
    data = bytearray(path.read_bytes())
    rng = random.Random(0)
    places = [*range(len(data) - SEAL_SIZE - 8, len(data)), *(rng.randrange(len(data)) for _ in range(500))]
    for place in places:
        mask = rng.randrange(1, 256)
        data[place] ^= mask
        with pytest.raises(CorruptArtifactError):
            artifact_from_bytes(bytes(data), path)
        data[place] ^= mask
    assert artifact_from_bytes(bytes(data), path).verify_golden() < 1e-5


def test_truncated_and_extended_files_are_refused(path, tmp_path):
    data = path.read_bytes()
    rng = random.Random(1)
    for size in [0, 1, SEAL_SIZE, len(data) - 1, *(rng.randrange(len(data)) for _ in range(50))]:
        refused(data[:size], tmp_path, CorruptArtifactError)
    for tail in (b"\0", b"garbage", data[-SEAL_SIZE:], data):
        refused(data + tail, tmp_path, CorruptArtifactError)
    assert "truncated or edited" in refused(data[:-5], tmp_path)
    assert "without a contract" in refused(data[:50], tmp_path)


def test_edited_weights_are_noticed(path, tmp_path):
    data = path.read_bytes()
    place = data.index(b"wpg.contract") // 2
    message = refused(data[:place] + b"\x7f" + data[place + 1 :], tmp_path, CorruptArtifactError)
    assert "expected SHA-256" in message
    assert "found" in message


def test_signature(write, path, tmp_path):
    key, file = bytes(range(32)), tmp_path / "signed.onnx"
    write(file, sign_key=key)
    assert load_artifact(file, key).signed
    assert load_artifact(file).signed  # nobody asked for it
    assert not load_artifact(path).signed
    with pytest.raises(SignatureError, match="expected a signature made with the given key, found none"):
        load_artifact(path, key)
    with pytest.raises(SignatureError, match="found one made with another key"):
        load_artifact(file, key[::-1])
    assert onnx.load(file).metadata_props[-2].key == "wpg.signature"


def test_what_is_edited_after_signing_is_noticed_under_a_right_digest(write, tmp_path):
    key, file = bytes(range(32)), tmp_path / "signed.onnx"
    write(file, sign_key=key)
    data = bytearray(file.read_bytes()[:-SEAL_SIZE])
    for place in (100, len(data) // 2, len(data) - 1):
        data[place] ^= 1
        with pytest.raises(SignatureError):
            artifact_from_bytes(seal(bytes(data)), file, key)
        data[place] ^= 1
    assert artifact_from_bytes(seal(bytes(data)), file, key).signed


def test_golden_error_is_absolute(path, tmp_path):
    artifact = load_artifact(path)
    golden = artifact.contract.golden
    found = artifact.run(np.array(golden.obs, np.float32), np.array(golden.noise, np.float32))
    errors = [
        np.abs(values - np.array(getattr(golden, name), np.float32)).max()
        for name, values in found._asdict().items()
    ]
    assert artifact.verify_golden() == max(errors)


def test_missing_file_and_folder(tmp_path):
    for place in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(CorruptArtifactError, match="cannot be read"):
            load_artifact(place)


def test_a_run_log_is_told_from_a_damaged_artifact(path, tmp_path):
    data = b"\x89MCAP0\r\n" + path.read_bytes()  # a log holds the contract of its run
    assert "found a run log, which `wpg plot`" in refused(data, tmp_path, CorruptArtifactError)


def test_foreign_onnx(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    graph.output[0].name = "y"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    data = model.SerializeToString()
    assert "without a contract" in refused(data, tmp_path, CorruptArtifactError)
    message = refused(seal(data), tmp_path, CorruptArtifactError)
    assert message.endswith("metadata: expected wpg.contract, wpg.digest, found wpg.digest")
    assert "no ONNX model" in refused(seal(b"no model at all"), tmp_path, CorruptArtifactError)
    model.graph.node[0].op_type = "Frobnicate"
    model.metadata_props.add(key="wpg.contract", value="{}")
    assert "cannot load it" in refused(seal(model.SerializeToString()), tmp_path, CorruptArtifactError)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"version":1', '"version":2', "version 2 found, this wpg reads version 1: update wpg"),
        ('"version":1', '"version":"one"', "no readable version"),
        ('"version":1', '"version":-1000000000000', "no readable version"),
        ('"version":1,', '"version":1,"colour":"red",', "unknown field `colour`"),
        ('"git_commit":null,', "", "missing required field `git_commit`"),
        ('"control_dt_s":0.05', '"control_dt_s":-0.05', r"$.interface.control_dt_s"),
        ('"control_dt_s":0.05', '"control_dt":0.05', "control_dt"),
        ('"mode":"joint_position_delta"', '"mode":"joint_posture"', "joint_posture"),
        ('"num_particles":5', '"num_particles":0', "$.sampler.num_particles"),
        ('"name":"joint2"', '"name":"joint1"', "joint names must be distinct, found joint1"),
        ('"noise_dim":3', '"noise_dim":6', "expected noise_dim 3, found 6"),
        (
            '"size":3,"source":"goal"',
            '"size":4,"source":"goal"',
            "golden vectors: obs: expected shape (6, 10)",
        ),
    ],
)
def test_contracts_that_do_not_hold_together(path, tmp_path, old, new, says):
    assert says in refused(edited_contract(path, old, new), tmp_path, ContractError)


def test_graph_that_does_not_fit_its_contract(path, tmp_path):
    def rename(model):
        model.graph.input[0].name = "observation"
        for node in model.graph.node:
            node.input[:] = ["observation" if name == "obs" else name for name in node.input]

    message = refused(edited(path, rename), tmp_path, ContractError)
    assert "graph inputs: expected ['noise', 'obs'], found ['noise', 'observation']" in message

    def fix_batch(model):
        dim = model.graph.input[1].type.tensor_type.shape.dim[1]
        dim.dim_value = 4

    message = refused(edited(path, fix_batch), tmp_path, ContractError)
    assert "graph input noise: expected tensor(float) (B, K, 3), found tensor(float) (B, 4, 3)" in message


@pytest.mark.parametrize("value", [0.5, np.inf])
def test_changed_weights_under_a_right_digest_fail_the_golden_vectors(path, tmp_path, value):
    def change(model):
        (tensor,) = (t for t in model.graph.initializer if t.name == "action_offset")
        tensor.raw_data = np.array([0, 0.3, value], np.float32).tobytes()

    file = tmp_path / "candidate.onnx"
    file.write_bytes(edited(path, change))
    with pytest.raises(CorruptArtifactError, match=r"golden vectors: expected particles within 0.0001"):
        load_artifact(file).verify_golden()


def test_sampler_draws_what_run_computes(path):
    artifact = load_artifact(path)
    rng = np.random.default_rng(0)
    for particles in (None, 1, 13):
        sampler = artifact.sampler(particles)
        assert sampler.noise_shape == (particles or artifact.contract.sampler.num_particles, 3)
        for _ in range(3):
            obs = rng.standard_normal(9)
            noise = rng.standard_normal(sampler.noise_shape)
            sample = sampler.draw(obs, noise)
            batch = artifact.run(obs[None].astype(np.float32), noise[None].astype(np.float32))
            for drawn, expected in zip(sample, batch, strict=True):
                np.testing.assert_array_equal(drawn, expected[0])


def test_wrong_shapes_are_refused(path):
    artifact = load_artifact(path)
    with pytest.raises(ValueError, match=r"obs: expected shape \(2, 9\), found \(2, 8\)"):
        artifact.run(np.zeros((2, 8), np.float32), np.zeros((2, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, 4, 3\), found \(1, 4, 3\)"):
        artifact.run(np.zeros((2, 9), np.float32), np.zeros((1, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"noise: expected shape \(2, K, 3\), found \(3\)"):
        artifact.run(np.zeros((2, 9), np.float32), np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"obs: expected shape \(B, 9\), found \(9\)"):
        artifact.run(np.zeros(9, np.float32), np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        artifact.sampler(0)
    sampler = artifact.sampler()
    with pytest.raises(ValueError, match=r"obs: expected shape"):
        sampler.draw(np.zeros(8), np.zeros(sampler.noise_shape))


def test_non_finite_observations_come_out_as_non_finite_particles(path):
    sampler = load_artifact(path).sampler()
    sample = sampler.draw(np.full(9, np.nan), np.zeros(sampler.noise_shape))
    assert not np.isfinite(sample.values).any()


def test_a_session_leaves_the_threads_arithmetic_alone(path):
    """onnxruntime's own denormal setting would flush them in all of the caller's later computations."""
    sampler = load_artifact(path).sampler()
    sampler.draw(np.zeros(9), np.zeros(sampler.noise_shape))
    assert np.float64(5e-324) / 1 > 0
