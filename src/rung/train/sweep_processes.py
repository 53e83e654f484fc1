"""Runs of a sweep side by side, in processes of their own."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from rung.train.sweep_grid import Cell

_REFUSED = 2  # as in rung.train.sweep_worker, which is only ever run, never imported
_LOOK_EVERY = 0.05


@dataclass(slots=True)
class _Worker:
    """A process that runs one cell after the other; importing torch anew for each takes long."""

    process: subprocess.Popen[bytes]
    jobs: IO[bytes]
    """Where it reads its cells from; that this ends tells it that the sweep is gone."""
    errors: IO[bytes]
    cell: Cell | None = None


def run_in_processes(cells: Sequence[Cell], folder: Path, jobs: int) -> Generator[Cell, None, None]:
    """Run cells side by side; yields each when its run folder is complete.

    A run that is given no number of threads gets its share of the processors. When this generator
    ends early, the runs that are under way write a checkpoint and stop.

    Args:
        cells: What to run, none of it ended; one whose folder holds a run is resumed.
        folder: Where the run folders lie.
        jobs: Most processes at a time.

    Raises:
        ValueError: A run was refused; the text is its own.
        ChildProcessError: A process ended in any other way.
    """
    share = max(1, (os.cpu_count() or 1) // jobs)
    waiting = list(cells)
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.cell for worker in workers):
            if waiting and len(workers) < jobs:
                workers.append(_start())
                _give(workers[-1], waiting.pop(0), folder, share)
                continue
            ended = [worker for worker in workers if _has_ended(worker, folder)]
            for worker in ended:
                cell, worker.cell = worker.cell, None
                if waiting:
                    _give(worker, waiting.pop(0), folder, share)
                assert cell is not None
                yield cell
            if not ended:
                time.sleep(_LOOK_EVERY)
    finally:
        _stop(workers)


def begun(folder: Path) -> bool:
    """Whether a folder holds a run, which then has to be resumed."""
    return (folder / "config.json").exists()


# glibc returns large tensors to the system when they are freed, and the system clears their pages
# when they come back: a third of the time of a step whose logits take 100 MB.
_KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "MALLOC_TOP_PAD_": str(2**28),
}


def _start() -> _Worker:
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    process = subprocess.Popen(
        [sys.executable, "-m", "rung.train.sweep_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=_KEEP_MEMORY | os.environ,
        # A terminal sends Ctrl-C to its whole group: here the sweep alone shall pass it on, once.
        start_new_session=True,
    )
    assert process.stdin is not None
    return _Worker(process, process.stdin, errors)


def _give(worker: _Worker, cell: Cell, folder: Path, share: int) -> None:
    config, out = cell.config, folder / cell.name
    if config.threads is None:
        config = replace(config, threads=share)
    worker.cell = cell
    try:
        pickle.dump((config, out, begun(out), cell.command), worker.jobs)
        worker.jobs.flush()
    except BrokenPipeError:
        worker.process.wait()
        _fail(worker, cell)


def _has_ended(worker: _Worker, folder: Path) -> bool:
    """Whether a worker's cell is complete: its summary is what a run writes last."""
    if worker.cell is None:
        return False
    gone = worker.process.poll() is not None
    if (folder / worker.cell.name / "summary.json").exists():
        return True
    if gone:
        _fail(worker, worker.cell)
    return False


def _fail(worker: _Worker, cell: Cell) -> None:
    worker.errors.seek(0)
    lines = worker.errors.read().decode(errors="replace").strip().splitlines()
    last = lines[-1] if lines else "it said nothing"
    code = worker.process.returncode
    if code == _REFUSED:
        raise ValueError(f"{cell.label}: {last}")
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    raise ChildProcessError(
        f"{cell.label}: its process ended {how} ({last}). The same command goes on."
    )


def _stop(workers: Sequence[_Worker]) -> None:
    """Let runs write their checkpoint; a second Ctrl-C ends them at once."""
    try:
        for worker in workers:
            if os.name == "posix":
                worker.process.send_signal(signal.SIGINT)
            else:
                worker.process.terminate()
        for worker in workers:
            worker.process.wait()
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
            worker.errors.close()
            # A job that was never read makes closing fail, and nothing is lost by that.
            with suppress(BrokenPipeError):
                worker.jobs.close()
