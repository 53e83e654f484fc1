"""How many weights stand on an end rung of their ladder when a run is over, from run folders.

    python experiments/end_rungs.py RUNS/one-byte-characters/signed-madam-8-bits-seed*

The arena's run folders are in `reproduce/BUDGET/runs`; a run writes its counts by rung at the end.
"""

import argparse
import json
from pathlib import Path

from rung.train.environment import environment

ROOT = Path(__file__).resolve().parent.parent


def counted(folder: Path) -> dict[str, object]:
    """Shares of a run's weights on the two end rungs: of all, and in the fullest tensor."""
    layers = json.loads((folder / "diagnostics.json").read_text())["layers"]
    counts = {
        layer["name"]: layer["rungs"]["counts"]
        for layer in layers
        if str(layer.get("format")).startswith("sinh")
    }
    # The last pattern of a byte is no rung; K = 127 is the last but one.
    ends = {name: found[0] + found[254] for name, found in counts.items()}
    shares = {name: ends[name] / sum(found) for name, found in counts.items()}
    fullest = max(shares, key=lambda name: shares[name])
    config = json.loads((folder / "config.json").read_text())
    return {
        "run": f"{folder.parent.name}/{folder.name}",
        "recipe": config["recipe"],
        "seed": config["seed"],
        "weights": sum(map(sum, counts.values())),
        "on end rungs": sum(ends.values()),
        "fullest": {"name": fullest, "share": shares[fullest]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "experiments/results/end-rungs.json")
    options = parser.parse_args()
    rows = [counted(folder) for folder in options.folders]
    command = "python experiments/end_rungs.py FOLDERS"
    record = {"command": command, "environment": environment(), "runs": rows}
    options.out.write_text(json.dumps(record, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
