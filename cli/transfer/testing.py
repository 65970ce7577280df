"""A simulated robot as the destination of a transfer, for benchmarks and tests that have no real one."""

from dataclasses import replace

import numpy as np

from wpg.cli.options import CommandError
from wpg.cli.transfer.destinations import Destination, Enough, Tried
from wpg.cli.transfer.trials import Simulator, logged_trials
from wpg.export.artifact import Artifact
from wpg.hardware_bridge.control.loop import ControlLoop
from wpg.hardware_bridge.control.loop_config import LoopConfig
from wpg.hardware_bridge.emulation.arm import physics_step_s
from wpg.hardware_bridge.policy import SampledPolicy
from wpg.hardware_bridge.testing.clocks import SimulatedClock
from wpg.hardware_bridge.testing.memory_log import MemoryLog
from wpg.sim_envs.effects import Effects
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.models.scene import EMPTY


class RehearsedRobot(Destination):
    """A simulated robot in this process, run by the whole control loop in simulated time.

    Args:
        engine: physics engine.
        effects: how the arm differs from its model.
        seed: seed of the effects that are drawn from ranges, and of their noise.
    """

    def __init__(self, engine: EngineName, effects: Effects, seed: int = 0) -> None:
        self.name = f"{engine} in process"
        self._engine = engine
        self._effects = effects
        self._seed = seed

    def run(self, artifact: Artifact, simulator: Simulator, count: int, seed: int, enough: Enough) -> Tried:
        """Goals one after the other, until they are enough.

        Raises:
            CommandError: the run did not end well.
        """
        description = simulator.arm.robot.description
        chance = np.random.default_rng(self._seed)
        robot = make_robot(description, self._engine, scene=replace(EMPTY, payload=True))
        robot.apply(self._effects.draw(chance, description), chance)
        robot.reset(description.limits("home_rad"))
        log = MemoryLog()
        report = ControlLoop(
            robot,
            SampledPolicy(artifact, seed),
            LoopConfig(goals=count, seed=seed),
            clock=SimulatedClock(robot, physics_step_s(description)),
            enough=lambda results: enough([result.reached for result in results]),
            recorder=log,
        ).run()
        if not report.completed:
            raise CommandError(f"{self.name}: the run ended by {report.end_reason}: {report.message}")
        trials = logged_trials(log.recording(), report.goal_results, artifact, simulator, self.name)
        return Tried(trials=trials, safety_events=report.safety_events)
