"""What a step reads and writes besides its formula: step counts, gradients, weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rung.kernels import step_counts
from rung.kernels.madam import Scalar, Step
from rung.optim._moment import write


def advance(step: Tensor, finite: Tensor | None, capturable: bool) -> Step:
    """Count a step in place (a skipped one not); a number, or the tensor if capturable."""
    step.add_(1 if finite is None else finite.to(step.dtype))
    return step if capturable else int(step)


def advance_all(steps: list[Tensor], finite: Tensor | None) -> Tensor:
    """Count a step of several parameters (a skipped one not); their counts, shape (n,)."""
    if finite is None:
        return step_counts.advance(steps)  # type: ignore[no-any-return]
    for step in steps:
        step.add_(finite.to(step.dtype))
    return torch.stack(steps)


def numbers(*values: Scalar) -> Tensor:
    """float64 values in one tensor: on the host, or on the device where one of them is."""
    given = [value for value in values if isinstance(value, Tensor)]
    place: Any = {"dtype": torch.float64, "device": given[0].device if given else "cpu"}
    if torch.compiler.is_compiling():
        # What is added to a tensor stays an input of the graph; else each lr would compile anew.
        zero = torch.zeros((), **place)
        return torch.stack([(zero + value).reshape(()) for value in values])
    if not given:
        return torch.tensor(values, dtype=torch.float64)
    # Filled on the device: a copy from the host would not do in a CUDA graph.
    return torch.stack(
        [
            value.to(torch.float64).reshape(())
            if isinstance(value, Tensor)
            else torch.full((), value, **place)
            for value in values
        ]
    )


@contextmanager
def undone_unless(finite: Tensor | None, written: Iterable[Tensor]) -> Iterator[None]:
    """Restore tensors after the block on their device, unless a 0-d bool (None: yes) is true."""
    kept = [] if finite is None else [(tensor, tensor.clone()) for tensor in written]
    yield
    for tensor, before in kept:
        tensor.copy_(torch.where(finite, tensor, before))  # type: ignore[arg-type]


def working_gradient(param: Tensor, maximize: bool) -> Tensor:
    """The gradient in the dtype in which updates are computed, signed for descent."""
    dtype = torch.float64 if param.dtype == torch.float64 else torch.float32
    assert param.grad is not None
    grad = param.grad.to(dtype)
    return -grad if maximize else grad


def write_weight(param: Tensor, weight: Tensor, lr: Scalar, finite: Tensor | None) -> None:
    """Assign a new weight, unless lr is 0: such a step must not even clamp."""
    if isinstance(lr, Tensor):
        moves = (lr != 0).to(param.device)
        write(param, weight, moves if finite is None else moves & finite)
    elif lr != 0:
        write(param, weight, finite)


def whole_rungs(rungs: Tensor, last: int, draws: Tensor | None) -> Tensor:
    """Round moves to whole rungs.

    Args:
        rungs: Wanted moves, float32.
        last: Largest code; a move beyond the format's length is the same as its length, so that
            int32 can't overflow.
        draws: None rounds to nearest, ties to even; float32 uniforms in [0, 1) round up with the
            odds of the fraction.

    Returns:
        int32 moves in [-last, last].
    """
    rungs = rungs.clamp(-last, last)
    if draws is None:
        return torch.round(rungs).to(torch.int32)
    below = torch.floor(rungs)
    return (below + (draws < rungs - below)).to(torch.int32)
