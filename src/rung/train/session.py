"""Everything that changes while a run goes on, made from a configuration and put into a tree."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rung.train.average import Average
from rung.train.config import BF16_WEIGHTS, Config
from rung.train.fingerprint import fingerprint
from rung.train.layers import convert_layers
from rung.train.optimizers import build_optimizer, store_weights, with_rate
from rung.train.schedules import build_schedule
from rung.train.task import Streams, Task
from rung.train.tasks import ImageTask

# The first steps allocate memory and compile kernels.
_WARM_UP_STEPS = 5


@dataclass(slots=True)
class Counters:
    """Plain numbers of a run; all of them are in the checkpoint."""

    epoch: int = 0
    """Epochs that are complete, evaluation included."""
    batch: int = 0
    """Batches done in the current epoch."""
    step: int = 0
    """Training steps done."""
    epoch_loss: float = 0.0
    """Sum of the batches' losses in the current epoch."""
    line_loss: float = 0.0
    """Sum of the batches' losses since the last training line."""
    line_count: int = 0
    """Batches since the last training line."""
    skipped: int = 0
    """Steps that the optimizer has skipped for gradients that weren't finite."""
    skipped_in_a_row: int = 0
    """How many of them were the latest steps."""
    seconds: float = 0.0
    """Wall time of the run before this process, in seconds."""
    ms_per_step: float | None = None
    """Median time of a step before this process, in milliseconds."""
    train_loss: float | None = None
    """Mean training loss of the last complete epoch."""
    eval_loss: float | None = None
    """Loss of the last evaluation."""
    final: float | None = None
    """Metric of the last evaluation."""
    best: float | None = None
    """Best metric so far."""


@dataclass(slots=True)
class Session:
    """The moving parts of one run."""

    config: Config
    task: Task
    device: torch.device
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler
    streams: Streams
    stored: str | None
    """One line that says which weights were stored in codes."""
    converted: str | None
    """One line that says which layers compute in an LNS."""
    epoch_order: torch.Tensor
    """State of the order's generator at the begin of the current epoch."""
    average: Average | None = None
    """The mean of the weights, where one is asked for."""
    counters: Counters = field(default_factory=Counters)
    begun: float = field(default_factory=time.monotonic)
    """When this process began with the run."""
    step_times: list[float] = field(default_factory=list)
    """Seconds of every training step of this process."""

    @property
    def evaluated(self) -> nn.Module:
        """What evaluations are of: the model, or the mean of its weights once there is one."""
        average = self.average
        return average.model if average is not None and average.count else self.model

    @property
    def lr(self) -> float:
        """Learning rate of the first group: the weights."""
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all its processes."""
        return self.counters.seconds + time.monotonic() - self.begun

    @property
    def ms_per_step(self) -> float | None:
        """Median time of forward pass, backward pass and update in milliseconds."""
        times = self.step_times[_WARM_UP_STEPS:]
        if not times and self.counters.ms_per_step is not None:
            return self.counters.ms_per_step
        times = times or self.step_times
        return round(1000 * statistics.median(times), 4) if times else None


def build(config: Config, task: Task, device: torch.device) -> Session:
    """A run before its first step; seeds torch's global generator (initialisation, dropout)."""
    steps = config.epochs * task.batches_per_epoch
    config = with_rate(config, steps)
    torch.manual_seed(config.seed)
    model = task.model().to(device)
    if isinstance(task, ImageTask):
        task.place(device)
    stored = store_weights(config, model)
    converted = convert_layers(config, model)
    optimizer = build_optimizer(config, model)
    schedule = build_schedule(config, optimizer, steps)
    share = config.options.average_from
    # Streams of their own, so that what one draws never moves another.
    order = torch.Generator().manual_seed(config.seed + 1)
    draws = torch.Generator().manual_seed(config.seed + 2)
    return Session(
        config,
        task,
        device,
        model,
        optimizer,
        schedule,
        Streams(order, draws),
        stored,
        converted,
        epoch_order=order.get_state(),
        average=Average(model, share, steps) if share else None,
    )


@contextmanager
def computing(session: Session) -> Iterator[None]:
    """Forward passes in the configuration's precision, or the one that weights are stored in."""
    config = session.config
    low = config.options.precision == "bf16" or config.optimizer in BF16_WEIGHTS
    with torch.autocast(session.device.type, torch.bfloat16, enabled=low):
        yield


def to_tree(session: Session, metrics_bytes: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tree and header of a checkpoint; see `rung.train.checkpoint`."""
    tree = {
        "model": session.model.state_dict(),
        "optimizer": session.optimizer.state_dict(),
        "schedule": session.schedule.state_dict(),
        "random": {
            "order": session.epoch_order,
            "draws": session.streams.draws.get_state(),
            "torch": torch.get_rng_state(),
            "device": _device_state(session.device),
        },
        "counters": asdict(session.counters)
        | {"seconds": session.seconds, "ms_per_step": session.ms_per_step},
        "metrics_bytes": metrics_bytes,
    }
    if session.average is not None:
        tree["average"] = session.average.tree()
    header = {
        "step": session.counters.step,
        "epoch": session.counters.epoch,
        "config": fingerprint(session.config),
        "batches_per_epoch": session.task.batches_per_epoch,
    }
    return tree, header


def from_tree(session: Session, tree: dict[str, Any]) -> int:
    """Put a checkpoint's tree into a freshly built session.

    Returns:
        The size of metrics.jsonl at the checkpoint.
    """
    session.model.load_state_dict(tree["model"])
    session.optimizer.load_state_dict(tree["optimizer"])
    session.schedule.load_state_dict(tree["schedule"])
    if session.average is not None:
        session.average.load(tree["average"])
    random = tree["random"]
    session.epoch_order = random["order"]
    session.streams.order.set_state(random["order"])
    session.streams.draws.set_state(random["draws"])
    torch.set_rng_state(random["torch"])
    if session.device.type == "cuda" and random["device"] is not None:
        torch.cuda.set_rng_state(random["device"], session.device)
    session.counters = Counters(**tree["counters"])
    metrics_bytes: int = tree["metrics_bytes"]
    return metrics_bytes


def with_rate_of(config: Config, header: dict[str, Any]) -> Config:
    """The configuration with the learning rate of its checkpoint, where LMD is to choose one.

    It chooses by the number of steps, which is another when a run is prolonged.
    """
    theirs = header["config"]
    if config.lr is not None or theirs.get("optimizer") != config.optimizer:
        return config
    return replace(config, lr=theirs["lr"])


def check_same_run(session: Session, header: dict[str, Any]) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        ValueError: The text names every field that differs, with both values.
    """
    ours, theirs = fingerprint(session.config), header["config"]
    differing = [
        f"{name} is {theirs.get(name)!r} in the checkpoint and {ours.get(name)!r} here"
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
    if differing:
        raise ValueError(
            f"A resumed run must have the configuration of its checkpoint; {'; '.join(differing)}. "
            "Give the options of the first run, or another folder by --out."
        )
    if header["batches_per_epoch"] != session.task.batches_per_epoch:
        raise ValueError(
            "A resumed run must have the data of its checkpoint; it had "
            f"{header['batches_per_epoch']} batches an epoch and now there are "
            f"{session.task.batches_per_epoch}. Give the same data by --data-dir."
        )


def _device_state(device: torch.device) -> torch.Tensor | None:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else None
