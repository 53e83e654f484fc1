"""Optimizers whose weights are distributions: samples in place for a while, then restored."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rung.optim._base import (
    ADDITIVE,
    Group,
    MultiplicativeOptimizer,
    all_finite,
    check_choice,
    check_range,
)
from rung.optim._ranks import any_rank, average_over_ranks

POINTS = ("mean", "median")


class Draw(NamedTuple):
    """Which noise: a sample of a step's gradient, or one of the posterior predictive.

    Attributes:
        sample: Number of the draw, >= 0.
        predictive: Whether it is for prediction; such draws are apart from training's.
    """

    sample: int
    predictive: bool = False


class SamplingOptimizer(MultiplicativeOptimizer):
    """Interface of optimizers that take gradients at samples of the weights; use a leaf class.

    A leaf gives `_write_sample`, `_write_point`, `_accumulate` and `_clear`; its groups have the
    keys ``samples`` (draws per step; the most of any group counts for all), ``sigma`` (0: nothing
    to draw), ``evaluate`` (a point) and ``noise`` (``"same"`` or ``"per_rank"``, which counts for
    all groups once one has it).
    """

    # Transient, and so no part of a checkpoint or copy: draws since the last step, the open block,
    # whether a draw's gradient was not finite.
    _taken = 0
    _inside: str | None = None
    _spoiled = False
    # Made anew for each step: parameters that it has put to their new point (a leaf adds them),
    # mean gradients of the additive side.
    _written: set[Tensor]
    _additive_grads: dict[Tensor, Tensor]

    # -- for leaves --------------------------------------------------------------------------

    @abstractmethod
    def _write_sample(self, group: Group, param: Tensor, draw: Draw) -> None:
        """Put a draw into a parameter."""

    @abstractmethod
    def _write_point(self, group: Group, param: Tensor, point: str) -> None:
        """Put the mean or the median into a parameter."""

    @abstractmethod
    def _accumulate(self, group: Group, param: Tensor, draw: Draw) -> None:
        """Keep what the step needs of a draw's gradient."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget what `_accumulate` kept."""

    # -- groups ------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """As in the base class; then parameters hold their point, a rounding error from before."""
        super().add_param_group(param_group)
        new = {id(param) for param in self.param_groups[-1]["params"]}
        with torch.no_grad():
            for group, param in self._weights():
                if id(param) in new:
                    self._write_point(group, param, group["evaluate"])

    # -- blocks ------------------------------------------------------------------------------

    @property
    def sampling(self) -> bool:
        """Whether a block of `sampled` or `evaluated` is open."""
        return self._inside is not None

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Parameters hold a draw from the posterior; afterwards, come what may, their point again.

        Run forward and backward pass inside and `step` after it: one block for each of `samples`.
        From the second block of a step on, gradients start from None.

        Raises:
            RuntimeError: Inside another block; more blocks than `samples` before a step.
        """
        self._require_outside("sampled()")
        with self._sampled(restore=True):
            yield

    @contextmanager
    def _sampled(self, restore: bool) -> Iterator[None]:
        if self._taken >= self._samples:
            self._start_over()
        draw = Draw(self._taken)
        if draw.sample:
            self.zero_grad()
        else:
            self._forget()
        with self._block("a sample") as block:
            self._each(lambda group, param: self._write_sample(group, param, draw))
            yield
            self._collect(draw)
            self._taken += 1
            block.restores = restore

    def _start_over(self) -> None:
        """After a step that a gradient scaler left out; otherwise a block too many.

        Raises:
            RuntimeError: The last draws' gradients are finite and wait for their step.
        """
        grads = [
            p.grad for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        if not self._spoiled and bool(all_finite(grads)):
            raise RuntimeError(
                f"A step takes samples={self._samples} draws, and so many were taken since the "
                "last; got another. Call step() first, or make the optimizer with more samples."
            )
        self._forget()

    @contextmanager
    def evaluated(self, point: str = "mean", draw: int = 0) -> Iterator[None]:
        """Parameters hold another point of the posterior; afterwards their own again.

        Args:
            point: ``"mean"``, ``"median"`` or ``"sample"``.
            draw: Which sample, >= 0; the same number is the same draw until the next step.

        Raises:
            RuntimeError: Inside another block: a sample is in place.
            ValueError: Unknown point; a negative draw.
        """
        self._require_outside("evaluated()")
        check_choice("point", point, (*POINTS, "sample"))
        check_range("draw", draw, draw >= 0, "0 or more")
        with self._block(f"the {point}"):
            if point == "sample":
                which = Draw(draw, predictive=True)
                self._each(lambda group, param: self._write_sample(group, param, which))
            else:
                self._each(lambda group, param: self._write_point(group, param, point))
            yield

    @contextmanager
    def _block(self, content: str) -> Iterator[SimpleNamespace]:
        self._inside = content
        block = SimpleNamespace(restores=True)
        try:
            yield block
        finally:
            self._inside = None
            if block.restores:
                self._each(lambda group, param: self._write_point(group, param, group["evaluate"]))

    def _require_outside(self, call: str) -> None:
        if self._inside is not None:
            raise RuntimeError(
                f"{call} needs the parameters at their own point; {self._inside} is still in "
                "place. Leave the block of `sampled` or `evaluated` first."
            )

    def _collect(self, draw: Draw) -> None:
        """Keep what a step over several draws or ranks can't make again from the gradient."""
        if self._samples == 1 and not self._ranks_differ:
            return
        params = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        self._spoiled |= not bool(all_finite([param.grad for param in params]))
        own = {param: group for group, param in self._weights()}
        with torch.no_grad():
            for param in params:
                if param in own:
                    self._accumulate(own[param], param, draw)
                    continue
                # Of the additive side, the mean gradient.
                share = param.grad / self._samples
                before = self._additive_grads.get(param)
                self._additive_grads[param] = share if before is None else before.add_(share)

    def _hand_over(self) -> None:
        """Before the update: agree with the other ranks, and give AdamW its mean gradients."""
        if self._ranks_differ and not self._taken and not self._noisy:
            self._collect(Draw(0))
        if self._ranks_differ:
            device = next((param.device for _, param in self._weights()), torch.device("cpu"))
            self._spoiled = any_rank(self._spoiled, device)
            if not self._spoiled:
                average_over_ranks(tuple(self._additive_grads.values()))
        for param, grad in self._additive_grads.items():
            param.grad = grad

    def _each(self, write: Callable[[Group, Tensor], None]) -> None:
        with torch.no_grad():
            for group, param in self._weights():
                write(group, param)

    def _weights(self) -> Iterator[tuple[Group, Tensor]]:
        for group in self._own_groups:
            for param in group["params"]:
                if param in self.state and param.numel():
                    yield group, param

    @property
    def _own_groups(self) -> list[Group]:
        return [group for group in self.param_groups if group["algorithm"] != ADDITIVE]

    @property
    def _samples(self) -> int:
        return max((group["samples"] for group in self._own_groups), default=1)

    @property
    def _noisy(self) -> bool:
        return any(group["sigma"] > 0 for group in self._own_groups)

    @property
    def _ranks_differ(self) -> bool:
        return any(group["noise"] == "per_rank" for group in self._own_groups)

    # -- the step ----------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient.

        Args:
            closure: Clears the gradients, computes the loss, runs its backward pass and returns
                it; called once per sample, with the parameters at that sample. None: gradients
                come from blocks of `sampled`.

        Returns:
            The closure's value, the mean over samples; or None.

        Raises:
            RuntimeError: Without a closure or a `sampled` block, while sigma > 0: gradients at the
                posterior's mean belong to another rule; inside a block; a sparse gradient; a
                non-finite gradient with ``on_nonfinite="raise"``.
        """
        self._require_outside("step()")
        losses = []
        if closure is not None or not self._taken:
            self._forget()
        try:
            if closure is not None:
                for _ in range(self._samples):
                    # The update writes the point: restoring it before would be for nothing.
                    with self._sampled(restore=False), torch.enable_grad():
                        losses.append(closure())
            self._hand_over()
            if self._spoiled:
                self._skip()
            else:
                super().step()
        finally:
            if losses:
                self._each(self._restore_unless_written)
            self._forget()
        if not losses:
            return None
        return losses[0] if len(losses) == 1 else sum(losses[1:], losses[0]) / len(losses)

    def _restore_unless_written(self, group: Group, param: Tensor) -> None:
        """Parameters without a gradient, and all of them where the step was skipped."""
        if param not in self._written:
            self._write_point(group, param, group["evaluate"])

    def _forget(self) -> None:
        self._taken, self._spoiled, self._written = 0, False, set()
        self._additive_grads = {}
        self._clear()

    def _prepare(self) -> None:
        """Refuse a step whose gradients were taken at no sample, or at too few."""
        wanted = self._samples if self._noisy or self._taken else 0
        if self._taken < wanted:
            raise RuntimeError(
                f"A step with sigma > 0 needs gradients at samples={self._samples} draws of the "
                f"weights; got them at {self._taken}. Give step() a closure, or run the backward "
                "pass inside `with optimizer.sampled():`."
            )
