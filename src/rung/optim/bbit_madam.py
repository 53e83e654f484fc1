"""B-bit Madam: weights are integers on a ladder and move by whole rungs."""

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rung.kernels.ladder import load_codes, store_codes
from rung.kernels.philox import PURPOSE_ROUND, uniform
from rung.optim import _additive
from rung.optim._base import Group, MultiplicativeOptimizer, check_choice
from rung.optim._moment import MOMENTS, Moment, write
from rung.optim._write import Scalar, Step, advance
from rung.optim.madam import normalized_gradient
from rung.tensor.coded import CodedTensor

# Elements per slice on the CPU: temporaries of a slice stay in the cache, and no float tensor of
# the weight's size ever exists.
_SLICE = 2**17


def bbit_madam_update(
    codes: Tensor,
    signs: Tensor,
    update: Tensor,
    rungs_per_update: Scalar,
    weight_decay: float,
    last: int,
    draws: Tensor | None,
) -> Tensor:
    """Move codes by whole rungs (Bernstein et al. 2020, section 4.1).

        r = round(lr / eta0 * (u + sign(W) * weight_decay)) * sign(W)
        k <- clamp(k + r, 0, 2^B - 1)

    A weight shrinks (k grows) where sign(W) = sign(g).

    Args:
        codes: k, int32 in [0, last], shape (n,).
        signs: sign(W), +1 or -1, float32.
        update: u of `normalized_gradient`, float32.
        rungs_per_update: lr / eta0.
        weight_decay: lambda.
        last: 2^B - 1.
        draws: None rounds to nearest, ties to even; float32 uniforms in [0, 1) round up with the
            odds of the fraction.

    Returns:
        New codes, int32.
    """
    if weight_decay:
        update = update + signs * weight_decay
    # A move beyond the ladder's length is the same as its length; int32 can't overflow.
    rungs = (update * rungs_per_update).clamp(-last, last)
    if draws is None:
        rounded = torch.round(rungs)
    else:
        below = torch.floor(rungs)
        rounded = below + (draws < rungs - below)
    return (codes + (rounded * signs).to(torch.int32)).clamp(0, last)


