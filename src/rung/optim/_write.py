"""What a step reads and writes besides its formula: step counts, gradients, weights."""

import torch
from torch import Tensor

from rung.optim._moment import write

Scalar = float | Tensor
Step = int | Tensor


def bias_correction(beta: float, step: Step) -> Scalar:
    """1 - beta^t; in float64 also on a device, where float32 would lose 5e-5 at t = 1."""
    return 1 - beta ** (step.to(torch.float64) if isinstance(step, Tensor) else step)


def advance(step: Tensor, finite: Tensor | None, capturable: bool) -> Step:
    """Count a step in place (a skipped one not); a number, or the tensor if capturable."""
    step.add_(1 if finite is None else finite.to(step.dtype))
    return step if capturable else int(step)


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
