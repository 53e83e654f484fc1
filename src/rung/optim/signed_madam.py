"""Signed Madam: weights are rungs of a sinh ladder, move by whole ones, walk through zero."""

from collections.abc import Iterable
from typing import Any, Unpack

from rung.formats import Pair, Sinh
from rung.kernels.madam import Scalar
from rung.optim._coded import CodedOptimizer, CodedOptions
from rung.optim._moment import MOMENTS
from rung.optim._rows import MEANS

ADDITIVE_LR = 0.01
"""Of the AdamW group: torch's 1e-3 leaves biases and gains behind weights that move so fast."""


class SignedMadam(CodedOptimizer):
    """Madam on weights stored as a `Sinh`: codes move by whole rungs, signs are free.

        v <- beta v + (1 - beta) g^2
        u  = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)
        m <- momentum m + (1 - momentum) u
        k <- clamp(k - round(lr / h * m / (1 - momentum^t) + lr * weight_decay * k / (h K)), -K, K)

    A weight is scale * knee * sinh(k h), so theta = k h moves by lr u: a weight far above the knee
    changes by the factor exp(-lr u), as by Madam; one far below it by the same amount whatever its
    size, as by Adam, and so it can change its sign. h is the spacing of the format's rungs (0.033
    for ``"sinh8"``) and K the number of those on either side of zero.

    Args:
        params: Parameters stored by ``rung.store_weights_(model, "sinh8")`` (another `Sinh`, or a
            `Pair`, whose two codes move by opposite steps), or a `ParameterSplit`, whose additive
            side is then trained by AdamW in a second group.
        lr: The typical change of theta per step. 0.06 was chosen for four tasks at once, under a
            schedule that raises it over the first fifth of the steps; without a warm-up as long,
            one of the four wants 0.04 (experiments/one-byte.md, sections 24 and 26).
        beta: Averaging constant of the second moment, in [0, 1).
        clip: Largest change of theta in multiples of lr.
        weight_decay: lambda, a pull of theta towards 0 in proportion to it; a weight on the top
            rung shrinks by exp(-lr * lambda) a step. 0.03 is for runs that see
            their data often; on two texts 0 was slightly better (experiments/one-byte.md, section
            15).
        rounding: ``"stochastic"`` (the default) or ``"nearest"``. Draws depend on the weight's key,
            the step and the element's index alone. To nearest, moves of less than half a rung are
            lost; an lr under that is warned of, but with a momentum of 0.9 an average of noise is a
            quarter of its terms, so that typical moves want an lr of four times as much.
        momentum: Averaging constant of the normalised gradients, in [0, 1). 0: weights move by the
            gradient itself, and no m is kept.
        momentum_bits: 4 (the default) or 8: m is an E2M1 or E4M3 float, rounded stochastically.
            Its noise adds up over 1 / (1 - momentum) steps; 4 bits made no difference at
            0.9 on three tasks (experiments/one-byte.md, sections 16 and 19); momenta of 0.95
            and more want 8. Not beside ``"bf16"`` and ``"fp32"``, where m is stored as v. A
            momentum that exists keeps its bits; one that begins later takes 1 / (1 - momentum)
            steps to its size.
        state: Storage of v: ``"log8"`` (the default), ``"bf16"`` or ``"fp32"``: 2.5, 5 or 9 bytes a
            weight in all with 8-bit codes and a momentum, 2, 3 or 5 without. ``"rows"``: one
            float32 number for each index of dimension 0, the mean over its row, 1.5 bytes a weight
            in all, 1 without a momentum; plain PyTorch, slower. ``"factored"``: one for each column
            too, as by Adafactor.
        on_nonfinite: ``"skip"``, ``"raise"``, or ``"trust"``: gradients are not looked at, which
            saves a pass over them; NaN then spoils what it meets.
        maximize: Ascend instead of descend.
        capturable: Never synchronise with the device.
        differentiable: Must be False.
        additive_lr: lr of the AdamW group, 0.01 by default; ignored unless `params` is a
            `ParameterSplit`, as are `additive_betas`, `additive_eps` and `additive_weight_decay`.
        additive_betas: Its betas.
        additive_eps: Its eps.
        additive_weight_decay: Its decoupled weight decay.

    Raises:
        ValueError: A hyper-parameter out of range; a parameter that is not stored as a `Sinh`
            or a `Pair`.

    Example:
        >>> import rung, torch
        >>> model = torch.nn.Linear(4, 1)
        >>> report = rung.store_weights_(model, "sinh8")
        >>> optimizer = SignedMadam(rung.optim.split_parameters(model))
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: ours, after the update of Bernstein et al. 2020, arXiv:2006.14560, under the mirror map
    of Ghai, Hazan, Singer 2020, arXiv:1902.01903; gradients are normalised before they are averaged
    as by Ziyin, Wang, Ueda 2020, arXiv:2002.04839.
    """

    algorithm = "signed_madam"
    storages = (*MOMENTS, *MEANS)
    format_types = (Sinh, Pair)
    example = "sinh8"

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar = 0.06,
        beta: float = 0.99,
        clip: float = 8.0,
        weight_decay: float = 0.03,
        momentum: float = 0.9,
        momentum_bits: int | None = None,
        **options: Unpack[CodedOptions],
    ) -> None:
        options.setdefault("rounding", "stochastic")
        options.setdefault("state", "log8")
        options.setdefault("additive_lr", ADDITIVE_LR)
        own = {"momentum": momentum, "momentum_bits": momentum_bits}
        super().__init__(params, lr, beta, clip, weight_decay, own=own, **options)

    def _stalling(self, formats: set[Any], lr: float) -> str | None:
        needed = max(fmt.spacing for fmt in formats) / 2
        if lr >= needed:
            return None
        return (
            f"lr={lr:.4g} is under half a rung ({needed:.4g}) of the weights' format: with "
            "rounding='nearest' typical updates round to 0 and training stalls. Use "
            f"rounding='stochastic', a format of more bits, or lr >= {needed:.4g}."
        )

    def _rungs_per_update(self, fmt: Any, lr: Scalar) -> Scalar:
        return lr / fmt.spacing  # type: ignore[no-any-return]
