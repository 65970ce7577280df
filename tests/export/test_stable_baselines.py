"""Policies of Stable-Baselines3, from zips that are put together as it writes them."""

import pickle
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from zips import HIGH, LOW, linear, mlp, save

from wpg.export import (
    ActionTerm,
    ContractError,
    CorruptArtifactError,
    ObservationTerm,
    PolicyInterface,
    load_artifact,
)
from wpg.export.options import SamplerOptions
from wpg.export.writing.exportable_policy import exportable_networks
from wpg.export.writing.stable_baselines import read_stable_baselines
from wpg.export.writing.writer import write_artifact

OBS = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32) * 3
INTERFACE = PolicyInterface(
    robot=None,
    observation=(ObservationTerm(name="observation", size=4, source="environment"),),
    action=ActionTerm(
        mode="environment",
        size=2,
        unit="the environment's",
        scale=tuple((HIGH - LOW) / 2),
        offset=tuple((HIGH + LOW) / 2),
    ),
    control_dt_s=0.05,
)


def unscaled(a):
    return LOW + (a + 1) / 2 * (HIGH - LOW)


@pytest.fixture
def export(tmp_path, provenance):
    def _export(zip_path, choice="best", num_particles=1, **reading):
        read = read_stable_baselines(zip_path, **reading)
        file = tmp_path / "policy.onnx"
        write_artifact(
            file,
            exportable_networks(read.networks, temperature=read.temperature),
            interface=INTERFACE,
            provenance=provenance,
            options=SamplerOptions(choice=choice, num_particles=num_particles),
        )
        return load_artifact(file), read

    return _export


@pytest.fixture
def actor(request):
    torch.manual_seed(1)
    return {
        "actor.latent_pi": nn.Sequential(*mlp(4, 32, 16), nn.ReLU()),
        "actor.mu": linear(16, 2),
        "actor.log_std": linear(16, 2),
        "critic.qf0": mlp(6, 32, 16, 1),
        "critic.qf1": mlp(6, 32, 16, 1),
    }


def run(artifact, particles=1):
    noise = np.random.default_rng(1).standard_normal((200, particles, artifact.contract.sampler.noise_dim))
    noise = noise.astype(np.float32)
    return artifact.run(OBS, noise), noise


def test_sac(tmp_path, export, actor):
    zip_path = save(
        tmp_path / "sac.zip", actor, variables={"log_ent_coef": torch.tensor([-1.0], requires_grad=True)}
    )
    artifact, read = export(zip_path)
    assert read.temperature == pytest.approx(np.exp(-1))
    assert (read.env_steps, read.seed, read.version) == (1000, 5, "2.9.2")
    with torch.no_grad():
        mean = actor["actor.mu"](actor["actor.latent_pi"](torch.from_numpy(OBS)))
        a = torch.tanh(mean)
        x = torch.cat([torch.from_numpy(OBS), a], -1)
        values = torch.minimum(actor["critic.qf0"](x), actor["critic.qf1"](x)).numpy()
    found, _ = run(artifact)
    np.testing.assert_allclose(found.action, unscaled(a.numpy()), atol=1e-5)
    np.testing.assert_allclose(found.values, values, atol=1e-5)


def test_sac_samples(tmp_path, export, actor):
    zip_path = save(tmp_path / "sac.zip", actor)
    artifact, _ = export(zip_path, choice="sample", num_particles=8, deterministic=False)
    found, noise = run(artifact, 8)
    with torch.no_grad():
        h = actor["actor.latent_pi"](torch.from_numpy(OBS))
        mean, std = actor["actor.mu"](h), actor["actor.log_std"](h).clamp(-20, 2).exp()
        a = torch.tanh(mean[:, None] + std[:, None] * torch.from_numpy(noise[..., :2]))
    np.testing.assert_allclose(found.particles, unscaled(a.numpy()), atol=1e-5)


def test_tqc_value_is_the_mean_of_the_quantiles(tmp_path, export, actor):
    modules = actor | {"critic.qf0": mlp(6, 32, 25), "critic.qf1": mlp(6, 32, 25)}
    artifact, _ = export(save(tmp_path / "tqc.zip", modules))
    found, _ = run(artifact)
    with torch.no_grad():
        a = torch.tanh(modules["actor.mu"](modules["actor.latent_pi"](torch.from_numpy(OBS))))
        x = torch.cat([torch.from_numpy(OBS), a], -1)
        values = torch.stack([modules[f"critic.qf{i}"](x).mean(-1) for i in (0, 1)]).amin(0)
    np.testing.assert_allclose(found.values[:, 0], values.numpy(), atol=1e-5)


