"""LMD on a GPU: the operations of `lmd_lists`, one launch for all tensors of a kind.

Nothing is waited for. Relative directions take a pass more, for their root mean square.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rung.kernels import lmd
from rung.kernels.gpu import lists
from rung.kernels.gpu import lmd_steps as steps
from rung.kernels.gpu.jit import EXACT, on
from rung.kernels.gpu.lmd_values import LOG2_MIDDLE
from rung.kernels.lmd_lists import Tensors
from rung.kernels.normal import check_range

_NONE: Tensors = ()
_PER_LN_2 = 1 / math.log(2)
_LARGEST = torch.finfo(torch.float32).max
# Sums of chunks that a program adds at a time.
_BLOCK = 1024
_POWERS = {"exponential": 0.5, "gaussian": 1.0}


def sample(
    weights: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor,
) -> None:  # fmt: skip
    """`lmd_lists.sample_reference`."""
    every = (weights, _NONE, _NONE, _NONE, m_pos, m_neg, _NONE, _NONE)
    launch = _Launch(every, starts, sample, keys, _numbers(numbers, sample))
    for table, _, kind in launch.kinds(_noisy(numbers)):
        _run(steps.draw, table, launch.numbers, launch.keys, *kind)


def point(weights: Tensors, m_pos: Tensors, m_neg: Tensors, numbers: Tensor, evaluate: str) -> None:
    """`lmd_lists.point_reference`."""
    every = (weights, _NONE, _NONE, _NONE, m_pos, m_neg, _NONE, _NONE)
    starts = [0] * len(weights)
    launch = _Launch(every, starts, 0, None, _numbers(numbers, 0, evaluate=evaluate))
    for table, _, (narrow, _, _, even) in launch.kinds(False):
        _run(steps.put_point, table, launch.numbers, narrow, even)


def accumulate(
    h_pos: Tensors, h_neg: Tensors, grads: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor,
    starts: Sequence[int], sample: int, numbers: Tensor, samples: int,
) -> None:  # fmt: skip
    """`lmd_lists.accumulate_reference`."""
    every = (_NONE, grads, h_pos, h_neg, m_pos, m_neg, _NONE, _NONE)
    columns = _numbers(numbers, sample, samples=samples)
    launch = _Launch(every, starts, sample, keys, columns)
    for table, _, kind in launch.kinds(_noisy(numbers)):
        _run(steps.add_gradients, table, launch.numbers, launch.keys, *kind)


def update(
    weights: Tensors, grads: Tensors, h_pos: Tensors, h_neg: Tensors, m_pos: Tensors,
    m_neg: Tensors, v_pos: Tensors, v_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor, prior: str, entropy: bool, update: str, evaluate: str,
) -> None:  # fmt: skip
    """`lmd_lists.update_reference`."""
    # Of these only the words are looked at, before anything is written.
    words = lmd.Settings(0.0, 0.0, 0.0, 0.0, prior, 0.0, 1.0, entropy, update, 0.0)
    lmd.regularizer_numbers(words)
    by_rms, given = lmd.by_rms(words), bool(h_pos)
    grads = _NONE if given else grads
    every = (weights, grads, h_pos, h_neg, m_pos, m_neg, v_pos, v_neg)
    columns = _numbers(numbers, sample, prior, entropy, evaluate)
    launch = _Launch(every, starts, sample, keys, columns)
    count = len(weights) if by_rms else 0
    inverse = torch.empty(count, dtype=torch.float64, device=launch.device)
    for table, rows, (narrow, *flags) in launch.kinds(not given and _noisy(numbers)):
        own = (narrow, given, *flags)
        if by_rms:
            sums = torch.empty(table.chunks, dtype=torch.float64, device=launch.device)
            _run(steps.squares, table, launch.numbers, launch.keys, sums, *own)
            steps.invert[(rows,)](table.places, sums, inverse, lists.CHUNK, _BLOCK, **EXACT)
        kind = (lmd.PRIORS.index(prior), by_rms, *own)
        _run(steps.move, table, launch.numbers, launch.keys, inverse, *kind)


def _run(kernel: Any, table: lists.Table, *arguments: Any) -> None:
    kernel[(table.chunks,)](table.places, table.owners, *arguments, lists.CHUNK, **EXACT)


def _noisy(numbers: Tensor) -> bool:
    """Whether to draw; a device's sigmas are not waited for: at 0 noise changes nothing."""
    return numbers.device.type != "cpu" or bool((numbers[:, 3] > 0).any())


