"""States, numbers and names for LMD's kernels, and how near they are to the definition."""

import torch
from kernels.gpu.samples import DEVICE
from kernels.moments import randn

from rung.kernels.lmd_lists import RELATIVE
from rung.kernels.philox import key_from_seed

# One shorter than a vector, whole vectors, a chunk and more, nothing.
SHAPES = [(15,), (16,), (0,), (), (30, 20), (1040,), (2051,)]
STARTS = [0, 5, 3, 2, 1024, 4, 2**32 + 7]
NAMES = ("weight", "m+", "m-", "v+", "v-")
WORDS = ("lognormal", False, "sign", "mean")
RULE = {"lr": 0.03, "beta1": 0.5, "beta2": 0.8, "sigma": 0.1, "reg": 0.1, "m0": 0.02, "clip": 3.0}


def states_of(shapes, dtype=torch.float32):
    """Lists of weights (0), gradients, m+, m-, v+, v-."""
    every = []
    for i, shape in enumerate(shapes):
        g, p, n, v, u = (randn(*shape, seed=10 * i + j) for j in range(5))
        vectors = [t.to(dtype) for t in (0.02 * p.exp(), 0.02 * n.exp(), 1e-4 * v, 1e-4 * u)]
        every.append([torch.zeros(shape), 1e-2 * g, *vectors])
    return [[t.to(DEVICE) for t in tensors] for tensors in zip(*every, strict=True)]


def names_of(count, starts=None, sample=2):
    """Keys, starts and the sample."""
    keys = [[key_from_seed(i, "w"), 7 + i, key_from_seed(i, "r")] for i in range(count)]
    return torch.tensor(keys, device=DEVICE), starts or STARTS[:count], sample


def numbers_of(count, **changes):
    rows = torch.tensor([[*(RULE | changes).values()]] * count, dtype=torch.float64)
    # The last of a list has numbers of its own.
    rows[-1, 4] *= 2
    rows[-1, 5] *= 3
    return rows


def split(changes):
    """Numbers, and the words of an update."""
    words = dict(zip(("prior", "entropy", "update", "evaluate"), WORDS, strict=True))
    own = {name: value for name, value in changes.items() if name in words}
    return {k: v for k, v in changes.items() if k not in words}, tuple((words | own).values())


def clones(every, dtype=None):
    return [[t.clone().to(dtype or t.dtype) for t in tensors] for tensors in every]


def move(run, every, names, numbers, words=WORDS, given=None):
    """An update in place; weights, m+, m-, v+, v-."""
    weights, grads, *vectors = every
    run(weights, [] if given else grads, *(given or ([], [])), *vectors, *names, numbers, *words)
    return [weights, *vectors]


def assert_near(ours, exact, given, relative=RELATIVE):
    """Lists of weights, m+, m-, v+, v-; `given` is before the step."""
    for i, (left, right) in enumerate(zip(ours, exact, strict=True)):
        for t, (x, y) in enumerate(zip(left, right, strict=True)):
            # A difference is as accurate as what it is taken of.
            size = exact[1][t] + exact[2][t] if i == 0 else y.abs()
            size = size + given[i + 1][t].abs() if i > 2 else size
            assert torch.all((x.double() - y).abs() <= relative * size), (NAMES[i], t)
