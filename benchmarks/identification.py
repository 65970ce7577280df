"""Measures what ``wpg identify`` finds out about hidden robots, whose effects it is not told.

    python benchmarks/identification.py [--sets 10] [--real 2] [--out benchmarks/results/identification.jsonl]

Every set is an emulated Panda with delay, lag, friction, gains, payload, offsets and noise drawn by a seed
that only the emulator sees. The sets alternate between MuJoCo, which identification simulates with, and
PyBullet. The first --real sets of each engine run behind UDP in another process in real time, by the commands
that a user types. The others make the same motion in this process, on a clock that the simulation advances.
Both sides have Coulomb and viscous friction only; real arms have more than that.

Writes one line for each set, and prints the table of docs/identify.md.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import tyro
from rows import append
from wpg_process import emulated, run_command

from wpg.hardware_bridge.description import load_description
from wpg.hardware_bridge.emulation.arm import physics_step_s
from wpg.hardware_bridge.motions.excitation import ExcitationPlan, excitation
from wpg.hardware_bridge.motions.playing import play_path
from wpg.hardware_bridge.run_log.log import RunLog
from wpg.hardware_bridge.run_log.reader import read_log
from wpg.hardware_bridge.testing.clocks import SimulatedClock
from wpg.sim_envs.effects import Effects, JointEffects, effects_toml
from wpg.sim_envs.engines import EngineName, make_robot
from wpg.sim_envs.identification.identify import identify
from wpg.sim_envs.identification.recording import recording_of
from wpg.sim_envs.models.scene import Scene

ROBOT = load_description("panda")
ATTEMPTS = 5
SECRET = 20_261_124
FRICTION_NM = np.array([0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489]) / 2.0
"""Half the range of the sigmoids that Gaz et al. (RA-L 2019) found on a Panda."""
JOINT_RANGES = {
    "lag_s": (0.0, 0.03),
    "coulomb_friction_nm": (0.5, 2.0),
    "viscous_friction_nm_s_rad": (0.02, 0.1),
    "stiffness_factor": (0.7, 1.3),
    "damping_factor": (0.7, 1.3),
    "joint_pos_offset_rad": (-5e-3, 5e-3),
}
"""What every joint of a hidden robot has of its own; dry friction times a Panda's, viscous times its gain."""
ARM_RANGES = {
    "action_delay_s": (0.0, 0.12),
    "payload_kg": (0.0, 2.0),
    "joint_pos_noise_rad": (0.0, 3e-4),
    "joint_vel_noise_rad_s": (0.0, 5e-3),
    "joint_torque_noise_nm": (0.0, 0.3),
}
FIELDS = {
    "action_delay_s": "delay",
    "lag_s": "lag",
    "coulomb_friction_nm": "dry friction",
    "viscous_friction_nm_s_rad": "viscous friction",
    "stiffness_factor": "position gain",
    "damping_factor": "velocity gain",
    "payload_kg": "payload",
    "joint_pos_offset_rad": "offset",
}
IN_ABSOLUTE = {"action_delay_s": (1e3, "ms"), "lag_s": (1e3, "ms"), "joint_pos_offset_rad": (1e3, "mrad")}
"""Errors that are no share of the value: factor and unit."""


def hidden_arm(number: int) -> Effects:
    """The effects of one hidden arm."""
    rng = np.random.default_rng([SECRET, number])
    joints = {
        name: JointEffects(
            **{field: rng.uniform(*span) * scale.get(field, 1.0) for field, span in JOINT_RANGES.items()}
        )
        for name, scale in _scales().items()
    }
    return Effects(joints=joints, **{field: rng.uniform(*span) for field, span in ARM_RANGES.items()})


def hidden_family() -> Effects:
    """All that a hidden arm may be."""
    joints = {
        name: JointEffects(
            **{
                field: (low * scale.get(field, 1.0), high * scale.get(field, 1.0))
                for field, (low, high) in JOINT_RANGES.items()
            }
        )
        for name, scale in _scales().items()
    }
    return Effects(joints=joints, **ARM_RANGES)


def _scales() -> dict[str, dict[str, float]]:
    """By joint: what its frictions are measured in."""
    assert ROBOT.simulation is not None
    rows = zip(ROBOT.joint_names, FRICTION_NM.tolist(), ROBOT.simulation.damping_nm_s_rad, strict=True)
    return {
        name: {"coulomb_friction_nm": friction, "viscous_friction_nm_s_rad": damping}
        for name, friction, damping in rows
    }


