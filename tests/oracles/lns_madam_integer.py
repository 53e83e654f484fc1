"""LNS-Madam, one weight at a time: the specification's integer update of the exponent."""

from oracles.integer_madam import F, Rounding, WantedRungs


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
        self.wanted = WantedRungs(beta, clip, weight_decay, base_factor * lr)
        self.rounding = Rounding(rounding, key, index)

    def step(self, g: F) -> int:
        move = self.rounding.whole(self.wanted.step(g, self.sign), self.wanted.t)
        self.e = min(max(self.e - move, 0), self.last)
        return self.e
