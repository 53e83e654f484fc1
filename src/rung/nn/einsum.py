"""Quantized form of torch.einsum."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rung.nn.product import Operand, is_weight, product
from rung.nn.quantizer import Quantizers


def einsum(equation: str, *operands: Tensor, quantizers: Quantizers) -> Tensor:
    """``torch.einsum`` of two factors with its quantizers; of one it is no product.

    A factor is a weight if it is a parameter, lives in codes or is a view of either; its channels
    are the letters that stay in the result. Blocks run along the last letter of the left factor
    that both are summed over.

    Args:
        equation: As torch takes it; letters and at most an ellipsis.
        *operands: The factors.
        quantizers: The four.

    Raises:
        ValueError: More than two factors, whose intermediate results would have no format.
    """
    if len(operands) == 1:
        return torch.einsum(equation, *operands)
    if len(operands) != 2:
        raise ValueError(
            f"A quantized einsum takes two factors; got {len(operands)} for {equation!r}. "
            "Contract them two at a time, so that what lies between has a format too."
        )
    inputs, output = _labels(equation)
    summed = _innermost_sum(inputs, output)
    factors = tuple(
        _factor(labels, output, summed, tensor)
        for labels, tensor in zip(inputs, operands, strict=True)
    )
    return product(lambda x, y: torch.einsum(equation, x, y), factors, quantizers)


def summed_length(equation: str, operands: Sequence[Tensor]) -> int:
    """How many products each number of an einsum's result is the sum of."""
    inputs, output = _labels(equation)
    lengths: dict[str, int] = {}
    for labels, tensor in zip(inputs, operands, strict=False):
        before, _, after = labels.partition("...")
        sizes = (*tensor.shape[: len(before)], *tensor.shape[tensor.ndim - len(after) :])
        for letter, size in zip(before + after, sizes, strict=False):
            if letter not in output:
                lengths[letter] = max(size, lengths.get(letter, 1))
    return math.prod(lengths.values())


def _labels(equation: str) -> tuple[list[str], str]:
    left, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        letters = left.replace(",", "").replace("...", "")
        output = "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    return left.split(","), output


def _factor(labels: str, output: str, summed: str | None, tensor: Tensor) -> Operand:
    dim = -1 if summed is None else _dim_of(summed, labels, tensor.ndim)
    if is_weight(tensor):
        return Operand(tensor, _channels(labels, output, tensor.ndim), True, dim)
    return Operand(tensor, -1, False, dim)


def _innermost_sum(inputs: Sequence[str], output: str) -> str | None:
    """The last letter of the left factor that both factors are summed over, if there is any."""
    left, right = inputs
    summed = [letter for letter in left if letter in right and letter not in output + "."]
    return summed[-1] if summed else None


def _dim_of(letter: str, labels: str, ndim: int) -> int:
    before, _, after = labels.partition("...")
    return before.index(letter) if letter in before else ndim - len(after) + after.index(letter)


def _channels(labels: str, output: str, ndim: int) -> tuple[int, ...] | None:
    before, ellipsis, after = labels.partition("...")
    spread = ndim - len(before) - len(after) if ellipsis else 0
    kept = [dim for dim, letter in enumerate(before) if letter in output]
    kept += range(len(before), len(before) + spread)
    kept += [ndim - len(after) + dim for dim, letter in enumerate(after) if letter in output]
    return tuple(kept) or None
