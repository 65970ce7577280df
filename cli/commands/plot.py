"""``wpg plot``: pictures of a run log."""

from pathlib import Path
from typing import Annotated

import tyro

from wpg.cli.options import CommandError, LogPath, UsageError, prepare_outputs
from wpg.cli.terminal import remark, terminal
from wpg.hardware_bridge.run_log.reader import read_log


def plot(
    log: LogPath, *, out: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png|FOLDER")] = None
) -> None:
    """Plot a run: joints commanded and measured, paths of tool and object, goals, spread, lateness, events.

    Args:
        out: One picture, or a new folder with one per panel; by default one picture beside the log.
    """
    from wpg.cli.log_pictures import PANELS, one_picture, panel_picture  # noqa: PLC0415  matplotlib

    path = log.with_suffix(".png") if out is None else out
    if path.suffix not in ("", ".png"):
        raise UsageError(f"--out {path}: expected a .png file or a folder")
    if path.suffix:
        prepare_outputs(path, inputs=(log,))
    recording = read_log(log)
    if not len(recording.command):
        raise CommandError(f"{log}: holds no /command messages: the run, or the log, ended before the first")
    console = terminal()
    if not recording.complete:
        console.print(remark("warning", f"{log} ends in the middle; drawn up to there"), soft_wrap=True)
    if path.suffix == ".png":
        path.write_bytes(one_picture(recording, log.name))
        console.print(f"drawn: {path}", soft_wrap=True)
        return
    path.mkdir(parents=True, exist_ok=True)
    for name in PANELS:
        (path / f"{name}.png").write_bytes(panel_picture(recording, name))
    console.print(f"drawn: {path}/ with {', '.join(f'{name}.png' for name in PANELS)}", soft_wrap=True)
