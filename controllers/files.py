"""Atomic replacement of files, and locks that end with the process that holds them."""

import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Context that gives a temporary path to write to and, at its end, renames that file to `path`.

    The new file is complete on the disk before it replaces the old one. If the block raises, the temporary
    file is removed and the old file stays. Several writers do not disturb each other; the last one to finish
    wins. If `path` is a symbolic link, the file that it points to is replaced. Temporary files that a killed
    writer left behind are removed first.
    """
    path = path.resolve()
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        with suppress(FileNotFoundError, PermissionError), locked(leftover, os.O_RDWR) as alone:
            if alone:
                leftover.unlink()
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    with locked(partial, os.O_RDWR | os.O_CREAT):
        try:
            yield partial
            _sync(partial)
            os.replace(partial, path)
            _sync(path.parent)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def locked(path: Path, flags: int = os.O_RDONLY) -> Iterator[bool | None]:
    """Context that locks a file or folder, so that its users in all processes can exclude each other.

    The lock ends with the block, or with this process and those that it forks in the block.

    Args:
        path: file or folder.
        flags: of `os.open`.

    Yields:
        True if nobody else holds the lock, False if somebody does, None if the file system has no such locks.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, flags, 0o666)
    alone: bool | None = True
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        except OSError:
            alone = None
        yield alone
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
