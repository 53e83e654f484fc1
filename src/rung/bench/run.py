"""One row after the other, the file written after each."""

import gc
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from rung.bench import record
from rung.bench.row import Row
from rung.bench.setting import Setting
from rung.train.device import own_process_state

_MINUTES_OF_A_GPU = 10.0


class Progress(Protocol):
    """Receives what happens."""

    def begin(self, name: str, done: int, count: int) -> None:
        """A row begins; `done` of `count` lie behind."""

    def end(self, row: dict[str, Any], seconds: float) -> None:
        """A row's record, complete."""


def run(
    rows: Sequence[Row],
    setting: Setting,
    out: Path,
    *,
    threads: int | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure rows and write the result file and its table.

    There is no way to go on with a broken run: its rows would be of another hour and another load.
    What was measured until then stays in the file, which says that it isn't finished.

    Args:
        rows: From `rows_of`.
        setting: Sizes and device.
        out: The JSON file; the table goes beside it as ``.md``. Both are replaced.
        threads: For the wall times; default: torch's own choice.
        command: The command line, for the record.
        progress: Receives every row.

    Returns:
        Content of the JSON file.

    Raises:
        ValueError: Fewer than one thread, or a path that doesn't end in ``.json``.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"`threads` must be an integer at least 1; got {threads}.")
    if out.suffix != ".json":
        raise ValueError(f"`out` must name a .json file; got {str(out)!r}. Its table ends in .md.")
    with own_process_state(setting.device, threads):
        result = record.header(setting, command, torch.get_num_threads())
        begun = time.monotonic()
        for done, row in enumerate(rows):
            if progress is not None:
                progress.begin(row.name, done, len(rows))
            if not setting.quick:
                gc.collect()  # the last row's tensors
            start = time.monotonic()
            minutes = (start - begun) / 60
            late = setting.device.type == "cuda" and minutes > _MINUTES_OF_A_GPU - 0.5
            found = (
                {"error": f"out of time after {minutes:.1f} minutes"}
                if late
                else row.measure(setting)
            )
            result["rows"].append(record.head(row) | found)
            result["finished"] = done + 1 == len(rows)
            record.write(out, result)
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
            if progress is not None:
                progress.end(result["rows"][-1], time.monotonic() - start)
    return result
