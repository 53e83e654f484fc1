"""Algorithm 1 of Bernstein et al. 2020, line by line, in float64 NumPy."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class MadamOracle:
    """One tensor; `step(g)` returns W after the update. Bias correction is the specification's."""

    def __init__(
        self,
        w: Array,
        eta: float = 0.01,
        beta: float = 0.999,
        clip: float = 8.0,
        scale_bound: float = 3.0,
        weight_decay: float = 0.0,
    ) -> None:
        self.w = w.astype(np.float64)
        self.sigma_star = scale_bound * np.sqrt(np.mean(self.w**2))
        self.eta, self.beta, self.clip, self.weight_decay = eta, beta, clip, weight_decay
        self.g_bar_squared = np.zeros_like(self.w)
        self.t = 0

    def step(self, g: Array) -> Array:
        self.t += 1
        g = g.astype(np.float64)
        self.g_bar_squared = (1 - self.beta) * g**2 + self.beta * self.g_bar_squared
        g_bar = np.sqrt(self.g_bar_squared / (1 - self.beta**self.t))
        ratio = np.divide(g, g_bar, out=np.zeros_like(g), where=g_bar > 0)
        clamped = np.clip(ratio, -self.clip, self.clip)
        self.w = self.w * np.exp(-self.eta * np.sign(self.w) * clamped)
        self.w = self.w * np.exp(-self.eta * self.weight_decay)
        self.w = np.clip(self.w, -self.sigma_star, self.sigma_star)
        return self.w
