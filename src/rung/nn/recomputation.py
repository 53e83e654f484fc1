"""Functions that activation checkpointing computes again in the backward pass.

A module that is computed again intercepts its products again. A method or a closure would not:
interception is over by then. So what a checkpoint calls is told to resume it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

Pack = Callable[[Any], Any]


class Checkpoints:
    """The checkpoints that begin inside a block of intercepted code.

    Args:
        resume: Makes the context of that block anew. It must not hold on to this object: a frame
            of a checkpoint would hold on to itself.
    """

    def __init__(self, resume: Callable[[], AbstractContextManager[None]]) -> None:
        self._resume = resume
        self._around = self._seen = _innermost()

    def follow(self) -> None:
        """Have every checkpoint around a product, inside of the block, resume the block."""
        innermost = _innermost()
        if innermost is self._seen:
            return
        self._seen = innermost
        for pack in _inside_of(self._around):
            frame = _frame_of(pack)
            if frame is not None and not hasattr(frame, "rung_resumes"):
                frame.rung_resumes = True
                frame.recompute_fn = _resuming(frame.recompute_fn, self._resume)


def _resuming(
    function: Callable[..., Any], resume: Callable[[], AbstractContextManager[None]]
) -> Callable[..., Any]:
    def resumed(*args: Any) -> Any:
        with resume():
            return function(*args)

    return resumed


def _innermost() -> Pack | None:
    if torch.compiler.is_compiling():  # a compiler traces through checkpoints
        return None
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
    return None if hooks is None else hooks[0]


def _inside_of(around: Pack | None) -> list[Pack]:
    """Hooks of saved tensors from the innermost out, up to a known one; only by taking them off."""
    autograd = torch._C._autograd
    taken = []
    while (hooks := autograd._top_saved_tensors_default_hooks(False)) is not None:
        if hooks[0] is around:
            break
        autograd._pop_saved_tensors_default_hooks()
        taken.append(hooks)
    for pack, unpack in reversed(taken):
        autograd._push_saved_tensors_default_hooks(pack, unpack)
    return [pack for pack, _ in taken]


def _frame_of(pack: Any) -> Any:
    """What torch keeps of a checkpoint, from the hook that it set; None for any other hook."""
    if not getattr(pack, "__qualname__", "").startswith("_checkpoint_hook."):
        return None
    cells = pack.__closure__ or ()
    inside = dict(zip(pack.__code__.co_freevars, (c.cell_contents for c in cells), strict=True))
    if not hasattr(inside.get("frame"), "recompute_fn"):
        raise RuntimeError(
            "Products of a checkpointed function must be quantized again in the backward pass; got "
            f"a checkpoint of torch {torch.__version__} that can't be followed. Put the function "
            "into the forward of a module of its own, and checkpoint that module."
        )
    return inside["frame"]
