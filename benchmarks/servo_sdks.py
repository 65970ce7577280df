"""Runs the servo makers' own SDKs and LeRobot's bus drivers, unmodified, against our emulated buses.

Makes an environment for each of them with pip (LeRobot is large), lets it ping, read and write six emulated
servos over a pseudo-terminal, and reports what came back. ``--record`` writes the bytes that crossed the
line; tests compare our codecs and emulated servos with them.

    python benchmarks/servo_sdks.py [--environments DIR] [--record FILE]
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import tyro

from wpg.hardware_bridge.description import RobotDescription, load_description
from wpg.hardware_bridge.emulation.emulator import Emulator
from wpg.hardware_bridge.emulation.kinematic_robot import KinematicRobot
from wpg.hardware_bridge.links import Link

CLIENT = Path(__file__).with_name("servo_clients.py")
PROTOCOLS = {"feetech-servo-sdk": "feetech", "ftservo-python-sdk": "feetech", "dynamixel-sdk": "dynamixel"}
LEROBOT = {"lerobot-feetech": "feetech", "lerobot-dynamixel": "dynamixel"}
"""Both of one package."""
MODELS = {"feetech": "sts3215", "dynamixel": "xm430-w350"}


class Tap(Link):
    """Writes down what passes a link."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner.url)
        self._inner = inner
        self.passed: list[tuple[str, str]] = []

    def send(self, data: bytes) -> bool:
        """Send, and note it."""
        self.passed.append(("reply", data.hex()))
        return self._inner.send(data)

    def receive(self, timeout_s: float) -> bytes:
        """Receive, and note it."""
        data = self._inner.receive(timeout_s)
        if data:
            self.passed.append(("request", data.hex()))
        return data

    def close(self) -> None:
        """Close the link."""
        self._inner.close()


def six_servo_arm(protocol: str) -> RobotDescription:
    """An SO-101 with a sixth joint, on servos of either make, standing with all servos in their middle."""
    arm = load_description("so101")
    joints = [msgspec.structs.replace(joint, home_rad=0.0) for joint in arm.joints]
    joints.append(msgspec.structs.replace(joints[-1], name="gripper"))
    bus = msgspec.structs.replace(arm.bus, model=MODELS[protocol], servos=(1, 2, 3, 4, 5, 6), others={})
    return msgspec.structs.replace(
        arm, joints=tuple(joints), gripper=None, protocol=protocol, bus=bus, simulation=None
    )


@contextmanager
def serving(protocol: str) -> Iterator[tuple[str, Tap]]:
    """Six emulated servos: their port, and what passes on it."""
    taps: list[Tap] = []

    def tap(link: Link) -> Link:
        taps.append(Tap(link))
        return taps[-1]

    emulator = Emulator(KinematicRobot(six_servo_arm(protocol)), "pty:", protocol=protocol, wrap_link=tap)
    stop = threading.Event()
    thread = threading.Thread(target=emulator.serve, args=(stop.is_set,))
    thread.start()
    try:
        yield emulator.url.removeprefix("serial://"), taps[0]
    finally:
        stop.set()
        thread.join()
        emulator.close()


def make_environment(sdk: str, folder: Path) -> Path:
    """The Python of an environment that has this SDK."""
    name, package = ("lerobot", "lerobot[feetech,dynamixel]") if sdk in LEROBOT else (sdk, sdk)
    python = folder / name / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", package, "pyserial"], check=True)
    return python


def run_client(python: Path, *arguments: str) -> dict[str, Any]:
    """What a client printed."""
    command = [python, CLIENT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main(
    *,
    environments: Path = Path("runs/servo_sdks"),
    record: Path | None = None,
) -> None:
    """Exercise every SDK, print a table, and keep the bytes if asked to."""
    captures = {}
    for sdk, protocol in (PROTOCOLS | LEROBOT).items():
        python = make_environment(sdk, environments)
        with serving(protocol) as (port, tap):
            found = run_client(python, sdk, port, "exercise")
        captures[sdk] = {"protocol": protocol, "passed": tap.passed}
        print(f"\n{sdk}: {len(tap.passed)} pieces on the line")
        for what, value in found.items():
            print(f"  {what:36} {value}")
    if record:
        record.write_text(json.dumps(captures, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