class _Launch:
    """Lists of tensors, checked, and what the kernels take along.

    Args:
        every: Weights, gradients, h+-, m+-, v+-; a list that the kernel doesn't use is empty.
        starts: Index of each tensor's first element.
        sample: The draw inside the step.
        keys: As in `lmd_lists`; None draws nothing.
        columns: Of `_numbers`.

    Raises:
        ValueError: for tensors of one weight with different lengths, and elements or samples that
            the random streams have no room for.
    """

    def __init__(
        self, every: tuple[Tensors, ...], starts: Sequence[int], sample: int, keys: Tensor | None,
        columns: list[Tensor],
    ) -> None:  # fmt: skip
        filled = [tensors for tensors in every if tensors]
        self.lists, self.starts = every, starts
        self.sizes = [t.numel() for t in filled[0]] if filled else []
        for tensors in filled:
            _check_sizes(tensors, self.sizes)
        for start, size in zip(starts, self.sizes, strict=True):
            check_range(start, size, sample)
        self.device = filled[0][0].device if filled else torch.device("cpu")
        self.numbers = lists.columns(len(self.sizes), self.device, *columns)
        self.keys = self.numbers
        if keys is not None:
            self.keys = lists.send(keys.detach(), self.device).contiguous()

    def kinds(self, noisy: bool) -> Any:
        """(table, rows, (states are bfloat16, noisy, words are aligned, even)) of tensors alike."""
        if not self.sizes:
            return
        members, rows = list(zip(*(part for part in self.lists if part), strict=True)), []
        addresses = [[t.data_ptr() for t in part] or [0] * len(members) for part in self.lists]
        for place, own in enumerate(zip(*addresses, strict=True)):
            rows.append((*own, self.starts[place], place))
        narrow = self.lists[4][0].dtype == torch.bfloat16
        kinds = [
            (narrow, noisy, start % 4 == 0, lists.even(*own))
            for own, start in zip(members, self.starts, strict=True)
        ]
        with on(self.device):
            for kind, alike in lists.by(kinds).items():
                counts = [self.sizes[place] for place in alike]
                table = lists.table_of(counts, [rows[place] for place in alike], self.device)
                if table.chunks:
                    yield table, len(alike), kind


def _check_sizes(tensors: Tensors, sizes: Sequence[int]) -> None:
    """The kernels trust the lengths: a shorter tensor would be written past its end."""
    for place, (tensor, size) in enumerate(zip(tensors, sizes, strict=True)):
        if tensor.numel() != size:
            raise ValueError(
                f"all tensors of a weight must be of one length; got {tensor.numel()} and {size} "
                f"at place {place} of the lists. Give each its own state."
            )


def _numbers(
    numbers: Tensor, sample: int, prior: str = "constant", entropy: bool = False,
    evaluate: str = "median", samples: int = 1,
) -> list[Tensor]:  # fmt: skip
    """The columns that `lmd_steps` names, float64, where the numbers are; each (tensors,) or ()."""
    lmd.point_factor(0.0, evaluate)  # refuses an unknown word
    lr, beta1, beta2, sigma, decay, m0, clip = numbers.double().unbind(1)
    square, rate = sigma * sigma, -lr * _PER_LN_2
    factor = torch.exp((_POWERS.get(prior, 0.0) * square).clamp(max=700.0)) / m0
    factor = factor.clamp(lmd.SMALLEST, lmd.LARGEST)
    shift = torch.log2(factor)
    octaves = torch.floor(shift)
    # R of the lognormal prior comes over ln 2.
    scale = 1.0 if prior == "lognormal" else _PER_LN_2

    def one(value: float) -> Tensor:
        return torch.full((), value, dtype=torch.float64, device=numbers.device)

    return [
        rate, beta1, 1 - beta1, beta2, 1 - beta2, sigma * _PER_LN_2, factor,
        one(1.0 if entropy else 0.0), -lr * decay * scale,
        torch.exp(square / 2) if evaluate == "mean" else one(1.0), octaves - 127,
        LOG2_MIDDLE + (shift - octaves), clip.clamp(max=_LARGEST), one(1 / samples),
        one(sample % 65536), one(sample // 65536),
    ]  # fmt: skip
