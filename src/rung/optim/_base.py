"""What all of Rung's optimizers share: groups, and the loop. No formula."""

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, overload

import torch
from torch import Tensor

from rung.optim import _additive
from rung.optim._checkpoints import CheckpointedOptimizer
from rung.optim._checks import ADDITIVE, Group, check_choice, check_range, describe
from rung.optim._moment import MOMENTS
from rung.optim._work import Work, all_finite, require_fit
from rung.optim.split import ParameterSplit


class MultiplicativeOptimizer(CheckpointedOptimizer):
    """Interface of the multiplicative optimizers; use a leaf class.

    A leaf gives `algorithm`, `_init_state` and `_step_group`. Hyper-parameters live in the groups
    and tensors in the state, nothing on ``self``, so that copies and checkpoints lose nothing.

    Attributes:
        storages: Of the second moment, that this rule knows.
    """

    storages: ClassVar[tuple[str, ...]] = tuple(MOMENTS)

    def __init__(
        self,
        params: Iterable[Any],
        defaults: dict[str, Any],
        additive: dict[str, Any],
    ) -> None:
        defaults |= {"algorithm": self.algorithm, "skipped_steps": 0}
        self._check_group(defaults)
        _additive.check(additive)
        if isinstance(params, ParameterSplit):
            params = _additive.groups_of(params, additive)
        super().__init__(params, defaults)

    # -- for leaves --------------------------------------------------------------------------

    @abstractmethod
    def _init_state(self, group: Group, param: Tensor, name: str) -> None:
        """Make a parameter's state, or refuse the parameter."""

    @abstractmethod
    def _step_group(self, work: Work, finite: Tensor | None) -> None:
        """Update parameters that have gradients; where `finite` is given, only if it is true."""

    def _prepare(self) -> None:  # noqa: B027
        """Called before the updates of a step that has any; may refuse it."""

    # -- groups ------------------------------------------------------------------------------

    def _check_group(self, group: Group) -> None:
        self._check_shared(group)
        beta, clip = group["beta"], group["clip"]
        check_range("beta", beta, 0 <= beta < 1, "in [0, 1)")
        check_range("clip", clip, clip > 0, "positive (multiples of lr)")
        decay = group["weight_decay"]
        check_range("weight_decay", decay, decay >= 0, "0 or more")
        check_choice("state", group["state"], self.storages)

    def _check_shared(self, group: Group) -> None:
        """What every multiplicative rule has: a step size and what to do in odd cases."""
        check_range("lr", group["lr"], 0 <= group["lr"] < float("inf"), "0 or more and finite")
        check_choice("on_nonfinite", group["on_nonfinite"], ("skip", "raise", "trust"))
        if group["capturable"] and group["on_nonfinite"] == "raise":
            raise ValueError(
                "`on_nonfinite='raise'` needs capturable=False, since a capturable step never "
                "looks at values on the host; got capturable=True."
            )
        if group["differentiable"]:
            raise ValueError(
                "`differentiable` must be False: the step is not differentiable; got True."
            )

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters, make their state, and refuse what can't be trained.

        A group with ``algorithm="adamw"`` is trained by AdamW, with ``lr``, ``betas``, ``eps`` and
        ``weight_decay`` of its own.

        Raises:
            ValueError: A hyper-parameter out of range; a parameter that this rule can't train.
            TypeError: A complex parameter.
        """
        algorithm = param_group.get("algorithm", self.algorithm)
        check_choice("algorithm", algorithm, (self.algorithm, ADDITIVE))
        if algorithm == ADDITIVE:
            # Before torch fills in the defaults, which are those of the multiplicative rule.
            param_group = {**_additive.DEFAULTS, **param_group}
        index = len(self.param_groups)
        super().add_param_group(param_group)
        group = self.param_groups[index]
        try:
            if algorithm == ADDITIVE:
                own = self.defaults.keys() - {"skipped_steps", "on_nonfinite"}
                _additive.complete(group, drop=own)
            else:
                self._check_group(group)
            for position, param in enumerate(group["params"]):
                if param.is_complex():
                    raise TypeError(
                        f"{describe(group, index, position)} is complex; complex parameters are "
                        "not supported. Train its real and imaginary parts as two parameters."
                    )
                # A frozen parameter gets its state if it ever gets a gradient.
                if param.requires_grad:
                    self._ensure_state(group, index, position)
        except Exception:
            del self.param_groups[index]
            for param in group["params"]:
                self.state.pop(param, None)
            raise

    def _ensure_state(self, group: Group, index: int, position: int) -> None:
        param = group["params"][position]
        if param in self.state:
            return
        name = describe(group, index, position)
        if group["algorithm"] == ADDITIVE:
            _additive.init_state(self.state[param], param, group)
            return
        try:
            self._init_state(group, param, name)
        except Exception:
            self.state.pop(param, None)
            raise

    # -- the step ----------------------------------------------------------------------------

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient.

        If any gradient holds NaN, infinity or a magnitude above 2^63 (whose square overflows) the
        whole step is skipped and counted (group key ``skipped_steps``), or refused with
        ``on_nonfinite="raise"``: weights and state stay as they were either way. Where every group
        says ``"trust"``, gradients are not looked at beforehand, as in torch's own optimizers. With
        every lr 0 and every gradient zero nothing at all changes.

        Args:
            closure: Computes the loss again, with gradients enabled, and returns it.

        Returns:
            The closure's value, or None.

        Raises:
            RuntimeError: A sparse gradient; a non-finite gradient with ``on_nonfinite="raise"``.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Every look at a CodedTensor's attributes would be a call of its __torch_function__.
        with torch._C.DisableTorchFunctionSubclass():
            self._step()
        return loss

    def _step(self) -> None:
        every = self._parameters_with_gradients()
        grads = [grad for work in every for grad in work.grads]
        if not grads or self._only_materialises(grads):
            return
        capturable = any(work.group["capturable"] for work in every)
        trusted = all(group["on_nonfinite"] == "trust" for group in self.param_groups)
        sound = None if trusted else all_finite(grads)
        if sound is not None and not capturable:
            if not bool(sound):
                self._skip()
                return
            sound = None
        self._prepare()
        for index, work in enumerate(every):
            require_fit(work, index)
        if sound is not None:
            for group in self.param_groups:
                group["skipped_steps"] = group["skipped_steps"] + ~sound
        for work in every:
            if work.group["algorithm"] == ADDITIVE:
                _additive.step(work, sound)
            else:
                self._step_group(work, sound)

    def _parameters_with_gradients(self) -> list[Work]:
        every, strided = [], torch.strided
        for index, group in enumerate(self.param_groups):
            params: list[Tensor] = []
            grads: list[Tensor] = []
            for position, param in enumerate(group["params"]):
                grad = param.grad
                if grad is None:
                    continue
                if grad.layout is not strided:
                    raise RuntimeError(
                        f"{describe(group, index, position)} has a sparse gradient, which is "
                        "not supported. Make its layer return dense ones (sparse=False)."
                    )
                params.append(param)
                grads.append(grad)
            every.append(Work(group, params, grads, self._states_of(index, params)))
        return every

    def _states_of(self, index: int, params: list[Tensor]) -> list[dict[str, Any]]:
        """States of parameters of a group; those that it lacks are made."""
        # One look each: a tensor's hash is a function in Python.
        found: list[Any] = [self.state.get(param) for param in params]
        if None not in found:
            return found
        group = self.param_groups[index]
        for position, param in enumerate(group["params"]):
            if param.grad is not None:
                self._ensure_state(group, index, position)
        return [self.state[param] for param in params]

    def _only_materialises(self, grads: list[Tensor]) -> bool:
        """Distributed checkpointing makes state exist by a step with lr 0 and zero gradients."""
        lrs = [group["lr"] for group in self.param_groups if not group["capturable"]]
        if len(lrs) < len(self.param_groups) or any(float(lr) != 0 for lr in lrs):
            return False
        return not any(bool(grad.any()) for grad in grads)

    def _skip(self) -> None:
        if any(group["on_nonfinite"] == "raise" for group in self.param_groups):
            raise RuntimeError(
                "A gradient holds NaN, infinity or a magnitude above 2^63; weights and state are "
                "unchanged. Lower the lr, scale the loss, or let on_nonfinite='skip' leave such "
                "steps out."
            )
        for group in self.param_groups:
            group["skipped_steps"] += 1
        if self.skipped_steps == 1:
            warnings.warn(
                "A gradient holds NaN, infinity or a magnitude above 2^63: this step was skipped, "
                "weights and state are unchanged. Further ones are counted in `skipped_steps` "
                "without a warning.",
                stacklevel=6,
            )

    @property
    def skipped_steps(self) -> int:
        """Steps left out because a gradient was not finite."""
        return max((int(group["skipped_steps"]) for group in self.param_groups), default=0)
