"""Uses a bus through a servo maker's own SDK or LeRobot; :mod:`servo_sdks` runs it in that one's environment.

python servo_clients.py SDK PORT exercise          every kind of access once; prints what came back, as JSON
python servo_clients.py SDK PORT cycle COUNT       read position and speed, write goals; prints times, as JSON
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

BAUDRATE = 1_000_000
SERVOS = (1, 2, 3, 4, 5, 6)
ABSENT = 7
STANDING = 2048


class Feetech:
    """``feetech-servo-sdk`` or ``ftservo-python-sdk``: one module name, two interfaces."""

    def __init__(self, port: str) -> None:
        import scservo_sdk as sdk  # noqa: PLC0415

        self.port = sdk.PortHandler(port)
        assert self.port.openPort()
        assert self.port.setBaudRate(BAUDRATE)
        one_port_each = hasattr(sdk, "sms_sts")
        self.packets = sdk.sms_sts(self.port) if one_port_each else sdk.PacketHandler(0)
        self.extra = () if one_port_each else (self.port,)
        group = (self.packets,) if one_port_each else (self.port, self.packets)
        self.reader = sdk.GroupSyncRead(*group, 56, 4)
        self.writer = sdk.GroupSyncWrite(*group, 42, 2)
        for servo in SERVOS:
            self.reader.addParam(servo)

    def exercise(self) -> dict[str, Any]:
        """Every kind of access once."""
        call, extra = self.packets, self.extra
        found: dict[str, Any] = {
            "ping": [call.ping(*extra, servo) for servo in SERVOS],
            "ping absent": call.ping(*extra, ABSENT),
            "read position": call.read2ByteTxRx(*extra, 1, 56),
            "torque on": call.write1ByteTxRx(*extra, 1, 40, 1),
            "write goal": call.write2ByteTxRx(*extra, 1, 42, STANDING),
            "read back": call.read2ByteTxRx(*extra, 1, 42),
            "reg write": call.regWriteTxRx(*extra, 1, 41, 1, [254]),
            "action": call.action(*extra, 254),
            "acted": call.read1ByteTxRx(*extra, 1, 41),
            "sync read": self.read(),
            "sync write": self.write(),
        }
        found["torque off"] = call.write1ByteTxRx(*extra, 1, 40, 0)
        return found

    def read(self) -> list[int]:
        """Positions of all servos by one sync read."""
        result = self.reader.txRxPacket()
        assert result == 0, result
        return [self.reader.getData(servo, 56, 2) for servo in SERVOS]

    def write(self) -> int:
        """Goals of all servos by one sync write."""
        for servo in SERVOS:
            self.writer.addParam(servo, [STANDING & 0xFF, STANDING >> 8])
        result: int = self.writer.txPacket()
        self.writer.clearParam()
        return result


class Dynamixel:
    """``dynamixel-sdk``."""

    def __init__(self, port: str, *, fast: bool = False) -> None:
        import dynamixel_sdk as sdk  # noqa: PLC0415

        self.sdk, self.fast = sdk, fast
        self.port = sdk.PortHandler(port)
        assert self.port.openPort()
        assert self.port.setBaudRate(BAUDRATE)
        self.packets = sdk.PacketHandler(2.0)
        self.reader = sdk.GroupSyncRead(self.port, self.packets, 128, 8)
        self.writer = sdk.GroupSyncWrite(self.port, self.packets, 116, 4)
        for servo in SERVOS:
            self.reader.addParam(servo)

    def exercise(self) -> dict[str, Any]:
        """Every kind of access once."""
        call, port = self.packets, self.port
        found: dict[str, Any] = {
            "ping": [call.ping(port, servo) for servo in SERVOS],
            "ping absent": call.ping(port, ABSENT),
            "broadcast ping": call.broadcastPing(port),
            "read position": call.read4ByteTxRx(port, 1, 132),
            "torque on": call.write1ByteTxRx(port, 1, 64, 1),
            "write goal": call.write4ByteTxRx(port, 1, 116, STANDING),
            "read back": call.read4ByteTxRx(port, 1, 116),
            "refused: EEPROM while torque is on": call.write1ByteTxRx(port, 1, 11, 3),
            "refused: goal out of range": call.write4ByteTxRx(port, 1, 116, 9999),
            "reg write": call.regWriteTxRx(port, 1, 65, 1, [1]),
            "action": call.action(port, 254),
            "acted": call.read1ByteTxRx(port, 1, 65),
            "sync read": self.read(),
        }
        self.fast = True
        found["fast sync read"] = self.read()
        found["sync write"] = self.write()
        found["bulk read"], found["bulk write"] = self.bulk_read(), self.bulk_write()
        found["reboot"] = call.reboot(port, 1)
        found["torque after reboot"] = call.read1ByteTxRx(port, 1, 64)
        return found

    def bulk_read(self) -> list[int]:
        """Different registers of two servos."""
        bulk = self.sdk.GroupBulkRead(self.port, self.packets)
        bulk.addParam(1, 132, 4)
        bulk.addParam(2, 64, 1)
        result = bulk.txRxPacket()
        assert result == 0, result
        return [bulk.getData(1, 132, 4), bulk.getData(2, 64, 1)]

    def bulk_write(self) -> list[int]:
        """Different registers of two servos, read back."""
        bulk = self.sdk.GroupBulkWrite(self.port, self.packets)
        bulk.addParam(1, 65, 1, [0])
        bulk.addParam(2, 116, 4, [STANDING & 0xFF, STANDING >> 8, 0, 0])
        result = bulk.txPacket()
        assert result == 0, result
        call = self.packets
        return [call.read1ByteTxRx(self.port, 1, 65)[0], call.read4ByteTxRx(self.port, 2, 116)[0]]

    def read(self) -> list[int]:
        """Positions of all servos by one sync read."""
        result = self.reader.fastSyncRead() if self.fast else self.reader.txRxPacket()
        assert result == 0, result
        return [self.reader.getData(servo, 132, 4) for servo in SERVOS]

    def write(self) -> int:
        """Goals of all servos by one sync write."""
        for servo in SERVOS:
            self.writer.addParam(servo, [STANDING & 0xFF, STANDING >> 8, 0, 0])
        result: int = self.writer.txPacket()
        self.writer.clearParam()
        return result


class LeRobot:
    """LeRobot's bus drivers."""

    def __init__(self, port: str, protocol: str) -> None:
        from lerobot.motors import Motor, MotorCalibration, MotorNormMode  # noqa: PLC0415

        if protocol == "feetech":
            from lerobot.motors.feetech import FeetechMotorsBus as Bus  # noqa: PLC0415
        else:
            from lerobot.motors.dynamixel import DynamixelMotorsBus as Bus  # noqa: PLC0415
        model = "sts3215" if protocol == "feetech" else "xm430-w350"
        names = {f"joint{servo}": servo for servo in SERVOS}
        self.bus = Bus(
            port,
            {name: Motor(servo, model, MotorNormMode.DEGREES) for name, servo in names.items()},
            {
                name: MotorCalibration(id=servo, drive_mode=0, homing_offset=0, range_min=0, range_max=4095)
                for name, servo in names.items()
            },
        )
        self.bus.connect()
        self.goals = dict.fromkeys(names, 0.0)

    def exercise(self) -> dict[str, Any]:
        """Every kind of access once; connecting has pinged all servos and read their models."""
        bus = self.bus
        found: dict[str, Any] = {
            "ping": [bus.ping(name) for name in self.goals],
            "ping absent": bus.ping(ABSENT),
            "broadcast ping": bus.broadcast_ping(),
            "is calibrated": bus.is_calibrated,
        }
        bus.write_calibration(bus.calibration)
        found["is calibrated after writing"] = bus.is_calibrated
        bus.configure_motors()
        found["read position"] = bus.read("Present_Position", "joint1")
        bus.enable_torque()
        found["torque"] = bus.sync_read("Torque_Enable", normalize=False)
        found["sync read"] = self.read()
        self.write()
        bus.write("Goal_Position", "joint2", 5.0)
        found["goals"] = bus.sync_read("Goal_Position")
        with bus.torque_disabled():
            found["torque off"] = bus.read("Torque_Enable", "joint1")
        bus.disconnect()
        return found

    def read(self) -> dict[str, float]:
        """Positions of all servos by one sync read, degrees."""
        found: dict[str, float] = self.bus.sync_read("Present_Position")
        return found

    def write(self) -> None:
        """Goals of all servos by one sync write."""
        self.bus.sync_write("Goal_Position", self.goals)


