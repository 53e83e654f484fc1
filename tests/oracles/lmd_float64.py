"""Sections 1 and 2 of LMD's specification (docs/lmd.md), weight by weight, in float64."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from rung.kernels.normal import normal_pair_oracle

Array = NDArray[np.float64]
Signs = (+1, -1)


def following_betas(lr: float, reach: float) -> tuple[float, float]:
    """Betas for a remembered movement of `reach` in ln m: the newest gradient weighs lr / reach."""
    newest = min(0.2, lr / reach)
    return 1 - 2.5 * newest, 1 - newest


class LMDOracle:
    """One tensor. `step(gradient, lr)` asks for the gradient at each sample it draws."""

    def __init__(
        self,
        w: Array,
        key: int,
        sigma: float = 0.1,
        prior: str = "lognormal",
        lam: float = 0.1,
        betas: tuple[float, float] | None = None,
        reach: float = 0.4,
        m0: float | None = None,
        kappa: float = 0.1,
        entropy: bool = False,
        update: str = "sign",
        clip: float = 3.0,
        weight_scaled: bool = True,
        samples: int = 1,
        noise: Callable[..., tuple[torch.Tensor, torch.Tensor]] = normal_pair_oracle,
    ) -> None:
        w = w.astype(np.float64)
        self.shape, flat = w.shape, w.flatten()
        self.m0 = m0 if m0 is not None else float(np.std(flat, ddof=1))
        shrink = math.exp(-(sigma**2) / 2)
        self.m = {s: [(max(s * x, 0.0) + kappa * self.m0) * shrink for x in flat] for s in Signs}
        self.v = {s: [0.0 for _ in flat] for s in Signs}
        self.key, self.sigma, self.prior, self.lam = torch.tensor(key), sigma, prior, lam
        self.betas, self.reach, self.entropy = betas, reach, entropy
        self.update, self.clip, self.weight_scaled = update, clip, weight_scaled
        self.samples, self.noise = samples, noise
        self.t, self.size = 0, len(flat)

    def sample(self, number: int) -> dict[int, list[float]]:
        """w+ and w- of one draw."""
        draws = self.noise(self.key, 0, self.size, self.t, number)
        return {
            s: [m * math.exp(self.sigma * float(e)) for m, e in zip(self.m[s], eps, strict=True)]
            for s, eps in zip(Signs, draws, strict=True)
        }

    def step(self, gradient: Callable[[Array, int], Array], lr: float) -> Array:
        """The mean weights after an update; `gradient(w, number of the sample)`."""
        h = {s: [0.0] * self.size for s in Signs}
        for number in range(self.samples):
            parts = self.sample(number)
            w = np.array(parts[+1]) - np.array(parts[-1])
            g = gradient(w.reshape(self.shape), number).astype(np.float64).flatten()
            for s in Signs:
                for i in range(self.size):
                    scale = parts[s][i] if self.weight_scaled else 1.0
                    h[s][i] += s * scale * g[i] / self.samples
        beta1, beta2 = self.betas or following_betas(lr, self.reach)
        c = {s: self._mix(beta1, self.v[s], h[s]) for s in Signs}
        self.v = {s: self._mix(beta2, self.v[s], h[s]) for s in Signs}
        for s, u in self._directions(c).items():
            self.m[s] = [
                m * math.exp(-lr * (u_i + self.lam * self.regularizer(m)))
                for m, u_i in zip(self.m[s], u, strict=True)
            ]
        self.t += 1
        return self.mean()

    def mean(self) -> Array:
        """E[w], in the parameter's shape."""
        median = np.array(self.m[+1]) - np.array(self.m[-1])
        return (median * math.exp(self.sigma**2 / 2)).reshape(self.shape)

    def medians(self) -> tuple[Array, Array]:
        """m+ and m-, in the parameter's shape."""
        pos, neg = (np.array(self.m[s]).reshape(self.shape) for s in Signs)
        return pos, neg

    def regularizer(self, m: float) -> float:
        """R(m) of the table, from the median before the update."""
        entropy = 1.0 if self.entropy else 0.0
        match self.prior:
            case "lognormal":
                return math.log(m / self.m0)
            case "exponential":
                return m * math.exp(self.sigma**2 / 2) / self.m0 - entropy
            case "gaussian":
                return m**2 * math.exp(2 * self.sigma**2) / self.m0**2 - entropy
            case _:
                return 1.0

    def _directions(self, c: dict[int, list[float]]) -> dict[int, list[float]]:
        if self.update == "sign":
            return {s: [float(np.sign(x)) for x in c[s]] for s in Signs}
        squares = [x**2 for s in Signs for x in c[s]]
        rms = math.sqrt(sum(squares) / len(squares))
        if rms == 0:
            return {s: [0.0] * self.size for s in Signs}
        return {s: [min(max(x / rms, -self.clip), self.clip) for x in c[s]] for s in Signs}

    @staticmethod
    def _mix(beta: float, old: list[float], new: list[float]) -> list[float]:
        return [beta * a + (1 - beta) * b for a, b in zip(old, new, strict=True)]
