"""Signed Madam on a pair of ladders, one weight at a time: integers moved against each other."""

from oracles.integer_madam import F, Rounding
from oracles.signed_madam_integer import SignedMadamOracle
from rung.kernels.philox import philox_scalar


class LowerRounding(Rounding):
    """The lower code's draws: those of purpose 7, the other's are of purpose 2."""

    def draw(self, t: int) -> int:
        block, lane = divmod(self.index // 32, 4)
        counter = (block & 0xFFFFFFFF, block >> 32, t, 7)
        bits = philox_scalar(counter, (self.key & 0xFFFFFFFF, self.key >> 32))[lane]
        return (bits >> 16) ^ (self.index % 32 << 11)


class PairMadamOracle:
    """One weight; `step(g)` returns (k+, k-) after the update, each in [-K, K]."""

    def __init__(self, k: tuple[int, int], sign: int, bits: int, **options: object) -> None:
        rounding, key, index = (options[name] for name in ("rounding", "key", "index"))
        self.plus = SignedMadamOracle(k[0], 0, bits // 2, **options)
        self.minus = SignedMadamOracle(k[1], 0, bits // 2, **options)
        self.minus.rounding = LowerRounding(rounding, key, index)

    def step(self, g: F) -> tuple[int, int]:
        return self.plus.step(g), self.minus.step(-g)
