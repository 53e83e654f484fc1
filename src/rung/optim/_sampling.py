"""Optimizers that take gradients at samples of the weights: draws, ranks, the step."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from rung.optim._blocks import BlockOptimizer, Draw, mark_of
from rung.optim._checks import Group, check_range
from rung.optim._ranks import average_over_ranks, on_any_rank, several
from rung.optim._work import all_finite


class SamplingOptimizer(BlockOptimizer):
    """Interface of optimizers whose gradients are those of samples; use a leaf class.

    A leaf gives, beside what `BlockOptimizer` asks, `_accumulate` and `_clear`; its groups have the
    keys ``samples`` (draws per step; the most of any group counts for all), ``sigma`` (0: nothing
    to draw) and ``noise`` (``"same"`` or ``"per_rank"``, which counts for all groups once one has
    it).
    """

    # Transient, and so no part of a checkpoint or copy: draws since the last step, and whether the
    # gradient of one was not finite.
    _taken = 0
    _spoiled = False
    # Made anew for each step: parameters that it has put to their new point (a leaf adds them),
    # that a draw gave a gradient, mean gradients of the additive side.
    _written: set[Tensor]
    _drawn: set[Tensor]
    _additive_grads: dict[Tensor, Tensor]

    # -- for leaves --------------------------------------------------------------------------

    @abstractmethod
    def _accumulate(self, group: Group, param: Tensor, draw: Draw) -> None:
        """Keep what the step needs of a draw's gradient."""

    @abstractmethod
    def _kept(self, param: Tensor) -> tuple[Tensor, ...]:
        """What `_accumulate` kept of a parameter, to be changed in place; zeros if nothing."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget what `_accumulate` kept."""

    # -- draws -------------------------------------------------------------------------------

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Parameters hold a draw from the posterior; afterwards, come what may, their point again.

        Run forward and backward pass inside and `step` after it: one block for each of `samples`.
        From the second block of a step on, gradients start from None. Clip gradients inside: with
        several samples, or noise of its own on every rank, the end of the block uses them. For the
        same reason neither goes with a gradient scaler (bfloat16 needs none).

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
            self._complete_state()
            self._require_own_points()
        with self._block("a sample") as block:
            self._each(lambda group, params: self._draw(group, params, draw))
            yield
            self._collect(draw)
            self._taken += 1
            block.restores = restore

    def _draw(self, group: Group, params: list[Tensor], draw: Draw) -> None:
        # Without a step of its own, a frozen weight would get the same draw every time.
        params = [param for param in params if param.requires_grad]
        if params:
            self._write_sample(group, params, draw)

    def _start_over(self) -> None:
        """After a step that a gradient scaler left out; otherwise a block too many.

        Raises:
            RuntimeError: The last draws' gradients are finite and wait for their step.
        """
        grads = [
            p.grad for group in self.param_groups for p in group["params"] if p.grad is not None
        ]
        if grads and not self._spoiled and bool(all_finite(grads)):
            raise RuntimeError(
                f"A step takes samples={self._samples} draws, and so many were taken since the "
                "last; got another. Call step() first, or make the optimizer with more samples."
            )
        self._forget()

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
                    self._drawn.add(param)
                    continue
                # Of the additive side, the mean gradient.
                share = param.grad / self._samples
                before = self._additive_grads.get(param)
                self._additive_grads[param] = share if before is None else before.add_(share)

    def _hand_over(self) -> None:
        """Before the update: agree with the other ranks, and give AdamW its mean gradients."""
        if self._ranks_differ and not self._taken and not self._noisy:
            self._collect(Draw(0))
        if self._ranks_differ and several():
            device = next((param.device for _, param in self._weights()), torch.device("cpu"))
            self._spoiled = bool(on_any_rank([self._spoiled], device)[0])
            if not self._spoiled:
                self._average(device)
        for param, grad in self._additive_grads.items():
            param.grad = grad
        for param in self._drawn:
            if param.grad is None:  # in the last draw, or on this rank, only: the others count
                param.grad = torch.zeros_like(param)

    def _average(self, device: torch.device) -> None:
        """Means over the ranks of all that any has a gradient for, in the same order everywhere."""
        own = {param for _, param in self._weights()}
        params = [param for group in self.param_groups for param in group["params"]]
        present = [param in self._drawn or param in self._additive_grads for param in params]
        for param, wanted in zip(params, on_any_rank(present, device), strict=True):
            if not wanted:
                continue
            if param in own:
                self._drawn.add(param)
                average_over_ranks(self._kept(param))
            else:
                grad = self._additive_grads.setdefault(param, torch.zeros_like(param))
                average_over_ranks((grad,))

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

    # Draws, blocks and marks are the host's, and there is no pass to fuse: not to be traced.
    @torch._disable_dynamo  # type: ignore[attr-defined]
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
            self._require_own_points()
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
            if losses:  # parameters without a gradient; all of them where the step was skipped
                self._restore(p for _, p in self._weights() if p not in self._written)
            self._forget()
        if not losses or any(loss is None for loss in losses):
            return None
        return losses[0] if len(losses) == 1 else sum(losses[1:], losses[0]) / len(losses)

    def _mark_written(self, param: Tensor) -> None:
        """A leaf's update has put a parameter to its new point."""
        self._written.add(param)
        self.__dict__.setdefault("_marks", {})[param] = mark_of(param)

    def _forget(self) -> None:
        self._taken, self._spoiled = 0, False
        self._written, self._drawn, self._additive_grads = set(), set(), {}
        self._clear()

    def _prepare(self) -> None:
        """Refuse a step whose gradients were taken at no sample, or at too few; a lr of NaN."""
        for group in self._own_groups:
            lr = group["lr"]
            check_range("lr", lr, 0 <= lr < float("inf"), "0 or more and finite")
        wanted = self._samples if self._noisy or self._taken else 0
        if self._taken < wanted:
            raise RuntimeError(
                f"A step with sigma > 0 needs gradients at samples={self._samples} draws of the "
                f"weights; got them at {self._taken}. Give step() a closure, or run the backward "
                "pass inside `with optimizer.sampled():`."
            )
