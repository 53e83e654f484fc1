"""`coded_madam` on the CPU."""

import numpy as np
import torch
from torch import Tensor

from rung.kernels.coded_madam import LADDER, SINH, last_code
from rung.kernels.cpu import coded_madam_loops as loops
from rung.kernels.cpu import lists, moments
from rung.kernels.momentum import normals
from rung.kernels.rung_moves import moves


def step(
    codes: list[Tensor],
    stored: list[Tensor],
    scales: list[Tensor],
    momenta: list[Tensor],
    grads: list[Tensor],
    signs: list[Tensor],
    keys: list[Tensor],
    steps: Tensor,
    numbers: Tensor,
    rungs: Tensor,
    bits: list[int],
    system: int,
    stochastic: bool,
    maximize: bool,
) -> None:
    """`coded_madam.reference`: the same codes and moments."""
    beta, clip, _, momentum = numbers.tolist()
    grads = lists.dense(grads)
    inverses, old, new = moments.rescale(stored, scales, grads, numbers)
    factor, reach, decay = moves(steps, numbers, rungs, bool(momenta))
    places = np.zeros((len(codes), 9), np.int64)
    addressed = [(loops.CODES, codes), (loops.GRAD, grads), (loops.MOMENT, stored)]
    if momenta:
        addressed.append((loops.MOMENTUM, momenta))
    for column, tensors in (*addressed, (loops.SIGNS, signs)):
        places[:, column] = lists.addresses(tensors)
    places[:, loops.KEY], places[:, loops.COUNT] = lists.integers(keys), lists.sizes(codes)
    places[:, loops.STEP] = steps.numpy()
    places[:, loops.LAST] = [last_code(b, system) for b in bits]
    floats = np.empty((len(codes), 11), np.float32)
    floats[:, loops.BETA], floats[:, loops.REST] = beta, 1 - beta
    floats[:, loops.SCALE], floats[:, loops.INVERSE] = old, inverses
    floats[:, loops.FACTOR] = -factor.numpy() if maximize else factor.numpy()
    floats[:, loops.REACH], floats[:, loops.DECAY] = reach.numpy(), decay.numpy()
    floats[:, loops.NORMAL], floats[:, loops.CLIP] = normals(steps, numbers)[0].numpy(), clip
    floats[:, loops.CARRY], floats[:, loops.CARRY_REST] = momentum, 1 - momentum
    if system == SINH:  # of one rung
        floats[:, loops.DECAY] /= (places[:, loops.LAST] // 2).astype(np.float32)
    carried = lists.dtypes(momenta) if momenta else [None] * len(codes)
    kinds = list(zip(*map(lists.dtypes, (codes, grads, stored)), carried, strict=True))
    for kind, members in lists.by(kinds).items():
        noisy = stochastic or not {*kind[2:]} <= {torch.float32, None}
        asked = (system != LADDER, system == SINH, stochastic, noisy)
        modes = tuple(1 if mode else None for mode in asked)
        part = (places[members], floats[members], loops.COUNT)
        moments.run(loops.step, *part, kind, modes, loops.SCRATCH)
    if scales:
        torch._foreach_copy_(scales, new)
