"""The graph computes what the policy's own modules compute."""

import numpy as np
import onnx
import pytest
import torch

from wpg.controllers.algorithm.flow import scale_noise
from wpg.export.writing.models import OwnModel
from wpg.export.writing.parity import KINK_SHARE, TOLERANCE, Reference, relative_error


@pytest.fixture(scope="module", params=[0, 1, 4], ids=lambda steps: f"M{steps}")
def artifact(request, write, tmp_path_factory):
    return write(tmp_path_factory.mktemp("graph") / "policy.onnx", refinement_steps=request.param)


def observations(policy, rng, number, scale):
    norm = policy.network.own_layers()[0].norm
    mean, std = norm.running_mean.numpy().reshape(-1), norm.running_var.sqrt().numpy().reshape(-1)
    return (mean + scale * std * rng.standard_normal((number, policy.obs_dim))).astype(np.float32)


@pytest.mark.parametrize("scale", [1.0, 10.0], ids=["inside", "outside"])
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("particles", [1, 8, 32, 256])
def test_parity_with_torch(artifact, networks, interface, batch, particles, scale):  # noqa: PLR0917
    spec = artifact.contract.sampler
    rng = np.random.default_rng(batch * particles)
    obs = observations(networks[0], rng, batch, scale)
    noise = rng.standard_normal((batch, particles, spec.noise_dim), dtype=np.float32)
    reference = Reference(OwnModel(*networks), interface.action, spec)
    found, expected = artifact.run(obs, noise), reference(obs, noise)
    allowed = KINK_SHARE * found.values.size if spec.refinement_steps else 0
    assert (relative_error(found.particles, expected.particles).max(-1) > TOLERANCE).sum() <= allowed
    assert (relative_error(found.values, expected.values) > TOLERANCE).sum() <= allowed
    implied = reference.implied(found.particles, found.values, noise)
    np.testing.assert_array_equal(found.action, implied.action)
    np.testing.assert_allclose(found.spread, implied.spread, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("noise_scale", [0.0, 0.5])
@pytest.mark.parametrize("steps", [0, 1])
def test_noise_is_scaled_in_the_graph(networks, write, tmp_path, noise_scale, steps):
    artifact = write(tmp_path / "policy.onnx", refinement_steps=steps, noise_scale=noise_scale)
    plain = write(tmp_path / "plain.onnx", refinement_steps=steps)
    rng = np.random.default_rng(3)
    obs = observations(networks[0], rng, 4, 1.0)
    noise = rng.standard_normal((4, 6, artifact.contract.sampler.noise_dim), dtype=np.float32)
    expected = plain.run(obs, noise_scale * noise)
    np.testing.assert_allclose(artifact.run(obs, noise).particles, expected.particles, atol=1e-5)


def test_thousand_observations_far_outside_training(networks, interface, write, tmp_path):
    artifact = write(tmp_path / "policy.onnx")
    rng = np.random.default_rng(0)
    obs = observations(networks[0], rng, 1000, 20.0)
    noise = rng.standard_normal((1000, 8, artifact.contract.sampler.noise_dim), dtype=np.float32)
    expected = Reference(OwnModel(*networks), interface.action, artifact.contract.sampler)(obs, noise)
    found = artifact.run(obs, noise)
    assert relative_error(found.particles, expected.particles).max() <= TOLERANCE
    assert relative_error(found.values, expected.values).max() <= TOLERANCE


def test_particle_k_is_of_component_k_mod_c(path, networks, interface):
    from wpg.export.reader import load_artifact

    artifact = load_artifact(path)
    policy = networks[0]
    rng = np.random.default_rng(5)
    obs = observations(policy, rng, 2, 1.0)
    components = policy.num_particles
    found = artifact.run(obs, np.zeros((2, 2 * components + 1, 3), np.float32))
    with torch.no_grad():
        expected = torch.tanh(policy(torch.from_numpy(obs)).mean).numpy()  # (2, C, A), without noise
    scale, offset = np.array(interface.action.scale), np.array(interface.action.offset)
    for k in range(2 * components + 1):
        np.testing.assert_allclose(
            found.particles[:, k], offset + scale * expected[:, k % components], atol=1e-6
        )


def test_one_step_moves_along_the_gradient_of_the_soft_value(networks, interface, write, tmp_path):
    """Against autograd in float64, written out for one step without diffusion noise."""
    policy, critic = networks
    eta, tau = 0.03, 0.2
    artifact = write(tmp_path / "policy.onnx", refinement_steps=1, step_size=eta, temperature=tau)
    rng = np.random.default_rng(2)
    obs = observations(policy, rng, 6, 1.0)
    noise = rng.standard_normal((6, policy.num_particles, 6), dtype=np.float32)
    noise[..., 3:] = 0.0
    with torch.no_grad():
        mean, log_std, stretch = policy(torch.from_numpy(obs))
        start = (mean + scale_noise(torch.from_numpy(noise[..., :3]), log_std, stretch)).double()
    u = start.clone().requires_grad_(True)
    rows = torch.from_numpy(obs).repeat_interleave(policy.num_particles, 0)
    values = critic(rows, torch.tanh(u).float().flatten(0, 1)).amin(0)
    objective = values.sum() + tau * torch.log1p(-torch.tanh(u).square()).sum()
    (gradient,) = torch.autograd.grad(objective, u)
    expected = torch.tanh(start + eta * gradient).numpy()
    scale, offset = np.array(interface.action.scale), np.array(interface.action.offset)
    found = (artifact.run(obs, noise).particles - offset) / scale
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - np.tanh(start.numpy())).max() > 1e-3  # the step is not lost in the tolerance


def test_refinement_raises_the_mean_value(networks, write, tmp_path):
    rng = np.random.default_rng(2)
    obs = observations(networks[0], rng, 50, 1.0)
    noise = rng.standard_normal((50, 8, 15), dtype=np.float32)
    artifacts = [
        write(tmp_path / f"{steps}.onnx", refinement_steps=steps, step_size=0.05, temperature=1e-3)
        for steps in (0, 4)
    ]
    plain, refined = (
        artifact.run(obs, noise[..., : artifact.contract.sampler.noise_dim]) for artifact in artifacts
    )
    assert refined.values.mean() > plain.values.mean() + 0.01


def test_graph_draws_no_random_numbers_and_names_its_opset(path):
    model = onnx.load(path)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    assert not {node.op_type for node in model.graph.node} & {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
    }
    onnx.checker.check_model(model, full_check=True)
