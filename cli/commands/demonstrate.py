"""``wpg demonstrate``: records episodes of a task's script as demonstrations for training."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from wpg.cli.options import (
    ActuatorsFile,
    CommandError,
    ControlOption,
    RobotOption,
    UsageError,
    env_kwargs,
    naming,
    prepare_outputs,
    refuse_existing,
    require_at_least,
)
from wpg.cli.terminal import terminal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def demonstrate(
    env: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")],
    *,
    out: Path = Path("demonstrations.npz"),
    episodes: int = 100,
    noise: float = 0.3,
    seed: int = 0,
    robot: RobotOption = None,
    actuators: ActuatorsFile = None,
    control: ControlOption = None,
) -> None:
    """Record episodes of a task's script for `wpg train --demonstrations`.

    There is a script for pushing, for picking and placing, and for inserting. To write your own episodes,
    from a person or another policy, use `wpg.controllers.save_demonstrations`.

    Args:
        env: Gymnasium id of a task of wpg.
        out: The file to write; it must not exist.
        episodes: Number of episodes.
        noise: Maximum standard deviation of the noise added to the actions in [-1, 1], drawn per episode. The
            script's corrections are worth learning.
        seed: Seed of all randomness.
    """
    require_at_least(1, episodes=episodes)
    require_at_least(0, seed=seed)
    if not 0 <= noise < float("inf"):
        raise UsageError(f"--noise: expected a deviation of 0 or more, found {noise:g}")
    refuse_existing(out, "--out")
    prepare_outputs(out)
    import numpy as np  # noqa: PLC0415

    from wpg.controllers import record, save_demonstrations  # noqa: PLC0415  torch: not in the bare bridge
    from wpg.controllers.experience.environment import make_env  # noqa: PLC0415
    from wpg.sim_envs.tasks.scripts import script_for  # noqa: PLC0415

    with naming(actuators):
        task = make_env(env, **env_kwargs(robot=robot, actuators=actuators, control=control))
    try:
        make_script = script_for(task)
        if make_script is None:
            raise CommandError(f"no script plays {env}: there is one for pushing, picking and inserting")
        rng = np.random.default_rng(seed)
        played = [
            record(
                task,
                _shaky(make_script(), rng, noise * rng.random()),
                seed=int(rng.integers(2**31)),
            )
            for _ in range(episodes)
        ]
    finally:
        task.close()
    solved = sum(bool(success) for _, success in played)
    if not solved:
        raise CommandError(
            f"the script solved none of {episodes} episodes of {env}: nothing to learn from them"
        )
    save_demonstrations(out, [episode for episode, _ in played])
    options = {"--robot": robot, "--actuators": actuators, "--control": control, "--demonstrations": out}
    named = [str(part) for option in options.items() if option[1] is not None for part in option]
    console = terminal()
    console.print(f"wrote {out}: {solved} of {episodes} episodes solved; next:", soft_wrap=True)
    console.print(shlex.join(("wpg", "train", env, *named)), soft_wrap=True)


def _shaky(policy: Any, rng: "np.random.Generator", deviation: float) -> Any:
    """The policy with normally distributed noise on its actions."""

    def act(obs: Any) -> "NDArray[np.float32]":
        action: NDArray[np.float32] = policy(obs)
        action += deviation * rng.standard_normal(action.shape, "float32")
        return action.clip(-1, 1)

    return act