def test_td3_is_deterministic(tmp_path, export):
    torch.manual_seed(2)
    modules = {"actor.mu": mlp(4, 20, 2, last=(nn.Tanh(),)), "critic.qf0": mlp(6, 20, 1)}
    artifact, _ = export(save(tmp_path / "td3.zip", modules), num_particles=3, deterministic=False)
    found, _ = run(artifact, 3)
    with torch.no_grad():
        a = modules["actor.mu"](torch.from_numpy(OBS)).numpy()
    np.testing.assert_allclose(found.action, unscaled(a), atol=1e-5)
    np.testing.assert_allclose(found.spread, 0, atol=1e-6)


class RunningMeanStd:
    def __init__(self):
        self.mean, self.var = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.1, 1.0, 4.0, 9.0])


class VecNormalize:
    def __init__(self):
        self.obs_rms, self.epsilon, self.clip_obs, self.norm_obs = RunningMeanStd(), 1e-8, 1.5, True


def test_ppo_with_vec_normalize(tmp_path, export):
    torch.manual_seed(3)
    modules = {
        "mlp_extractor.policy_net": nn.Sequential(*mlp(4, 32, 32, activation=nn.Tanh), nn.Tanh()),
        "action_net": linear(32, 2),
        "value_net": linear(32, 1),
    }
    modules["action_net"].weight.data *= 5
    log_std = torch.tensor([-0.5, 0.3])
    zip_path = save(tmp_path / "ppo.zip", modules, extra={"log_std": log_std})
    statistics = tmp_path / "vecnormalize.pkl"
    statistics.write_bytes(pickle.dumps(VecNormalize()))
    rule = RunningMeanStd()
    seen = np.clip((OBS - rule.mean) / np.sqrt(rule.var + 1e-8), -1.5, 1.5)
    with torch.no_grad():
        h = modules["mlp_extractor.policy_net"](torch.from_numpy(seen.astype(np.float32)))
        mean = modules["action_net"](h).numpy()
    artifact, _ = export(zip_path, vec_normalize=statistics)
    found, _ = run(artifact)
    np.testing.assert_allclose(found.action, np.clip(mean, LOW, HIGH), atol=1e-5)
    assert (found.action == HIGH).any()  # the clip is at work

    sampled, _ = export(
        zip_path, choice="sample", num_particles=4, vec_normalize=statistics, deterministic=False
    )
    found, noise = run(sampled, 4)
    expected = np.clip(mean[:, None] + np.exp(log_std.numpy()) * noise[..., :2], LOW, HIGH)
    np.testing.assert_allclose(found.particles, expected, atol=1e-5)
    with pytest.raises(ContractError, match="needs critics"):
        export(zip_path, num_particles=4, vec_normalize=statistics, deterministic=False)


class Space(OrderedDict):
    """As a space of observations, which the statistics hold too."""


class DictNormalize:
    def __init__(self):
        self.observation_space = Space(goal=1, arm=3)
        self.obs_rms = {"goal": RunningMeanStd(), "arm": RunningMeanStd()}
        self.obs_rms["goal"].mean, self.obs_rms["goal"].var = np.array([7.0]), np.array([2.0])
        self.obs_rms["arm"].mean, self.obs_rms["arm"].var = np.zeros(3), np.ones(3)
        self.epsilon, self.clip_obs, self.norm_obs = 1e-8, 10.0, True


def test_dictionary_of_observations_keeps_the_order_of_training(tmp_path, actor):
    space = {"spaces": "{'goal': Box(-1.0, 1.0, (1,), float32), 'arm': Box([-1.\\n 0. 0.], (3,), float32)}"}
    zip_path = save(tmp_path / "sac.zip", actor, observation_space=space)
    statistics = tmp_path / "vecnormalize.pkl"
    statistics.write_bytes(pickle.dumps(DictNormalize()))
    read = read_stable_baselines(zip_path, vec_normalize=statistics)
    assert read.observation_keys == ("goal", "arm")
    assert read.networks.normaliser.mean.tolist() == [7, 0, 0, 0]
    del space["spaces"]
    with pytest.raises(ContractError, match="expected statistics of a vector, found goal, arm"):
        read_stable_baselines(
            save(tmp_path / "sac.zip", actor, observation_space=space), vec_normalize=statistics
        )


