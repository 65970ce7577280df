"""Any torch module with an interface from a TOML file."""

import numpy as np
import pytest
import torch
from torch import nn

from wpg.export import ContractError, ParityError, load_artifact, read_interface
from wpg.export.options import SamplerOptions
from wpg.export.writing.module import exportable_module
from wpg.export.writing.writer import write_artifact

TOML = """
control_dt_s = 0.02

[[observation]]
name = "joint_pos"
size = 4
source = "joint_pos"
unit = "rad"

[action]
mode = "joint_position"
size = 2
unit = "rad"
scale = [0.5, 1.5]
offset = [0.0, 1.0]
"""


class Policy(nn.Module):
    """With what plain layers do not have: statistics, layer norm, a residual and a gate."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([1.0, -2.0, 0.5, 0.0]))
        self.first, self.second, self.last = nn.Linear(4, 16), nn.Linear(16, 16), nn.Linear(16, 2)
        self.norm, self.dropout = nn.LayerNorm(16), nn.Dropout(0.5)

    def forward(self, obs):
        h = nn.functional.silu(self.first(obs - self.mean))
        h = h + self.dropout(nn.functional.gelu(self.norm(self.second(h))))
        return 2 * torch.tanh(self.last(h))


@pytest.fixture
def interface(tmp_path):
    file = tmp_path / "interface.toml"
    file.write_text(TOML)
    return read_interface(file)


def test_module(tmp_path, interface, provenance):
    torch.manual_seed(0)
    module = Policy()
    write_artifact(
        tmp_path / "policy.onnx",
        exportable_module(module, obs_dim=4),
        interface=interface,
        provenance=provenance,
    )
    assert module.training
    artifact = load_artifact(tmp_path / "policy.onnx")
    assert artifact.verify_golden() < 1e-5
    obs = 3 * np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    with torch.no_grad():
        a = module.eval()(torch.from_numpy(obs)).clamp(-1, 1).numpy()
    found = artifact.run(obs, np.zeros((50, 3, 2), np.float32))
    np.testing.assert_allclose(found.action, [0.0, 1.0] + np.array([0.5, 1.5]) * a, atol=1e-5)
    np.testing.assert_array_equal(found.particles[:, 2], found.action)
    assert (np.abs(a) == 1).any()  # the limit is at work
    np.testing.assert_array_equal(artifact.sampler().draw(obs[3], np.zeros((1, 2))).action, found.action[3])


def test_module_of_another_size(tmp_path, interface, provenance):
    five = exportable_module(nn.Linear(4, 5), obs_dim=4)
    with pytest.raises(ContractError, match=r"4 observations and 2 actions .* found 4 and 5"):
        write_artifact(tmp_path / "policy.onnx", five, interface=interface, provenance=provenance)
    with pytest.raises(ContractError, match=r"does not take observations \(3, 5\)"):
        exportable_module(nn.Linear(4, 2), obs_dim=5)
    with pytest.raises(ContractError, match=r"expected actions \(3, A\) .* found \(12,\)"):
        exportable_module(nn.Flatten(0), obs_dim=4)


class Faulty(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.forward = forward


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (lambda obs: (obs, obs), r"expected actions \(3, A\) .* found tuple"),
        (lambda obs, hidden: obs, r"does not take observations \(3, 4\): .* missing 1 required"),
        (lambda obs: obs[:, :2] if obs.sum() > 0 else obs[:, 2:], "torch cannot write it as ONNX: Could not"),
        (lambda obs: obs @ torch.ones(4, 2), r"fails on float64 observations \(16, 4\)"),
    ],
)
def test_module_that_cannot_be_written(tmp_path, interface, provenance, forward, says):
    file = tmp_path / "policy.onnx"
    with pytest.raises(ContractError, match=f"module: {says}"):
        write_artifact(
            file, exportable_module(Faulty(forward), obs_dim=4), interface=interface, provenance=provenance
        )
    assert not file.exists()


@pytest.mark.parametrize("choice", ["sample", "medoid", "best_with_hysteresis"])
def test_every_choice_of_one_action_is_this_action(tmp_path, interface, provenance, choice):
    artifact = write_artifact(
        tmp_path / "policy.onnx",
        exportable_module(nn.Linear(4, 2), obs_dim=4),
        interface=interface,
        provenance=provenance,
        options=SamplerOptions(choice=choice, num_particles=3),
    )
    sampler = artifact.sampler()
    sample = sampler.draw(np.ones(4), np.zeros(sampler.noise_shape))
    np.testing.assert_array_equal(sample.particles, [sample.action] * 3)
    assert sample.spread < 1e-6


def test_refinement_needs_critics(tmp_path, interface, provenance):
    with pytest.raises(ContractError, match="refinement needs critics"):
        write_artifact(
            tmp_path / "policy.onnx",
            exportable_module(nn.Linear(4, 2), obs_dim=4),
            interface=interface,
            provenance=provenance,
            options=SamplerOptions(refinement_steps=1),
        )


def test_module_with_weights_that_are_not_numbers(tmp_path, interface, provenance):
    module = nn.Linear(4, 2)
    module.weight.data[0, 1] = torch.nan
    with pytest.raises(ParityError, match="policy: expected finite outputs, found NaN"):
        write_artifact(
            tmp_path / "policy.onnx",
            exportable_module(module, obs_dim=4),
            interface=interface,
            provenance=provenance,
        )
    assert not (tmp_path / "policy.onnx").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("control_dt_s = 0.02", "", "missing required field `control_dt_s`"),
        ('unit = "rad"\nscale', "scale", "missing required field `unit`"),
        ("scale = [0.5, 1.5]", "scale = [0.5]", "1 scales"),
        ("control_dt_s", "control_dt", "unknown field `control_dt`"),
        ("[action]", "[action", "interface.toml"),
    ],
)
def test_interface_that_does_not_hold_together(tmp_path, old, new, says):
    file = tmp_path / "interface.toml"
    file.write_text(TOML.replace(old, new, 1))
    with pytest.raises(ContractError) as caught:
        read_interface(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_interface_that_is_no_text(tmp_path):
    file = tmp_path / "interface.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match=r"interface\.toml: 'utf-8' codec"):
        read_interface(file)