def over_udp(engine: EngineName, actuators: Path, folder: Path) -> dict[str, Any]:
    """What a user does: two commands, two processes, real time."""
    found = folder / "found.json"
    files = ["--json", found, "--out", folder / "found.toml"]
    options = ["--link", "udp://127.0.0.1:0", "--engine", engine, "--actuators", actuators]
    with emulated(ROBOT.name, *options) as arm:
        for attempt in range(ATTEMPTS):  # a busy machine may stop a motion
            last = attempt + 1 == ATTEMPTS
            command = ["identify", "--robot", ROBOT.name, "--link", arm.link, *files]
            if run_command(*command, check=last, quiet=True) == 0:
                break
    result: dict[str, Any] = json.loads(found.read_text())
    return result


def in_process(engine: EngineName, effects: Effects, folder: Path) -> dict[str, Any]:
    """The same motion, log and fit, in simulated time."""
    robot = make_robot(ROBOT, engine, scene=Scene(payload=True))
    rng = np.random.default_rng(0)
    robot.apply(effects.draw(rng, ROBOT), rng)
    robot.reset(ROBOT.limits("home_rad"))
    log = folder / "run.mcap"
    run_log = RunLog(log, {"robot": ROBOT.name}, {})
    clock = SimulatedClock(robot, physics_step_s(ROBOT))
    play_path(robot, excitation(ROBOT, ExcitationPlan()), run_log, clock=clock)
    run_log.close()
    found = identify(ROBOT, recording_of(read_log(log), ROBOT))[0]
    result: dict[str, Any] = msgspec.to_builtins(found)
    return result


def compare(found: dict[str, Any], effects: Effects) -> list[dict[str, Any]]:
    """Every identified number against the hidden one."""
    drawn = effects.draw(np.random.default_rng(0), ROBOT)
    rows = []
    for quantity in found["quantities"]:
        true = getattr(drawn, quantity["field"])
        if quantity["joint"] is not None:
            true = true[ROBOT.joint_names.index(quantity["joint"])]
        rows.append(quantity | {"true": float(true)})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Errors and coverage by engine and field."""
    lines = [
        "| hidden robot | quantity | median error | largest error | intervals that cover | told |",
        "|---|---|---|---|---|---|",
    ]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        own = [row for row in rows if row["engine"] == engine]
        for field, title in FIELDS.items():
            numbers = [one for row in own for one in row["quantities"] if one["field"] == field]
            of_joints = 1 if field in ("action_delay_s", "payload_kg") else ROBOT.num_joints
            if not numbers:
                continue
            true, value, low, high = (
                np.array([one[key] for one in numbers]) for key in ("true", "value", "low", "high")
            )
            factor, unit = IN_ABSOLUTE.get(field, (100.0, "%"))
            errors = factor * np.abs(value - true) / (1.0 if field in IN_ABSOLUTE else np.abs(true))
            covered = np.mean((low <= true) & (true <= high))
            lines.append(
                f"| {engine} | {title} | {np.median(errors):.2g} {unit} | {errors.max():.2g} {unit} "
                f"| {covered:.0%} | {len(numbers)} of {of_joints * len(own)} |"
            )
    return "\n".join(lines)


def main(
    *,
    sets: int = 10,
    real: int = 2,
    out: Path = Path("benchmarks/results/identification.jsonl"),
) -> None:
    """Hide, identify, compare."""
    out.unlink(missing_ok=True)
    rows: list[dict[str, Any]] = []
    for number in range(sets):
        engine: EngineName = "mujoco" if number % 2 == 0 else "pybullet"
        in_real_time = number < 2 * real
        effects = hidden_arm(number)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            actuators = folder / "hidden.toml"
            actuators.write_text(effects_toml(effects))
            found = (
                over_udp(engine, actuators, folder) if in_real_time else in_process(engine, effects, folder)
            )
        row = {"set": number, "engine": engine, "route": "udp" if in_real_time else "in process"}
        row |= {"quantities": compare(found, effects), "unknown": found["unknown"]}
        row |= {"errors": found["errors"]}
        rows.append(row)
        append(out, row)
    print(table(rows))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
