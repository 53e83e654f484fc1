"""What the experiments share: run or resume `rung train`, and collect runs into one JSON file.

Runs that are finished are not run again; an interrupted one resumes.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = ("optimizer", "format", "seed", "status", "metric", "loss", "parameters", "bytes", "time")


def train(argv: list[str], out: Path) -> dict:
    """Run or resume one training; its summary."""
    summary = out / "summary.json"
    if not summary.exists():
        resume = ["--resume"] if (out / "config.json").exists() else []
        command = [sys.executable, "-m", "rung.cli", "train", *argv, "--out", str(out), *resume]
        subprocess.run(command, check=False, cwd=ROOT)  # a diverged run exits 3 and is a result
    return json.loads(summary.read_text())


def record(label: str, argv: list[str], summary: dict, out: Path, data_dir: str | None) -> dict:
    """What is quoted of one run; where the data lay on this machine is nobody's business."""
    config = json.loads((out / "config.json").read_text())
    row = {"label": label, "command": " ".join(["rung", "train", *argv])}
    row |= {key: summary[key] for key in KEPT}
    if summary.get("posterior") is not None:
        row["posterior"] = summary["posterior"]
    data = config["data"].replace(data_dir, "DATA_DIR") if data_dir else config["data"]
    row |= {"lr": config["lr"], "data": data, "environment": summary["environment"]}
    return row


def slug(label: str, seed: int) -> str:
    """Folder of a run."""
    return f"{label.lower().replace(' ', '-').replace(',', '')}-{seed}"


def main(description: str, experiments: Mapping[str, dict]) -> None:
    """Run one of several experiments and write its results.

    Args:
        description: For ``--help``.
        experiments: Name -> ``{"recipe", "runs": {label: flags}, "common": flags, "seeds"}``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("name", choices=sorted(experiments))
    parser.add_argument("--data-dir")
    parser.add_argument("--note", default="", help="which copy of the data this is")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where run folders go")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    options = parser.parse_args()
    experiment = experiments[options.name]
    jobs = []
    for seed in experiment["seeds"]:
        for label, flags in experiment["runs"].items():
            argv = [experiment["recipe"], *flags, *experiment["common"]]
            argv += ["--seed", str(seed), "--threads", "1"]
            jobs.append((label, argv, options.runs / options.name / slug(label, seed)))
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    with ThreadPoolExecutor(options.jobs) as pool:
        summaries = list(pool.map(lambda job: train([*job[1], *data], job[2]), jobs))
    rows = [
        record(*job[:2], summary, job[2], options.data_dir)
        for job, summary in zip(jobs, summaries, strict=True)
    ]
    result = {"experiment": options.name, "note": options.note, "runs": rows}
    target = ROOT / "experiments" / "results" / f"{options.name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"wrote {target}")
