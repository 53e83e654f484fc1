"""From a configuration to stored weights, an optimizer and a schedule of its learning rates."""

import math
from collections.abc import Callable
from dataclasses import replace

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

import rung
from rung import formats
from rung.formats import Ladder
from rung.optim import (
    LMD,
    BBitMadam,
    LNSMadam,
    Madam,
    QuantizedUpdate,
    default_lr,
    split_parameters,
)
from rung.train.config import Config
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
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


def with_rate(config: Config, steps: int) -> Config:
    """The configuration with a learning rate: where LMD is to choose, by the run's steps."""
    return config if config.lr is not None else replace(config, lr=default_lr(steps))


def _rate(config: Config) -> float:
    assert config.lr is not None, "with_rate comes first"
    return config.lr


def build_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer of a configuration over a model whose weights are already stored."""
    options = config.optimizer_options
    if isinstance(options, BBitMadamOptions):
        return BBitMadam(
            split_parameters(model),
            lr=_rate(config),
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
            lr=_rate(config),
            beta=options.beta,
            clip=options.clip,
            weight_decay=options.weight_decay,
            state=options.state,
            rounding=options.rounding,
            additive_lr=options.additive_lr,
        )
    if isinstance(options, LMDOptions):
        return _lmd(config, options, model)
    optimizer = _float_optimizer(config, options, model)
    if options.update_format is None:
        return optimizer
    return QuantizedUpdate(
        optimizer, options.update_format, rounding=options.update_rounding, seed=config.seed
    )


def _lmd(config: Config, options: LMDOptions, model: nn.Module) -> LMD:
    betas = None
    if options.beta1 is not None and options.beta2 is not None:
        betas = (options.beta1, options.beta2)
    return LMD(
        split_parameters(model),
        lr=_rate(config),
        betas=betas,
        sigma=options.sigma,
        prior=options.prior,
        regularization=options.regularization,
        reach=options.reach,
        offset=options.offset,
        entropy=options.entropy,
        update=options.update,
        clip=options.clip,
        weight_scaled=options.weight_scaled,
        samples=options.samples,
        evaluate=options.evaluate,
        state=options.state,
        parts_format=options.parts_format,
        seed=config.seed,
        additive_lr=options.additive_lr,
    )


def _float_optimizer(
    config: Config, options: SGDOptions | AdamOptions | MadamOptions, model: nn.Module
) -> Optimizer:
    if isinstance(options, SGDOptions):
        return SGD(
            model.parameters(),
            lr=_rate(config),
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
    if isinstance(options, AdamOptions):
        kind = AdamW if config.optimizer == "adamw" else Adam
        return kind(
            model.parameters(),
            lr=_rate(config),
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )
    return Madam(
        split_parameters(model),
        lr=_rate(config),
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
        config: Names the schedule; the recipe's options have what shapes it.
        optimizer: Whose groups are scheduled.
        steps: Steps of the whole run, for the cosine.

    Returns:
        A scheduler: step it once an epoch with a loss if it is a ReduceLROnPlateau, else once a
        training step.

    Raises:
        ValueError: A cosine whose warm-up is as long as the run.
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
        warmup, last = config.options.warmup_steps, config.options.final_lr_share
        if warmup >= steps:
            raise ValueError(
                f"`warmup_steps` must be less than the steps of the run; got {warmup} of {steps}. "
                "Train for longer or warm up for less."
            )
        return LambdaLR(optimizer, cosine(steps, floor, warmup, last))
    return LambdaLR(optimizer, lambda step: 1.0)


def cosine(steps: int, floor: float, warmup: int = 0, last: float = 0.0) -> Callable[[int], float]:
    """Half a cosine from 1 after the warm-up to `last` at step `steps`, not below `floor`.

    Args:
        steps: Steps of the whole run.
        floor: Least share of the learning rate, at any step.
        warmup: Steps before, in which the share rises linearly from 1 / (warmup + 1).
        last: Share at the end, from 0 to 1.
    """

    def share(step: int) -> float:
        if step < warmup:
            return max(floor, (step + 1) / (warmup + 1))
        done = min((step - warmup) / (steps - warmup), 1.0)
        half = 0.5 * (1.0 + math.cos(math.pi * done))
        return max(floor, last + (1.0 - last) * half)

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
    else:
        return 0.0
    if options.rounding == "stochastic":
        return 0.0
    return min(1.0, smallest / _rate(config))
