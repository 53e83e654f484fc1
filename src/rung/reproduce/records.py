"""The results file of an experiment: every run with its command, machine and commit."""

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rung.reproduce.contest import KINDS, Contest
from rung.reproduce.trials import Setup, Trial
from rung.train.config import Config
from rung.train.environment import environment
from rung.train.files import write_json
from rung.train.fingerprint import fingerprint
from rung.train.sweep_runs import read_object

FORMAT_VERSION = 1
"""Version of the results file's layout."""

Record = dict[str, Any]


def trial_record(trial: Trial, folder: Path) -> Record:
    """What is quoted of one run that has ended."""
    summary, config = (
        json.loads((folder / trial.cell.name / name).read_text(encoding="utf-8"))
        for name in ("summary.json", "config.json")
    )
    metric = _judged(trial.row.judged, summary)
    return {
        "contestant": trial.contestant.label,
        "group": trial.contestant.group,
        "place": trial.contestant.place,
        "seed": trial.seed,
        "lr": config["lr"],
        "status": summary["status"],
        "reason": summary["reason"],
        "judged": trial.row.judged,
        "final": metric["final"],
        "best": metric["best"],
        "metric": {key: metric[key] for key in ("name", "split", "higher_is_better")},
        "loss": summary["loss"],
        "bytes": summary["bytes"],
        "time": summary["time"],
        "data": hidden(config["data"], trial),
        "command": hidden_command(trial),
        "configuration": digest(trial.cell.config),
        "environment": summary["environment"],
    }


def _judged(by: str, summary: Record) -> Record:
    """The metric that a run is judged by, with its final value."""
    metric: Record = summary["metric"]
    if by == "metric":
        return metric
    loss = {"name": "loss", "higher_is_better": False, "best": None}
    return metric | loss | {"final": summary["loss"]["eval"]}


def hidden(text: str, trial: Trial) -> str:
    """A text without the place of the data on this machine, which is nobody's business."""
    folder = trial.cell.config.data_dir
    return text if folder is None else text.replace(folder, "DATA")


def hidden_command(trial: Trial) -> str:
    """A run's command without the places of data and runs on this machine."""
    config = trial.cell.config
    places = {folder: f"RUNS/{Path(folder).name}" for folder in _borrowed(config).values()}
    if config.data_dir is not None:
        places[config.data_dir] = "DATA"
    words = []
    for word in shlex.split(trial.cell.command):
        key, equals, value = word.partition("=")
        words.append(places.get(word, key + equals + places.get(value, value)))
    return shlex.join(words)


def hidden_call(command: str, setup: Setup) -> str:
    """The command line of an experiment without folders: ``--data cifar10=DIR``, no ``--out``."""
    words: list[str] = []
    left_out = False
    for word in shlex.split(command):
        if left_out or word == "--out":
            left_out = not left_out
        elif not word.startswith("--out="):
            key, equals, _ = word.removeprefix("--data=").partition("=")
            words.append(f"{key}=DIR" if equals and key in setup.data else word)
    return shlex.join(words)


def _borrowed(config: Config) -> dict[str, str]:
    """Options that name another run's folder."""
    found = {
        "scales_from": getattr(config.optimizer_options, "scales_from", None),
        "classifier": getattr(config.options, "classifier", None),
    }
    return {name: folder for name, folder in found.items() if folder}


def digest(config: Config) -> str:
    """Hexadecimal digits that runs share if and only if they are trained alike."""
    alike = fingerprint(config) | {"epochs": config.epochs}
    for name in _borrowed(config):
        del alike[name]
    text = json.dumps(alike, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def recorded_runs(folder: Path) -> dict[tuple[str, str, str], Record]:
    """Every run that a results file in a folder quotes: by command, `digest` and what judged it.

    Such runs need not be trained again on a machine that doesn't have their folders. Files that
    hold anything else, or are of a newer Rung, are passed over: their runs are then trained.
    """
    found: dict[tuple[str, str, str], Record] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_object(path)
        except ValueError:
            continue
        if record.get("kind") not in KINDS or record.get("format_version") != FORMAT_VERSION:
            continue
        for row in record["rows"]:
            for run in (*row.get("trials", ()), *row.get("runs", ())):
                if "configuration" in run:
                    judged = run.get("judged", "metric")
                    found[run["command"], run["configuration"], judged] = run
    return found


def recorded(trial: Trial, runs: Mapping[tuple[str, str, str], Record]) -> Record | None:
    """A trial's record among `recorded_runs`, with the labels of today; None: it has to run.

    A run that others borrow from has to have its folder here, and so is never taken from a file;
    nor are runs that are judged by a classifier, which differs a little from machine to machine.
    """
    row = trial.row
    if row.classifier or trial.contestant.label in {c.scales_from for c in row.contestants}:
        return None
    found = runs.get((hidden_command(trial), digest(trial.cell.config), row.judged))
    if found is None:
        return None
    contestant = trial.contestant
    labels = {"contestant": contestant.label, "group": contestant.group, "place": contestant.place}
    return found | labels


def ended_record(folder: Path) -> str:
    """A run's outcome in a few words."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if summary["status"] != "finished":
        return f"{summary['status']}: {summary['reason']}"
    metric = summary["metric"]
    return f"{metric['name']} {metric['final']:.4g}, {summary['time']['seconds']:.0f} s"


def earlier_rows(folder: Path, contest: Contest) -> dict[str, Record]:
    """Rows of the results file that have runs, by name; a run of other rows keeps them.

    Raises:
        ValueError: The file is damaged or of a newer Rung.
    """
    path = folder / f"{contest.name}.json"
    if not path.exists():
        return {}
    record = read_object(path)
    if record.get("format_version", 0) > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format_version {record['format_version']}; this Rung reads up to "
            f"{FORMAT_VERSION}. Go on with the Rung that wrote it, or a newer one."
        )
    return {row["row"]: row for row in record["rows"] if row["status"] != "not run"}


def write_results(
    folder: Path, contest: Contest, setup: Setup, rows: list[Record], command: str
) -> Record:
    """Write ``NAME.json``; its content."""
    record = {
        "format_version": FORMAT_VERSION,
        "name": contest.name,
        "title": contest.title,
        "source": contest.source,
        "kind": contest.kind,
        "across": contest.across,
        "budget": setup.budget,
        "command": hidden_call(command, setup),
        "environment": environment(),
        "rows": rows,
    }
    write_json(folder / f"{contest.name}.json", record)
    return record
