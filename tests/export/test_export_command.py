"""``wpg export`` of foreign policies: their interface from an environment, evaluation, clear errors."""

import json

import gymnasium
import numpy as np
import pytest
import torch
from error_line import only_line
from gymnasium.spaces import Box, Dict
from zips import linear, mlp, save

from wpg.cli import main as cli
from wpg.cli.observations import ContractObservations
from wpg.cli.options import CommandError
from wpg.controllers.experience.environment import make_env
from wpg.export import ActionTerm, ObservationTerm, PolicyInterface, export_zip, load_artifact
from wpg.export.writing.runs import bare_interface

REACH = "wpg/PandaReach-v0"


def goal_space(*keys):
    sizes = {"observation": 17, "achieved_goal": 3, "desired_goal": 3}
    return {
        "spaces": "{" + ", ".join(f"'{key}': Box(-1.0, 1.0, ({sizes[key]},), float32)" for key in keys) + "}"
    }


@pytest.fixture
def reach_zip(tmp_path):
    torch.manual_seed(0)
    modules = {
        "actor.latent_pi": torch.nn.Sequential(*mlp(23, 16), torch.nn.ReLU()),
        "actor.mu": linear(16, 7),
        "actor.log_std": linear(16, 7),
        "critic.qf0": mlp(30, 16, 1),
    }
    box = {"_shape": [7], "low": str(-np.ones(7)), "high": str(np.ones(7))}

    def make(*keys, **settings):
        settings |= {"action_space": box, "observation_space": goal_space(*keys)}
        return save(tmp_path / "sac.zip", modules, **settings), modules

    return make


@pytest.mark.parametrize(
    "keys",
    [("observation", "achieved_goal", "desired_goal"), ("achieved_goal", "desired_goal", "observation")],
)
def test_goal_policy_acts_as_the_library_does(reach_zip, keys, tmp_path):
    zip_path, modules = reach_zip(*keys)
    file = tmp_path / "sac.onnx"
    assert cli.main(["export", str(zip_path), "--env", REACH, "--choice", "best", "--refine", "0"]) == 0
    artifact = load_artifact(file)
    env = make_env(REACH)
    seen = ContractObservations(env, artifact.contract.interface)
    obs, _ = env.reset(seed=3)
    for _ in range(3):
        obs, *_ = env.step(env.action_space.sample())
        vector = torch.from_numpy(np.concatenate([obs[key] for key in keys]))
        np.testing.assert_array_equal(seen.observation(obs), vector)
        with torch.no_grad():
            expected = torch.tanh(modules["actor.mu"](modules["actor.latent_pi"](vector)))
        sampler = artifact.sampler()
        action = sampler.draw(seen.observation(obs), np.zeros(sampler.noise_shape)).action
        scale = np.array(artifact.contract.interface.action.scale)
        np.testing.assert_allclose(action, scale * expected.numpy(), atol=1e-6)
    env.close()
    assert cli.main(["evaluate", str(file), "--episodes", "1", "--json", str(tmp_path / "e.json")]) == 0
    assert json.loads((tmp_path / "e.json").read_text())["env"] == REACH


