"""The writer refuses what does not compute what the policy computes, and leaves nothing behind."""

import copy

import numpy as np
import pytest
import torch

from wpg.controllers import Critic, ParticlePolicy
from wpg.controllers.algorithm.normalisation import BatchUse
from wpg.export import ContractError, ParityError, load_artifact
from wpg.export.writing import exportable_policy
from wpg.export.writing.golden import OBSERVATION_SCALES
from wpg.export.writing.graph import build_graph


def broken(name, factor):
    """``build_graph`` with one constant changed."""

    def build(networks, action, spec):
        model = build_graph(networks, action, spec)
        (tensor,) = (t for t in model.graph.initializer if t.name == name)
        tensor.raw_data = (np.frombuffer(tensor.raw_data, np.float32) * np.float32(factor)).tobytes()
        return model

    return build


@pytest.mark.parametrize(
    ("constant", "steps", "factor", "output"),
    [
        ("action_scale", 0, 1.001, "particles"),
        ("policy_heads_bias", 0, 1.001, "particles"),
        ("critic1_1_weight", 0, 1.001, "values"),
        ("critic1_action", 1, 1.01, "particles"),
        ("entropy_pull", 1, 0.5, "particles"),
    ],
)
def test_refuses_a_graph_that_differs(write, tmp_path, monkeypatch, constant, steps, factor, output):  # noqa: PLR0917
    monkeypatch.setattr(exportable_policy, "build_graph", broken(constant, factor))
    with pytest.raises(ParityError, match=f"{output}: expected the policy's within 1e-05"):
        write(tmp_path / "policy.onnx", refinement_steps=steps)
    assert not list(tmp_path.iterdir())


def test_refused_file_leaves_the_old_one(write, tmp_path, monkeypatch):
    file = tmp_path / "policy.onnx"
    write(file)
    before = file.read_bytes()
    monkeypatch.setattr(exportable_policy, "build_graph", broken("action_scale", 1.001))
    with pytest.raises(ParityError):
        write(file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_values_that_cancel_are_exported(write, networks, tmp_path):
    critic = copy.deepcopy(networks[1])
    last = critic.network.own_layers()[-1]
    with torch.no_grad():
        last.weight *= 30_000  # sums of large terms, some of which come to nearly nothing
    artifact = write(tmp_path / "policy.onnx", critic=critic)
    assert np.abs(artifact.contract.golden.values).max() > 100


def test_refuses_weights_that_are_not_finite(write, networks, tmp_path):
    policy = copy.deepcopy(networks[0])
    with torch.no_grad():
        policy.network.own_layers()[1].weight.view(-1)[7] = torch.inf
    with pytest.raises(
        ParityError,
        match=r"policy: expected finite weights, found NaN or infinity in network\.layers\.1\.weight",
    ):
        write(tmp_path / "policy.onnx", policy=policy)


def test_refuses_an_interface_of_another_size(write, interface, tmp_path):
    import msgspec

    shorter = msgspec.structs.replace(interface, observation=interface.observation[:2])
    with pytest.raises(ContractError, match=r"expected 6 observations and 3 actions .* found 9 and 3"):
        write(tmp_path / "policy.onnx", interface=shorter)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_particles", 0),
        ("refinement_steps", -1),
        ("step_size", float("nan")),
        ("switch_cost", -0.5),
        ("noise_scale", float("inf")),
    ],
)
def test_refuses_options_out_of_range(write, tmp_path, option, value):
    with pytest.raises(ContractError, match=f"{option}: expected at least"):
        write(tmp_path / "policy.onnx", **{option: value})


def test_missing_folder_is_an_os_error(write, tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "absent" / "policy.onnx")


def test_same_inputs_give_the_same_bytes(write, tmp_path):
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    assert write(first).digest == write(second).digest
    assert first.read_bytes() == second.read_bytes()


def test_writing_leaves_the_modules_as_they_were(write, networks, tmp_path):
    states = [copy.deepcopy(module.state_dict()) for module in networks]
    write(tmp_path / "policy.onnx", refinement_steps=1)
    for module, before in zip(networks, states, strict=True):
        assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
        assert all(parameter.requires_grad for parameter in module.parameters())


def test_golden_observations_lie_around_those_of_the_training(write, networks, tmp_path):
    artifact = write(tmp_path / "policy.onnx", num_particles=40, refinement_steps=2)
    golden = load_artifact(tmp_path / "policy.onnx").contract.golden
    norm = networks[0].network.own_layers()[0].norm
    deviations = (np.array(golden.obs) - norm.running_mean.numpy()) / norm.running_var.sqrt().numpy()
    spreads = deviations.reshape(3, -1).std(1)  # of each of OBSERVATION_SCALES
    np.testing.assert_allclose(spreads, OBSERVATION_SCALES, rtol=0.5)
    assert np.array(golden.noise).shape == (6, 32, 9)
    assert artifact.sampler().noise_shape == (40, 9)


def test_inputs_that_hardly_vary_keep_their_precision(interface, write, tmp_path):
    """Normalisation divides them by almost nothing, and what is left of them must not drown in rounding."""
    generator = torch.Generator().manual_seed(4)
    policy = ParticlePolicy(9, 3, num_particles=5, hidden=48, generator=generator)
    critic = Critic(9, 3, hidden=48, generator=generator)
    use = BatchUse(rate=0.2, renormalise=False)
    for _ in range(100):
        obs = torch.randn(64, 9, generator=generator)
        obs[:, 2] = 1.0  # constant
        obs[:, 5] = 30 + 0.001 * obs[:, 5]
        with torch.no_grad():
            policy.network.record(obs, use)
            critic.network.record(torch.cat([obs, torch.rand(64, 3, generator=generator)], 1), use)
    artifact = write(tmp_path / "policy.onnx", policy=policy, critic=critic)
    assert artifact.verify_golden() < 2e-6
