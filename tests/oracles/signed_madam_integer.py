"""Signed Madam, one weight at a time: float32 for the gradient's statistics, a signed integer k."""

from oracles.integer_madam import F, Rounding, WantedRungs


class SignedMadamOracle:
    """One weight; `step(g)` returns its k after the update, in [-K, K]."""

    def __init__(
        self,
        k: int,
        sign: int,
        bits: int,
        spacing: float,
        lr: float,
        rounding: str,
        key: int,
        index: int,
        beta: float = 0.999,
        clip: float = 8.0,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
    ) -> None:
        self.k, self.top = k, 2 ** (bits - 1) - 1
        # The reach leaves room for the largest pull, which WantedRungs' own decay stands for.
        self.wanted = WantedRungs(beta, clip, 0.0, lr / spacing, momentum)
        self.pull = F(F(weight_decay * lr / spacing) / F(self.top))
        self.rounding = Rounding(rounding, key, index)

    def step(self, g: F) -> int:
        # A sign of +1: what shrinks a positive weight takes a negative one further from zero.
        wanted = F(self.wanted.step(g, 1) + F(F(self.k) * self.pull))
        self.k -= self.rounding.whole(wanted, self.wanted.t)
        self.k = min(max(self.k, -self.top), self.top)
        return self.k