class BBitMadam(MultiplicativeOptimizer):
    """Madam on weights stored as a `Ladder`: codes move by whole rungs, no float copy exists.

        v <- beta v + (1 - beta) g^2
        u  = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)
        r  = round(lr / eta0 * (u + sign(W) weight_decay)) * sign(W)
        k <- clamp(k + r, 0, 2^B - 1)

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
            with 8-bit codes and seeded signs.
        on_nonfinite: ``"skip"`` or ``"raise"``.
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
        >>> import rung
        >>> model = torch.nn.Linear(4, 1)
        >>> report = rung.store_weights_(model, "ladder8")
        >>> split = rung.optim.split_parameters(model)
        >>> optimizer = BBitMadam(split, lr=0.01, rounding="stochastic")
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: Bernstein et al. 2020, arXiv:2006.14560, sections 4.1 and 6.
    """

    algorithm = "bbit_madam"

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar = 0.01,
        beta: float = 0.999,
        clip: float = 8.0,
        weight_decay: float = 0.0,
        *,
        rounding: str = "nearest",
        state: str = "bf16",
        on_nonfinite: str = "skip",
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        additive_lr: float = _additive.DEFAULTS["lr"],  # type: ignore[assignment]
        additive_betas: tuple[float, float] = _additive.DEFAULTS["betas"],  # type: ignore[assignment]
        additive_eps: float = _additive.DEFAULTS["eps"],  # type: ignore[assignment]
        additive_weight_decay: float = _additive.DEFAULTS["weight_decay"],  # type: ignore[assignment]
    ) -> None:
        defaults = {
            "lr": lr,
            "beta": beta,
            "clip": clip,
            "weight_decay": weight_decay,
            "rounding": rounding,
            "state": state,
            "on_nonfinite": on_nonfinite,
            "maximize": maximize,
            "foreach": None,
            "capturable": capturable,
            "differentiable": differentiable,
        }
        additive = {
            "lr": additive_lr,
            "betas": additive_betas,
            "eps": additive_eps,
            "weight_decay": additive_weight_decay,
        }
        super().__init__(params, defaults, additive)

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        check_choice("rounding", group["rounding"], ("nearest", "stochastic"))

    def add_param_group(self, param_group: Group) -> None:
        """As in the base class; warns of an lr that rounding to nearest can't follow."""
        super().add_param_group(param_group)
        self._warn_of_stalling(self.param_groups[-1], stacklevel=4)

    def _init_state(self, group: Group, param: Tensor, name: str) -> None:
        if not isinstance(param, CodedTensor):
            raise ValueError(
                f"{name} must be stored in codes; got a floating-point parameter. Convert the "
                "model first, rung.store_weights_(model, 'ladder8'), and give biases and norm "
                "gains to AdamW: BBitMadam(rung.optim.split_parameters(model))."
            )
        state = self.state[param]
        device = param.device if group["capturable"] else None
        state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        MOMENTS[group["state"]].init(state, param.codes)

    def _warn_of_stalling(self, group: Group, stacklevel: int) -> None:
        if group["algorithm"] != self.algorithm or group["rounding"] == "stochastic":
            return
        if group.get("warned_of_lr") or group["capturable"]:  # a capturable lr is not looked at
            return
        ladders = {p.format for p in group["params"] if isinstance(p, CodedTensor)}
        lr, coarsest = float(group["lr"]), max((f.base_precision for f in ladders), default=0.0)
        if not 0 < lr < coarsest:
            return
        group["warned_of_lr"] = True
        warnings.warn(
            f"lr={lr:.4g} is under the base precision {coarsest:.4g} of the weights' ladder: with "
            "rounding='nearest' typical updates round to 0 and training stalls. Use "
            f"rounding='stochastic', or lr >= {coarsest:.4g}.",
            stacklevel=stacklevel,
        )

    def _step_group(self, group: Group, params: list[Tensor], finite: Tensor | None) -> None:
        self._warn_of_stalling(group, stacklevel=6)
        for param in params:
            assert isinstance(param, CodedTensor)
            self._step_parameter(group, param, finite)

    def _step_parameter(self, group: Group, param: CodedTensor, finite: Tensor | None) -> None:
        state, moment = self.state[param], MOMENTS[group["state"]]
        step = advance(state["step"], finite, group["capturable"])
        assert param.grad is not None
        grad = param.grad.reshape(-1)
        prepared = moment.prepare(state, grad, group["beta"])
        length = _SLICE if param.device.type == "cpu" else max(grad.numel(), 1)
        for start in range(0, grad.numel(), length):
            stop = min(start + length, grad.numel())
            self._step_slice(
                group, param, grad[start:stop], (moment, prepared), start, step, finite
            )
        moment.finish(state, prepared, finite)
        # Autograd must see that the weight changed: it watches the outside, the codes are inside.
        torch.autograd.graph.increment_version(param)

    def _step_slice(
        self,
        group: Group,
        param: CodedTensor,
        grad: Tensor,
        moment_and_prepared: tuple[Moment, Tensor],
        start: int,
        step: Step,
        finite: Tensor | None,
    ) -> None:
        state, fmt = self.state[param], param.format
        moment, prepared = moment_and_prepared
        stop, count = start + grad.numel(), grad.numel()
        grad = grad.to(torch.float32)
        if group["maximize"]:
            grad = -grad
        exp_avg_sq, update = normalized_gradient(
            grad, moment.read(state, start, stop), step, group["beta"], group["clip"]
        )
        draws = None
        if group["rounding"] == "stochastic":
            draws = uniform(param.key, start, count, step, PURPOSE_ROUND)
        stored = param.codes.view(-1)[start:stop]
        codes = bbit_madam_update(
            load_codes(stored),
            param.sign_slice(start, count, torch.float32),
            update,
            group["lr"] / fmt.base_precision,
            group["weight_decay"],
            fmt.levels - 1,
            draws,
        )
        write(stored, store_codes(codes, fmt.bits), finite)
        encoded = moment.encode(exp_avg_sq, prepared, param.key, start, step)
        write(state["exp_avg_sq"].view(-1)[start:stop], encoded, finite)
