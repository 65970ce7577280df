"""Files that are replaced in one step."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Replace the file at `path` by what `write` writes, or leave the one before it as it is.

    The new file is complete on the disk before it takes the old one's name.

    Args:
        path: of the file.
        write: writes the new one at the path that it is given.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        write(partial)
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
