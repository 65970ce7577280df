"""Checks whether this machine is ready to run a robot, for ``wpg doctor``."""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from wpg.export.interface import PolicyInterface
from wpg.hardware_bridge.franka import gateway
from wpg.hardware_bridge.latency import LatencyHistogram
from wpg.hardware_bridge.links.serial_port import serial_ports
from wpg.hardware_bridge.realtime import RealtimeConfig

PACKAGES = ("wpg", "numpy", "onnxruntime", "pyserial", "ruckig", "mcap", "msgspec")
EXTRAS = {
    "wpg[train]": ("torch", "mujoco", "pybullet", "gymnasium", "onnx"),
    "wpg[franka]": ("pylibfranka",),
    "lerobot": ("lerobot",),
}
"""Packages that not every machine needs, by what installs them."""
LATENCY_TIMER_MS = 1
WAKE_UPS = 300
LATE_US = 500.0
PRIORITY_NEEDED = max(RealtimeConfig().priority or 0, gateway.PRIORITY)
"""Priority that the control loop needs, and the Franka gateway beside it."""
_TRY_RIGHTS = f"""
import json, resource
from wpg.hardware_bridge.realtime import lock_memory, take_priority

if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
    # This process might stay below the limit, the loop's would not.
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
print(json.dumps({{"real-time priority": take_priority({PRIORITY_NEEDED}), "locked memory": lock_memory()}}))
"""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Result of one check."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    fix: str = ""
    """The command that fixes it; empty if nothing needs fixing."""


def diagnose(root: str | Path = "/") -> list[Finding]:
    """Check everything that decides whether a loop is punctual and a port can be opened.

    Args:
        root: folder that contains ``sys`` and ``proc``.
    """
    checks: tuple[Callable[[Path], list[Finding]], ...] = (
        lambda _: rights(),
        _kernel,
        _governor,
        _clock_source,
        _cores,
        _wake_up,
        _ports,
        _latency_timers,
        _packages,
    )
    return [finding for check in checks for finding in check(Path(root))]


def sources_needed(interface: PolicyInterface) -> Finding:
    """What a policy sees that the robot does not measure, and the option that feeds it."""
    terms = ",".join(interface.external)
    if not terms:
        return Finding(name="policy's sources", ok=True, detail="none needed")
    fix = f"give `wpg run --source {terms}=udp://HOST:PORT`; `wpg check --policy` listens to it"
    return Finding(name="policy's sources", ok=False, detail=f"needs {terms} from outside", fix=fix)


def rights() -> list[Finding]:
    """Try in another process what the loop asks the kernel for."""
    command = (sys.executable, "-c", _TRY_RIGHTS)
    tried = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    findings = []
    for name, missing in json.loads(tried.stdout).items():
        detail, _, fix = missing.partition(": ")
        findings.append(Finding(name=name, ok=not missing, detail=detail or "granted", fix=fix))
    return findings


def _kernel(root: Path) -> list[Finding]:
    realtime = _read(root / "sys/kernel/realtime") == "1"
    detail = f"{platform.release()}, {'PREEMPT_RT' if realtime else 'without PREEMPT_RT'}"
    fix = "" if realtime else "for 1 kHz install a PREEMPT_RT kernel; 200 Hz does without"
    return [Finding(name="kernel", ok=realtime, detail=detail, fix=fix)]


def _governor(root: Path) -> list[Finding]:
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*"))
    governors = {_read(folder / "cpufreq/scaling_governor") for folder in folders} - {""}
    if not governors:
        return [Finding(name="governor", ok=True, detail="the machine does not scale its clock")]
    ok = governors == {"performance"}
    fix = "" if ok else "`sudo cpupower frequency-set -g performance`"
    return [Finding(name="governor", ok=ok, detail=", ".join(sorted(governors)), fix=fix)]


def _clock_source(root: Path) -> list[Finding]:
    source = _read(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    ok = source not in ("hpet", "acpi_pm")
    fix = "" if ok else "boot with `clocksource=tsc`: reading this clock takes microseconds"
    return [Finding(name="clock", ok=ok, detail=source or "unknown", fix=fix)]


def _cores(_: Path) -> list[Finding]:
    cores = len(os.sched_getaffinity(0))
    fix = "" if cores > 1 else "leave the loop a core that nothing else runs on"
    return [Finding(name="cores", ok=cores > 1, detail=str(cores), fix=fix)]


def _wake_up(_: Path) -> list[Finding]:
    """Sleep to absolute deadlines, as the loop does, with the rights this process has now."""
    lateness = LatencyHistogram()
    deadline = time.monotonic()
    for _unused in range(WAKE_UPS):
        deadline += 0.001
        time.sleep(max(0.0, deadline - time.monotonic()))
        lateness.record(time.monotonic() - deadline)
    summary = lateness.summary()
    ok = summary.p99 < LATE_US
    detail = f"p50 {summary.p50:.0f} µs, p99 {summary.p99:.0f} µs, max {summary.max:.0f} µs"
    fix = "" if ok else "something else keeps the machine busy: `top`, and see real-time priority above"
    return [Finding(name="wake-up after 1 ms", ok=ok, detail=detail, fix=fix)]


def _ports(_: Path) -> list[Finding]:
    findings = []
    for port in serial_ports():
        ok = os.access(port, os.R_OK | os.W_OK)
        fix = "" if ok else "`sudo usermod -aG dialout $USER` and log in again"
        findings.append(
            Finding(name=f"port {port}", ok=ok, detail="may be opened" if ok else "closed", fix=fix)
        )
    return findings or [Finding(name="serial ports", ok=True, detail="none connected")]


def _latency_timers(root: Path) -> list[Finding]:
    findings = []
    for file in sorted((root / "sys/bus/usb-serial/devices").glob("*/latency_timer")):
        name, text = file.parent.name, _read(file)
        ok = text.isdecimal() and int(text) <= LATENCY_TIMER_MS
        fix = "" if ok else f"`echo {LATENCY_TIMER_MS} | sudo tee /{file.relative_to(root)}`"
        findings.append(Finding(name=f"latency timer of {name}", ok=ok, detail=f"{text} ms", fix=fix))
    return findings


def _packages(_: Path) -> list[Finding]:
    needed = [_package(name) for name in PACKAGES]
    return needed + [_extra(name, packages) for name, packages in EXTRAS.items()]


def _extra(name: str, packages: tuple[str, ...]) -> Finding:
    """What is there of a set of packages that the bridge itself does without."""
    found = [_package(package) for package in packages]
    there = ", ".join(f"{one.name} {one.detail}" for one in found if one.ok)
    fix = "" if all(one.ok for one in found) else f"where it is needed: `pip install '{name}'`"
    return Finding(name=f"extra {name}", ok=True, detail=there or "not installed", fix=fix)


def _package(name: str) -> Finding:
    try:
        return Finding(name=name, ok=True, detail=version(name))
    except PackageNotFoundError:
        return Finding(name=name, ok=False, detail="not installed", fix=f"`pip install {name}`")


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
