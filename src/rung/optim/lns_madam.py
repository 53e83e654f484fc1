"""LNS-Madam: weights are exponents of a logarithmic number system and move by integers."""

from collections.abc import Iterable
from typing import Any, Unpack

from rung.formats import LNS
from rung.kernels.madam import Scalar
from rung.optim._coded import CodedOptimizer, CodedOptions


class LNSMadam(CodedOptimizer):
    """Madam on weights stored as an `LNS`: exponents move by integers, no float copy exists.

        v <- beta v + (1 - beta) g^2
        u  = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)
        e <- clamp(e - round(gamma * lr * (sign(W) u + weight_decay)), 0, 2^(B-1) - 1)

    gamma is the base factor of each weight's format. Signs never change. With rounding to nearest
    a typical update (|u| = 1) moves a weight only if gamma * lr is at least 1/2: 16 for the default
    lr and 16 bits, 1/4 at 10 bits, which wants ``rounding="stochastic"``. A warning says so.

    Where we differ from the paper: bias-corrected v, stochastic rounding, weight decay, biases and
    norm gains by AdamW (with a `ParameterSplit`) instead of codes.

    Args:
        params: Parameters stored by ``rung.store_weights_(model, "lns16")``, or a `ParameterSplit`,
            whose additive side is then trained by AdamW in a second group.
        lr: The typical change of log2|W| per step, in octaves (`BBitMadam` and `Madam` count in
            ln|W|: their lr is ln 2 = 0.69 times this one).
        beta: Averaging constant of the second moment, in [0, 1).
        clip: Largest change of log2|W| in multiples of lr.
        weight_decay: lambda; every step multiplies W by 2^(-lr * lambda), in rungs: with
            ``"nearest"`` a decay of less than half a rung, beside no update, does nothing.
        rounding: ``"nearest"`` or ``"stochastic"``. Draws depend on the weight's key, the step and
            the element's index alone.
        state: Storage of v: ``"bf16"``, ``"fp32"`` or ``"log8"``: 4, 6 or 3 bytes a weight in all
            with codes of 9 to 16 bits.
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
        ValueError: A hyper-parameter out of range; a parameter in floating point or on a ladder.

    Example:
        >>> import rung, torch
        >>> model = torch.nn.Linear(4, 1)
        >>> report = rung.store_weights_(model, "lns16")
        >>> optimizer = LNSMadam(rung.optim.split_parameters(model))
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: Zhao, Dai, Venkatesan, Zimmer, Ali, Liu, Khailany, Dally, Anandkumar, "LNS-Madam:
    low-precision training in logarithmic number system using multiplicative weight update", IEEE
    Trans. Computers 2022, arXiv:2106.13914.
    """

    algorithm = "lns_madam"
    format_types = (LNS,)
    example = "lns16"

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar = 2**-7,
        beta: float = 0.999,
        clip: float = 10.0,
        weight_decay: float = 0.0,
        **options: Unpack[CodedOptions],
    ) -> None:
        super().__init__(params, lr, beta, clip, weight_decay, **options)

    def _stalling(self, formats: set[Any], lr: float) -> str | None:
        needed = max(0.5 / fmt.base_factor for fmt in formats)
        if lr >= needed:
            return None
        return (
            f"lr={lr:.4g} octaves is under half a rung ({needed:.4g}) of the weights' format: with "
            "rounding='nearest' typical updates round to 0 and training stalls. Use "
            f"rounding='stochastic', a format of more bits, or lr >= {needed:.4g}."
        )

    def _rungs_per_update(self, fmt: Any, lr: Scalar) -> Scalar:
        return lr * fmt.base_factor  # type: ignore[no-any-return]
