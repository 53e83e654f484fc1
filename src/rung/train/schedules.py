"""How learning rates move over a run: every group's by the same share."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from rung import formats
from rung.formats import Ladder, Pair, Sinh
from rung.train.config import Config
from rung.train.optimizer_options import (
    BBitMadamOptions,
    LNSMadamOptions,
    SignedMadamOptions,
    require_lns,
)
from rung.train.optimizers import rate_of


def build_schedule(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The schedule of all groups' learning rates, which keep their ratio.

    With rounding to nearest, B-bit Madam doesn't go below the base precision (Bernstein et al.
    2020, section 6: "decayed toward the base precision") nor LNS-Madam below half a code: typical
    steps would round to 0.

    Args:
        config: Names the schedule; the recipe's options have what shapes it.
        optimizer: Whose groups are scheduled.
        steps: Steps of the whole run, for the cosine and the linear one.

    Returns:
        A scheduler: step it once an epoch with a loss if it is a ReduceLROnPlateau, else once a
        training step.

    Raises:
        ValueError: A warm-up that is as long as the run.
    """
    floor = _floor(config)
    if config.schedule == "plateau":
        return ReduceLROnPlateau(
            optimizer,
            factor=config.options.plateau_factor,
            patience=config.options.plateau_patience,
            min_lr=[floor * group["lr"] for group in optimizer.param_groups],
        )
    if config.schedule == "constant":
        return LambdaLR(optimizer, lambda step: 1.0)
    shape = cosine if config.schedule == "cosine" else linear
    last = config.options.final_lr_share
    return LambdaLR(optimizer, shape(steps, floor, _warmup(config, steps), last))


def _warmup(config: Config, steps: int) -> int:
    """Steps in which learning rates rise: as many as the recipe says or the optimizer asks for."""
    asked = config.options.warmup_steps
    if asked >= steps:
        raise ValueError(
            f"`warmup_steps` must be less than the steps of the run; got {asked} of {steps}. "
            "Train for longer or warm up for less."
        )
    return max(asked, int(warmup_share(config) * steps))


def warmup_share(config: Config) -> float:
    """Share of the steps in which learning rates rise, where `warmup_steps` aren't more."""
    asked = config.options.warmup_share
    if asked is not None:
        return asked
    # experiments/one-byte.md, section 26: its default rate is too much for some nets without it.
    return 0.2 if isinstance(config.optimizer_options, SignedMadamOptions) else 0.0


def cosine(steps: int, floor: float, warmup: int = 0, last: float = 0.0) -> Callable[[int], float]:
    """Half a cosine from 1 after the warm-up to `last` at step `steps`, not below `floor`.

    Args:
        steps: Steps of the whole run.
        floor: Least share of the learning rate, at any step.
        warmup: Steps before, in which the share rises linearly from 1 / (warmup + 1).
        last: Share at the end, from 0 to 1.
    """
    return _falling(lambda done: 0.5 * (1.0 + math.cos(math.pi * done)), steps, floor, warmup, last)


def linear(steps: int, floor: float, warmup: int = 0, last: float = 0.0) -> Callable[[int], float]:
    """A straight line from 1 after the warm-up to `last` at step `steps`; arguments of `cosine`."""
    return _falling(lambda done: 1.0 - done, steps, floor, warmup, last)


def _falling(
    shape: Callable[[float], float], steps: int, floor: float, warmup: int, last: float
) -> Callable[[int], float]:
    """The share at a step; `shape` falls from 1 to 0 over what is done after the warm-up."""

    def share(step: int) -> float:
        if step < warmup:
            return max(floor, (step + 1) / (warmup + 1))
        done = min((step - warmup) / (steps - warmup), 1.0)
        return max(floor, last + (1.0 - last) * shape(done))

    return share


def _floor(config: Config) -> float:
    """Smallest share of the learning rate at which rounding to nearest still moves weights."""
    options = config.optimizer_options
    if isinstance(options, BBitMadamOptions) and config.format is not None:
        fmt = formats.get(config.format)
        assert isinstance(fmt, Ladder)
        # A billionth more, lest lr * floor lie a rounding error below the base precision.
        smallest = (1 + 1e-9) * fmt.base_precision
    elif isinstance(options, LNSMadamOptions):
        # A little more than half a code, which float32 would round to even: to 0.
        smallest = (
            (1 + 5e-7) * 0.5 / require_lns("update_format", options.update_format).base_factor
        )
    elif isinstance(options, SignedMadamOptions) and config.format is not None:
        found = formats.get(config.format)
        assert isinstance(found, Sinh | Pair)
        smallest = (1 + 5e-7) * 0.5 * found.spacing
    else:
        return 0.0
    if options.rounding == "stochastic":
        return 0.0
    return min(1.0, smallest / rate_of(config))
