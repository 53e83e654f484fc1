"""LMD on the CPU: the operations of `lmd_lists` in one pass over a list of tensors.

A pass draws the noise again instead of storing it. Relative directions take a pass more, for their
root mean square.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rung.kernels import lmd
from rung.kernels.cpu import lists as lists_of
from rung.kernels.cpu import lmd_loops as loops
from rung.kernels.cpu import lmd_steps as steps
from rung.kernels.cpu import threads
from rung.kernels.lmd_lists import Tensors, settings_of
from rung.kernels.normal import check_range

_NONE: Tensors = ()
_GROUP = loops.GROUP
_PER_LN_2 = 1 / np.log(2)
# Weights over this size, in elements, are not left in a cache for whoever comes next anyway.
_PAST_CACHES = 2**22


def sample(
    weights: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor,
) -> None:  # fmt: skip
    """`lmd_lists.sample_reference`."""
    columns = _columns(numbers.tolist())
    lists = (weights, _NONE, _NONE, _NONE, m_pos, m_neg, _NONE, _NONE)
    _Walk(lists, keys, starts, sample, columns).run("sample")


def point(weights: Tensors, m_pos: Tensors, m_neg: Tensors, numbers: Tensor, evaluate: str) -> None:
    """`lmd_lists.point_reference`."""
    columns = _columns(numbers.tolist(), evaluate)
    lists = (weights, _NONE, _NONE, _NONE, m_pos, m_neg, _NONE, _NONE)
    _Walk(lists, None, [0] * len(weights), 0, columns).run("point")


def accumulate(
    h_pos: Tensors, h_neg: Tensors, grads: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor,
    starts: Sequence[int], sample: int, numbers: Tensor, samples: int,
) -> None:  # fmt: skip
    """`lmd_lists.accumulate_reference`."""
    columns = _columns(numbers.tolist())
    columns[:, 12] = 1 / samples
    lists = (_NONE, grads, h_pos, h_neg, m_pos, m_neg, _NONE, _NONE)
    _Walk(lists, keys, starts, sample, columns).run("accumulate")


def update(
    weights: Tensors, grads: Tensors, h_pos: Tensors, h_neg: Tensors, m_pos: Tensors,
    m_neg: Tensors, v_pos: Tensors, v_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor, prior: str, entropy: bool, update: str, evaluate: str,
) -> None:  # fmt: skip
    """`lmd_lists.update_reference`."""
    if not weights:
        return
    rows = numbers.tolist()
    settings = [settings_of(row, prior, entropy, update) for row in rows]
    by_rms = lmd.by_rms(settings[0])
    columns = _columns(rows, evaluate)
    columns[:, 6:8] = [lmd.regularizer_numbers(s) for s in settings]
    states = (m_pos, m_neg, v_pos, v_neg)
    walk = _Walk((weights, grads, h_pos, h_neg, *states), keys, starts, sample, columns)
    walk.given, walk.prior, walk.by_rms = bool(h_pos), prior, by_rms
    if prior == "lognormal":  # whose R comes over ln 2
        columns[:, 8] /= _PER_LN_2
    if by_rms:
        lists = (_NONE, grads, h_pos, h_neg, *states)
        first = _Walk(lists, keys, starts, sample, columns)
        first.given = walk.given
        columns[:, 10] = first.inverse_rms()
    walk.run("update")


def _columns(rows: Sequence[Sequence[float]], evaluate: str = "median") -> Any:
    """The loops' numbers, in the order that `lmd_loops` names."""
    columns = np.zeros((len(rows), 13))
    if not rows:
        return columns
    lr, beta1, beta2, sigma, decay, _, clip = np.array(rows, np.float64).T
    columns[:, 0] = -lr * _PER_LN_2
    columns[:, 1], columns[:, 2] = beta1, 1 - beta1
    columns[:, 3], columns[:, 4] = beta2, 1 - beta2
    columns[:, 5] = sigma * _PER_LN_2
    columns[:, 6] = 1.0
    columns[:, 8] = -lr * decay * _PER_LN_2
    columns[:, 9] = [lmd.point_factor(s, evaluate) for s in sigma.tolist()]
    columns[:, 11] = clip
    return columns


