"""Networks and artifacts for the tests; makes the module of zips importable."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wpg.controllers.algorithm.critic import Critic
from wpg.controllers.algorithm.normalisation import BatchUse
from wpg.controllers.algorithm.policy import ParticlePolicy
from wpg.export import (
    ActionTerm,
    Frame,
    JointFrame,
    JointSpec,
    ObservationTerm,
    PolicyInterface,
    Provenance,
    RobotSpec,
    SerialChain,
)
from wpg.export.artifact import Artifact
from wpg.export.options import SamplerOptions
from wpg.export.writing.exportable_policy import exportable_policy
from wpg.export.writing.writer import write_artifact

sys.path.append(str(Path(__file__).parent))

OBS_DIM, ACTION_DIM, COMPONENTS = 9, 3, 5


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def interface() -> PolicyInterface:
    """Three joints; positions, velocities and a goal; joints move by different amounts about an offset."""
    links = tuple(JointFrame(frame=Frame(xyz_m=(0.0, 0.0, 0.3))) for _ in range(ACTION_DIM))
    return PolicyInterface(
        robot=RobotSpec(
            name="three_joint_arm",
            joints=tuple(JointSpec(name=f"joint{i}") for i in range(ACTION_DIM)),
            kinematics=SerialChain(joints=links, tool=Frame()),
        ),
        observation=(
            ObservationTerm(name="joint_pos", size=3, source="joint_pos", unit="rad"),
            ObservationTerm(name="joint_vel", size=3, source="joint_vel", unit="rad/s"),
            ObservationTerm(name="goal", size=3, source="goal", unit="m"),
        ),
        action=ActionTerm(
            mode="joint_position_delta",
            size=ACTION_DIM,
            unit="rad",
            scale=(0.1, 0.2, 0.5),
            offset=(0.0, 0.3, -1.0),
        ),
        control_dt_s=0.05,
    )


@pytest.fixture(scope="session")
def networks() -> tuple[ParticlePolicy, Critic]:
    """A policy and twin critics whose normalisations have seen data far from zero mean and unit variance."""
    generator = torch.Generator().manual_seed(3)
    policy = ParticlePolicy(OBS_DIM, ACTION_DIM, num_particles=COMPONENTS, hidden=48, generator=generator)
    critic = Critic(OBS_DIM, ACTION_DIM, hidden=64, generator=generator)
    mean = 3 * torch.randn(OBS_DIM, generator=generator)
    std = 0.1 + torch.rand(OBS_DIM, generator=generator)
    use = BatchUse(rate=0.2, renormalise=False)
    with torch.no_grad():
        for _ in range(30):
            obs = mean + std * torch.randn(128, OBS_DIM, generator=generator)
            action = 2 * torch.rand(128, ACTION_DIM, generator=generator) - 1
            policy.network.record(obs, use)
            critic.network.record(torch.cat([obs, action], 1), use)
    return policy, critic


@pytest.fixture(scope="session")
def provenance() -> Provenance:
    return Provenance(
        env_id="wpg/Test-v0",
        seed=1,
        env_steps=1000,
        git_commit=None,
        packages={"torch": torch.__version__},
        config_sha256="ab" * 32,
    )


@pytest.fixture(scope="session")
def write(networks, interface, provenance) -> Callable[..., Artifact]:
    """``write_artifact`` with the arguments that most tests do not care about."""

    def _write(
        path: Path, *, policy: Any = None, critic: Any = None, temperature: float = 0.1, **changes: Any
    ) -> Artifact:
        made = exportable_policy(policy or networks[0], critic or networks[1], temperature=temperature)
        names = SamplerOptions.__dataclass_fields__
        options = {name: changes.pop(name) for name in list(changes) if name in names}
        rest = {"interface": interface, "provenance": provenance} | changes
        return write_artifact(path, made, options=SamplerOptions(**options), **rest)

    return _write


@pytest.fixture(scope="session")
def path(write, tmp_path_factory) -> Path:
    """An artifact without refinement."""
    file = tmp_path_factory.mktemp("artifact") / "policy.onnx"
    write(file)
    return file
