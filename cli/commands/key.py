"""``wpg key``: makes the secret that both ends of a link share."""

import shlex
from pathlib import Path
from typing import Annotated

import tyro

from wpg.cli.terminal import terminal
from wpg.hardware_bridge.keys import write_key


def key(file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]) -> None:
    """Make a key file, readable only by you; copy it to the other end over a secure channel.

    Args:
        file: The file to write; it must not exist.
    """
    write_key(file)
    terminal().print(f"wrote {file}; give both ends --key {shlex.quote(str(file))}", soft_wrap=True)
