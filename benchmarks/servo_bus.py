"""Measures how close a cycle on a servo bus comes to what the wire allows, and its processor time.

Six servos at 1 Mbaud are emulated in another process; answers leave no earlier than the wire would carry
them. A cycle reads position and speed of all servos and writes all goals. A worker thread of the kernel
passes on a pseudo-terminal's bytes and has to wait on a busy machine. Loopback datagrams need no such thread,
so those rows show the bridge alone. The SDKs' rows need environments that ``servo_sdks.py`` has made.

    python benchmarks/servo_bus.py [--cycles 2000] [--environments DIR]
"""

import itertools
import multiprocessing
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import tyro
from servo_clients import BAUDRATE, cycle
from servo_sdks import MODELS, PROTOCOLS, Tap, make_environment, run_client, six_servo_arm

from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.errors import StaleStateError
from wpg.hardware_bridge.links import open_link
from wpg.hardware_bridge.realtime import RealtimeConfig, realtime
from wpg.hardware_bridge.robot import JointCommand
from wpg.hardware_bridge.servos.dynamixel_robot import DynamixelRobot
from wpg.hardware_bridge.servos.feetech_robot import FeetechRobot
from wpg.hardware_bridge.servos.robot import ServoRobotConfig

DRIVERS = {"feetech": FeetechRobot, "dynamixel": DynamixelRobot}


def serve(protocol: str, link: str, pipe: Connection) -> None:
    """Live in a process of its own, until the pipe says so."""
    emulator = Emulator(KinematicRobot(six_servo_arm(protocol)), link, protocol=protocol)
    pipe.send(emulator.url)
    with realtime(RealtimeConfig(priority=70)):
        emulator.serve(pipe.poll)
    emulator.close()


@contextmanager
def emulated(protocol: str, link: str = "pty:") -> Iterator[str]:
    """URL of six emulated servos."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(protocol, link, theirs))
    process.start()
    try:
        yield ours.recv()
    finally:
        ours.send("stop")
        process.join()


def driver_cycle(protocol: str, url: str, count: int, *, fast: bool) -> dict[str, float]:
    """Times of our driver's cycle, and what the wire needs for its bytes, µs."""
    tap = Tap(open_link(url))
    description = six_servo_arm(protocol)
    robot = DRIVERS[protocol](description, lambda: tap, ServoRobotConfig(margin_s=0.02, fast_read=fast))
    robot.connect()
    robot.arm()
    home = description.limits("home_rad")
    command = JointCommand(joint_pos=home, joint_vel=np.zeros_like(home))
    for _ in range(20):
        robot.read()
        robot.write(command)
    tap.passed.clear()
    for _ in range(10):
        robot.read()
        robot.write(command)
    wire_us = sum(len(data) // 2 for _, data in tap.passed) / 10 * 10 / BAUDRATE * 1e6
    robot.close()
    robot = DRIVERS[protocol](description, url, ServoRobotConfig(margin_s=0.02, fast_read=fast))
    robot.connect()
    robot.arm()
    with realtime(RealtimeConfig()) as warnings:
        times = cycle(robot.read, lambda: robot.write(command), count, StaleStateError)
    for warning in warnings:
        print(warning, file=sys.stderr)
    robot.close()
    return times | {"wire_us": wire_us}


def sdk_wire_us(protocol: str, *, fast: bool) -> float:
    """What the wire needs for an SDK's cycle of six servos."""
    if protocol == "feetech":
        size = (8 + 6) + 6 * (6 + 4) + (8 + 6 * 3)
    else:
        answers = 8 + 6 * (4 + 8) if fast else 6 * (11 + 8)
        size = (14 + 6) + answers + (14 + 6 * 5)
    return size * 10 / BAUDRATE * 1e6


def row(name: str, times: dict[str, float]) -> str:
    """One line of the table."""
    share = 100 * times["wire_us"] / times["mean_us"]
    return (
        f"| {name} | {times['wire_us']:.0f} | {times['mean_us']:.0f} | {times['p50_us']:.0f} | "
        f"{times['p99_us']:.0f} | {share:.1f} % | {times['cpu_us']:.0f} | {times['failed']:.0f} |"
    )


def main(
    *,
    cycles: int = 2000,
    environments: Path = Path("runs/servo_sdks"),
    ours_only: bool = False,
) -> None:
    """Measure and print a table."""
    python = sys.version.split()[0]
    print(f"{platform.machine()}, {platform.release()}, Python {python}, {cycles} cycles\n")
    print("| | wire µs | cycle mean µs | p50 | p99 | share of the wire's limit | CPU µs a cycle | failed |")
    print("|---|---|---|---|---|---|---|---|")
    for protocol, fast, link in itertools.product(MODELS, (False, True), ("pty:", "udp://127.0.0.1:0")):
        if fast and protocol == "feetech":
            continue
        name = f"wpg, {protocol}{', fast sync read' if fast else ''}, {link.partition(':')[0]}"
        with emulated(protocol, link) as url:
            print(row(name, driver_cycle(protocol, url, cycles, fast=fast)), flush=True)
    if ours_only:
        return
    for sdk, protocol in PROTOCOLS.items():
        for fast in (False, True) if protocol == "dynamixel" else (False,):
            name = f"{sdk}-fast" if fast else sdk
            client = make_environment(sdk, environments)
            with emulated(protocol) as url:
                port = url.removeprefix("serial://")
                times = run_client(client, name, port, "cycle", str(cycles))
            print(row(name, times | {"wire_us": sdk_wire_us(protocol, fast=fast)}), flush=True)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
