"""``wpg train``: learn a policy, and export it."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from wpg.cli.options import ActuatorsFile, CommandError, actuators_option

if TYPE_CHECKING:
    from wpg.controllers import OnProgress, TrainProgress


def train(
    env: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="ENV")] = None,
    *,
    steps: int | None = None,
    seed: int = 0,
    out: Path | None = None,
    resume: Path | None = None,
    num_envs: int | None = None,
    updates_per_step: float | None = None,
    hidden: int | None = None,
    device: str = "cpu",
    particles: int = 16,
    stop_at_success: float | None = None,
    max_seconds: float | None = None,
    actuators: ActuatorsFile = None,
) -> None:
    """Train a policy by Wasserstein policy gradient and export it.

    Writes config.yaml, metrics.csv, training.png, TensorBoard logs, checkpoint/ and policy.onnx under the run
    folder.

    Args:
        env: Gymnasium id, of wpg or of any other package.
        steps: Environment steps in all; 100,000 unless a run is resumed.
        seed: Seed of everything random.
        out: Run folder, new; by default runs/ENV-seedS.
        resume: Go on with the run in this folder, to --steps steps if given.
        num_envs: Environments stepped side by side; by default 8 of a goal environment, 1 of another.
        updates_per_step: Critic updates an environment step; by default 0.2 with goals, 1 without.
        hidden: Width of the two hidden layers of policy and critics; by default 128 with goals, 256 without.
        device: Torch device of the updates.
        particles: Particles of the policy.
        stop_at_success: Stop when evaluated success is at least this, twice in a row.
        max_seconds: Stop after this many seconds.
    """
    from wpg.cli.artifacts import export_run, run_options  # noqa: PLC0415  torch: not in the bare bridge
    from wpg.controllers import ProgressBar, TrainConfig  # noqa: PLC0415
    from wpg.controllers import resume as resume_run  # noqa: PLC0415
    from wpg.controllers import train as train_policy  # noqa: PLC0415
    from wpg.controllers.environment import make_env  # noqa: PLC0415

    console = Console()
    if resume is not None:
        if env is not None or out is not None:
            raise CommandError("--resume takes environment and folder from the run: leave out ENV and --out")
        if actuators is not None:
            raise CommandError("--resume takes the actuators from the run: leave out --actuators")
        own = run_options(resume)
        factory = partial(make_env, TrainConfig.load(resume / "config.yaml").env, **own) if own else None
        with ProgressBar(console) as bar:
            result = resume_run(
                resume, steps=steps, max_seconds=max_seconds, on_progress=bar, env_factory=factory
            )
    elif env is None:
        raise CommandError("which environment? `wpg train ENV`; `wpg list` shows what there is")
    else:
        config = TrainConfig(
            env=env,
            steps=100_000 if steps is None else steps,
            seed=seed,
            num_envs=num_envs,
            updates_per_step=updates_per_step,
            hidden=hidden,
            device=device,
            num_particles=particles,
            stop_at_success=stop_at_success,
            max_seconds=max_seconds,
        )
        folder = out or Path("runs") / f"{env.rpartition('/')[2]}-seed{seed}"
        options = actuators_option(actuators)
        if options and not env.startswith("wpg/"):
            raise CommandError(f"--actuators needs an environment of wpg, not {env}")
        factory = partial(make_env, env, **options) if options else None
        with ProgressBar(console) as bar:
            watch = bar if actuators is None else _KeepActuators(folder, actuators.read_bytes(), bar)
            result = train_policy(config, out=folder, on_progress=watch, env_factory=factory)
    artifact = export_run(result.folder, result.folder / "policy.onnx")
    returned, success = _number(result.return_mean, ".1f"), _number(result.success_rate, ".0%")
    console.print(
        f"{result.steps:,} steps in {result.train_seconds:.0f} s, stopped by {result.stopped_by}; "
        f"last evaluation: return {returned}, success {success}"
    )
    console.print(f"exported to {artifact}; next: wpg evaluate {result.folder}")


class _KeepActuators:
    """Puts the actuators into the run folder once there is one, so that what reads the run knows of them."""

    def __init__(self, folder: Path, content: bytes, then: "OnProgress") -> None:
        self._file = folder / "actuators.toml"
        self._content: bytes | None = content
        self._then = then

    def __call__(self, progress: "TrainProgress", /) -> None:
        if self._content is not None:
            self._file.write_bytes(self._content)
            self._content = None
        self._then(progress)


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)
