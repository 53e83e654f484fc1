"""Runs of a sweep, one after the other: ``python -m rung.train.sweep_worker``.

Standard input brings pickled jobs (configuration, run folder, whether to resume, command). The run
folder's summary.json says that a job is done; its end is the end of standard input.
"""

import os
import pickle
import signal
import sys
import threading
from queue import SimpleQueue
from typing import Any

from rung.train.loop import run

REFUSED = 2
"""Exit code where the last line on standard error says what does not fit."""
INTERRUPTED = 130
"""Exit code after Ctrl-C and a checkpoint."""


def main() -> int:
    """Run jobs until one is refused or interrupted; the exit code."""
    # A sweep in the background of a shell has Ctrl-C ignored, and its children inherit that: then
    # nothing would stop this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_read, args=(jobs,), daemon=True).start()
    try:
        while True:
            config, out, resume, command = jobs.get()
            run(config, out, resume=resume, command=command)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return REFUSED


def _read(jobs: "SimpleQueue[Any]") -> None:
    try:
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    except (EOFError, pickle.UnpicklingError):
        # The sweep is gone: two processes in one run folder would spoil it.
        os._exit(1)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Not sys.exit: the thread that waits for input holds a lock which the interpreter's end needs.
    os._exit(code)
