"""What a datapath costs trained networks in accuracy, and what training through it gains back.

    python experiments/datapath_accuracy.py accuracy --data-dir /usr/share/datasets/fashion-mnist
    python experiments/datapath_accuracy.py aware

`accuracy`: networks that `rung train` has trained in lns8 classify test images through datapaths
of every conversion, table size and accumulator width. As many low bits are dropped as one product
needs to fit, and then `spare` more, which is what sums have above one product.
`aware`: a trained ResNet-18 tuned for a few steps more, and networks of digits-cnn trained from the
start, through a datapath or without it, both evaluated through it.

What is finished is not computed again: rows are written to experiments/results/ as they fall.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from runs import ROOT, train

from rung.hardware.datapath import Datapath
from rung.hardware.through import through_datapath
from rung.train import recipes
from rung.train.checkpoint import load_checkpoint
from rung.train.config import Config, with_settings
from rung.train.environment import environment
from rung.train.loop import run
from rung.train.session import Session, build, from_tree
from rung.train.tasks import ImageTask

FORMAT = "lns8+zero"
CONVERSIONS = {"lut": 8, "hybrid 4": 4, "hybrid 2": 2, "mitchell": 1}
EVERY = (
    *((width, spare) for spare in (0, 2, 4, 8) for width in (16, 20, 24, 32)),
    *((width, 4) for width in (10, 12, 14)),
)
# Convolutions of large images take minutes.
SOME = ((24, 4), (16, 4), (24, 0), (20, 4), (32, 4), (24, 2))
# Nothing overflows or is dropped, and constants are as good as exact.
WIDE = Datapath(fraction_bits=16, accumulator_bits=44, zero=True)


@dataclass(frozen=True)
class Net:
    """A network that is trained in lns8.

    Attributes:
        recipe: Of `rung train`.
        optimizer: Likewise.
        flags: Of the command line, besides.
        settings: Those that are behind ``--set``.
        epochs: Passes over the data; None: the recipe's.
        seeds: One network each.
        images: Test images that are classified; None: all.
        grid: Accumulators: width and spare bits of each.
    """

    recipe: str
    optimizer: str
    flags: tuple[str, ...]
    settings: tuple[str, ...]
    epochs: int | None
    seeds: tuple[int, ...]
    images: int | None
    grid: tuple[tuple[int, int], ...]

    def arguments(self, seed: int) -> list[str]:
        """Of `rung train`."""
        named = [part for setting in self.settings for part in ("--set", setting)]
        return [
            self.recipe, "--optimizer", self.optimizer, "--format", "lns8", *self.flags, *named,
            "--seed", str(seed), "--threads", "1",
        ]  # fmt: skip

    def config(self, seed: int, data_dir: str | None) -> Config:
        """The same as a configuration."""
        config = recipes.get(self.recipe).configure(self.optimizer)
        config = replace(config, format="lns8", seed=seed, threads=1, data_dir=data_dir)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs, schedule="cosine")
        return with_settings(config, self.settings)


NETS = {
    "digits-cnn": Net("digits-cnn", "adamw", (), (), None, (0, 1, 2), None, EVERY),
    "fashion-resnet18": Net(
        "fashion-resnet18",
        "sgd",
        ("--epochs", "6", "--schedule", "cosine"),
        ("width=8", "train_examples=15000"),
        6,
        (0,),
        500,
        SOME,
    ),
}


def design(conversion: str, width: int, spare: int) -> Datapath:
    """A datapath whose accumulators have `spare` bits above one product."""
    size = CONVERSIONS[conversion]
    wide = Datapath(
        conversion=conversion.split()[0], table_size=size, accumulator_bits=44, zero=True
    )
    dropped = max(0, wide.product_bits(8) + spare - width)
    return replace(wide, accumulator_bits=width, dropped_bits=dropped)


def designs(net: Net) -> Iterator[tuple[str, int, Datapath]]:
    """Name of the conversion, spare bits, datapath."""
    for (width, spare), conversion in itertools.product(net.grid, CONVERSIONS):
        yield conversion, spare, design(conversion, width, spare)


def trained(net: Net, seed: int, out: Path, data_dir: str) -> tuple[Session, dict]:
    """A trained network, and what is quoted of its training."""
    argv = net.arguments(seed)
    needs_data = net.recipe.startswith("fashion")
    summary = train([*argv, *(["--data-dir", data_dir] if needs_data else [])], out)
    session = loaded(net.config(seed, data_dir if needs_data else None), out)
    facts = {
        "command": " ".join(["rung", "train", *argv]),
        "status": summary["status"],
        "metric": summary["metric"],
    }
    return session, facts


def loaded(config: Config, out: Path) -> Session:
    """A run as it was at its last checkpoint."""
    session = build(config, recipes.get(config.recipe).build(config), torch.device("cpu"))
    from_tree(session, load_checkpoint(out / "checkpoint" / "last.safetensors")[0])
    return session


def evaluate(session: Session, datapath: Datapath | None, images: int | None) -> dict:
    """Accuracy, and overflows, of a network through a datapath; None: as it was trained."""
    task = session.task
    assert isinstance(task, ImageTask)
    data = task.data
    kept = slice(images)
    some = replace(data, test_images=data.test_images[kept], test_labels=data.test_labels[kept])
    few = ImageTask(some, task.options, task.build, "accuracy", task.size)
    model, begun = session.model.eval(), time.process_time()
    block = nullcontext() if datapath is None else through_datapath(datapath, FORMAT, model)
    with torch.no_grad(), block as report:
        result = few.evaluate(model, session.device)
    row = {"accuracy": result.metric, "loss": result.loss, "images": len(some.test_labels)}
    if report is not None:
        row |= {
            "overflowed": report.share,
            "worst_layer": max(layer.share for layer in report.layers),
            "left": report.left,
        }
    return row | {"cpu_seconds": round(time.process_time() - begun, 2)}


class Results:
    """A result file: rows by what they are of, written after each."""

    def __init__(self, name: str, command: str, note: str) -> None:
        self.path = ROOT / "experiments" / "results" / f"{name}.json"
        self.data = {
            "experiment": name, "note": note, "command": command, "format": FORMAT,
            "environment": environment(), "networks": {}, "runs": [],
        }  # fmt: skip
        if self.path.exists():
            before = json.loads(self.path.read_text())
            self.data |= {key: before[key] for key in ("networks", "runs")}

    def has(self, key: dict) -> bool:
        """Whether there is such a row."""
        return any(key.items() <= row.items() for row in self.data["runs"])

    def add(self, row: dict) -> None:
        """Write a row down."""
        self.data["runs"].append(row)
        head = [f" {json.dumps(key)}: {json.dumps(self.data[key])}," for key in self.data]
        # A row on a line.
        body = ",\n".join(f"  {json.dumps(run)}" for run in self.data["runs"])
        self.path.write_text("\n".join(["{", *head[:-1], ' "runs": [', body, " ]", "}", ""]))
        print(row, flush=True)


def accuracy(options: argparse.Namespace) -> None:
    """Every trained network through every datapath."""
    results = Results(
        "datapath-accuracy", "python experiments/datapath_accuracy.py accuracy", options.note
    )
    for name, net in NETS.items():
        rows = [("as trained", 0, None), ("wide lut", 0, WIDE), *designs(net)]
        for seed in net.seeds:
            session, facts = trained(net, seed, options.runs / f"{name}-{seed}", options.data_dir)
            results.data["networks"][f"{name}, seed {seed}"] = facts
            for label, spare, datapath in rows:
                key = {"network": name, "seed": seed, "label": label, "spare": spare}
                if datapath is not None:
                    key |= {"accumulator_bits": datapath.accumulator_bits}
                if not results.has(key):
                    row = key | {"datapath": None if datapath is None else asdict(datapath)}
                    results.add(row | evaluate(session, datapath, net.images))


# The seed decides all that is random, so rows of a seed differ by the datapath alone.
AWARE_NET = Net("digits-cnn", "adamw", ("--epochs", "15"), (), 15, (0, 1, 2), None, ())
AWARE = (("mitchell", 24, 4), ("hybrid 2", 24, 4), ("mitchell", 24, 0))


# Fine-tuning of a network that is trained already.
TUNED = (("mitchell", 24, 4), ("hybrid 2", 24, 4))
TUNING_STEPS, TUNING_RATE = 30, 0.01


def aware(options: argparse.Namespace) -> None:
    """Networks trained through a datapath, beside the same trained without it."""
    results = Results(
        "datapath-aware", "python experiments/datapath_accuracy.py aware", options.note
    )
    for numbers in TUNED:
        for inside in (False, True):
            net = NETS["fashion-resnet18"]
            session, facts = trained(net, 0, options.runs / "fashion-resnet18-0", options.data_dir)
            add_aware(results, net, 0, facts, numbers, inside, lambda d, s=session: tune(s, d))
    net = AWARE_NET
    for seed, numbers in itertools.product(net.seeds, AWARE):
        plain, facts = trained(net, seed, options.runs / f"aware-{seed}", options.data_dir)
        out = options.runs / f"aware-{'-'.join(map(str, numbers)).replace(' ', '-')}-{seed}"
        for inside in (False, True):
            add_aware(
                results, net, seed, facts, numbers, inside,
                lambda d, p=plain, s=seed, o=out: p if d is None else through(AWARE_NET, s, d, o),
            )  # fmt: skip


def add_aware(
    results: Results,
    net: Net,
    seed: int,
    facts: dict,
    numbers: tuple[str, int, int],
    inside: bool,
    make: Callable[[Datapath | None], Session],
) -> None:
    """Train a network through a datapath or without it, and evaluate it through the datapath."""
    label, width, spare = numbers
    key = {"network": net.recipe, "seed": seed, "label": label, "spare": spare}
    key |= {"accumulator_bits": width, "trained_through": inside}
    if results.has(key):
        return
    datapath = design(*numbers)
    results.data["networks"][f"{net.recipe}, seed {seed}"] = facts
    session = make(datapath if inside else None)
    without = evaluate(session, None, net.images)["accuracy"]
    row = key | {"datapath": asdict(datapath), "without_datapath": without}
    results.add(row | evaluate(session, datapath, net.images))


def tune(session: Session, datapath: Datapath | None) -> Session:
    """Train a network for a few steps more, the same ones with a datapath and without."""
    model, task = session.model.train(), session.task
    optimizer = torch.optim.SGD(model.parameters(), TUNING_RATE, momentum=0.9)
    batches = task.batches(session.streams, 0)
    for step, (inputs, targets) in enumerate(itertools.islice(batches, TUNING_STEPS)):
        block = nullcontext() if datapath is None else through_datapath(datapath, FORMAT)
        optimizer.zero_grad()
        with block:
            loss = task.loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(
            f"tuning, step {step + 1}/{TUNING_STEPS}  loss {float(loss.detach()):.4f}", flush=True
        )
    return session


def through(net: Net, seed: int, datapath: Datapath, out: Path) -> Session:
    """A network trained through a datapath; gradients are rounded to lns8 besides."""
    config = net.config(seed, None)
    if not (out / "summary.json").exists():
        with through_datapath(datapath, FORMAT):
            run(config, out, resume=(out / "config.json").exists())
    return loaded(config, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=("accuracy", "aware"))
    parser.add_argument("--data-dir", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--note", default="", help="what else is to be known of these figures")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "datapath-accuracy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"accuracy": accuracy, "aware": aware}[options.name](options)


if __name__ == "__main__":
    main()
