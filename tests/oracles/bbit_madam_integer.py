"""B-bit Madam, one weight at a time: float32 for the gradient's statistics, integers for codes.

Every float operation is one IEEE float32 operation, in the order of the specification's formulas,
so that the tensor version has to agree in every bit.
"""

import math

import numpy as np

from rung.kernels.philox import philox_scalar

F = np.float32


class BBitMadamOracle:
    """One weight; `step(g)` returns its code after the update."""

    def __init__(
        self,
        code: int,
        sign: int,
        bits: int,
        base_precision: float,
        lr: float,
        rounding: str,
        key: int,
        index: int,
        beta: float = 0.999,
        clip: float = 8.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.k, self.sign, self.last = code, sign, 2**bits - 1
        self.rungs_per_update = F(lr / base_precision)
        self.rounding, self.key, self.index = rounding, key % 2**64, index
        self.beta, self.clip, self.weight_decay = beta, clip, weight_decay
        self.v, self.t = F(0), 0

    def uniform(self) -> F:
        """The element's own word of the stream (key, step, purpose 1), upper 24 bits."""
        block, lane = divmod(self.index, 4)
        counter = (block & 0xFFFFFFFF, block >> 32, self.t, 1)
        word = philox_scalar(counter, (self.key & 0xFFFFFFFF, self.key >> 32))[lane]
        return F(word >> 8) * F(2.0**-24)

    def step(self, g: F) -> int:
        self.t += 1
        self.v = F(self.v * F(self.beta)) + F(F(g * g) * F(1 - self.beta))
        g_bar = np.sqrt(F(self.v / F(1 - self.beta**self.t)))
        u = F(g / g_bar) if g_bar > 0 else F(0)
        u = min(max(u, F(-self.clip)), F(self.clip))
        if self.weight_decay:
            u = F(u + F(self.sign) * F(self.weight_decay))
        rungs = F(u * self.rungs_per_update)
        if self.rounding == "nearest":
            r = round(float(rungs))  # Python rounds half to even, as the specification does
        else:
            below = math.floor(rungs)
            r = below + int(self.uniform() < F(rungs - F(below)))
        self.k = min(max(self.k + r * self.sign, 0), self.last)
        return self.k
