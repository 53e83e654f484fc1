"""From a configuration to an optimizer and a schedule of its learning rates."""

import math
from collections.abc import Callable

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

import rung
from rung import formats
from rung.optim import BBitMadam, Madam, split_parameters
from rung.train.config import Config
from rung.train.options import AdamOptions, BBitMadamOptions, MadamOptions, SGDOptions


def store_weights(config: Config, model: nn.Module) -> str | None:
    """Put the weights into the configuration's format.

    Returns:
        One line that says what was stored, or None where weights stay float32.
    """
    options = config.optimizer_options
    if not isinstance(options, BBitMadamOptions) or config.format is None:
        return None
    before = sum(p.numel() * p.element_size() for p in model.parameters())
    report = rung.store_weights_(
        model,
        config.format,
        init=options.init,
        scale_bound=options.scale_bound,
        signs=options.signs,
        seed=config.seed,
    )
    return f"{before:,} bytes of weights became {report.bytes_after:,} ({config.format})"


def build_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer of a configuration over a model whose weights are already stored."""
    options = config.optimizer_options
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
    if isinstance(options, MadamOptions):
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


def build_schedule(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler:
    """The schedule of all groups' learning rates, which keep their ratio.

    With round-to-nearest B-bit Madam nothing goes below the base precision, where steps would round
    to 0 (Bernstein et al. 2020, section 6: "decayed toward the base precision").

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
    options = config.optimizer_options
    if not isinstance(options, BBitMadamOptions) or config.format is None:
        return 0.0
    if options.rounding == "stochastic":
        return 0.0
    # A billionth more, lest lr * floor lie a rounding error below the base precision.
    return min(1.0, (1 + 1e-9) * formats.get(config.format).base_precision / config.lr)
