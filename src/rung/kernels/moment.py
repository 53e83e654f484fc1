"""Stochastic rounding of a second moment to bfloat16 and to 8-bit log codes.

With beta = 0.999 a moment decays by 0.1 % a step, less than half the spacing of bfloat16 (0.4 %) or
of the log codes (9 %): rounded to nearest it would never decay. Stochastic rounding keeps its mean.
"""

import functools

import torch
from torch import Tensor

from rung.kernels.philox import PURPOSE_MOMENT, random_words

# Log codes of 8 bits: code 0 is exactly 0, code c is scale * 2^((c - 255) / 8): 31.75 octaves.
LOG8_BASE_FACTOR = 8
_LOG8_TOP = 255
STORAGES = (torch.float32, torch.bfloat16, torch.uint8)  # that loops and kernels know
_LOG8_POWERS = [2.0 ** (k / LOG8_BASE_FACTOR) for k in range(LOG8_BASE_FACTOR + 1)]


def random_halves(
    key: Tensor, start: int, count: int, step: int | Tensor, purpose: int = PURPOSE_MOMENT
) -> tuple[Tensor, Tensor]:
    """Two 16-bit random numbers for each of a step's elements start ... start + count - 1.

    Thirty-two neighbours share word i // 32 of the stream (key, step, purpose): the first
    number is its lower half, the second its upper one, each with the upper five bits exclusive-or
    i mod 32. So each number is uniform, and 32 neighbours round up as many times as their odds say
    but for one: systematic sampling, of less variance than independent draws, at a fraction of
    their cost.

    Returns:
        (for moments, for moves): int32 in [0, 2^16), shape (count,).
    """
    first, last = start // 32, (start + count + 31) // 32
    words = random_words(key, first, last - first, step, purpose)
    lanes = torch.arange(32, dtype=torch.int32, device=words.device) << 11
    halves = (words & 0xFFFF, (words >> 16) & 0xFFFF)
    begin = start - 32 * first
    low, high = ((half[:, None] ^ lanes).reshape(-1)[begin : begin + count] for half in halves)
    return low, high


def round_bfloat16(values: Tensor, key: Tensor, start: int, step: int | Tensor) -> Tensor:
    """Round float32 to one of the two neighbouring bfloat16 values, unbiased.

    Args:
        values: float32, non-negative and finite, shape (n,).
        key: 0-d int64.
        start: Flat index of the first element.
        step: Step count, so that every step draws anew.

    Returns:
        bfloat16 tensor of shape (n,).
    """
    #   sign exponent(8) mantissa(7) | 16 bits that bfloat16 drops
    # Adding 16 random bits carries into the kept part with the odds of the dropped fraction.
    bits = values.view(torch.int32) + random_halves(key, start, values.numel(), step)[0]
    return (bits & -65536).view(torch.float32).to(torch.bfloat16)


@functools.cache
def log8_tables() -> tuple[list[float], list[float], list[float], list[int]]:
    """What the codes' arithmetic looks up instead of computing logarithms; rows of sixteen.

    Returns:
        (powers, edges, spans, firsts): 2^(k/8) and 1 / (2^((k+1)/8) - 2^(k/8)) of the eight rungs
        k of an octave; for each sixteenth of an octave's mantissas the rung that its first one is
        on, and the power in it where the next rung begins (4 if none does). All rounded to float32.
    """
    powers = torch.tensor(_LOG8_POWERS, dtype=torch.float64).to(torch.float32).tolist()
    spans = [1 / (_LOG8_POWERS[k + 1] - _LOG8_POWERS[k]) for k in range(8)]
    edges, firsts = [], []
    for sector in range(16):
        low, high = 1 + sector / 16, 1 + (sector + 1) / 16
        firsts.append(sum(power <= low for power in powers[1:8]))
        edges.append(next((power for power in powers[1:8] if low < power < high), 4.0))
    return [*powers[:8], *[1.0] * 8], edges, [*spans, *[1.0] * 8], firsts


def _table(row: int, like: Tensor) -> Tensor:
    return torch.tensor(log8_tables()[row], device=like.device, dtype=torch.float32)


def decode_log8(codes: Tensor, scale: Tensor) -> Tensor:
    """float32 values of 8-bit log codes; `scale` is float32, a power of two: code 255's value."""
    above = codes.to(torch.int32) + 1  # 256 + 8 octaves + rung
    octave = (above >> 3) - 32
    power = _table(0, codes)[(above & 7).long()].view(torch.int32) + (octave << 23)
    return torch.where(codes > 0, power.view(torch.float32) * scale, 0.0)


def round_log8(
    values: Tensor, scale: Tensor, key: Tensor, start: int, step: int | Tensor
) -> Tensor:
    """Round float32 to one of the two neighbouring 8-bit log codes, unbiased.

    Zero stays zero. Positive values under the smallest code saturate to it: a moment that is too
    large makes a small update, one that is too small would make a large one.

    Args:
        values: float32, non-negative, at most `scale`, shape (n,).
        scale: 0-d float32, a power of two.
        key: 0-d int64.
        start: Flat index of the first element.
        step: Step count.

    Returns:
        uint8 codes of shape (n,).
    """
    bits = (values * (1 / scale)).view(torch.int32)
    mantissa = ((bits & 0x7FFFFF) | 0x3F800000).view(torch.float32)
    sector = ((bits >> 19) & 15).long()
    rung = _table(3, values)[sector].to(torch.int32)
    rung = rung + (mantissa >= _table(1, values)[sector]).to(torch.int32)
    odds = (mantissa - _table(0, values)[rung.long()]) * _table(2, values)[rung.long()]
    numbers = random_halves(key, start, values.numel(), step)[0]
    draws = (numbers.to(torch.float32) + 0.5) * 2.0**-16
    below = (((bits >> 23) - 127) << 3) + rung + _LOG8_TOP
    codes = (below + (draws < odds).to(torch.int32)).clamp(1, _LOG8_TOP)
    return torch.where(values > 0, codes, 0).to(torch.uint8)


def log8_scale(largest: Tensor) -> Tensor:
    """Smallest power of two that is at least `largest` (float32); 1 for 0.

    A power of two keeps the grid of codes where it is when the scale moves, so that a change of
    scale rounds nothing.
    """
    bits = largest.view(torch.int32)
    # Beyond a power of two the exponent is one more; the smallest scale is 2^-126.
    exponent = ((bits + 0x7FFFFF) >> 23).clamp(1, 254)
    return torch.where(largest > 0, (exponent << 23).view(torch.float32), 1.0)


def next_log8_scale(
    largest_code: Tensor, scale: Tensor, largest_grad: Tensor, beta: Tensor, rest: Tensor
) -> Tensor:
    """A scale that no moment of the next step exceeds; all float32 but the uint8 codes."""
    # beta v + (1 - beta) g^2 is largest where both are, so this bounds every new value.
    old = decode_log8(largest_code, scale)
    return log8_scale(beta * old + rest * (largest_grad * largest_grad))
