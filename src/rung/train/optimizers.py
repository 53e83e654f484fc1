"""From a configuration to stored weights, an optimizer and a schedule of its learning rates."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

import rung
from rung import formats
from rung.formats import Ladder
from rung.optim import BBitMadam, LNSMadam, Madam, QuantizedUpdate, split_parameters
from rung.train.config import Config
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
    require_lns,
)


def store_weights(config: Config, model: nn.Module) -> str | None:
    """Put the weights into the configuration's format.

    Returns:
        One line that says what was stored, or None where weights stay float32.
    """
    options = config.optimizer_options
    before = sum(p.numel() * p.element_size() for p in model.parameters())
    if isinstance(options, BBitMadamOptions) and config.format is not None:
        stored_as = config.format
        report = rung.store_weights_(
            model,
            stored_as,
            init=options.init,
            scale_bound=options.scale_bound,
            signs=options.signs,
            seed=config.seed,
        )
    elif isinstance(options, LNSMadamOptions):
        stored_as = options.update_format
        report = rung.store_weights_(
            model, stored_as, scale_bound=options.scale_bound, seed=config.seed
        )
    else:
        return None
    return f"{before:,} bytes of weights became {report.bytes_after:,} ({stored_as})"


def build_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer of a configuration over a model whose weights are already stored."""
    options = config.optimizer_options
    if isinstance(options, BBitMadamOptions):
        return BBitMadam(
            split_parameters(model),
            lr=config.lr,
            beta=options.beta,
            clip=options.clip,
            weight_decay=options.weight_decay,
            state=options.state,
            rounding=options.rounding,
            additive_lr=options.additive_lr,
        )
    if isinstance(options, LNSMadamOptions):
        return LNSMadam(
            split_parameters(model),
            lr=config.lr,
            beta=options.beta,
            clip=options.clip,
            weight_decay=options.weight_decay,
            state=options.state,
            rounding=options.rounding,
            additive_lr=options.additive_lr,
        )
    optimizer = _float_optimizer(config, options, model)
    if options.update_format is None:
        return optimizer
    return QuantizedUpdate(
        optimizer, options.update_format, rounding=options.update_rounding, seed=config.seed
    )


def _float_optimizer(
    config: Config, options: SGDOptions | AdamOptions | MadamOptions, model: nn.Module
) -> Optimizer:
    if isinstance(options, SGDOptions):
        return SGD(
            model.parameters(),
            lr=config.lr,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
    if isinstance(options, AdamOptions):
        kind = AdamW if config.optimizer == "adamw" else Adam
        return kind(
            model.parameters(),
            lr=config.lr,
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )
    return Madam(
        split_parameters(model),
        lr=config.lr,
        beta=options.beta,
        clip=options.clip,
        scale_bound=options.scale_bound,
        weight_decay=options.weight_decay,
        state=options.state,
        seed=config.seed,
        additive_lr=options.additive_lr,
    )


def build_schedule(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The schedule of all groups' learning rates, which keep their ratio.

    With rounding to nearest, B-bit Madam doesn't go below the base precision (Bernstein et al.
    2020, section 6: "decayed toward the base precision") nor LNS-Madam below half a code: typical
    steps would round to 0.

    Args:
        config: Names the schedule.
        optimizer: Whose groups are scheduled.
        steps: Steps of the whole run, for the cosine.

    Returns:
        A scheduler: step it once an epoch with a loss if it is a ReduceLROnPlateau, else once a
        training step.
    """
    floor = _floor(config)
    if config.schedule == "plateau":
        return ReduceLROnPlateau(
            optimizer,
            factor=config.options.plateau_factor,
            patience=config.options.plateau_patience,
            min_lr=[floor * group["lr"] for group in optimizer.param_groups],
        )
    if config.schedule == "cosine":
        return LambdaLR(optimizer, cosine(steps, floor))
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(steps: int, floor: float) -> Callable[[int], float]:
    """Half a cosine from 1 at step 0 to 0 at step `steps`, not below `floor`."""
    return lambda step: max(floor, 0.5 * (1.0 + math.cos(math.pi * min(step / steps, 1.0))))


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
    else:
        return 0.0
    if options.rounding == "stochastic":
        return 0.0
    return min(1.0, smallest / config.lr)
