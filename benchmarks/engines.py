"""Measures how far apart the two engines are when both arms follow the same setpoints.

    python benchmarks/engines.py [--seconds 10] [--sequences 5] [--json FILE]

In free motion the arm gets another target within ±0.8 rad of home every half second. In contact it is told to
press its tool 5 mm into the table. The tracking error (setpoint to joint) is printed for comparison.
"""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.optimize import least_squares

from wpg.export.kinematics import ForwardKinematics
from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.setpoints import SetpointGenerator
from wpg.sim_envs.engines import ENGINES, make_robot

TARGET_EVERY_S = 0.5
SPREAD_RAD = 0.8
INTO_THE_TABLE_M = np.array([0.45, 0.0, -0.005])
MRAD = 1e3


def joint_rmse(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, J) rad -> (J,) mrad."""
    rmse: NDArray[np.float64] = MRAD * np.sqrt((difference**2).mean(axis=0))
    return rmse


def inverse_kinematics(description: RobotDescription, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joints near home, (J,) rad, that put the tool there."""
    home, kinematics = description.limits("home_rad"), ForwardKinematics(description.kinematics())

    def residual(joint_pos: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([kinematics.tool_position(joint_pos) - place, 1e-3 * (joint_pos - home)])

    joint_pos: NDArray[np.float64] = least_squares(residual, home).x
    return joint_pos


def play(
    description: RobotDescription, seconds: float, seed: int, *, contact: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run one sequence on both engines; returns setpoints (T, J) and joint positions (T, 2, J), rad."""
    rng = np.random.default_rng(seed)
    home = description.limits("home_rad")
    robots = [make_robot(description, engine) for engine in ENGINES]
    setpoints = SetpointGenerator(description, description.servo_dt_s)
    setpoints.reset(home)
    for robot in robots:
        robot.reset(home)
    pressed = inverse_kinematics(description, INTO_THE_TABLE_M)
    sent, done = [], []
    for tick in range(round(seconds / description.servo_dt_s)):
        if tick % round(TARGET_EVERY_S / description.servo_dt_s) == 0:
            free = home + rng.uniform(-SPREAD_RAD, SPREAD_RAD, len(home))
            setpoints.set_target(pressed if contact else free)
        command = setpoints.step()
        for robot in robots:
            robot.write(command)
            robot.advance(description.servo_dt_s)
        sent.append(command.joint_pos)
        done.append([robot.read().joint_pos for robot in robots])
    for robot in robots:
        robot.close()
    return np.array(sent), np.array(done)


def main(
    *,
    seconds: float = 10.0,
    sequences: int = 5,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json")] = None,
) -> None:
    """Print the table."""
    description = load_description("panda")
    rows: dict[str, list[float]] = {}
    free = [play(description, seconds, seed, contact=False) for seed in range(sequences)]
    sent, done = (np.stack(arrays, axis=1) for arrays in zip(*free, strict=True))  # (T, S, J), (T, S, 2, J)
    joints = description.num_joints
    for first in range(0, round(seconds), 2):
        window = slice(*(round(time / description.servo_dt_s) for time in (first, first + 2)))
        apart = (done[window, :, 0] - done[window, :, 1]).reshape(-1, joints)
        rows[f"apart, {first} to {first + 2} s"] = joint_rmse(apart).tolist()
    for number, engine in enumerate(ENGINES):
        error = (done[:, :, number] - sent).reshape(-1, joints)
        rows[f"tracking error, {engine}"] = joint_rmse(error).tolist()
    _, table = play(description, 4.0, 0, contact=True)
    rows["apart, pressing on the table"] = joint_rmse(table[:, 0] - table[:, 1]).tolist()
    print(f"joint RMSE in mrad, mujoco {version('mujoco')}, pybullet {version('pybullet')}")
    print(f"{'':32}" + "".join(f"{name.removeprefix('panda_'):>9}" for name in description.joint_names))
    for name, row in rows.items():
        print(f"{name:32}" + "".join(f"{value:9.2g}" for value in row))
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