def make_client(sdk: str, port: str) -> Feetech | Dynamixel | LeRobot:
    """The client that a name stands for."""
    if sdk.startswith("lerobot"):
        return LeRobot(port, sdk.removeprefix("lerobot-"))
    return Dynamixel(port, fast=sdk.endswith("fast")) if sdk.startswith("dynamixel") else Feetech(port)


def cycle(
    read: Callable[[], object],
    write: Callable[[], object],
    count: int,
    failure: type[Exception] = AssertionError,
) -> dict[str, float]:
    """Wall and processor time of ``count`` cycles, µs a cycle, and how many reads have failed."""
    walls = []
    failed = 0
    cpu_s = time.process_time()
    for _ in range(count):
        begin_s = time.perf_counter()
        try:
            read()
        except failure:
            failed += 1
        write()
        walls.append(time.perf_counter() - begin_s)
    cpu_s = time.process_time() - cpu_s
    walls.sort()
    return {
        "mean_us": 1e6 * sum(walls) / count,
        "p50_us": 1e6 * walls[count // 2],
        "p99_us": 1e6 * walls[count * 99 // 100],
        "cpu_us": 1e6 * cpu_s / count,
        "failed": failed,
    }


def main() -> None:
    """Run what the command line names."""
    sdk, port, what = sys.argv[1:4]
    client = make_client(sdk, port)
    if what == "exercise":
        print(json.dumps(client.exercise()))
    else:
        print(json.dumps(cycle(client.read, client.write, int(sys.argv[4]))))


if __name__ == "__main__":
    main()
