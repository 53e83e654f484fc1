"""The first figures of Rung: runs of `rung train`, collected into one JSON file each.

    python experiments/ground_floor.py digits
    python experiments/ground_floor.py fashion --data-dir /usr/share/datasets/fashion-mnist
    python experiments/ground_floor.py wikitext --data-dir DIR --note "which text this is"

Runs that are finished are not run again; an interrupted one resumes. Figures go to
experiments/results/NAME.json as they fall; docs/tables.py makes the docs' tables of them.
"""

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BBIT = ["--optimizer", "bbit-madam", "--format"]

# Label -> flags. SGD's gradient is clipped at 0.25 by the recipe itself (wikitext).
FIVE = {
    "SGD": ["--optimizer", "sgd"],
    "AdamW": ["--optimizer", "adamw"],
    "Madam float32": ["--optimizer", "madam"],
    "Madam 12 bits": [*BBIT, "ladder12"],
    "Madam 8 bits": [*BBIT, "ladder8"],
}
EXPERIMENTS = {
    "digits": {
        "recipe": "digits-cnn",
        "runs": FIVE,
        "common": [],
        "seeds": [0, 1, 2],
    },
    "fashion": {
        "recipe": "fashion-resnet18",
        "runs": FIVE,
        "common": ["--epochs", "2", "--schedule", "cosine", "--set", "width=16"],
        "seeds": [0],
    },
    "wikitext": {
        "recipe": "wikitext2-transformer",
        "runs": FIVE,
        "common": ["--epochs", "1", "--set", "train_tokens=500000"],
        "seeds": [0],
    },
}


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
    keep = (
        "optimizer",
        "format",
        "seed",
        "status",
        "metric",
        "loss",
        "parameters",
        "bytes",
        "time",
    )
    row = {"label": label, "command": " ".join(["rung", "train", *argv])}
    row |= {key: summary[key] for key in keep}
    data = config["data"].replace(data_dir, "DATA_DIR") if data_dir else config["data"]
    row |= {"lr": config["lr"], "data": data, "environment": summary["environment"]}
    return row


def main() -> None:
    """Run one experiment and write its results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--data-dir")
    parser.add_argument("--note", default="", help="which copy of the data this is")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs", help="where run folders go")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one thread each")
    options = parser.parse_args()
    experiment = EXPERIMENTS[options.name]
    jobs = []
    for seed in experiment["seeds"]:
        for label, flags in experiment["runs"].items():
            argv = [experiment["recipe"], *flags, *experiment["common"]]
            argv += ["--seed", str(seed), "--threads", "1"]
            slug = label.lower().replace(" ", "-").replace(",", "")
            jobs.append((label, argv, options.runs / options.name / f"{slug}-{seed}"))
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


if __name__ == "__main__":
    main()
