"""LMD on lists of tensors, one operation a call: `lmd`'s definitions tensor by tensor.

A call's tensors are contiguous, each tensor's of one shape; medians and momenta may be bfloat16 and
are then rounded stochastically: element i takes word i of Philox's stream (rounding key, step,
PURPOSE_ROUND), whose lower half rounds m+ and v-, whose upper half m- and v+. What shares bits
meets in no formula of the next step but the weight's difference.

Every call names its draws by

    keys: int64 (tensors, 3), rows of the noise's key, the step, and the rounding's key
    starts: the index of each tensor's first element (0, but for parts of a longer parameter)
    sample: the draw inside the step

and gives its numbers as float64 (tensors, 7): lr, beta1, beta2, sigma, regularization, m0, clip,
see `lmd.Settings`. Results in float32 are within `RELATIVE` of the definition in float64, given the
same float32 draws: m, and v relative to |v| + |h|, w relative to m+ + m-.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rung.kernels import lmd
from rung.kernels.dispatch import Operation
from rung.kernels.lmd import Noise, Settings
from rung.kernels.philox import PURPOSE_ROUND, random_words

RELATIVE = 3e-6
NUMBERS = ("lr", "beta1", "beta2", "sigma", "regularization", "m0", "clip")
Tensors = Sequence[Tensor]

# The loops' exponential takes up to 87; the mean's factor e^(sigma^2 / 2) is a float32 up to here.
LARGEST_SIGMA = 12.0


def numbers_of(settings: Settings) -> list[float]:
    """A row of the numbers."""
    return [float(getattr(settings, name)) for name in NUMBERS]


def settings_of(row: Sequence[float], prior: str, entropy: bool, update: str) -> Settings:
    """The inverse of `numbers_of`, with the words of a call."""
    lr, beta1, beta2, sigma, regularization, m0, clip = row
    return Settings(
        lr, beta1, beta2, sigma, prior, regularization, m0, entropy, update, clip
    )  # fmt: skip


def _noise(keys: Tensor, place: int, sample: int, start: int) -> Noise:
    step = keys[place, 1]
    # A number takes the fast draws; a device's stays where it is.
    return Noise(keys[place, 0], int(step) if keys.device.type == "cpu" else step, sample, start)


def _floats(*tensors: Tensor) -> list[Tensor]:
    """Flat, in the working dtype; the tensors' own memory unless they are bfloat16."""
    flat = [t.detach().view(-1) for t in tensors]
    return [t.float() if t.dtype == torch.bfloat16 else t for t in flat]


def sample_reference(
    weights: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor,
) -> None:  # fmt: skip
    """`lmd.sample_into` of every tensor."""
    for t, row in enumerate(numbers.tolist()):
        pos, neg = _floats(m_pos[t], m_neg[t])
        noise = _noise(keys, t, sample, starts[t])
        lmd.sample_into(weights[t].detach().view(-1), pos, neg, row[3], noise)


def point_reference(
    weights: Tensors, m_pos: Tensors, m_neg: Tensors, numbers: Tensor, evaluate: str
) -> None:
    """`lmd.point_into` of every tensor."""
    for t, row in enumerate(numbers.tolist()):
        pos, neg = _floats(m_pos[t], m_neg[t])
        lmd.point_into(weights[t].detach().view(-1), pos, neg, row[3], evaluate)


def accumulate_reference(
    h_pos: Tensors, h_neg: Tensors, grads: Tensors, m_pos: Tensors, m_neg: Tensors, keys: Tensor,
    starts: Sequence[int], sample: int, numbers: Tensor, samples: int,
) -> None:  # fmt: skip
    """`lmd.accumulate_into` of every tensor."""
    for t, row in enumerate(numbers.tolist()):
        h, k, grad, pos, neg = _floats(h_pos[t], h_neg[t], grads[t], m_pos[t], m_neg[t])
        noise = _noise(keys, t, sample, starts[t])
        lmd.accumulate_into(h, k, grad, pos, neg, row[3], noise, samples)


def update_reference(
    weights: Tensors, grads: Tensors, h_pos: Tensors, h_neg: Tensors, m_pos: Tensors,
    m_neg: Tensors, v_pos: Tensors, v_neg: Tensors, keys: Tensor, starts: Sequence[int],
    sample: int, numbers: Tensor, prior: str, entropy: bool, update: str, evaluate: str,
) -> None:  # fmt: skip
    """`lmd.update` of every tensor, or `lmd.update_from` where h+- are given and no gradients."""
    for t, row in enumerate(numbers.tolist()):
        settings = settings_of(row, prior, entropy, update)
        stored = [s[t].detach().view(-1) for s in (m_pos, m_neg, v_pos, v_neg)]
        pos, neg, v, u = _floats(*stored)
        weight = weights[t].detach().view(-1)
        if h_pos:
            h, k = _floats(h_pos[t], h_neg[t])
            lmd.update_from(weight, h, k, pos, neg, v, u, settings, evaluate)
        else:
            noise = _noise(keys, t, sample, starts[t])
            (grad,) = _floats(grads[t])
            lmd.update(weight, grad, pos, neg, v, u, settings, noise, evaluate)
        if stored[0].dtype == torch.bfloat16:
            rounded = round_states(pos, neg, v, u, keys[t, 2], starts[t], keys[t, 1])
            for own, new in zip(stored, rounded, strict=True):
                own.copy_(new)
            # What is stored, not what was about to be.
            lmd.point_into(weight, stored[0].float(), stored[1].float(), row[3], evaluate)


