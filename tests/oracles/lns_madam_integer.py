"""LNS-Madam, one weight at a time: the specification's integer update of the exponent."""

from oracles.integer_madam import F, NormalizedGradient, Rounding


class LNSMadamOracle:
    """One weight; `step(g)` returns e after the update. Its sign never changes."""

    def __init__(
        self,
        exponent: int,
        sign: int,
        bits: int,
        base_factor: int,
        lr: float,
        rounding: str,
        key: int,
        index: int,
        beta: float = 0.999,
        clip: float = 10.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.e, self.sign, self.last = exponent, sign, 2 ** (bits - 1) - 1
        self.rungs_per_update = F(base_factor * lr)
        self.weight_decay = F(weight_decay)
        self.gradient, self.rounding = (
            NormalizedGradient(beta, clip),
            Rounding(rounding, key, index),
        )

    def step(self, g: F) -> int:
        shrink = F(F(self.sign) * self.gradient.step(g))
        shrink = F(shrink + self.weight_decay)
        r = self.rounding.whole(F(shrink * self.rungs_per_update), self.gradient.t)
        self.e = min(max(self.e - r, 0), self.last)
        return self.e