@pytest.mark.parametrize(
    "text",
    [
        "{'achieved_goal': Box(-1.0, 1.0, (3,), float32), 'arm': Box([-1.\\n 0.], [1. 1.], (2,), float32)}",
        "OrderedDict([('achieved_goal', Box(-1.0, 1.0, (3,), float32)), "
        "('arm', Box([-1.\\n 0.], [1. 1.], (2,), float32))])",
    ],
    ids=["gymnasium 1", "gymnasium 0.29"],
)
def test_keys_of_a_dictionary_as_any_gymnasium_writes_them(tmp_path, actor, text):
    zip_path = save(tmp_path / "sac.zip", actor, observation_space={"spaces": text})
    assert read_stable_baselines(zip_path).observation_keys == ("achieved_goal", "arm")


def test_refinement_raises_the_value(tmp_path, export, actor, provenance):
    read = read_stable_baselines(save(tmp_path / "sac.zip", actor))
    values = []
    for steps in (0, 2):
        artifact = write_artifact(
            tmp_path / "policy.onnx",
            exportable_networks(read.networks),
            interface=INTERFACE,
            provenance=provenance,
            options=SamplerOptions(refinement_steps=steps),
        )
        values.append(run(artifact)[0].values.mean())
    assert values[1] > values[0]
    bare = replace(read.networks, critics=[])
    with pytest.raises(ContractError, match="refinement needs critics"):
        write_artifact(
            tmp_path / "policy.onnx",
            exportable_networks(bare),
            interface=INTERFACE,
            provenance=provenance,
            options=SamplerOptions(refinement_steps=1),
        )


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('code of a pickle was run')",)


def test_nothing_of_a_pickle_is_run(tmp_path, actor):
    zip_path = save(tmp_path / "sac.zip", actor)
    statistics = tmp_path / "vecnormalize.pkl"
    for content in (pickle.dumps(Bomb()), b"cnumpy.nowhere\nndarray\n."):
        statistics.write_bytes(content)
        with pytest.raises(CorruptArtifactError, match="expected VecNormalize statistics"):
            read_stable_baselines(zip_path, vec_normalize=statistics)


def test_what_cannot_be_written_is_refused(tmp_path, actor):
    def says(text, error=ContractError, modules=actor, **settings):
        with pytest.raises(error, match=text):
            read_stable_baselines(save(tmp_path / "policy.zip", modules, **settings))

    says("found use_sde", use_sde=True)
    says(
        "found weights of actor.features_extractor",
        modules=actor | {"actor.features_extractor.cnn": linear(2, 2)},
    )
    says("expected SAC, TQC", modules={"q_net": linear(2, 2)})
    says("expected activation", policy_kwargs={"activation_fn": "<class 'torch.nn.modules.activation.GELU'>"})
    says("expected a box", action_space={":type:": "Discrete", "n": 3})
    says("bounded box", action_space={"_shape": [2], "low": "[-inf -inf]", "high": "[inf inf]"})
    no_zip = "expected a Stable-Baselines3 zip"
    says(no_zip, CorruptArtifactError, modules=actor | {"actor.mu": nn.Linear(16, 2, bias=False)})
    says(no_zip, CorruptArtifactError, num_timesteps=None)
    (tmp_path / "other.zip").write_bytes(b"PK nothing")
    for name in ("other.zip", "absent.zip"):
        with pytest.raises(CorruptArtifactError, match=no_zip):
            read_stable_baselines(tmp_path / name)


def test_tanh_and_elu_policies(tmp_path, export, actor):
    for name, activation in (("Tanh", nn.Tanh), ("ELU", nn.ELU)):
        modules = actor | {
            "actor.latent_pi": nn.Sequential(*mlp(4, 8, 16, activation=activation), activation())
        }
        kind = f"<class 'torch.nn.modules.activation.{name}'>"
        artifact, _ = export(save(tmp_path / "sac.zip", modules, policy_kwargs={"activation_fn": kind}))
        found, _ = run(artifact)
        with torch.no_grad():
            a = torch.tanh(modules["actor.mu"](modules["actor.latent_pi"](torch.from_numpy(OBS)))).numpy()
        np.testing.assert_allclose(found.action, unscaled(a), atol=1e-5)
