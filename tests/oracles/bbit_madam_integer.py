"""B-bit Madam, one weight at a time: float32 for the gradient's statistics, integers for codes."""

from oracles.integer_madam import F, NormalizedGradient, Rounding


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
        self.weight_decay = F(weight_decay)
        self.gradient, self.rounding = (
            NormalizedGradient(beta, clip),
            Rounding(rounding, key, index),
        )

    def step(self, g: F) -> int:
        u = self.gradient.step(g)
        u = F(u + F(self.sign) * self.weight_decay)
        r = self.rounding.whole(F(u * self.rungs_per_update), self.gradient.t)
        self.k = min(max(self.k + r * self.sign, 0), self.last)
        return self.k
