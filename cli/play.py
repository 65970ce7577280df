"""``wpg play``: watch a policy, or an environment without one."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from wpg.cli.options import CommandError


def play(
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ENV_OR_POLICY")],
    *,
    out: Path = Path("play.gif"),
    env: str | None = None,
    episodes: int = 3,
    select: Literal["best", "mean", "sample"] = "best",
    seed: int = 0,
) -> None:
    """Write a moving picture of a policy at work, rendered without a screen.

    Args:
        target: A run folder or an exported .onnx file; or a Gymnasium id, which is then acted in at random.
        out: The file to write, .gif, .webp or .png (animated).
        env: Gymnasium id; by default the one that the policy was trained in.
        episodes: Episodes to show, one after the other.
        select: The critic's best particle, the particles' mean, or a random one.
        seed: Seed of resets and noise.
    """
    from wpg.cli.acting import acting  # noqa: PLC0415  torch and gymnasium are not part of the bare bridge
    from wpg.cli.filming import film, random_act, write_animation  # noqa: PLC0415
    from wpg.controllers.environment import make_env  # noqa: PLC0415

    if episodes < 1:
        raise CommandError(f"--episodes must be at least 1, it is {episodes}")
    if out.suffix not in (".gif", ".webp", ".png"):
        raise CommandError(f"{out}: expected a file that ends in .gif, .webp or .png")
    if Path(target).exists():
        with acting(Path(target), env, select, seed=seed, render_mode="rgb_array") as (act, opened):
            frames, rate_hz = film(act, opened, episodes, seed)
    else:
        opened = make_env(env or target, render_mode="rgb_array")
        try:
            frames, rate_hz = film(random_act(opened, seed), opened, episodes, seed)
        finally:
            opened.close()
    write_animation(out, frames, rate_hz)
    Console().print(f"{out}: {len(frames)} frames at {rate_hz:g} a second", soft_wrap=True)
