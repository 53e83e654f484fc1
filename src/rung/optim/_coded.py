"""What the optimizers of weights in codes share: the loop over slices, rounding, refusals."""

import warnings
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, TypedDict

import torch
from torch import Tensor

from rung.formats import name_of
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


class CodedOptions(TypedDict, total=False):
    """Keyword options that every optimizer of coded weights takes; its docstring explains them."""

    rounding: str
    state: str
    on_nonfinite: str
    maximize: bool
    capturable: bool
    differentiable: bool
    additive_lr: float
    additive_betas: tuple[float, float]
    additive_eps: float
    additive_weight_decay: float


class CodedOptimizer(MultiplicativeOptimizer):
    """Interface of the optimizers that move integer codes; use a leaf class.

    A leaf gives its kind of format, `_move` and `_stalling`.

    Attributes:
        format_type: Class of the formats that it moves.
        example: Name of such a format, for messages.
        other: The optimizer of the other coded formats, for messages.
    """

    format_type: ClassVar[type]
    example: ClassVar[str]
    other: ClassVar[str]

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar,
        beta: float,
        clip: float,
        weight_decay: float,
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

    # -- for leaves --------------------------------------------------------------------------

    @abstractmethod
    def _move(
        self,
        group: Group,
        param: CodedTensor,
        start: int,
        update: Tensor,
        draws: Tensor | None,
    ) -> Tensor:
        """New stored codes of the weights from flat index `start`, one for each of `update`."""

    @abstractmethod
    def _stalling(self, formats: set[Any], lr: float) -> str | None:
        """Why rounding to nearest would lose typical updates of this lr, and the way out."""

    # -- groups and state --------------------------------------------------------------------

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        check_choice("rounding", group["rounding"], ("nearest", "stochastic"))

    def add_param_group(self, param_group: Group) -> None:
        """As in the base class; warns of an lr that rounding to nearest can't follow."""
        super().add_param_group(param_group)
        self._warn_of_stalling(self.param_groups[-1], stacklevel=7)

    def _init_state(self, group: Group, param: Tensor, name: str) -> None:
        own = type(self).__name__
        if not isinstance(param, CodedTensor):
            raise ValueError(
                f"{name} must be stored in codes; got a floating-point parameter. Convert the "
                f"model first, rung.store_weights_(model, '{self.example}'), and give biases and "
                f"norm gains to AdamW: {own}(rung.optim.split_parameters(model))."
            )
        if not isinstance(param.format, self.format_type):
            raise ValueError(
                f"{name} must be stored as a {self.format_type.__name__} to be moved by {own}; got "
                f"{name_of(param.format)}. Use rung.optim.{self.other}, or store the model as "
                f"'{self.example}'."
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
        formats = {p.format for p in group["params"] if isinstance(p, CodedTensor)}
        lr = float(group["lr"])
        reason = self._stalling(formats, lr) if formats and lr > 0 else None
        if reason is None:
            return
        group["warned_of_lr"] = True
        warnings.warn(reason, stacklevel=stacklevel)

    # -- the step ----------------------------------------------------------------------------

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
        state, (moment, prepared) = self.state[param], moment_and_prepared
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
        moved = self._move(group, param, start, update, draws)
        write(param.codes.view(-1)[start:stop], moved, finite)
        encoded = moment.encode(exp_avg_sq, prepared, param.key, start, step)
        write(state["exp_avg_sq"].view(-1)[start:stop], encoded, finite)
