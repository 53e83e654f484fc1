"""Work on several threads: as many as torch may use, `torch.set_num_threads`.

The compiled loops give up the interpreter lock, so Python's own threads do. Who computes what never
changes a result: every loop's elements stand for themselves.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

# Elements under which a second thread costs more than it saves.
GRAIN = 2**16

_pool: tuple[int, int, ThreadPoolExecutor] | None = None


def _executor(threads: int) -> ThreadPoolExecutor:
    """The pool of this process: a fork's child has none of its parent's threads."""
    global _pool
    if _pool is None or _pool[0] != os.getpid() or _pool[1] < threads:
        _pool = (os.getpid(), threads, ThreadPoolExecutor(threads, "rung"))
    return _pool[2]


def split(count: int, multiple: int = 1, grain: int = GRAIN) -> list[tuple[int, int]]:
    """Ranges [begin, end) that cover [0, count) in order, one a thread; one empty range for none.

    Args:
        count: Number of elements (or of rows, with a grain of rows).
        multiple: Every range but the last ends at a multiple of it.
        grain: Least elements that are worth a thread.
    """
    threads = max(1, min(torch.get_num_threads(), count // grain))
    length = max(1, -(-count // threads))
    length += -length % multiple
    return [(begin, min(begin + length, count)) for begin in range(0, count, length)] or [(0, 0)]


def run(work: Callable[[int, int], None], ranges: list[tuple[int, int]]) -> None:
    """Call work(begin, end) for every range; the last one on the calling thread.

    Returns when all are done, also when one raises; an error of any of them is raised here.
    """
    if len(ranges) == 1:
        work(*ranges[0])
        return
    executor, waiting = _executor(len(ranges) - 1), []
    try:
        for part in ranges[:-1]:
            waiting.append(executor.submit(work, *part))
        work(*ranges[-1])
    finally:
        _outlive(waiting)
    for future in waiting:
        future.result()


def _outlive(futures: list[Future[None]]) -> None:
    """Wait for all, whatever comes: what they write to must outlive them."""
    interrupted: KeyboardInterrupt | None = None
    while not all(future.done() for future in futures):
        try:
            wait(futures)
        except KeyboardInterrupt as error:
            interrupted = error
    if interrupted is not None:
        raise interrupted
