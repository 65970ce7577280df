"""``wpg export``: a trained policy as one ONNX file."""

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from wpg.cli.options import (
    ActuatorsFile,
    CommandError,
    RobotOption,
    UsageError,
    env_kwargs,
    naming,
    prepare_outputs,
    usage_error,
)
from wpg.cli.policies import POLICY_NAME
from wpg.cli.terminal import terminal
from wpg.export.contract import ActionChoice
from wpg.export.errors import ContractError
from wpg.export.options import ExportOptions, SamplerOptions


def export(
    policy: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_ZIP")],
    *,
    out: Path | None = None,
    particles: int | None = None,
    refine: int = 0,
    step_size: float = 0.05,
    choice: ActionChoice = "best",
    noise_scale: float = 1.0,
    env: str | None = None,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    vec_normalize: Path | None = None,
    interface: Path | None = None,
    licence: str | None = None,
    sign_key: Path | None = None,
) -> None:
    """Export a policy: graph and contract in one file, checked against the policy before it is written.

    Args:
        policy: A run folder, or the .zip of a Stable-Baselines3 SAC, TQC, TD3, DDPG, PPO or A2C policy.
        out: The file to write; an existing one is replaced. By default policy.onnx in the run folder, or
            the zip's name with .onnx.
        particles: Default number of particles; the file accepts any number. A zip acts deterministically by
            default, and samples if there are several.
        refine: Langevin steps on the critic's action gradient after the draw.
        step_size: Step size of the refinement.
        choice: Which particle becomes the action: the critic's best; the best, but leaving a mode only for
            one that is better by a margin; the one nearest to all others; or a random one.
        noise_scale: Factor on the graph's noise; 0 uses the means of the policy's components, which gives a
            smoother action.
        env: Gymnasium id of the environment that a zip was trained in, with the --robot and the --actuators
            used there; it defines the policy's observations.
        vec_normalize: File written by VecNormalize.save, if a zip was trained with it.
        interface: TOML file that defines observations and commands, instead of the environment.
        licence: Terms under which the policy may be used, as an SPDX identifier.
        sign_key: Key file to sign with (`wpg key FILE` makes one).
    """
    from wpg.export import export_run, export_zip  # noqa: PLC0415  torch is not part of the bridge
    from wpg.hardware_bridge.keys import read_key  # noqa: PLC0415

    try:
        sampler = SamplerOptions(
            num_particles=particles,
            refinement_steps=refine,
            step_size=step_size,
            choice=choice,
            noise_scale=noise_scale,
        )
    except ContractError as error:
        raise usage_error(error, num_particles="particles", refinement_steps="refine") from error
    options = ExportOptions(
        sampler=sampler,
        interface=interface,
        licence=licence,
        sign_key=None if sign_key is None else read_key(sign_key),
    )
    inputs = (policy, robot, actuators, vec_normalize, interface, sign_key)
    if policy.is_dir():
        if any(option is not None for option in (env, robot, actuators, vec_normalize)):
            raise UsageError(
                f"{policy} is a run folder: --env, --robot, --actuators and --vec-normalize are for a .zip"
            )
        out = out or policy / POLICY_NAME
        prepare_outputs(out, inputs=inputs, kind=".onnx")
        path = export_run(policy, out, options)
    elif policy.suffix == ".zip":
        if env is None and interface is None:
            raise UsageError(
                f"{policy}: a zip does not name its environment: give --env ID or --interface FILE"
            )
        out = out or policy.with_suffix(".onnx")
        prepare_outputs(out, inputs=inputs, kind=".onnx")
        with naming(actuators):
            path = export_zip(
                policy,
                out,
                env_id=env,
                env_kwargs=env_kwargs(robot=robot, actuators=actuators),
                vec_normalize=vec_normalize,
                options=options,
            )
    else:
        found = "another file" if policy.exists() else "nothing"
        raise CommandError(
            f"{policy}: expected a run folder or the .zip of a Stable-Baselines3 policy, found {found}"
        )
    command = shlex.join(("wpg", "inspect", str(path)))
    terminal().print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; next: {command}", soft_wrap=True)