def round_states(
    m_pos: Tensor, m_neg: Tensor, v_pos: Tensor, v_neg: Tensor, key: Tensor, start: int,
    step: int | Tensor,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The same in bfloat16, each one of the two neighbours, unbiased.

    Args:
        m_pos: float32, flat and finite, as the others.
        m_neg: Medians of the negative part.
        v_pos: Momentum of the positive part.
        v_neg: Momentum of the negative part.
        key: 0-d int64, of the rounding alone.
        start: Index of the first element.
        step: So that every step draws anew.
    """
    words = random_words(key, start, m_pos.numel(), step, PURPOSE_ROUND)
    low, high = words & 0xFFFF, (words >> 16) & 0xFFFF
    return tuple(
        # Adding 16 random bits carries into the kept part with the odds of the dropped fraction.
        ((x.view(torch.int32) + draws) & -65536).view(torch.float32).to(torch.bfloat16)
        for x, draws in ((m_pos, low), (m_neg, high), (v_pos, high), (v_neg, low))
    )


def usable(sigmas: Sequence[float], floats: Tensors, states: Tensors) -> bool:
    """Whether the loops take these: contiguous float32, states in one of two dtypes."""
    if len({t.device for t in (*floats, *states)}) > 1 or any(t.is_neg() for t in floats):
        return False
    kinds = {t.dtype for t in states}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.bfloat16}:
        return False
    if max(sigmas, default=0) > LARGEST_SIGMA or not all(t.is_contiguous() for t in states):
        return False
    return all(t.dtype == torch.float32 and t.is_contiguous() for t in floats)


def _sigmas(numbers: Tensor) -> list[float]:
    return numbers[:, 3].tolist()


SAMPLE = Operation(
    "lmd_sample",
    "(Tensor(a!)[] weights, Tensor[] m_pos, Tensor[] m_neg, Tensor keys, int[] starts, "
    "int sample, Tensor numbers) -> ()",
    sample_reference,
    cpu="rung.kernels.cpu.lmd:sample",
    gpu="rung.kernels.gpu.lmd:sample",
    serves=lambda w, p, n, k, s, i, numbers: usable(_sigmas(numbers), w, [*p, *n]),
)
POINT = Operation(
    "lmd_point",
    "(Tensor(a!)[] weights, Tensor[] m_pos, Tensor[] m_neg, Tensor numbers, str evaluate) -> ()",
    point_reference,
    cpu="rung.kernels.cpu.lmd:point",
    gpu="rung.kernels.gpu.lmd:point",
    serves=lambda w, p, n, numbers, e: usable(_sigmas(numbers), w, [*p, *n]),
)
ACCUMULATE = Operation(
    "lmd_accumulate",
    "(Tensor(a!)[] h_pos, Tensor(b!)[] h_neg, Tensor[] grads, Tensor[] m_pos, Tensor[] m_neg, "
    "Tensor keys, int[] starts, int sample, Tensor numbers, int samples) -> ()",
    accumulate_reference,
    cpu="rung.kernels.cpu.lmd:accumulate",
    gpu="rung.kernels.gpu.lmd:accumulate",
    serves=lambda h, i, g, p, n, k, s, j, numbers, c: usable(
        _sigmas(numbers), [*h, *i, *g], [*p, *n]
    ),
)
UPDATE = Operation(
    "lmd_update",
    "(Tensor(a!)[] weights, Tensor[] grads, Tensor[] h_pos, Tensor[] h_neg, Tensor(b!)[] m_pos, "
    "Tensor(c!)[] m_neg, Tensor(d!)[] v_pos, Tensor(e!)[] v_neg, Tensor keys, int[] starts, "
    "int sample, Tensor numbers, str prior, bool entropy, str update, str evaluate) -> ()",
    update_reference,
    cpu="rung.kernels.cpu.lmd:update",
    gpu="rung.kernels.gpu.lmd:update",
    serves=lambda w, g, h, i, p, n, v, u, k, s, j, numbers, *words: usable(
        _sigmas(numbers), [*w, *g, *h, *i], [*p, *n, *v, *u]
    ),
)