def test_options_and_signature_reach_the_file(reach_zip, tmp_path, capsys):
    zip_path, _ = reach_zip("observation", "achieved_goal", "desired_goal", seed=None)
    key, file = tmp_path / "key", tmp_path / "signed.onnx"
    key.write_text("ab" * 32 + "\n")
    key.chmod(0o600)
    options = {
        "--particles": "4",
        "--refine": "1",
        "--step-size": "0.02",
        "--noise-scale": "0.5",
        "--choice": "best_with_hysteresis",
        "--licence": "CC-BY-4.0",
        "--sign-key": str(key),
        "--out": str(file),
    }
    assert (
        cli.main(["export", str(zip_path), "--env", REACH, *[x for pair in options.items() for x in pair]])
        == 0
    )
    contract = load_artifact(file, bytes.fromhex("ab" * 32)).contract
    spec = contract.sampler
    assert (spec.num_particles, spec.refinement_steps, spec.step_size, spec.noise_scale) == (4, 1, 0.02, 0.5)
    assert spec.choice == "best_with_hysteresis"
    source = contract.provenance
    assert (source.licence, source.seed, source.git_commit) == ("CC-BY-4.0", None, None)
    assert source.packages == {"stable-baselines3": "2.9.2"}
    capsys.readouterr()
    assert cli.main(["inspect", str(file), "--key", str(key), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["signed"] is True
    assert found["golden_max_abs_error"] < 1e-5
    key.chmod(0o644)
    assert cli.main(["inspect", str(file), "--key", str(key)]) == 1
    assert "others may read this key" in only_line(capsys.readouterr().err)


def test_paths_may_be_strings(reach_zip, tmp_path):
    zip_path, _ = reach_zip("observation", "achieved_goal", "desired_goal")
    exported = export_zip(str(zip_path), str(tmp_path / "sac.onnx"), env_id=REACH)
    assert exported == tmp_path / "sac.onnx"
    assert load_artifact(exported).contract.provenance.env_id == REACH


def test_clear_lines(reach_zip, tmp_path, capsys):
    zip_path, _ = reach_zip("observation", "achieved_goal", "desired_goal")

    def says(text, *args, code=1):
        assert cli.main(["export", *map(str, args)]) == code
        assert text in only_line(capsys.readouterr().err)

    says("give --env ID or --interface FILE", zip_path, code=2)
    says("no environment 'wpg/PandaRech-v0'", zip_path, "--env", "wpg/PandaRech-v0")
    says("trained on actions from", zip_path, "--env", "Pendulum-v1")
    options = ("--env", REACH, "--particles", "-2")
    says("--particles: expected at least 1, found -2", zip_path, *options, code=2)
    says("--refine: expected at most 64, found 100", zip_path, "--env", REACH, "--refine", "100", code=2)
    says("cannot be read", zip_path, "--interface", tmp_path / "none.toml")
    says("expected a run folder or the .zip", tmp_path / "policy.pt")
    says("expected a Stable-Baselines3 zip", tmp_path / "absent.zip", "--env", REACH)
    says("--actuators and --vec-normalize are for a .zip", tmp_path, "--env", REACH, code=2)
    zip_path, _ = reach_zip("observation")
    says("trained on observations with observation, but", zip_path, "--env", REACH)


@pytest.mark.parametrize(
    ("dt", "expected"), [(0.02, 0.02), (np.float32(0.5), 0.5), (0.0, 0.1), (lambda: 0.02, 0.1)]
)
def test_control_period_of_an_environment_without_interface(dt, expected):
    env = gymnasium.Env()
    env.dt, env.metadata = dt, {"render_fps": 10}
    terms = (ObservationTerm(name="observation", size=4, source="environment"),)
    assert bare_interface(env, terms, -np.ones(2), np.ones(2)).control_dt_s == expected


def test_no_action_lies_outside_the_box_by_rounding():
    ends = np.sort(np.random.default_rng(0).uniform(-5, 5, (2, 1000)).astype(np.float32), 0)
    terms = (ObservationTerm(name="observation", size=4, source="environment"),)
    action = bare_interface(gymnasium.Env(), terms, *ends).action
    offset, scale = np.float32(action.offset), np.float32(action.scale)
    assert (offset - scale >= ends[0]).all()
    assert (offset + scale <= ends[1]).all()
    np.testing.assert_allclose(scale, (ends[1] - ends[0]) / 2, rtol=0, atol=1e-6)


def test_observations_that_do_not_add_up():
    action = ActionTerm(mode="environment", size=1, unit="", scale=(1.0,), offset=(0.0,))

    def interface(**sizes):
        terms = tuple(ObservationTerm(name=n, size=s, source="environment") for n, s in sizes.items())
        return PolicyInterface(observation=terms, action=action, control_dt_s=0.1)

    env = gymnasium.Env()
    env.observation_space = Dict(observation=Box(-1, 1, (4,)), desired_goal=Box(-1, 1, (2,)))
    seen = ContractObservations(env, interface(desired_goal=2, a=1, b=3))
    obs = {"observation": np.arange(4.0, dtype=np.float32), "desired_goal": np.full(2, 9, np.float32)}
    assert seen.observation(obs).tolist() == [9, 9, 0, 1, 2, 3]
    for wrong in ({"a": 3}, {"a": 5}, {"a": 4, "desired_goal": 3}):
        with pytest.raises(CommandError, match="the policy sees a"):
            ContractObservations(env, interface(**wrong))
    env.observation_space = Box(-1, 1, (4,))
    assert ContractObservations(env, interface(observation=4)).observation(np.ones(4)).shape == (4,)
    with pytest.raises(CommandError, match="the policy sees observation 5; Env has 4"):
        ContractObservations(env, interface(observation=5))
