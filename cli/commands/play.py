"""``wpg play``: watch a policy, or an environment without one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wpg.cli.options import (
    ActuatorsFile,
    CommandError,
    ParticleChoice,
    RobotOption,
    env_kwargs,
    naming,
    prepare_outputs,
    require_at_least,
)
from wpg.cli.terminal import number_of, terminal, working

if TYPE_CHECKING:
    import gymnasium

    from wpg.controllers.experience.evaluation import Act


def play(
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_OR_POLICY")],
    *,
    out: Path = Path("play.gif"),
    window: bool = False,
    env: str | None = None,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    episodes: int = 3,
    select: ParticleChoice | None = None,
    seed: int = 0,
) -> None:
    """Watch a policy: as an animation, rendered without a display, or in a window.

    Args:
        target: A run folder or an exported .onnx file; or a Gymnasium id, played with random actions.
        out: The file to write: .mp4 (pip install imageio-ffmpeg), .gif, .webp or .png (animated).
        window: Show it live in the engine's viewer, without writing a file.
        env: Gymnasium id; by default the one the policy was trained in.
        episodes: Number of episodes to show.
        select: The critic's best particle, the particles' mean, or a random one; by default the file's rule.
        seed: Seed of resets and noise.
    """
    from wpg.cli.filming import film, rate_hz, require_format, watch, write_film  # noqa: PLC0415  not in the bridge
    from wpg.sim_envs.engines.display import require_display  # noqa: PLC0415
    from wpg.sim_envs.errors import WindowClosed  # noqa: PLC0415

    require_at_least(1, episodes=episodes)
    require_at_least(0, seed=seed)
    if window:
        require_display()
    else:
        require_format(out)
        prepare_outputs(out, inputs=(target, robot, actuators))
    kwargs = {"render_mode": "human" if window else "rgb_array"}
    kwargs |= env_kwargs(robot=robot, actuators=actuators)
    with naming(actuators), _controlled(target, env, select, seed, kwargs) as (act, opened):
        if window:
            try:
                watch(act, opened, episodes, seed)
            except WindowClosed:
                return
        else:
            with working(f"playing and drawing {number_of(episodes, 'episode')} ..."):
                frames = film(act, opened, episodes, seed)
                write_film(out, frames, rate_hz(opened))
            terminal().print(f"{out}: {len(frames)} frames at {rate_hz(opened):g} a second", soft_wrap=True)


@contextmanager
def _controlled(
    target: str,
    env: str | None,
    select: ParticleChoice | None,
    seed: int,
    kwargs: dict[str, Any],
) -> "Iterator[tuple[Act, gymnasium.Env[Any, Any]]]":
    """A policy in its environment, or an environment with random actions."""
    from wpg.cli.acting import acting  # noqa: PLC0415
    from wpg.cli.filming import random_act  # noqa: PLC0415
    from wpg.controllers import UnknownEnvError  # noqa: PLC0415
    from wpg.controllers.experience.environment import inspect_env, make_env  # noqa: PLC0415

    if Path(target).exists():
        with acting(Path(target), env, select, seed=seed, **kwargs) as (act, opened, _):
            yield act, opened
        return
    if env is not None:
        raise CommandError(f"{target}: expected a policy to act in --env {env}, found no such file or folder")
    try:
        opened = make_env(target, **kwargs)
    except UnknownEnvError as error:
        raise CommandError(f"{target}: no such file or folder, and {error}") from error
    try:
        inspect_env(opened)
        yield random_act(opened, seed), opened
    finally:
        opened.close()
