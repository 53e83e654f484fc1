"""Frozen signs: how many weights stand on the lowest rung and want to go on, and who crosses zero.

    python experiments/frozen_signs.py

Trains two tasks of the arena (`rung reproduce one-byte`) and stops at SHARES of each run. A weight
on a ladder's lowest rung is pinned when its mean gradient over BATCHES training batches (dropout
off, two standard errors from 0) would take it further down: on a ladder through zero it would
change its sign. Of every run, on a ladder or not: how many elements of weight matrices have the
other sign than at the initialisation; an element that is 0 at either time has none. About ten
minutes of a core.
"""

import argparse
import json
import shlex
from collections.abc import Iterator
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
from rung.train.config import Config
from rung.train.environment import environment
from rung.train.loop import _step as take_step
from rung.train.session import Session, build, computing
from rung.train.task import Streams

ROOT = Path(__file__).resolve().parent.parent
BATCHES = 100
SHARES = (0.05, 0.5, 1.0)
# Each with the rate that the arena found best for Madam on both ladders.
TASKS = {
    "digits-vit --epochs 40 --schedule cosine --seed 0 --set warmup_steps=90": 0.02,
    "chars-gpt --epochs 5 --schedule cosine --seed 0 --set context=64 --set batch_size=8"
    " --set steps_per_epoch=200 --set warmup_steps=50": 0.16,
}
OPTIMIZERS = (
    "bbit-madam --format ladder8 --lr {lr} --set scale_bound=10",
    "bbit-madam --format ladder12 --lr {lr} --set scale_bound=10",
    "signed-madam",
    "adamw --lr 0.002",
)


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
    # Streams of their own, so that training goes on as if nobody had looked.
    streams = Streams(*(torch.Generator().manual_seed(seed) for seed in (1, 2)))
    count = 0
    while count < BATCHES:
        for inputs, targets in session.task.batches(streams, 0):
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


def train_to(session: Session, step: int) -> None:
    """Steps of the run until so many are done, across epochs."""
    per_epoch = session.task.batches_per_epoch
    session.model.train()
    while session.counters.step < step:
        start = session.counters.step % per_epoch
        if start:  # the epoch's order again
            session.streams.order.set_state(session.epoch_order)
        else:
            session.epoch_order = session.streams.order.get_state()
        for inputs, targets in session.task.batches(session.streams, start):
            take_step(session, inputs, targets)
            session.counters.step += 1
            if session.counters.step == step:
                break


def measure(command: str) -> Iterator[dict[str, Any]]:
    """One record at each share of a run."""
    config = config_of(command)
    session = build(config, get_recipe(config.recipe).build(config), torch.device("cpu"))
    # Seeded signs are drawn when weights are stored: what training began with is what is here.
    before = {name: values(parameter).sign() for name, parameter in weights(session).items()}
    count = sum(sign.numel() for sign in before.values())
    steps = config.epochs * session.task.batches_per_epoch
    for share in SHARES:
        train_to(session, round(share * steps))
        after = {name: values(parameter).sign() for name, parameter in weights(session).items()}
        changed = sum(int((after[name] * sign < 0).sum()) for name, sign in before.items())
        found = {"command": command, "share": share, "weights": count, "changed": changed}
        first = next(iter(weights(session).values()))
        if isinstance(first, CodedTensor) and isinstance(first.format, Ladder):
            found["pinned"] = pinned(session)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "experiments/results/frozen-signs.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for task, lr in TASKS.items():
        for optimizer in OPTIMIZERS:
            for row in measure(f"rung train {task} --optimizer {optimizer.format(lr=lr)}"):
                rows.append(row)
                total = row.get("pinned", {}).get("total", "")
                print(row["command"], row["share"], row["changed"], total, flush=True)
    record = {"command": "python experiments/frozen_signs.py", "batches": BATCHES, "runs": rows}
    record["environment"] = environment()
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
