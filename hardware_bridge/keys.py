"""Shared keys for robots on a network: one file on each side, readable by its owner alone."""

import os
import secrets
import stat
from pathlib import Path

from wpg.hardware_bridge.errors import BridgeError

KEY_BYTES = 32


class KeyFileError(BridgeError, ValueError):
    """The key file cannot be used; the message says how to mend it."""


def write_key(path: str | Path) -> None:
    """Make a new random key, as a line of hexadecimal digits that only the owner may read.

    Raises:
        KeyFileError: the file exists or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyFileError(f"{path}: no key written: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(KEY_BYTES) + "\n")


def read_key(path: str | Path) -> bytes:
    """The key in a file.

    Raises:
        KeyFileError: it cannot be read, others may read it, or it holds no key.
    """
    try:
        with open(path) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise KeyFileError(f"{path}: no key to be read: {reason}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"{path}: others may read this key (mode {mode & 0o777:o}): `chmod 600 {path}`")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"{path}: expected {2 * KEY_BYTES} hexadecimal digits, found {len(text)} characters"
        )
    return key
