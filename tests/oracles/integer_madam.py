"""What both integer rules share, one weight at a time: float32 statistics, rounding to integers.

Every float operation is one IEEE float32 operation, in the order of the specification's formulas,
so that the tensor version has to agree in every bit.
"""

import math

import numpy as np

from rung.kernels.philox import philox_scalar

F = np.float32


class NormalizedGradient:
    """One weight's v; `step(g)` returns u."""

    def __init__(self, beta: float, clip: float) -> None:
        self.beta, self.clip = beta, clip
        self.v, self.t = F(0), 0

    def step(self, g: F) -> F:
        self.t += 1
        self.v = F(self.v * F(self.beta)) + F(F(g * g) * F(1 - self.beta))
        g_bar = np.sqrt(F(self.v / F(1 - self.beta**self.t)))
        u = F(g / g_bar) if g_bar > 0 else F(0)
        return min(max(u, F(-self.clip)), F(self.clip))


class Rounding:
    """One weight's rounding of moves; stochastic draws are its own words of its key's stream."""

    def __init__(self, rounding: str, key: int, index: int) -> None:
        self.rounding, self.key, self.index = rounding, key % 2**64, index

    def uniform(self, t: int) -> F:
        """Word of (key, step, purpose 1) at the element's index, upper 24 bits."""
        block, lane = divmod(self.index, 4)
        counter = (block & 0xFFFFFFFF, block >> 32, t, 1)
        word = philox_scalar(counter, (self.key & 0xFFFFFFFF, self.key >> 32))[lane]
        return F(word >> 8) * F(2.0**-24)

    def whole(self, rungs: F, t: int) -> int:
        if self.rounding == "nearest":
            return round(float(rungs))  # Python rounds half to even, as the specification does
        below = math.floor(rungs)
        return below + int(self.uniform(t) < F(rungs - F(below)))
