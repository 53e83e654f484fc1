"""Who trains biases and norm gains: AdamW, the rule of the weights, or nobody."""

import fnmatch

from torch import nn

from rung.optim import ParameterSplit, init_zeros_, split_parameters
from rung.tensor.roles import roles
from rung.train.config import Config

STD = 0.1
"""Standard deviation that all-zero biases are drawn with where a multiplicative rule trains them.
The paper says "away from zero" and no more; with W_max at 3 RMS they can then reach 0.3."""


def prepare_others(config: Config, model: nn.Module) -> None:
    """Get a float model's biases and norm gains ready for the way in which they are trained.

    ``none`` freezes them; ``multiplicative`` draws those that are all zero. A model's weights in
    floating point that only look left over (of a sparse embedding, say) are weights still.
    """
    others = others_of(config)
    if others == "multiplicative":
        init_zeros_(model, STD, config.seed)
    if others != "none":
        return
    for role in roles(model):
        if role.additive_reason is not None and role.parameter.is_floating_point():
            role.parameter.requires_grad_(False)


def others_of(config: Config) -> str:
    """``additive``, ``multiplicative`` or ``none``; optimizers without the option are additive."""
    return getattr(config.optimizer_options, "others", "additive")


def split_for(config: Config, model: nn.Module) -> ParameterSplit:
    """The model's parameters for a multiplicative optimizer, of which some go to AdamW."""
    split = split_parameters(model)
    if others_of(config) != "multiplicative" or config.optimizer != "madam":
        return split
    # Codes are multiplicative already; float biases are so by request.
    names, additive_names = split.names
    return ParameterSplit(
        [*split.multiplicative, *split.additive], [], (names + additive_names, [])
    )


def float_weights(patterns: str, model: nn.Module) -> list[str]:
    """Names of the weights that stay in floating point, which AdamW then trains.

    Args:
        patterns: Separated by commas, as of a shell; each must match a weight.
        model: The model before its weights are stored.

    Raises:
        ValueError: A pattern that matches no weight; the text lists the weights.
    """
    names = [role.name for role in roles(model) if role.additive_reason is None]
    found: list[str] = []
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        matching = fnmatch.filter(names, pattern)
        if not matching:
            raise ValueError(
                f"A pattern of `float_weights` must match a weight; got {pattern!r}. The weights "
                f"are: {', '.join(names)}."
            )
        found += matching
    return found
