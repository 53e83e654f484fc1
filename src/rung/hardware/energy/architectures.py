"""Models by name, in their published shapes, on the meta device: nothing is allocated."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from rung.hardware.energy.resnets import ResNet
from rung.hardware.energy.transformers import Shape, Transformer

_TOKENS = 50_257
_SHAPES: Mapping[str, Shape] = {
    "bert-base": Shape(12, 768, 12, 30_522, 512, causal=False),
    "bert-large": Shape(24, 1024, 16, 30_522, 512, causal=False),
    "gpt2-124m": Shape(12, 768, 12, _TOKENS, 1024, causal=True),
    "gpt2-350m": Shape(24, 1024, 16, _TOKENS, 1024, causal=True),
    "gpt2-774m": Shape(36, 1280, 20, _TOKENS, 1024, causal=True),
    "gpt2-1.5b": Shape(48, 1600, 25, _TOKENS, 1024, causal=True),
    # The table has a width of 5140, which 40 heads of 128 don't fill.
    "gpt3-13b": Shape(40, 5120, 40, _TOKENS, 2048, causal=True),
    "gpt3-175b": Shape(96, 12_288, 96, _TOKENS, 2048, causal=True),
}
_RESNETS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), bottleneck=True),
}
# What BERT is fine-tuned on most; its own longest is 512.
_BERT_TOKENS = 128

MODELS = (*_RESNETS, *_SHAPES)
"""Names for `architecture`."""


def architecture(name: str, batch: int = 1) -> tuple[nn.Module, Tensor]:
    """A model and a batch for it, both on the meta device.

    ResNets take images of 224 x 224, BERT 128 tokens, GPT its whole context (1,024 or 2,048).

    Args:
        name: One of `MODELS`.
        batch: Images or sequences.

    Returns:
        The model in training mode, and its input.

    Raises:
        ValueError: No model has this name; a batch that isn't positive.

    Example:
        >>> model, batch = architecture("gpt3-175b")
        >>> sum(p.numel() for p in model.parameters()), next(model.parameters()).is_meta
        (174604259328, True)
    """
    if batch < 1:
        raise ValueError(f"`batch` must be 1 or more; got {batch}.")
    if name not in MODELS:
        raise ValueError(f"Unknown model {name!r}; the models are: {', '.join(MODELS)}.")
    with torch.device("meta"):
        if name in _RESNETS:
            return _RESNETS[name](), torch.empty(batch, 3, 224, 224)
        shape = _SHAPES[name]
        length = shape.context if shape.causal else _BERT_TOKENS
        return Transformer(shape), torch.zeros(batch, length, dtype=torch.int64)
