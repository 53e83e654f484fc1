"""B-bit Madam: weights are integers on a ladder and move by whole rungs."""

from collections.abc import Iterable
from typing import Any, Unpack

from rung.formats import Ladder
from rung.kernels.madam import Scalar
from rung.optim._coded import CodedOptimizer, CodedOptions
from rung.optim._moment import MOMENTS
from rung.optim._rows import MEANS


class BBitMadam(CodedOptimizer):
    """Madam on weights stored as a `Ladder`: codes move by whole rungs, no float copy exists.

        v <- beta v + (1 - beta) g^2
        u  = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)
        k <- clamp(k + round(lr / eta0 * (sign(W) u + weight_decay)), 0, 2^B - 1)

    eta0 is the base precision of each weight's ladder. With rounding to nearest, lr must be at
    least eta0, or most updates round to 0: the 8-bit ladder's eta0 is 0.016, so lr = 0.01 wants
    ``rounding="stochastic"``. A warning says so.

    Where we differ from the paper: bias-corrected v, stochastic rounding, weight decay, biases and
    norm gains by AdamW (with a `ParameterSplit`) instead of codes. See docs/bbit-madam.md.

    Args:
        params: Parameters stored by `rung.store_weights_`, or a `ParameterSplit`, whose additive
            side is then trained by AdamW in a second group.
        lr: eta, the typical change of ln|W| per step.
        beta: Averaging constant of the second moment, in [0, 1).
        clip: eta*/eta, largest change of ln|W| in multiples of lr.
        weight_decay: lambda; every step multiplies W by exp(-lr * lambda), in rungs: with
            ``"nearest"`` a decay of less than half a rung, beside no update, does nothing.
        rounding: ``"nearest"`` or ``"stochastic"``. Draws depend on the weight's key, the step and
            the element's index alone.
        state: Storage of v: ``"bf16"``, ``"fp32"`` or ``"log8"``: 3, 5 or 2 bytes a weight in all
            with 8-bit codes and seeded signs. ``"rows"``: one float32 number for each index of
            dimension 0, the mean over its row, 1 byte a weight in all; plain PyTorch, slower.
            ``"factored"``: one for each column too, as by Adafactor.
        on_nonfinite: ``"skip"``, ``"raise"``, or ``"trust"``: gradients are not looked at, which
            saves a pass over them; NaN then spoils what it meets.
        maximize: Ascend instead of descend.
        capturable: Never synchronise with the device.
        differentiable: Must be False.
        additive_lr: lr of the AdamW group; ignored unless `params` is a `ParameterSplit`, as are
            `additive_betas`, `additive_eps` and `additive_weight_decay`.
        additive_betas: Its betas.
        additive_eps: Its eps.
        additive_weight_decay: Its decoupled weight decay.

    Raises:
        ValueError: A hyper-parameter out of range; a parameter that is not stored in codes.

    Example:
        >>> import rung, torch
        >>> model = torch.nn.Linear(4, 1)
        >>> report = rung.store_weights_(model, "ladder8")
        >>> split = rung.optim.split_parameters(model)
        >>> optimizer = BBitMadam(split, lr=0.01, rounding="stochastic")
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: Bernstein et al. 2020, arXiv:2006.14560, sections 4.1 and 6.
    """

    algorithm = "bbit_madam"
    storages = (*MOMENTS, *MEANS)
    format_types = (Ladder,)
    example = "ladder8"

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar = 0.01,
        beta: float = 0.999,
        clip: float = 8.0,
        weight_decay: float = 0.0,
        **options: Unpack[CodedOptions],
    ) -> None:
        super().__init__(params, lr, beta, clip, weight_decay, **options)

    def _stalling(self, formats: set[Any], lr: float) -> str | None:
        coarsest = max(fmt.base_precision for fmt in formats)
        if lr >= coarsest:
            return None
        return (
            f"lr={lr:.4g} is under the base precision {coarsest:.4g} of the weights' ladder: with "
            "rounding='nearest' typical updates round to 0 and training stalls. Use "
            f"rounding='stochastic', or lr >= {coarsest:.4g}."
        )

    def _rungs_per_update(self, fmt: Any, lr: Scalar) -> Scalar:
        return lr / fmt.base_precision  # type: ignore[no-any-return]
