"""metrics.csv and TensorBoard event files of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from wpg.controllers.errors import RunFolderError
from wpg.controllers.files import replacing

COLUMNS = (
    "step", "episodes", "updates", "return_mean", "success_rate", "episode_length",
    "eval_return", "eval_success", "tau", "entropy", "value", "critic_loss", "particle_spread",
    "seconds", "steps_per_s",
)  # fmt: skip

Row = dict[str, float | None]


class MetricsLog:
    """Appends rows to metrics.csv and to TensorBoard.

    A resumed run first removes the rows after its checkpoint, and a last row that was not written completely.
    `seconds_before` are the seconds in the last of the remaining rows, from which the resumed run counts on.
    """

    def __init__(self, folder: Path, *, resume_step: int | None = None) -> None:
        path = folder / "metrics.csv"
        kept: list[list[str]] = []
        if resume_step is not None and path.exists():
            kept = [row for row in _whole_rows(path) if int(row[0]) <= resume_step]
        self.seconds_before = float(kept[-1][COLUMNS.index("seconds")] or 0) if kept else 0.0
        with replacing(path) as partial:
            _write_rows(partial, [COLUMNS, *kept])
        self._file = path.open("a", newline="")
        self._csv = csv.writer(self._file)
        purge = None if resume_step is None else resume_step + 1
        self._board = SummaryWriter(str(folder / "tb"), purge_step=purge)

    def write(self, row: Row) -> None:
        """Write one row; missing and None entries stay empty."""
        self._csv.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS])
        self._file.flush()
        for name, value in row.items():
            if value is not None and name != "step":
                self._board.add_scalar(name, value, int(row["step"] or 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._board.close()


def _whole_rows(path: Path) -> list[list[str]]:
    """The rows below the header that were written completely.

    Raises:
        RunFolderError: a row has something else than numbers.
    """
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True)[1:], start=2):
        row = line.decode(errors="replace").rstrip("\r\n").split(",")
        if not line.endswith(b"\n") or len(row) != len(COLUMNS):
            continue
        try:
            int(row[0]), [float(value or 0) for value in row]
        except ValueError as error:
            raise RunFolderError(
                f"{path}, line {number}: expected numbers, {error}; delete the line, or the file"
            ) from error
        rows.append(row)
    return rows


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