class _Walk:
    """One pass over a list of tensors.

    Args:
        lists: Weights, gradients, h+-, m+-, v+-; a list that the pass doesn't use is empty.
        keys: As in `lmd_lists`; None draws nothing.
        starts: Index of each tensor's first element.
        sample: The draw inside the step.
        columns: The loops' numbers.
    """

    given, prior, by_rms = False, "lognormal", False

    def __init__(
        self,
        lists: tuple[Tensors, ...],
        keys: Tensor | None,
        starts: Sequence[int],
        sample: int,
        columns: Any,
    ) -> None:
        filled = [tensors for tensors in lists if tensors]
        self.count = len(starts)
        self.sizes = lists_of.sizes(filled[0] if filled else ())
        for tensors in filled:
            _require_lengths(lists_of.sizes(tensors), self.sizes[: self.count])
        # Kept: addresses alone would not keep the tensors.
        self.lists, self.columns = lists, columns
        self.addresses = np.zeros((self.count, 8), np.int64)
        for column, tensors in enumerate(lists):
            if tensors:
                self.addresses[:, column] = lists_of.addresses(tensors)
        self.names = _names(keys, starts, sample, self.sizes)
        groups = -(-self.sizes // _GROUP)
        self.firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(groups)))

    def run(self, mode: str) -> Any:
        """Walk; the sums of every group's squares where that is the mode."""
        total = int(self.firsts[-1])
        rounds = bool(self.count) and self.lists[4][0].dtype == torch.bfloat16
        like = np.uint16(0) if rounds else np.float32(0)
        noisy = mode != "point" and not self.given and bool((self.columns[:, 5] > 0).any())
        flags = tuple(
            1 if flag else None
            for flag in (noisy, self.given, self.by_rms, rounds and mode == "update")
        )
        sums = np.zeros(total if mode == "squares" else 0)
        past = int(self.sizes.sum() >= _PAST_CACHES)
        kind = loops.MODES[mode]
        prior = steps.PRIORS[self.prior]

        def work(begin: int, end: int) -> None:
            room = np.empty(loops.SCRATCH + 64, np.uint8)
            address = room.ctypes.data
            address += -address % 64
            loops.walk(
                kind, self.addresses, self.sizes, self.firsts, self.names, self.columns, like,
                prior, flags, begin, end, sums, past, address,
            )  # fmt: skip

        if total:
            threads.run(work, threads.split(total, 1, threads.GRAIN // _GROUP))
        return sums

    def inverse_rms(self) -> list[float]:
        """1 / rms of c+ and c- of each tensor; 0 for an rms of 0."""
        sums = self.run("squares")
        inverse = []
        for t, size in enumerate(self.sizes.tolist()):
            rms = np.sqrt(np.sum(sums[self.firsts[t] : self.firsts[t + 1]]) / max(2 * size, 1))
            inverse.append(1 / rms if rms > 0 else 0.0)
        return inverse


def _require_lengths(sizes: Any, expected: Any) -> None:
    """The loops trust the lengths: a shorter tensor would be written past its end."""
    if sizes.shape != expected.shape:
        raise ValueError(
            f"all lists must be of one length; got {sizes.size} and {expected.size} tensors. Give "
            "each weight its own state."
        )
    if (sizes != expected).any():
        place = int((sizes != expected).argmax())
        raise ValueError(
            f"all tensors of a weight must be of one length; got {sizes[place]} and "
            f"{expected[place]} at place {place} of the lists. Give each its own state."
        )


def _names(keys: Tensor | None, starts: Sequence[int], sample: int, sizes: Any) -> Any:
    """Key, start, step, sample and the rounding's key of each tensor."""
    names = np.zeros((len(starts), 5), np.int64)
    if keys is not None and len(starts):
        names[:, [0, 2, 4]] = keys.detach().numpy()
        names[:, 1], names[:, 3] = starts, sample
        # All are in range if the smallest and the largest are.
        begins, steps = names[:, 1], names[:, 2]
        for place, step in (
            (begins.argmin(), steps.min()),
            ((begins + sizes).argmax(), steps.max()),
        ):
            check_range(int(begins[place]), int(sizes[place]), sample, int(step))
    return names.view(np.uint64)
