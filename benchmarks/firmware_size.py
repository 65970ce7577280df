"""Cross-compiles the reference firmware for boards with warnings as errors, and measures its size.

    apt install gcc-avr avr-libc gcc-arm-none-eabi libnewlib-arm-none-eabi arduino-core-avr
    python benchmarks/firmware_size.py

The core is compiled alone with `-Os`. A device's RAM is one ``wpg_device``. The stack is the deepest way
through the core's own functions, without return addresses, hooks and the maths library. If Debian's
arduino-core-avr is installed, the sketch of firmware/example is then linked with Arduino's core for the Mega
2560, with a Servo library that does nothing.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import tyro

FIRMWARE = Path(__file__).parents[1] / "firmware"
ARDUINO = Path("/usr/share/arduino/hardware/arduino/avr")
STRICT = ("-Wall", "-Wextra", "-Werror", "-Os", "-ffunction-sections", "-fdata-sections", "-fno-common")


class Target(NamedTuple):
    """A kind of board."""

    name: str
    tools: str
    flags: tuple[str, ...]


TARGETS = (
    Target("ATmega2560 (Arduino Mega)", "avr", ("-mmcu=atmega2560",)),
    Target("Cortex-M0+ (Zero, RP2040)", "arm-none-eabi", ("-mcpu=cortex-m0plus", "-mthumb")),
    Target(
        "Cortex-M4F (Teensy 3.x, STM32F4)",
        "arm-none-eabi",
        ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"),
    ),
)
TAKEN = ("wpg_receive", "take_encoded", "take_frame")
ANSWERED = (("send_encoded",), ("finish", "make_tag", "blake_block"))
WAYS = [
    (*TAKEN, *way, *end)
    for way in (("send_state",), ("open_session",), ("open_session", "build_identity"))
    for end in ANSWERED
]
"""Ways through the core's functions; what was inlined stands in its caller."""
SERVO = """#pragma once
#include <Arduino.h>
struct Servo {
    int pin = -1;
    void attach(int to) { pin = to; }
    bool attached() { return pin >= 0; }
    void detach() { pin = -1; }
    void writeMicroseconds(int) {}
};
"""


def call(*command: object) -> str:
    """Output of a tool; what it complains of ends the benchmark."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


def sections(target: Target, file: Path) -> tuple[int, int]:
    """Flash and static RAM of an object or program, bytes."""
    flash = ram = 0
    for line in call(f"{target.tools}-size", "-A", file).splitlines():
        name, size, *_ = (*line.split(), "", "")
        if name.startswith((".text", ".rodata", ".data", ".init")):
            flash += int(size)
        # An AVR reads constants from RAM.
        if name.startswith((".data", ".bss")) or (name.startswith(".rodata") and target.tools == "avr"):
            ram += int(size)
    return flash, ram


def deepest_stack(usage: str) -> int:
    """Bytes of the deeper of the ways through the core, from GCC's ``-fstack-usage``; clones count as one."""
    own: dict[str, int] = {}
    for line in usage.splitlines():
        place, size, _ = line.split("\t")
        name = place.rpartition(":")[2].partition(".")[0]
        own[name] = max(own.get(name, 0), int(size))
    return max(sum(own.get(name, 0) for name in way) for way in WAYS)


def core_row(target: Target, folder: Path) -> str:
    """Compile the core alone; a line of the table."""
    compiler = f"{target.tools}-gcc"
    flags = (*target.flags, "-std=c99", *STRICT, "-I", FIRMWARE)
    device, probe = folder / "wpg_device.o", folder / "probe.o"
    call(compiler, *flags, "-fstack-usage", "-c", FIRMWARE / "wpg_device.c", "-o", device)
    (folder / "probe.c").write_text('#include "wpg_device.h"\nwpg_device device;\n')
    call(compiler, *flags, "-c", folder / "probe.c", "-o", probe)
    flash, static = sections(target, device)
    stack = deepest_stack((folder / "wpg_device.su").read_text())
    version = call(compiler, "-dumpversion").strip()
    ram = static + sections(target, probe)[1]
    return f"| {target.name} | {compiler} {version} | {flash:,} | {ram:,} | {stack:,} |"


def sketch_size(folder: Path) -> tuple[int, int]:
    """Link the example's sketch for the Mega 2560; its flash and static RAM, bytes."""
    flags = ("-mmcu=atmega2560", "-DF_CPU=16000000L", "-DARDUINO=10819", "-DARDUINO_ARCH_AVR", "-Os")
    # This compiler's float.h keeps it from C++.
    flags += ("-DDECIMAL_DIG=__DECIMAL_DIG__",)
    flags += ("-ffunction-sections", "-fdata-sections", "-I", str(ARDUINO / "cores/arduino"))
    flags += ("-I", str(ARDUINO / "variants/mega"), "-I", str(FIRMWARE), "-I", str(folder))
    cpp = ("-std=gnu++11", "-fno-exceptions", "-fno-threadsafe-statics")
    (folder / "Servo.h").write_text(SERVO)
    core = ARDUINO / "cores/arduino"
    for source in sorted(core.glob("*.c")):
        call("avr-gcc", *flags, "-c", source, "-o", folder / f"{source.name}.o")
    for source in sorted(core.glob("*.cpp")):
        call("avr-g++", *flags, *cpp, "-c", source, "-o", folder / f"{source.name}.o")
    call("avr-gcc", *flags, *STRICT, "-std=c99", "-c", FIRMWARE / "wpg_device.c", "-o", folder / "device.o")
    sketch = ("-Wall", "-Wextra", "-Werror", "-x", "c++", "-include", "Arduino.h")
    example = FIRMWARE / "example" / "example.ino"
    call("avr-g++", *flags, *cpp, *sketch, "-c", example, "-o", folder / "sketch.o")
    objects = [path for path in folder.glob("*.o") if path.name not in ("wpg_device.o", "probe.o")]
    program = folder / "sketch.elf"
    call("avr-gcc", "-mmcu=atmega2560", "-Os", "-Wl,--gc-sections", *objects, "-lm", "-o", program)
    return sections(TARGETS[0], program)


def main() -> None:
    """Compile, size, and print a table."""
    print("| core, 8 joints at most | compiler | flash | RAM | stack |")
    print("|---|---|---|---|---|")
    for target in TARGETS:
        if shutil.which(f"{target.tools}-gcc") is None:
            raise SystemExit(f"{target.tools}-gcc is not installed: apt install gcc-avr gcc-arm-none-eabi")
        with tempfile.TemporaryDirectory() as folder:
            print(core_row(target, Path(folder)), flush=True)
    if not ARDUINO.exists():
        print("\nno sketch: Arduino's core is not installed: apt install arduino-core-avr", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as folder:
        flash, ram = sketch_size(Path(folder))
    print(f"\nexample.ino on an Arduino Mega 2560: {flash:,} bytes of flash, {ram:,} of RAM before the stack")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
