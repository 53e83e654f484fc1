"""`madam` on the CPU: float32 weights."""

import math

import numpy as np
import torch
from torch import Tensor

from rung.kernels.cpu import lists, moments
from rung.kernels.cpu import madam_loops as loops
from rung.kernels.madam import factors


def step(
    weights: list[Tensor],
    stored: list[Tensor],
    scales: list[Tensor],
    grads: list[Tensor],
    bounds: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    maximize: bool,
) -> None:
    """`madam.reference`, within `madam.ULPS`; moments to the last bit."""
    beta, clip, decay, lr = numbers.tolist()
    grads, flat = lists.dense(grads), lists.dense(weights)
    inverses, old, new = moments.rescale(stored, scales, grads, numbers)
    factor = -factors(steps, numbers) if maximize else factors(steps, numbers)
    places = np.empty((len(weights), 6), np.int64)
    for column, tensors in ((loops.WEIGHT, flat), (loops.GRAD, grads), (loops.MOMENT, stored)):
        places[:, column] = lists.addresses(tensors)
    places[:, loops.KEY] = lists.integers(keys) if keys else 0
    places[:, loops.COUNT], places[:, loops.STEP] = lists.sizes(flat), steps.numpy()
    floats = np.empty((len(weights), 9), np.float32)
    floats[:] = (beta, 1 - beta, 1, 1, 0, clip, decay, -lr / math.log(2), math.inf)
    floats[:, loops.SCALE], floats[:, loops.INVERSE] = old, inverses
    floats[:, loops.FACTOR] = factor.numpy()
    if lr != 0:  # such a step must not even clamp
        floats[:, loops.BOUND] = torch.stack(bounds).numpy()
    kinds = list(zip(*map(lists.dtypes, (grads, stored)), strict=True))
    for kind, members in lists.by(kinds).items():
        noisy = 1 if kind[1] != torch.float32 else None
        part = (places[members], floats[members], loops.COUNT)
        moments.run(loops.step, *part, kind, (noisy,), loops.SCRATCH)
    if scales:
        torch._foreach_copy_(scales, new)
    for given, moved in zip(weights, flat, strict=True):
        if moved is not given and moved.data_ptr() != given.data_ptr():
            given.copy_(moved)
