"""Madam: Adam's normalised gradient, applied by multiplication."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rung.formats.scaling import root_mean_square
from rung.kernels import madam as kernel
from rung.kernels.madam import Scalar
from rung.kernels.philox import key_from_seed
from rung.optim import _additive
from rung.optim._base import MultiplicativeOptimizer
from rung.optim._checks import Group, check_range
from rung.optim._foreach import madam_update_foreach
from rung.optim._moment import MOMENTS, init_moment
from rung.optim._moment import scales as moment_scales
from rung.optim._rows import MEANS, init_means, step_floats
from rung.optim._work import Work
from rung.optim._write import advance_all, numbers, undone_unless
from rung.tensor.coded import CodedTensor


class Madam(MultiplicativeOptimizer):
    """Multiplicative Adam (Bernstein et al. 2020, Algorithm 1).

        v <- beta v + (1 - beta) g^2
        u  = clamp(g / sqrt(v / (1 - beta^t)), -clip, +clip)      0 where g = 0
        W <- clamp(W exp(-lr (sign(W) u + weight_decay)), -W_max, +W_max)

    Signs never change, and a weight at zero stays there: a tensor that is all zero is refused. A
    step in which any gradient holds NaN or infinity is skipped whole and counted.

    Where we differ from the paper: bias-corrected v (as the authors' code has it), weight decay,
    and no clamping while lr is 0, so that such a step changes no weight.

    Args:
        params: Parameters, named parameters or groups; or a `ParameterSplit`, whose additive side
            is then trained by AdamW in a second group.
        lr: eta, the typical change of ln|W| per step; a float or a 0-d tensor.
        beta: Averaging constant of the second moment, in [0, 1).
        clip: eta*/eta, largest change of ln|W| in multiples of lr.
        scale_bound: sigma*/sigma: W_max in multiples of the tensor's RMS at construction; the
            paper takes 1, 2 or 3.
        weight_decay: lambda; every step multiplies W by exp(-lr * lambda).
        state: Storage of v: ``"fp32"``, ``"bf16"`` or ``"log8"`` (8-bit log codes); the latter two
            round stochastically, by the seed. ``"rows"``: one float32 number for each index of
            dimension 0, the mean over its row; plain PyTorch, slower. ``"factored"``: one for each
            column too, as by Adafactor.
        seed: Of that rounding.
        on_nonfinite: ``"skip"``, ``"raise"``, or ``"trust"``: gradients are not looked at, which
            saves a pass over them; NaN then spoils what it meets.
        maximize: Ascend instead of descend.
        foreach: Where no fused step exists (a GPU, other dtypes), update all parameters of a
            group by multi-tensor operations (``"fp32"`` only).
        capturable: Never synchronise with the device, so that a CUDA graph can hold the step.
        differentiable: Must be False.
        additive_lr: lr of the AdamW group; ignored unless `params` is a `ParameterSplit`, as are
            `additive_betas`, `additive_eps` and `additive_weight_decay`.
        additive_betas: Its betas.
        additive_eps: Its eps.
        additive_weight_decay: Its decoupled weight decay.

    Raises:
        ValueError: A hyper-parameter out of range; a parameter that is all zero, not finite, or
            stored in codes.
        TypeError: A complex parameter.

    Example:
        >>> from rung.optim import split_parameters
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = Madam(split_parameters(model), lr=0.01)
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: Bernstein, Zhao, Meister, Liu, Anandkumar, Yue, "Learning compositional functions via
    multiplicative weight updates", NeurIPS 2020, arXiv:2006.14560.
    """

    algorithm = "madam"
    storages = (*MOMENTS, *MEANS)

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar = 0.01,
        beta: float = 0.999,
        clip: float = 8.0,
        scale_bound: float = 3.0,
        weight_decay: float = 0.0,
        *,
        state: str = "fp32",
        seed: int = 0,
        on_nonfinite: str = "skip",
        maximize: bool = False,
        foreach: bool | None = None,
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
            "scale_bound": scale_bound,
            "weight_decay": weight_decay,
            "state": state,
            "seed": seed,
            "on_nonfinite": on_nonfinite,
            "maximize": maximize,
            "foreach": foreach,
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
        bound = group["scale_bound"]
        check_range("scale_bound", bound, bound > 0, "positive (multiples of the RMS)")
        if group["foreach"] and group["state"] != "fp32":
            raise ValueError(
                f"`foreach=True` needs state='fp32'; got state={group['state']!r}. "
                "Leave `foreach` out: other storages have one way only."
            )

    def _init_state(self, group: Group, param: Tensor, name: str) -> None:
        if isinstance(param, CodedTensor):
            raise ValueError(
                f"{name} is stored in codes, which Madam in floating point can't move. "
                "Use rung.optim.BBitMadam (a ladder), LNSMadam (an LNS) or SignedMadam (a sinh "
                "ladder, a pair of ladders)."
            )
        scale = root_mean_square(param, None)
        _require_trainable(param, scale, name)
        state = self.state[param]
        device = param.device if group["capturable"] else None
        state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        state["max_weight"] = group["scale_bound"] * scale
        if group["state"] in MEANS:
            init_means(state, param, group["state"])
            return
        if group["state"] != "fp32":
            state["key"] = torch.tensor(key_from_seed(group["seed"], name), device=param.device)
        init_moment(state, param, group["state"])

    def _step_group(self, work: Work, finite: Tensor | None) -> None:
        params = work.params
        if work.group["state"] in MEANS:
            step_floats(work, finite)
            return
        if work.group["foreach"]:
            fused = [p.device.type == "cpu" and p.dtype == torch.float32 for p in params]
            if not all(fused):
                madam_update_foreach(self.state, work.group, params, finite)
                return
        # Undoing a step takes copies of what it writes: one parameter's at a time.
        one_call = finite is None
        kinds = [(p.device, p.dtype) for p in params] if one_call else list(range(len(params)))
        for part in work.divide(kinds):
            _step_part(part, finite)


def _step_part(work: Work, finite: Tensor | None) -> None:
    """Parameters of one device and dtype, in one call."""
    group, params, grads, states = work
    moments, scales = [state["exp_avg_sq"] for state in states], moment_scales(states)
    with undone_unless(finite, [*params, *moments, *scales]):
        kernel.step(
            [param.detach() for param in params],
            moments,
            scales,
            grads,
            [state["max_weight"] for state in states],
            [state["key"] for state in states if "key" in state],
            advance_all([state["step"] for state in states], finite),
            numbers(group["beta"], group["clip"], group["weight_decay"], group["lr"]),
            group["maximize"],
        )
    torch.autograd.graph.increment_version(params)


def _require_trainable(param: Tensor, scale: Tensor, name: str) -> None:
    if param.is_meta or not param.numel():
        return
    if not bool(torch.isfinite(scale)):
        raise ValueError(f"{name} must be finite; got NaN or infinite weights.")
    if not bool(scale > 0):
        raise ValueError(
            f"{name} is all zero, and multiplication can't move a weight away from zero. Either "
            "initialise it away from zero, rung.optim.init_zeros_(model), before making the "
            "optimizer; or train it by addition: Madam(rung.optim.split_parameters(model)) gives "
            "biases and norm gains to AdamW."
        )
