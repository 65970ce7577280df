"""Files that the demo writes."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from wpg.cli.policies import POLICY_NAME

ENGINE_ENVS = {"mujoco": "wpg/PandaReach-v0", "pybullet": "wpg/PandaReachBullet-v0"}
"""Environment of each engine; the policy is trained in MuJoCo's."""


@dataclass(frozen=True)
class DemoFiles:
    """Names of the files in the demo's folder."""

    root: Path

    @property
    def run(self) -> Path:
        """Run folder of the training."""
        return self.root / "run"

    @property
    def artifact(self) -> Path:
        """The exported policy."""
        return self.run / POLICY_NAME

    @property
    def report(self) -> Path:
        """The HTML page."""
        return self.root / "report.html"

    @property
    def strip(self) -> Path:
        """Moments of one episode, side by side."""
        return self.root / "reach.png"

    @property
    def summary(self) -> Path:
        """The page's numbers as JSON."""
        return self.root / "summary.json"

    def evaluation(self, engine: str) -> Path:
        """Output of `wpg evaluate --json`."""
        return self.root / f"evaluation_{engine}.json"

    def witness(self, link: str) -> Path:
        """Output of `wpg emulate --json`."""
        return self.root / f"witness_{link}.json"

    def result(self, link: str) -> Path:
        """Output of `wpg run --json`."""
        return self.root / f"run_{link}.json"

    def log(self, link: str) -> Path:
        """Output of `wpg run --log`."""
        return self.root / f"run_{link}.mcap"


class Summary(msgspec.Struct, kw_only=True):
    """Keys of summary.json."""

    wall_s: float
    train_s: float
    success_mujoco: float
    success_pybullet: float
    success_serial: float
    success_udp: float
    goals_serial: int
    goals_udp: int
    limit_violations: int
    """Sum of the counts of the bridge and the emulators."""
    rate_hz: float
    """Rate on the slower link."""
    lateness_us: dict[str, float]
    """The larger value of the two links for each percentile."""
