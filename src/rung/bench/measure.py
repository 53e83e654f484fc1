"""Taking turns and taking times: medians of ratios between neighbours in time."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

Step = Callable[[], object]
Times = dict[str, list[float]]
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}


def interleave(
    steps: dict[str, Step],
    clock: str,
    *,
    seconds: float,
    rounds: tuple[int, int],
    device: torch.device | None = None,
) -> Times:
    """Seconds of every step, taken in turns; every second round goes backwards.

    On a shared machine speed drifts; what is measured within one round drifts together.

    Args:
        steps: Label -> what to time; each has been called once before.
        clock: ``"cpu"``: time of this process on all its threads; ``"wall"``.
        seconds: Start no further round after so long, once there are enough.
        rounds: Fewest and most rounds.
        device: A CUDA device is waited for before and after every step.

    Returns:
        Label -> seconds by round; the same number of rounds for all.
    """
    now = CLOCKS[clock]
    fewest, most = rounds
    times: Times = {label: [] for label in steps}
    order = list(steps.items())
    begin = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done in range(most):
            if done >= fewest and time.perf_counter() - begin > seconds:
                break
            for label, step in order if done % 2 == 0 else order[::-1]:
                times[label].append(_time(step, now, device))
    finally:
        if collecting:
            gc.enable()
    return times


def _time(step: Step, now: Callable[[], float], device: torch.device | None) -> float:
    wait(device)
    start = now()
    step()
    wait(device)
    return now() - start


def wait(device: torch.device | None) -> None:
    """Until a CUDA device has done all that it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass(frozen=True, slots=True)
class Spread:
    """A median and what lies around it."""

    median: float
    quartiles: tuple[float, float]
    least: float
    most: float

    def record(self) -> dict[str, Any]:
        """For JSON, to four digits."""
        return {
            "median": digits(self.median),
            "quartiles": [digits(value) for value in self.quartiles],
            "range": [digits(self.least), digits(self.most)],
        }


def spread(values: list[float]) -> Spread:
    """Of at least one number."""
    lower, _, upper = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    )
    return Spread(statistics.median(values), (lower, upper), min(values), max(values))


def ratios(times: Times, ours: str, against: str) -> list[float]:
    """One ratio for each round."""
    # A clock that has not moved would divide by 0; a nanosecond is its finest tick.
    pairs = zip(times[ours], times[against], strict=True)
    return [max(mine, 1e-9) / max(theirs, 1e-9) for mine, theirs in pairs]


def digits(value: float, count: int = 4) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{count}g}")
