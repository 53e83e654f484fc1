"""Limited precision for any torch optimizer: weights are rounded to a format after each step."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from rung.formats import LNS, CounterSource, Format, Ladder, get
from rung.formats.grouping import groups_of
from rung.formats.scaling import largest_magnitude
from rung.optim._checks import check_choice, describe
from rung.tensor.coded import CodedTensor

_STEPS = "rounded_steps"
_FIELDS = ("optimizer", "format", "formats", "axis", "rounding", "seed", "all_parameters")


class QuantizedUpdate(Optimizer):
    """Any torch optimizer, followed by a quantizer: W <- Q(step(W)).

    The weights are rounded in place, at construction and after every step, and no copy of higher
    precision is kept: what the rounding loses is lost. So SGD, Adam or AdamW train with the same
    bits as `LNSMadam`. Parameters of two or more dimensions are rounded; biases, norm gains and
    scalars stay as they are, because an optimizer sees shapes and not modules. Parameters without a
    gradient (frozen ones) are left alone. All-zero tensors stay zero. A non-finite tensor is never
    an error: it stays non-finite.

    To schedulers, gradient scalers and checkpoints this is the wrapped optimizer: `param_groups`,
    `state`, `defaults` and `state_dict` are its own, so that checkpoints go from one to the other.
    A count of steps in each group (``rounded_steps``) seeds the draws of stochastic rounding.

    Args:
        optimizer: Any torch optimizer over floating-point parameters.
        format: Name of a format, a format, or None to round only what `formats` names. The name of
            an LNS stands for ``zero=True``, since additive rules lead to exact zeros and across
            them, and for a power-of-two scale, so that a largest weight that moves re-rounds none
            of the others. A format object is taken as it is.
        formats: Formats of single parameters, by tensor, of any dimension; None leaves it as it is.
        axis: None for one scale per tensor, or the dimension(s) whose every index has its own.
            Tensors of fewer than two dimensions have one.
        rounding: ``"nearest"`` or ``"stochastic"``. Draws depend on the seed, the parameter's name
            or place, the step and the element's index alone; they are keyed on the host, so that a
            captured CUDA graph would repeat them.
        seed: Of stochastic rounding.
        all_parameters: Round parameters of fewer than two dimensions too.

    Raises:
        TypeError: `optimizer` is not a torch optimizer, or already wrapped.
        ValueError: An unknown format or rounding; a key of `formats` that the optimizer doesn't
            train; a parameter stored in codes.

    Example:
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = QuantizedUpdate(torch.optim.AdamW(model.parameters(), lr=0.01), "lns12")
        >>> model(torch.ones(2, 4)).square().mean().backward()
        >>> optimizer.step()

    Source: the comparison of optimizers under a quantized weight update of Zhao et al. 2022,
    "LNS-Madam", arXiv:2106.13914.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        format: str | Format | None,
        *,
        formats: Mapping[Tensor, str | Format | None] | None = None,
        axis: int | tuple[int, ...] | None = None,
        rounding: str = "nearest",
        seed: int = 0,
        all_parameters: bool = False,
    ) -> None:
        _require_optimizer(optimizer)
        check_choice("rounding", rounding, ("nearest", "stochastic"))
        self.optimizer, self.axis, self.rounding, self.seed = optimizer, axis, rounding, seed
        self.format, self.all_parameters = _updating(format), all_parameters
        self.formats = {param: _updating(given) for param, given in (formats or {}).items()}
        _require_trained(self.formats, optimizer)
        # Not Optimizer.__init__: groups and state exist, in the wrapped optimizer. This makes the
        # hooks of `step`.
        self.__setstate__({})
        for index, group in enumerate(self.param_groups):
            _require_floats(group, index)
        self._require_axis()
        for index, group in enumerate(self.param_groups):
            self._take(group, index)

    def _require_axis(self) -> None:
        """Refuse an axis that a parameter doesn't have before any parameter is rounded."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.requires_grad and self.format_of(param) is not None and param.ndim > 1:
                    groups_of(param, self.axis)

    # -- the wrapped optimizer's ---------------------------------------------------------------

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]  # torch has attributes
        """The wrapped optimizer's groups."""
        return self.optimizer.param_groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """The wrapped optimizer's state."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    @property
    def skipped_steps(self) -> int:
        """Steps that the wrapped optimizer left out, 0 if it doesn't count them."""
        return int(getattr(self.optimizer, "skipped_steps", 0))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As the wrapped optimizer's."""
        self.optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """As the wrapped optimizer's; its groups hold the count of steps."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As the wrapped optimizer's; one that was never wrapped starts to count at 0."""
        self.optimizer.load_state_dict(state_dict)

    # Hooks are the wrapped optimizer's too, called with this one.

    def register_state_dict_pre_hook(
        self, hook: Callable[[Optimizer], None], prepend: bool = False
    ) -> RemovableHandle:
        """As torch's."""
        return self.optimizer.register_state_dict_pre_hook(lambda _: hook(self), prepend)

    def register_state_dict_post_hook(
        self,
        hook: Callable[[Optimizer, dict[str, Any]], dict[str, Any] | None],
        prepend: bool = False,
    ) -> RemovableHandle:
        """As torch's."""
        return self.optimizer.register_state_dict_post_hook(lambda _, s: hook(self, s), prepend)

    def register_load_state_dict_pre_hook(
        self,
        hook: Callable[[Optimizer, dict[str, Any]], dict[str, Any] | None],
        prepend: bool = False,
    ) -> RemovableHandle:
        """As torch's."""
        return self.optimizer.register_load_state_dict_pre_hook(lambda _, s: hook(self, s), prepend)

    def register_load_state_dict_post_hook(
        self, hook: Callable[[Optimizer], None], prepend: bool = False
    ) -> RemovableHandle:
        """As torch's."""
        return self.optimizer.register_load_state_dict_post_hook(lambda _: hook(self), prepend)

    def __getstate__(self) -> dict[str, Any]:
        # Hooks and a scheduler's patch of `step` stay behind, as with torch's own.
        return {field: self.__dict__[field] for field in _FIELDS}

    # -- the step ----------------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the wrapped optimizer and round them by the rule of dimensions.

        Raises:
            ValueError: What the wrapped optimizer refuses; a parameter stored in codes.
        """
        index = len(self.param_groups)
        self.optimizer.add_param_group(param_group)
        group = self.param_groups[index]
        try:
            _require_floats(group, index)
            self._take(group, index)
        except Exception:
            del self.param_groups[index]
            for param in group["params"]:
                self.state.pop(param, None)
            raise

    def _take(self, group: dict[str, Any], index: int) -> None:
        group.setdefault(_STEPS, 0)
        for position, param in enumerate(group["params"]):
            if param.requires_grad:
                self._round_(param, group, describe(group, index, position))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """The wrapped optimizer's step, then one rounding of every parameter with a gradient.

        Args:
            closure: Computes the loss again and returns it; handed to the wrapped optimizer.

        Returns:
            What its step returns: the closure's value, or None.
        """
        loss: float | None = self.optimizer.step(closure)
        for index, group in enumerate(self.param_groups):
            group[_STEPS] = group.get(_STEPS, 0) + 1
            for position, param in enumerate(group["params"]):
                if param.grad is not None:
                    self._round_(param, group, describe(group, index, position))
        return loss

    def format_of(self, param: Tensor) -> Format | None:
        """The format that a parameter is rounded to, or None for one that is left as it is."""
        if param in self.formats:
            return self.formats[param]
        return self.format if self.all_parameters or param.ndim >= 2 else None

    @torch.no_grad()
    def _round_(self, param: Tensor, group: dict[str, Any], name: str) -> None:
        fmt = self.format_of(param)
        if fmt is None or not param.numel():
            return
        source = None
        if self.rounding == "stochastic":
            source = CounterSource(self.seed, f"{name}/{group[_STEPS]}")
        axis = self.axis if param.ndim >= 2 else None
        param.copy_(_quantize(fmt, param, axis, self.rounding, source))


def _updating(given: str | Format | None) -> Format | None:
    """The format of a name, if it is an LNS with zero and power-of-two scale; others as given."""
    if given is None:
        return None
    fmt = get(given)
    if isinstance(given, str) and isinstance(fmt, LNS):
        return dataclasses.replace(fmt.with_zero(), power_of_two_scale=True)
    return fmt


def _require_optimizer(optimizer: Any) -> None:
    if isinstance(optimizer, QuantizedUpdate):
        raise TypeError(
            "`optimizer` must not be a QuantizedUpdate already: a weight is rounded once a step; "
            "got QuantizedUpdate. Give different formats to different weights by `formats`."
        )
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"`optimizer` must be a torch optimizer; got {type(optimizer).__name__}. Make one "
            "first: QuantizedUpdate(torch.optim.AdamW(model.parameters()), 'lns16')."
        )


def _require_trained(formats: Mapping[Tensor, Format | None], optimizer: Optimizer) -> None:
    trained = {param for group in optimizer.param_groups for param in group["params"]}
    for key in formats:
        if key not in trained:
            got = f"a tensor of shape {tuple(key.shape)}" if isinstance(key, Tensor) else repr(key)
            raise ValueError(
                f"The keys of `formats` must be parameters of the optimizer; got {got}. Take them "
                "from the model (model.fc.weight), the very tensors that the optimizer was given."
            )


def _require_floats(group: dict[str, Any], index: int) -> None:
    for position, param in enumerate(group["params"]):
        if isinstance(param, CodedTensor):
            raise ValueError(
                f"{describe(group, index, position)} must be in floating point to be rounded after "
                "a step; got a weight stored in codes, whose optimizer keeps it in its format. "
                "Use that optimizer alone."
            )


def _quantize(
    fmt: Format,
    x: Tensor,
    axis: int | tuple[int, ...] | None,
    rounding: str,
    source: CounterSource | None,
) -> Tensor:
    """As the format's; an all-zero tensor, which has no rung to be on in a ladder, stays zero."""
    if not isinstance(fmt, Ladder):
        return fmt.quantize(x, axis, rounding, source, nonfinite="propagate")
    largest = largest_magnitude(x, axis)
    scale = torch.where((largest > 0) & torch.isfinite(largest), largest, 1.0)
    rounded = fmt.quantize(x, axis, rounding, source, scale=scale, nonfinite="propagate")
    return torch.where(largest == 0, x, rounded)
