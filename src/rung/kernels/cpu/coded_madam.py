"""`coded_madam` on the CPU."""

import numpy as np
import torch
from torch import Tensor

from rung.kernels.coded_madam import moves
from rung.kernels.cpu import coded_madam_loops as loops
from rung.kernels.cpu import lists, moments


def step(
    codes: list[Tensor],
    stored: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    signs: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    rungs: Tensor,
    bits: list[int],
    in_codes: bool,
    stochastic: bool,
    maximize: bool,
) -> None:
    """`coded_madam.reference`: the same codes and moments."""
    beta = numbers.tolist()[0]
    grads = lists.dense(grads)
    inverses, old, new = moments.rescale(stored, scales, grads, numbers)
    factor, reach, decay = moves(steps, numbers, rungs)
    places = np.empty((len(codes), 8), np.int64)
    addressed = ((loops.CODES, codes), (loops.GRAD, grads), (loops.MOMENT, stored))
    for column, tensors in (*addressed, (loops.SIGNS, signs)):
        places[:, column] = lists.addresses(tensors)
    places[:, loops.KEY], places[:, loops.COUNT] = lists.integers(keys), lists.sizes(codes)
    places[:, loops.STEP] = steps.numpy()
    places[:, loops.LAST] = (1 << (np.array(bits, np.int64) - (1 if in_codes else 0))) - 1
    floats = np.empty((len(codes), 7), np.float32)
    floats[:, loops.BETA], floats[:, loops.REST] = beta, 1 - beta
    floats[:, loops.SCALE], floats[:, loops.INVERSE] = old, inverses
    floats[:, loops.FACTOR] = -factor.numpy() if maximize else factor.numpy()
    floats[:, loops.REACH], floats[:, loops.DECAY] = reach.numpy(), decay.numpy()
    kinds = list(zip(*map(lists.dtypes, (codes, grads, stored)), strict=True))
    for kind, members in lists.by(kinds).items():
        noisy = stochastic or kind[2] != torch.float32
        modes = tuple(1 if mode else None for mode in (in_codes, stochastic, noisy))
        part = (places[members], floats[members], loops.COUNT)
        moments.run(loops.step, *part, kind, modes, loops.SCRATCH)
    for scale, value in zip(scales, new, strict=True):
        scale.copy_(value)
