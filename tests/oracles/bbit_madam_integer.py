"""B-bit Madam, one weight at a time: float32 for the gradient's statistics, integers for codes."""

from oracles.integer_madam import F, Rounding, WantedRungs


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
        self.wanted = WantedRungs(beta, clip, weight_decay, lr / base_precision)
        self.rounding = Rounding(rounding, key, index)

    def step(self, g: F) -> int:
        move = self.rounding.whole(self.wanted.step(g, self.sign), self.wanted.t)
        self.k = min(max(self.k + move, 0), self.last)
        return self.k
