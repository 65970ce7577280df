"""Which particle becomes the action."""

from typing import get_args

import msgspec
import numpy as np
import pytest

from wpg.export.contract import ActionChoice
from wpg.export.errors import ContractError
from wpg.export.options import SamplerOptions
from wpg.export.writing.models import OwnModel
from wpg.export.writing.parity import Reference


@pytest.fixture(scope="module")
def artifacts(write, tmp_path_factory):
    """One artifact a rule."""
    folder = tmp_path_factory.mktemp("choice")
    return {
        rule: write(folder / f"{rule}.onnx", choice=rule, switch_cost=0.7, refinement_steps=1)
        for rule in get_args(ActionChoice)
    }


def inputs(artifact):
    """Observations (20, 9) and noise (20, 11, noise_dim)."""
    rng = np.random.default_rng(0)
    obs = np.array(artifact.contract.golden.obs, np.float32)[rng.integers(6, size=20)]
    return obs, rng.standard_normal((20, 11, artifact.contract.sampler.noise_dim), dtype=np.float32)


@pytest.mark.parametrize("rule", get_args(ActionChoice))
def test_action_is_the_particle_with_the_highest_score(artifacts, rule, networks, interface):
    artifact = artifacts[rule]
    obs, noise = inputs(artifact)
    reference = Reference(OwnModel(*networks), interface.action, artifact.contract.sampler)
    previous = reference.previous_actions(obs, np.random.default_rng(1))
    found = artifact.run(obs, noise, previous)
    np.testing.assert_array_equal(
        found.action, reference.implied(found.particles, found.values, noise, previous).action
    )


@pytest.mark.parametrize("rule", get_args(ActionChoice))
def test_golden_vectors_replay(artifacts, rule):
    assert artifacts[rule].verify_golden() < 1e-5


def test_sample_takes_every_particle_alike(artifacts):
    artifact, rng = artifacts["sample"], np.random.default_rng(2)
    obs = np.repeat(np.array(artifact.contract.golden.obs[:1], np.float32), 2000, 0)
    noise = np.repeat(rng.standard_normal((1, 5, 7), dtype=np.float32), 2000, 0)
    noise[..., -1] = rng.standard_normal((2000, 5))
    found = artifact.run(obs, noise)
    taken = (found.particles == found.action[:, None]).all(-1).sum(0)
    assert taken.sum() == 2000
    assert np.abs(taken - 400).max() < 100  # 5.6 standard deviations


def test_sample_needs_as_many_particles_of_every_component():
    def spec(num_particles, choice="sample"):
        options = SamplerOptions(choice=choice, num_particles=num_particles)
        return options.spec(action_dim=2, num_components=4, temperature=0.1)

    assert [spec(number).num_particles for number in (None, 4, 8)] == [4, 4, 8]
    assert spec(1, "best").num_particles == 1
    for number in (1, 6):
        with pytest.raises(ContractError, match=f"multiple of the policy's 4 components, .* found {number}"):
            spec(number)


def test_medoid_by_brute_force(artifacts, interface):
    found = artifacts["medoid"].run(*inputs(artifacts["medoid"]))
    a = (found.particles - np.array(interface.action.offset)) / np.array(interface.action.scale)
    for row in range(len(a)):
        sums = [sum(np.linalg.norm(x - y) for y in a[row]) for x in a[row]]
        np.testing.assert_array_equal(found.action[row], found.particles[row, int(np.argmin(sums))])


def test_hysteresis_stays_unless_the_gain_is_worth_the_way(artifacts, interface):
    artifact = artifacts["best_with_hysteresis"]
    obs, noise = inputs(artifact)
    free = artifact.run(obs, noise)
    best = free.particles[np.arange(20), free.values.argmax(1)]
    np.testing.assert_array_equal(free.action, best)  # nothing came before
    scale = np.array(interface.action.scale)
    moved = stayed = 0
    for k in range(11):
        previous = free.particles[:, k]
        found = artifact.run(obs, noise, previous)
        way = np.linalg.norm((free.particles - previous[:, None]) / scale, axis=-1)
        better = (free.values - free.values[:, k, None] > 0.7 * way + 1e-5).any(1)
        stays = (found.action == previous).all(1)
        assert (stays == ~better).mean() > 0.95  # but for ties
        moved, stayed = moved + (~stays).sum(), stayed + stays.sum()
    assert moved
    assert stayed


def test_sampler_remembers_the_action_until_reset(artifacts):
    artifact = artifacts["best_with_hysteresis"]
    obs, noise = inputs(artifact)
    free = artifact.run(obs, noise)
    sampler = artifact.sampler(11)
    first = sampler.draw(obs[0], noise[0]).action.copy()
    np.testing.assert_array_equal(first, free.action[0])
    second = sampler.draw(obs[1], noise[1]).action.copy()
    np.testing.assert_array_equal(second, artifact.run(obs[1:2], noise[1:2], first[None]).action[0])
    sampler.reset()
    np.testing.assert_array_equal(sampler.draw(obs[1], noise[1]).action, free.action[1])


def test_a_sample_takes_as_many_particles_of_every_component(artifacts):
    artifacts["best"].sampler(3)
    with pytest.raises(
        ContractError, match="num_particles: expected a multiple of the policy's 5 components"
    ):
        artifacts["sample"].sampler(3)


@pytest.mark.parametrize(("name", "index"), [("obs", 0), ("noise", 1)])
def test_sampler_refuses_inputs_of_another_shape(artifacts, name, index):
    obs, noise = inputs(artifacts["best"])
    draw = [obs[0], noise[0]]
    draw[index] = draw[index][:1]
    with pytest.raises(ValueError, match=f"{name}: expected shape"):
        artifacts["best"].sampler(11).draw(*draw)


@pytest.mark.parametrize("rule", get_args(ActionChoice))
def test_a_fixed_action_does_not_count(write, interface, tmp_path, rule):
    action = msgspec.structs.replace(interface.action, scale=(0.1, 0.0, 0.5))
    fixed = msgspec.structs.replace(interface, action=action)
    artifact = write(tmp_path / "policy.onnx", interface=fixed, choice=rule)
    assert set(np.array(artifact.contract.golden.action)[:, 1]) == {np.float32(0.3)}
