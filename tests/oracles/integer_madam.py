"""What both integer rules share, one weight at a time: float32 statistics, rounding to integers.

Every float operation is one IEEE float32 operation, in the order of the specification's formulas,
so that the tensor version has to agree in every bit.
"""

import math

import numpy as np

from rung.kernels.philox import philox_scalar

F = np.float32


class WantedRungs:
    """One weight's v; `step(g, sign)` returns how many rungs its magnitude should shrink by.

    With a momentum it moves by m / (1 - momentum^t), m the mean of what it would have moved by.
    """

    def __init__(
        self, beta: float, clip: float, weight_decay: float, rungs: float, momentum: float = 0.0
    ) -> None:
        self.beta, self.rungs, self.clip = beta, rungs, F(clip)
        self.momentum, self.m = momentum, F(0)
        self.reach, self.decay = F(clip * rungs), F(weight_decay * rungs)
        self.v, self.t = F(0), 0

    def step(self, g: F, sign: int) -> F:
        self.t += 1
        self.v = F(self.v * F(self.beta)) + F(F(g * g) * F(1 - self.beta))
        normal = 0.17442136943757947 * math.sqrt(1 - self.beta**self.t)
        ratio = F(g * self._over_root())
        if self.momentum:
            u = min(max(F(ratio * F(normal)), F(-self.clip)), self.clip)
            self.m = F(self.m * F(self.momentum)) + F(u * F(1 - self.momentum))
            u = F(self.m * F(self.rungs / (1 - self.momentum**self.t)))
        else:
            u = F(ratio * F(normal * self.rungs))
        return F(F(sign) * min(max(u, F(-self.reach)), self.reach) + self.decay)

    def _over_root(self) -> F:
        """docs/bbit-madam.md: a guess from the bit pattern, two steps of Newton's method."""
        y = np.int32(0x5F1FFFF9 - (int(self.v.view(np.int32)) >> 1)).view(F)
        for constant in (F(2.38924456), F(6.053895)):
            y = F(y * F(constant - F(F(self.v * y) * y)))
        return y


class Rounding:
    """One weight's rounding of moves; 32 neighbours share a word of their key's stream."""

    def __init__(self, rounding: str, key: int, index: int) -> None:
        self.rounding, self.key, self.index = rounding, key % 2**64, index

    def draw(self, t: int) -> int:
        """Upper half of word i // 32 of (key, step, purpose 2), exclusive-or i mod 32 on top."""
        word, place = divmod(self.index, 32)
        block, lane = divmod(word, 4)
        counter = (block & 0xFFFFFFFF, block >> 32, t, 2)
        bits = philox_scalar(counter, (self.key & 0xFFFFFFFF, self.key >> 32))[lane]
        return (bits >> 16) ^ (place << 11)

    def whole(self, rungs: F, t: int) -> int:
        if self.rounding == "stochastic":
            return (int(F(rungs * F(65536))) + self.draw(t)) >> 16
        return round(float(rungs))  # Python rounds half to even, as the specification does
