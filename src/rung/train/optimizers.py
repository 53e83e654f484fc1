"""From a configuration to stored weights and an optimizer."""

from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

import rung
from rung.optim import (
    LMD,
    BBitMadam,
    LNSMadam,
    Madam,
    QuantizedUpdate,
    SignedMadam,
    default_lr,
    split_parameters,
)
from rung.train.borrow import borrowed_scales
from rung.train.config import Config
from rung.train.optimizer_options import (
    AdamOptions,
    BBitMadamOptions,
    LMDOptions,
    LNSMadamOptions,
    MadamOptions,
    SGDOptions,
    SignedMadamOptions,
)
from rung.train.others import float_weights, prepare_others, split_for
from rung.train.rivals import build_rival, narrow_weights

_AXES = {"tensor": None, "channel": 0}
_OF_CODES: dict[type, type[BBitMadam | LNSMadam | SignedMadam]] = {
    BBitMadamOptions: BBitMadam,
    LNSMadamOptions: LNSMadam,
    SignedMadamOptions: SignedMadam,
}


def store_weights(config: Config, model: nn.Module) -> str | None:
    """Put the weights into the configuration's format, and get biases and norm gains ready.

    Returns:
        One line that says what was stored, or None where weights stay float32.
    """
    options = config.optimizer_options
    prepare_others(config, model)
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
            axis=_AXES[options.scale_axis],
            others=options.others == "multiplicative",
            scales=borrowed_scales(config, model),
        )
    elif isinstance(options, SignedMadamOptions) and config.format is not None:
        stored_as = config.format
        report = rung.store_weights_(
            model,
            stored_as,
            scale_bound=options.scale_bound,
            seed=config.seed,
            axis=_AXES[options.scale_axis],
            others=options.others == "multiplicative",
            min_scale=options.min_scale,
            skip=float_weights(options.float_weights, model),
        )
    elif isinstance(options, LNSMadamOptions):
        stored_as = options.update_format
        report = rung.store_weights_(
            model,
            stored_as,
            scale_bound=options.scale_bound,
            seed=config.seed,
            axis=_AXES[options.scale_axis],
        )
    else:
        return narrow_weights(config.optimizer, model)
    return f"{before:,} bytes of weights became {report.bytes_after:,} ({stored_as})"


def with_rate(config: Config, steps: int) -> Config:
    """The configuration with a learning rate: where LMD is to choose, by the run's steps."""
    return config if config.lr is not None else replace(config, lr=default_lr(steps))


def rate_of(config: Config) -> float:
    """The learning rate of a configuration that `with_rate` has made complete."""
    assert config.lr is not None, "with_rate comes first"
    return config.lr


def build_optimizer(config: Config, model: nn.Module) -> Optimizer:
    """The optimizer of a configuration over a model whose weights are already stored."""
    options = config.optimizer_options
    if isinstance(options, BBitMadamOptions | LNSMadamOptions | SignedMadamOptions):
        own: dict[str, Any] = {}
        if isinstance(options, SignedMadamOptions):
            own |= {"momentum": options.momentum, "momentum_bits": options.momentum_bits}
        return _OF_CODES[type(options)](
            split_for(config, model),
            lr=rate_of(config),
            beta=options.beta,
            clip=options.clip,
            weight_decay=options.weight_decay,
            state=options.state,
            rounding=options.rounding,
            additive_lr=options.additive_lr,
            **own,
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
        lr=rate_of(config),
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
            lr=rate_of(config),
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
    if isinstance(options, AdamOptions):
        build = partial(build_rival, config.optimizer)
        known = {"adam": Adam, "adamw": AdamW}
        return known.get(config.optimizer, build)(
            model.parameters(),
            lr=rate_of(config),
            betas=(options.beta1, options.beta2),
            weight_decay=options.weight_decay,
        )
    return Madam(
        split_for(config, model),
        lr=rate_of(config),
        beta=options.beta,
        clip=options.clip,
        scale_bound=options.scale_bound,
        weight_decay=options.weight_decay,
        state=options.state,
        seed=config.seed,
        additive_lr=options.additive_lr,
    )
