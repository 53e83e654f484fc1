"""Frozen signs: how many weights stand on the lowest rung and want to go on, and who crosses zero.

    python experiments/frozen_signs.py RUN [RUN ...] --out experiments/results/frozen-signs.json

Of finished run folders. A weight on a ladder's lowest rung is pinned when its mean gradient over
BATCHES training batches (dropout off, two standard errors from 0) would take it further down: on a
ladder through zero it would change its sign. Of every run, on a ladder or not: the share of weight
matrices' elements whose sign is not that of the initialisation.
"""

import argparse
import json
import math
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rung.formats import Ladder
from rung.kernels.ladder import load_codes
from rung.tensor import CodedTensor
from rung.tensor.roles import roles
from rung.train import get_recipe, with_settings
from rung.train.checkpoint import load_checkpoint
from rung.train.config import Config
from rung.train.environment import environment
from rung.train.session import Session, build, computing

ROOT = Path(__file__).resolve().parent.parent
BATCHES = 100


def config_of(command: str) -> Config:
    """The configuration that a ``rung train`` line stands for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe")
    for flag in ("--optimizer", "--format", "--schedule", "--data-dir"):
        parser.add_argument(flag)
    for flag, kind in (("--lr", float), ("--epochs", int), ("--seed", int), ("--threads", int)):
        parser.add_argument(flag, type=kind)
    parser.add_argument("--set", action="append", default=[])
    given = vars(parser.parse_args(shlex.split(command)[2:]))
    recipe, optimizer, settings = (given.pop(name) for name in ("recipe", "optimizer", "set"))
    known = {name: value for name, value in given.items() if value is not None}
    config = replace(get_recipe(recipe).configure(optimizer), **known)
    return with_settings(config, settings)


def weights(session: Session) -> dict[str, Tensor]:
    """Matrices, kernels and embeddings by name."""
    found = [role for role in roles(session.model) if role.additive_reason is None]
    return {role.name: role.parameter for role in found}


def values(parameter: Tensor) -> Tensor:
    plain = parameter.detach()
    return plain.decode() if isinstance(plain, CodedTensor) else plain.float().clone()


def mean_gradients(session: Session) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Mean over batches and its standard error, by weight."""
    sums, squares = ({name: 0.0 for name in weights(session)} for _ in range(2))
    session.model.eval()
    count = 0
    while count < BATCHES:
        for inputs, targets in session.task.batches(session.streams, 0):
            session.optimizer.zero_grad()
            with computing(session):
                loss = session.task.loss(session.model(inputs), targets)
            loss.backward()
            for name, parameter in weights(session).items():
                sums[name] = sums[name] + parameter.grad
                squares[name] = squares[name] + parameter.grad.square()
            count += 1
            if count == BATCHES:
                break
    means = {name: total / count for name, total in sums.items()}
    errors = {
        name: ((squares[name] / count - mean.square()).clamp(min=0) / (count - 1)).sqrt()
        for name, mean in means.items()
    }
    return means, errors


def pinned(session: Session) -> dict[str, Any]:
    """Weights on the lowest rung, and those of them that want to go on; by layer and in all."""
    means, errors = mean_gradients(session)
    layers = []
    for name, parameter in weights(session).items():
        lowest = load_codes(parameter.codes) == parameter.format.levels - 1
        down = means[name] * values(parameter).sign()
        # Down a ladder goes what a gradient of the weight's own sign shrinks.
        wanting = lowest & (down > 2 * errors[name])
        away = lowest & (down < -2 * errors[name])
        counts = [int(t.sum()) for t in (lowest, wanting, away)]
        layers.append(dict(zip(("lowest", "wanting", "away"), counts, strict=True)))
        layers[-1] |= {"name": name, "weights": parameter.numel()}
    total = {key: sum(layer[key] for layer in layers) for key in layers[0] if key != "name"}
    return {"total": total, "layers": layers}


def measure(folder: Path) -> dict[str, Any]:
    config = config_of(json.loads((folder / "config.json").read_text())["command"])
    session = build(config, get_recipe(config.recipe).build(config), torch.device("cpu"))
    # Seeded signs are drawn when weights are stored: what training began with is what is here.
    before = {name: values(parameter).sign() for name, parameter in weights(session).items()}
    tree, _ = load_checkpoint(folder / "checkpoint" / "last.safetensors")
    session.model.load_state_dict(tree["model"])
    after = {name: values(parameter).sign() for name, parameter in weights(session).items()}
    changed = sum(int((after[name] != sign).sum()) for name, sign in before.items())
    count = sum(sign.numel() for sign in before.values())
    found = {"run": folder.name, "recipe": config.recipe, "optimizer": config.optimizer}
    found |= {"weights": count, "changed": changed, "changed_share": changed / count}
    first = next(iter(weights(session).values()))
    if isinstance(first, CodedTensor) and isinstance(first.format, Ladder):
        found["pinned"] = pinned(session)
        total = found["pinned"]["total"]
        by_chance = 0.5 * math.erfc(2 / math.sqrt(2)) * total["lowest"]
        found["pinned"]["by_chance"] = round(by_chance)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for folder in options.runs:
        rows.append(measure(folder))
        print({key: value for key, value in rows[-1].items() if key != "pinned"})
        print(rows[-1].get("pinned", {}).get("total"), flush=True)
    command = "python experiments/frozen_signs.py " + " ".join(run.name for run in options.runs)
    record = {"command": command, "batches": BATCHES, "environment": environment(), "runs": rows}
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
