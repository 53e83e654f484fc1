"""Running an experiment: what has ended is kept, what was interrupted goes on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rung.reproduce.contest import Budget, Contest, Row
from rung.reproduce.records import (
    earlier_rows,
    ended_record,
    recorded,
    recorded_runs,
    trial_record,
    write_results,
)
from rung.reproduce.trials import (
    Setup,
    Trial,
    classifier_trial,
    finals,
    grid,
    runnable,
    tuning,
    why_not,
)
from rung.train.display import Display, Silent
from rung.train.sweep_runs import ended, run_cells

Record = dict[str, Any]
Kept = Callable[[list[Record]], None]


def run_contest(
    contest: Contest,
    setup: Setup,
    out: str | Path,
    *,
    rows: Sequence[str] = (),
    jobs: int = 1,
    display: Display | None = None,
    command: str = "",
) -> Record:
    """Run an experiment; the same call goes on where the last one stopped.

    Runs lie in ``OUT/BUDGET``, where experiments share those that are alike; results in
    ``OUT/BUDGET/NAME.json``, written after every run. A run that a results file there quotes isn't
    trained again, so an experiment can go on on another machine, which has the file alone; to train
    anew, move the file away too. Runs that others borrow from, and those that a classifier judges,
    are trained again where their folders aren't.

    Args:
        contest: The experiment.
        setup: Budget, data, device.
        out: Folder for all experiments.
        rows: Names of the tasks to run; none: all whose data is there.
        jobs: Runs at a time.
        display: Receives a line for each run that ends.
        command: The command line, for the record.

    Returns:
        Content of the results file.

    Raises:
        ValueError: An unknown row or data key, a data folder that isn't there, no data at all,
            `jobs` below 1, a damaged run folder.
        KeyboardInterrupt: Stopped by the user; runs that were under way have a checkpoint.
    """
    if jobs < 1:
        raise ValueError(f"`jobs` must be an integer at least 1; got {jobs}.")
    folder = Path(out) / setup.budget
    setup = replace(setup, folder=folder)
    before = earlier_rows(folder, contest)
    runner = _Runner(folder, jobs, display or Silent(), recorded_runs(folder))
    found = runnable(contest, setup, rows)
    if any(row.classifier for row in found):
        setup = _with_classifier(setup, runner)
    records: dict[str, Record] = {}
    for row in contest.rows:
        reason = why_not(row, setup) or "Not run yet: the same command goes on."
        kept = before.get(row.name, {"status": "not run", "reason": reason})
        records[row.name] = kept | _described(row, setup.budget)

    names = {row.name for row in found}

    def keep(row: Row, known: Record) -> None:
        records[row.name] |= known
        # Another process may be at other rows of the same file.
        for name, other in earlier_rows(folder, contest).items():
            if name not in names:
                records[name] |= other
        write_results(folder, contest, setup, list(records.values()), command)

    for row in found:
        held = _Held(partial(keep, row), before.get(row.name, {}), contest.kind == "rates")
        keep(row, _run_row(contest, row, setup, runner, held))
    return write_results(folder, contest, setup, list(records.values()), command)


def _described(row: Row, budget: Budget) -> Record:
    """What of a task's record doesn't depend on its runs."""
    return {
        "row": row.name,
        "title": row.title,
        "recipe": row.recipe,
        "unit": row.unit,
        "factor": row.factor,
        "size": row.sizes[budget].words,
        "remark": row.remark,
        "published": dict(row.published),
        "contestants": [
            {"label": c.label, "group": c.group, "place": c.place} for c in row.contestants
        ],
    }


def _run_row(contest: Contest, row: Row, setup: Setup, runner: "_Runner", held: "_Held") -> Record:
    """One task: trials of learning rates, then every seed; `held` gets what there is meanwhile."""
    if contest.kind == "rates":
        every = grid(row, setup)
        runs = runner.run(every, partial(held.runs, len(every), {"trials": []}))
        return {"status": "measured", "reason": "", "trials": [], "runs": runs}
    tried = runner.run(tuning(row, setup), held.trials)
    chosen = best_rates(tried)
    every = finals(row, setup, chosen)
    known = {"chosen": chosen, "trials": tried}
    keep_runs = partial(held.runs, len(every), known)
    first = [trial for trial in every if trial.contestant.scales_from is None]
    if len(first) < len(every):
        runner.run(first, keep_runs)
    runs = runner.run(every, keep_runs)
    return known | {"status": "measured", "reason": "", "runs": runs}


class _Held:
    """What is known of a task before it is complete: a row that loses no run it had.

    Args:
        keep: Receives the row's fields whenever a run has ended.
        before: The row as it was.
        by_rate: Whether runs at other learning rates are other runs.
    """

    def __init__(self, keep: Callable[[Record], None], before: Record, by_rate: bool) -> None:
        self._keep, self._before, self._by_rate = keep, before, by_rate

    def trials(self, trials: list[Record]) -> None:
        """Trials of learning rates, while there are more to come."""
        reason = "Learning rates are being tried: the same command goes on."
        found = {"trials": self._with_earlier("trials", trials, True)}
        self._keep(found | {"status": "partial", "reason": reason, "runs": self._runs([])})

    def runs(self, count: int, known: Record, runs: list[Record]) -> None:
        """Runs of so many, while there are more to come; `known` are fields that are complete."""
        reason = f"{len(runs)} of {count} runs have ended: the same command goes on."
        self._keep(known | {"status": "partial", "reason": reason, "runs": self._runs(runs)})

    def _runs(self, runs: list[Record]) -> list[Record]:
        return self._with_earlier("runs", runs, self._by_rate)

    def _with_earlier(self, field: str, runs: list[Record], by_rate: bool) -> list[Record]:
        def identity(run: Record) -> tuple[Any, ...]:
            return run["contestant"], run["seed"], run["lr"] if by_rate else None

        own = {identity(run) for run in runs}
        earlier = self._before.get(field) or []
        return [*runs, *(run for run in earlier if identity(run) not in own)]


def best_rates(trials: Sequence[Record]) -> dict[str, float]:
    """Learning rate of the best final metric by contestant, of the trials that finished.

    Raises:
        ValueError: None of a contestant's trials finished.
    """
    best: dict[str, Record] = {}
    labels = dict.fromkeys(trial["contestant"] for trial in trials)
    for trial in trials:
        if trial["status"] != "finished":
            continue
        held = best.get(trial["contestant"])
        sign = 1 if trial["metric"]["higher_is_better"] else -1
        if held is None or sign * trial["final"] > sign * held["final"]:
            best[trial["contestant"]] = trial
    for label in labels:
        if label not in best:
            raise ValueError(
                f"{label} must finish at one learning rate at least; all of its trials diverged. "
                "Its folder under tuning/ has what each of them said."
            )
    return {label: best[label]["lr"] for label in labels}


def _with_classifier(setup: Setup, runner: "_Runner") -> Setup:
    trial = classifier_trial(setup)
    runner.run([trial])
    return replace(setup, classifier=runner.folder / trial.cell.name)


class _Runner:
    """Runs trials in a folder.

    Args:
        folder: Where the run folders lie.
        jobs: Runs at a time.
        display: Receives a line for each run that ends.
        known: Runs that results files quote, by command and digest.
    """

    def __init__(
        self,
        folder: Path,
        jobs: int,
        display: Display,
        known: Mapping[tuple[str, str, str], Record],
    ) -> None:
        self.folder, self.jobs, self.display, self.known = folder, jobs, display, known

    def run(self, trials: Sequence[Trial], keep: Kept = lambda runs: None) -> list[Record]:
        """The records of trials, of which those that have ended are not run again.

        Args:
            trials: In the order of the records.
            keep: Receives the records that there are, whenever a run has ended.
        """
        records = {trial.cell.name: self._ended(trial) for trial in trials}
        waiting = [trial.cell for trial in trials if records[trial.cell.name] is None]
        by_name = {trial.cell.name: trial for trial in trials}
        done = len(trials) - len(waiting)
        if done and waiting:
            self.display.line(f"{done} of {len(trials)} runs have ended already")
        self.folder.mkdir(parents=True, exist_ok=True)
        with closing(run_cells(waiting, self.folder, self.jobs, self.display)) as cells:
            for cell in cells:
                done += 1
                records[cell.name] = trial_record(by_name[cell.name], self.folder)
                keep([record for record in records.values() if record is not None])
                outcome = ended_record(self.folder / cell.name)
                self.display.line(f"[{done}/{len(trials)}] {cell.label}: {outcome}")
        return [record for record in records.values() if record is not None]

    def _ended(self, trial: Trial) -> Record | None:
        """A run's record from its folder or from a results file; None: it has to run."""
        if ended(self.folder / trial.cell.name, trial.cell.config) is not None:
            return trial_record(trial, self.folder)
        return recorded(trial, self.known)
