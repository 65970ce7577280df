"""``wpg list``: environments, robots, links and protocols."""

import importlib.util

import msgspec
from rich.table import Table

from wpg.cli.terminal import terminal
from wpg.hardware_bridge.description import brought_robots, load_description, shipped_robots
from wpg.hardware_bridge.drivers import protocol_names

ENGINES = {"mujoco": "MuJoCo", "pybullet": "PyBullet"}
LINKS = {
    "pty:": "a pseudo-terminal that the emulator opens",
    "serial:///dev/ttyUSB0?baudrate=1000000": "a serial port",
    "udp://HOST:PORT": "datagrams",
    "tcp://HOST:PORT": "a stream",
    "fci://HOST": "a Franka arm's control unit",
    "lerobot:TYPE?port=/dev/ttyACM0": "a robot that LeRobot drives",
}


class Listing(msgspec.Struct, kw_only=True):
    """Keys of ``wpg list --json``."""

    envs: list[str]
    robots: list[str]
    links: list[str]
    protocols: list[str]


def list_names(*, json: bool = False) -> None:
    """Show environments, robots, links and protocols.

    Args:
        json: Print the names as JSON instead of tables; takes no file.
    """
    listing = Listing(
        envs=_environments(),
        robots=[*shipped_robots(), *brought_robots()],
        links=list(LINKS),
        protocols=list(protocol_names()),
    )
    if json:
        print(msgspec.json.encode(listing).decode())
        return
    about = {
        "env": {name: _about(name) for name in listing.envs} or {"(none: pip install 'wpg[train]')": ""},
        "robot": {
            name: load_description(name).title if name in shipped_robots() else "" for name in listing.robots
        },
        "link": LINKS,
        "protocol": dict.fromkeys(listing.protocols, ""),
    }
    for kind, names in about.items():
        table = Table(show_header=False, box=None, padding=(0, 1))
        table.add_column(min_width=len("protocol"))
        table.add_column(no_wrap=True, overflow="ignore")  # a truncated name would be useless
        table.add_column()
        for name, meaning in names.items():
            table.add_row(kind, name, meaning)
        terminal().print(table)


def _about(env_id: str) -> str:
    """Task, engine and reward of an environment; empty if it is another package's."""
    import gymnasium  # noqa: PLC0415  the bare bridge has none

    from wpg.sim_envs.registration import task_of  # noqa: PLC0415

    task = task_of(env_id)
    if task is None:
        return ""
    kwargs = gymnasium.spec(env_id).kwargs
    return f"{task.about}; {ENGINES[kwargs['engine']]}, {kwargs['reward']}"


def _environments() -> list[str]:
    if importlib.util.find_spec("gymnasium") is None:
        return []
    import gymnasium  # noqa: PLC0415  the bare bridge has none

    import wpg.sim_envs  # noqa: F401, PLC0415  registers them

    return sorted(env_id for env_id, spec in gymnasium.registry.items() if spec.namespace == "wpg")
