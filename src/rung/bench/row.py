"""What a row of the table is: two things to time, or a number to count, and a target."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

import torch

from rung.bench.measure import Step, Times, digits, interleave, ratios, spread, wait
from rung.bench.setting import Setting


class Row(Protocol):
    """One line of the table."""

    @property
    def name(self) -> str:
        """What the command line takes."""

    @property
    def title(self) -> str:
        """What is compared with what."""

    @property
    def must(self) -> float | None:
        """The number that has to be reached."""

    @property
    def reach(self) -> float | None:
        """The number that is hoped for."""

    def measure(self, setting: Setting) -> dict[str, Any]:
        """Its part of the record; an error is recorded, never raised."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to time.

    Attributes:
        label: In words.
        make: Builds everything and returns the step; may raise where the case can't run.
        package: Name of the distribution it needs, if it isn't torch or Rung.
    """

    label: str
    make: Callable[[Setting], Step]
    package: str | None = None


@dataclass(frozen=True, slots=True)
class TimedRow:
    """Time of the first case over that of the second; further ones are there for information.

    Attributes:
        name: What the command line takes.
        title: What is compared with what.
        cases: Ours, theirs, and what else is measured in the same rounds.
        must: The ratio that has to be reached: at most so much.
        reach: The ratio that is hoped for.
        adjust: Changes the setting for this row.
    """

    name: str
    title: str
    cases: tuple[Case, ...]
    must: float | None = None
    reach: float | None = None
    adjust: Callable[[Setting], Setting] = lambda setting: setting

    def measure(self, setting: Setting) -> dict[str, Any]:
        """CPU time on one thread and wall time on all; only wall time on a GPU."""
        setting = self.adjust(setting)
        steps, cases = made(self.cases, setting)
        ours, against = self.cases[0].label, self.cases[1].label
        record: dict[str, Any] = {"ours": ours, "against": against, "cases": cases}
        errors = [case for case in cases if case["label"] in (ours, against) and "error" in case]
        if errors:
            record["error"] = f"{errors[0]['label']}: {errors[0]['error']}"
        if against not in steps:
            return record
        passes = [("device", "wall", 1)] if setting.device.type == "cuda" else _cpu_passes()
        for name, clock, threads in passes:
            times = _run(steps, clock, threads, setting)
            for case in cases:
                if "error" not in case:
                    case[name] = _case_record(times, case["label"], against)
            record[name] = {"threads": threads, "clock": clock, "rounds": len(times[against])}
            if ours in steps:
                record[name]["ratio"] = spread(ratios(times, ours, against)).record()
        if ours not in steps:
            return record
        return record | judge(record[passes[0][0]]["ratio"]["median"], self.must, self.reach)


def _cpu_passes() -> list[tuple[str, str, int]]:
    return [("one_thread", "cpu", 1), ("all_threads", "wall", torch.get_num_threads())]


def made(cases: tuple[Case, ...], setting: Setting) -> tuple[dict[str, Step], list[dict[str, Any]]]:
    """Steps that have run once, and the begin of each case's record."""
    steps: dict[str, Step] = {}
    records = []
    threads = torch.get_num_threads()
    for case in cases:
        record: dict[str, Any] = {"label": case.label}
        if case.package:
            record |= {"package": case.package, "version": version(case.package)}
        try:
            step = case.make(setting)
            begin = time.perf_counter()
            step()  # allocates state, and compiles or loads what is compiled
            wait(setting.device)
            record["first_seconds"] = digits(time.perf_counter() - begin)
            steps[case.label] = step
        except Exception as error:  # whatever a peer raises is its result
            record["error"] = one_line(error)
        finally:
            torch.set_num_threads(threads)
        records.append(record)
    return steps, records


def _run(steps: dict[str, Step], clock: str, threads: int, setting: Setting) -> Times:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return interleave(
            steps, clock, seconds=setting.seconds, rounds=setting.rounds, device=setting.device
        )
    finally:
        torch.set_num_threads(before)


def _case_record(times: Times, label: str, against: str) -> dict[str, float]:
    return {
        "ms": digits(1000 * spread(times[label]).median),
        "ratio": digits(spread(ratios(times, label, against)).median),
    }


@dataclass(frozen=True, slots=True)
class CountedRow:
    """A number that no clock gives.

    Attributes:
        name: What the command line takes.
        title: What is counted, in what units.
        count: Returns the number and the details behind it.
        must: At most so much.
        reach: What is hoped for.
    """

    name: str
    title: str
    count: Callable[[Setting], tuple[float, dict[str, Any]]]
    must: float | None = None
    reach: float | None = None

    def measure(self, setting: Setting) -> dict[str, Any]:
        """The number, or the error."""
        try:
            value, details = self.count(setting)
        except Exception as error:  # recorded like everything else that happens to a row
            return {"error": one_line(error)}
        return {"value": digits(value), "details": details} | judge(value, self.must, self.reach)


def judge(
    value: float, must: float | None, reach: float | None, *, at_least: bool = False
) -> dict[str, Any]:
    """Which target a number meets: ``{"met": "reach" | "must" | "none"}``, {} without any."""
    if must is None and reach is None:
        return {}
    for name, target in (("reach", reach), ("must", must)):
        if target is not None and (value >= target if at_least else value <= target):
            return {"met": name}
    return {"met": "none"}


def version(package: str) -> str | None:
    """Of an installed distribution."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def one_line(error: BaseException) -> str:
    """Kind and first sentence of an error, without line breaks."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 240 else text[:237] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
