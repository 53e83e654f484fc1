"""What the optimizers of weights in codes share: one call for all parameters, refusals."""

import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypedDict, cast

import torch
from torch import Tensor

from rung.formats import LNS, Ladder, Pair, Sinh, name_of
from rung.kernels import coded_madam as kernel
from rung.kernels.madam import Scalar
from rung.optim import _additive
from rung.optim._base import MultiplicativeOptimizer
from rung.optim._checks import Group, check_choice, check_range
from rung.optim._moment import check_momentum_bits, init_moment, init_momentum, momenta_of
from rung.optim._moment import scales as moment_scales
from rung.optim._rows import MEANS, init_means, step_codes
from rung.optim._work import Work
from rung.optim._write import advance_all, numbers, undone_unless
from rung.tensor.coded import CodedTensor

_SYSTEMS = {Ladder: kernel.LADDER, LNS: kernel.LNS, Sinh: kernel.SINH, Pair: kernel.PAIR}
_MOVED_BY = {Ladder: "BBitMadam", LNS: "LNSMadam", Sinh: "SignedMadam", Pair: "SignedMadam"}


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

    A leaf gives its kind of format, `_rungs_per_update` and `_stalling`.

    Attributes:
        format_types: Classes of the formats that it moves.
        example: Name of such a format, for messages.
    """

    format_types: ClassVar[tuple[type, ...]]
    example: ClassVar[str]

    def __init__(
        self,
        params: Iterable[Any],
        lr: Scalar,
        beta: float,
        clip: float,
        weight_decay: float,
        *,
        own: Mapping[str, Any] | None = None,
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
            **(own or {}),
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
    def _rungs_per_update(self, fmt: Any, lr: Scalar) -> Scalar:
        """Rungs that an update of 1 moves a weight of a format by."""

    @abstractmethod
    def _stalling(self, formats: set[Any], lr: float) -> str | None:
        """Why rounding to nearest would lose typical updates of this lr, and the way out."""

    # -- groups and state --------------------------------------------------------------------

    def _check_group(self, group: Group) -> None:
        super()._check_group(group)
        check_choice("rounding", group["rounding"], ("nearest", "stochastic"))
        momentum = group.get("momentum", 0.0)
        check_range("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        check_momentum_bits(group["state"], group.get("momentum_bits"))

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
        if not isinstance(param.format, self.format_types):
            kinds = " or a ".join(kind.__name__ for kind in self.format_types)
            raise ValueError(
                f"{name} must be stored as a {kinds} to be moved by {own}; got "
                f"{name_of(param.format)}. Use rung.optim.{_MOVED_BY[type(param.format)]}, or "
                f"store the model as '{self.example}'."
            )
        state = self.state[param]
        device = param.device if group["capturable"] else None
        state["step"] = torch.zeros((), dtype=torch.float32, device=device)
        if group["state"] in MEANS:
            init_means(state, param.codes, group["state"])
        else:
            init_moment(state, param.codes, group["state"])
        if group.get("momentum"):
            init_momentum(state, param.codes, group)

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

    def _step_group(self, work: Work, finite: Tensor | None) -> None:
        self._warn_of_stalling(work.group, stacklevel=7)
        # Undoing a step takes copies of what it writes: one parameter's at a time.
        one_call, params = finite is None, work.params
        if work.group["state"] in MEANS:
            formats = [cast(CodedTensor, param).format for param in params]
            rungs = [self._rungs_per_update(fmt, work.group["lr"]) for fmt in formats]
            step_codes(work, finite, rungs)
            torch.autograd.graph.increment_version(params)
            return
        # By device and by what codes are.
        kinds = [(p.device, type(cast(CodedTensor, p).format)) for p in params]
        for part in work.divide(kinds if one_call else list(range(len(params)))):
            self._step_part(part, finite)
        if params:
            # Autograd must see that weights changed: it watches the outside, codes are inside.
            torch.autograd.graph.increment_version(params)

    def _step_part(self, work: Work, finite: Tensor | None) -> None:
        """Parameters of one device and one kind of format, in one call."""
        group, params, grads, states = work
        coded = cast("list[CodedTensor]", params)
        moments, scales = [state["exp_avg_sq"] for state in states], moment_scales(states)
        codes, formats = [param.codes for param in coded], [param.format for param in coded]
        momenta = momenta_of(work)
        with undone_unless(finite, [*codes, *moments, *scales, *momenta]):
            kernel.step(
                codes,
                moments,
                scales,
                momenta,
                grads,
                [param.signs for param in coded],
                [param.key for param in coded],
                advance_all([state["step"] for state in states], finite),
                numbers(
                    group["beta"], group["clip"], group["weight_decay"], group.get("momentum", 0.0)
                ),
                numbers(*(self._rungs_per_update(fmt, group["lr"]) for fmt in formats)),
                [fmt.bits for fmt in formats],
                _SYSTEMS[type(formats[0])],
                group["rounding"] == "stochastic",
                group["maximize"],
            )
