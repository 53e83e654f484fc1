"""Optimizers whose weights are distributions: blocks in which parameters hold something else."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from rung.optim._base import MultiplicativeOptimizer
from rung.optim._checks import ADDITIVE, Group, check_choice, check_range

POINTS = ("mean", "median")


class Draw(NamedTuple):
    """Which noise: a sample of a step's gradient, or one of the posterior predictive.

    Attributes:
        sample: Number of the draw, >= 0.
        predictive: Whether it is for prediction; such draws are apart from training's.
    """

    sample: int
    predictive: bool = False


class BlockOptimizer(MultiplicativeOptimizer):
    """Interface of optimizers whose parameters hold one point of a posterior; use a leaf class.

    A leaf gives `_write_sample` and `_write_point`; its groups have the key ``evaluate``, the point
    that parameters hold outside of blocks.
    """

    # Transient, and so no part of a checkpoint or copy: the open block, and what tells that nobody
    # has written to a parameter since it last got its point.
    _inside: str | None = None
    _marks: dict[Tensor, tuple[int, int]]

    # -- for leaves --------------------------------------------------------------------------

    @abstractmethod
    def _write_sample(self, group: Group, params: list[Tensor], draw: Draw) -> None:
        """Put a draw into a group's parameters."""

    @abstractmethod
    def _write_point(self, group: Group, params: list[Tensor], point: str) -> None:
        """Put the mean or the median into a group's parameters."""

    # -- groups ------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """As in the base class; then parameters hold their point, a rounding error from before."""
        super().add_param_group(param_group)
        new = set(self.param_groups[-1]["params"])
        self._restore(param for _, param in self._weights() if param in new)

    def _complete_state(self) -> None:
        """Make the state of parameters that were frozen and are no longer."""
        for index, group in enumerate(self.param_groups):
            for position, param in enumerate(group["params"]):
                own = group["algorithm"] != ADDITIVE
                if own and param.requires_grad and param not in self.state:
                    self._ensure_state(group, index, position)
                    self._restore([param])

    def _weights(self) -> Iterator[tuple[Group, Tensor]]:
        for group in self._own_groups:
            for param in group["params"]:
                if param in self.state and param.numel():
                    yield group, param

    @property
    def _own_groups(self) -> list[Group]:
        return [group for group in self.param_groups if group["algorithm"] != ADDITIVE]

    # -- blocks ------------------------------------------------------------------------------

    @property
    def sampling(self) -> bool:
        """Whether a block of `sampled` or `evaluated` is open."""
        return self._inside is not None

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
        self._require_own_points()
        with self._block(f"the {point}"):
            if point == "sample":
                which = Draw(draw, predictive=True)
                self._each(lambda group, params: self._write_sample(group, params, which))
            else:
                self._each(lambda group, params: self._write_point(group, params, point))
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
                self._restore(param for _, param in self._weights())

    def _require_outside(self, call: str) -> None:
        if self._inside is not None:
            raise RuntimeError(
                f"{call} needs the parameters at their own point; {self._inside} is still in "
                "place. Leave the block of `sampled` or `evaluated` first."
            )

    def _require_own_points(self) -> None:
        """Refuse weights that something else has written, rather than overwrite them.

        Raises:
            RuntimeError: A parameter is not at its point.
        """
        marks = self.__dict__.setdefault("_marks", {})
        for _, param in self._weights():
            if marks.get(param) == mark_of(param):
                continue
            found = param.detach().clone()
            self._restore([param])
            change = (found.double() - param.detach().double()).abs().max()
            # Rounding differs between devices; a swap there and back (EMA) changes nothing.
            rounding = 8 * torch.finfo(param.dtype).eps * param.detach().double().abs().max()
            if not bool(change <= rounding):
                with torch.no_grad():
                    param.copy_(found)
                del marks[param]  # and so it is looked at again
                raise RuntimeError(
                    f"A parameter of shape {tuple(param.shape)} was changed from outside, and the "
                    "posterior in this optimizer's state knows nothing of it. Make the optimizer "
                    "after loading weights, or load its state too."
                )

    def _each(self, write: Callable[[Group, list[Tensor]], None]) -> None:
        """Call `write` for every group's parameters."""
        with torch.no_grad():
            for group in self._own_groups:
                params = [p for p in group["params"] if p in self.state and p.numel()]
                if params:
                    write(group, params)

    def _restore(self, params: Iterable[Tensor]) -> None:
        """Put parameters to their point."""
        chosen = set(params)
        marks = self.__dict__.setdefault("_marks", {})

        def write(group: Group, params: list[Tensor]) -> None:
            params = [param for param in params if param in chosen]
            if params:
                self._write_point(group, params, group["evaluate"])
                marks.update((param, mark_of(param)) for param in params)

        self._each(write)


def mark_of(param: Tensor) -> tuple[int, int]:
    """Torch's count of writes, and the place of the numbers: ``param.data = x`` is not counted."""
    return param._version, param.data_ptr()
