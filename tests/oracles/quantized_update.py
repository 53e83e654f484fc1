"""One weight tensor under gradient descent followed by an LNS quantizer, in plain Python.

The quantizer's scale is the power of two at or above the largest magnitude, its lowest code is 0.
"""

import math

import numpy as np
from numpy.typing import NDArray

F = np.float32


def quantize(x: float, scale: float, bits: int, base_factor: int) -> F:
    if x == 0:
        return F(0)
    last = 2 ** (bits - 1) - 1
    e = round(base_factor * math.log2(abs(x) / scale)) + last
    e = min(max(e, 1), last)
    return F(math.copysign(scale * 2 ** ((e - last) / base_factor), x))


def quantize_tensor(w: NDArray[F], bits: int, base_factor: int) -> NDArray[F]:
    largest = max((abs(float(x)) for x in w.flat), default=0.0)
    if largest == 0:
        return w
    scale = 2.0 ** math.ceil(math.log2(largest))
    values = [quantize(float(x), scale, bits, base_factor) for x in w.flat]
    return np.array(values, F).reshape(w.shape)


class QuantizedDescent:
    """`step(g)` returns W <- Q(W - lr g); lr a power of two, so that lr g is exact."""

    def __init__(self, w: NDArray[F], lr: float, bits: int, base_factor: int) -> None:
        self.lr, self.format = lr, (bits, base_factor)
        self.w = quantize_tensor(w, *self.format)

    def step(self, g: NDArray[F]) -> NDArray[F]:
        self.w = quantize_tensor(self.w - F(self.lr) * g, *self.format)
        return self.w
