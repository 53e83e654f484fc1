"""The posterior predictive distribution: probabilities averaged over sampled weights."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn

from rung.kernels.normal import SAMPLES


class Posterior(Protocol):
    """What this module asks of an optimizer; `rung.optim.LMD` has it."""

    def evaluated(self, point: str = "mean", draw: int = 0) -> AbstractContextManager[None]:
        """Let the parameters hold another point of the posterior for a while."""


def predict(
    model: nn.Module,
    optimizer: Posterior,
    inputs: Tensor,
    samples: int = 8,
    seed: int = 0,
    *,
    batch_size: int | None = None,
) -> Tensor:
    """Class probabilities under the posterior, by an average over sampled weights.

        p(y | x) = 1/S sum_s softmax(model(x; w_s)),  w_s ~ q

    Probabilities are averaged, not logits. The model is in evaluation mode meanwhile; its mode and
    its weights are restored, also after an error.

    Args:
        model: From inputs to logits, shape (B, ..., classes).
        optimizer: The optimizer that holds the posterior over the model's weights.
        inputs: Shape (B, ...), on the model's device.
        samples: S, at least 1; all are drawn for the whole of `inputs`.
        seed: Draws of different seeds with an equal `samples` share no sample; at least 0, and
            (seed + 1) * samples at most 2^31. Equal seeds give equal draws until the optimizer's
            next step. Draws depend on the optimizer's own seed too: runs of different seeds need
            no different ones here.
        batch_size: Inputs in a forward pass; None: all at once. Changes memory and speed only.

    Returns:
        Shape (B, ..., classes), float64, each row summing to 1.

    Raises:
        ValueError: `samples` or `batch_size` below 1, or a seed out of its range.
        RuntimeError: A sample is in place already (from the optimizer).

    Example:
        >>> from rung.optim import LMD, split_parameters
        >>> model = nn.Linear(4, 3)
        >>> optimizer = LMD(split_parameters(model))
        >>> predict(model, optimizer, torch.ones(2, 4)).shape
        torch.Size([2, 3])

    Source: Nishida, Kiral, Bannai, Khan, Moellenhoff 2025, arXiv:2506.17768 (the posterior); the
    average is the definition.
    """
    if samples < 1:
        raise ValueError(
            f"`samples` must be at least 1; got {samples}. For one point of the posterior use "
            "point_probabilities inside optimizer.evaluated('mean')."
        )
    if seed < 0:
        raise ValueError(f"`seed` must be 0 or more; got {seed}.")
    if (seed + 1) * samples > SAMPLES:
        raise ValueError(
            f"`seed` must be less than 2^31 / `samples` = {SAMPLES // samples}, for so many sets "
            f"of samples there are; got seed={seed} with samples={samples}. Count seeds from 0: "
            "the optimizer's own seed counts too."
        )
    total: Tensor | None = None
    for index in range(samples):
        with optimizer.evaluated("sample", draw=seed * samples + index):
            found = point_probabilities(model, inputs, batch_size=batch_size)
        total = found if total is None else total + found
    assert total is not None
    return total / samples


@torch.no_grad()
def point_probabilities(
    model: nn.Module, inputs: Tensor, *, batch_size: int | None = None
) -> Tensor:
    """Class probabilities of the weights that a model holds, in evaluation mode.

    Args:
        model: From inputs to logits, shape (B, ..., classes).
        inputs: Shape (B, ...), on the model's device.
        batch_size: Inputs in a forward pass; None: all at once.

    Returns:
        Shape (B, ..., classes), float64: in float32 a class that is ruled out with much confidence
        gets probability 0, and a likelihood that it happened all the same becomes infinite.

    Raises:
        ValueError: `batch_size` below 1.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1 or None; got {batch_size}.")
    parts: Sequence[Tensor] = (inputs,) if batch_size is None else torch.split(inputs, batch_size)
    # Each module's own mode: a part that the user keeps in evaluation mode stays there.
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return torch.cat([model(part).double().softmax(-1) for part in parts])
    finally:
        for module in training:
            module.training = True
