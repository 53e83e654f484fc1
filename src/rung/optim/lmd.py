"""LMD: log-normal multiplicative dynamics, a Bayesian rule whose noise and decay multiply."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from rung.formats import Format
from rung.kernels.philox import key_from_seed
from rung.optim import _additive
from rung.optim import _lmd_checks as checks
from rung.optim import _lmd_rule as rule
from rung.optim._blocks import Draw
from rung.optim._checks import Group, check_range
from rung.optim._lmd_storage import storage_of
from rung.optim._sampling import SamplingOptimizer
from rung.optim._work import Work
from rung.tensor.coded import CodedTensor


class LMD(SamplingOptimizer):
    """Log-normal multiplicative dynamics: every weight is a difference of two log-normal ones.

        w+- = m+- exp(sigma eps+-),  w = w+ - w-          eps+- ~ N(0, 1): what the gradient sees
        h+- = +-w+- g                                     mean over `samples` draws
        c+- = beta1 v+- + (1 - beta1) h+-,  v+- <- beta2 v+- + (1 - beta2) h+-
        m+- <- m+- exp(-lr (sign(c+-) + regularization R(m+-)))

    Between steps the parameters hold the posterior's mean (m+ - m-) exp(sigma^2 / 2), or its
    median: evaluate as usual. Gradients are taken at a sample, so ``step`` wants a closure, or the
    backward pass inside `sampled`:

        with optimizer.sampled():
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
        optimizer.step()

    R by prior on w+-: ``"lognormal"`` log(m / m0), a pull towards m0; ``"exponential"``
    m exp(sigma^2 / 2) / m0; ``"gaussian"`` (half-normal) m^2 exp(2 sigma^2) / m0^2; ``"constant"``
    1. Some prior is needed: without one weights grow without bound.

    Momentum follows the learning rate unless `betas` are given: 1 - beta2 = lr / reach, at most
    0.2, so betas are (0.5, 0.8) at the full lr and slower as a schedule lowers it: a gradient is
    remembered while ln m moves by `reach`. Weights whose gradients are noise spread until ln m has
    a variance of at most ln 2 * reach / regularization; the default regularization keeps that at 2
    whatever lr is. With `lr` left out and `total_steps` given, lr = 1 / sqrt(total_steps) and
    reach = 5 lr: one setting for short and long runs.

    The rule is derived from the Bayesian learning rule in docs/lmd.md. The paper's abstract and
    public reviews are all that we had: what is not in them (betas that follow lr, defaults, every
    prior's R) is our choice.

    Args:
        params: Parameters, named parameters or groups; or a `ParameterSplit`, whose additive side
            is then trained by AdamW in a second group.
        lr: The change of ln m per step; None: 1 / sqrt(total_steps), from 0.005 to 0.05, or 0.02.
        betas: (beta1, beta2), each in [0, 1); None: they follow lr.
        sigma: Standard deviation of ln w+-, 0 to 4; 0 draws no noise.
        prior: ``"lognormal"``, ``"exponential"``, ``"gaussian"`` or ``"constant"``.
        regularization: lambda, weight of the prior, >= 0; lognormal: 1 / sigma0^2. None: a third of
            the reach (with `betas`, of lr / (1 - beta2)).
        total_steps: Length of the run, for `lr`; unused where that is given.
        reach: How far ln m moves while a gradient is remembered, > 0; None: 5 times the group's lr.
            Unused with `betas`.
        m0: Scale of the prior and of the offset; None: each tensor's standard deviation at
            construction.
        offset: kappa; m+- start at (relu(+-w) + kappa m0), > 0.
        entropy: Count the posterior's entropy too: R - 1 for exponential and gaussian.
        update: ``"sign"``, or ``"rms"``: c divided by its root mean square over the tensor.
        clip: Largest magnitude of an ``"rms"`` update.
        weight_scaled: False takes h+- = +-g, without the weight: an ablation, another rule.
        samples: Draws per step, >= 1.
        evaluate: What parameters hold between steps: ``"mean"`` or ``"median"``.
        state: ``"fp32"`` (16 bytes a weight), ``"bf16"`` (8), or the name of an LNS: medians as its
            codes, moved by whole codes, and bfloat16 momenta (``"lns16"``: 8, ``"lns8"``: 6).
        parts_format: Format in which w+ and w- are rounded before they are subtracted, e.g.
            ``"mxfp4"``; None: not rounded. Scales are a float format's largest magnitude of the
            tensor; blocks run along the last dimension, of images' convolutions along the inputs.
        noise: ``"same"`` on every rank, or ``"per_rank"``: each draws its own and h+- is averaged
            over the ranks by this optimizer; let nothing else average gradients then (no
            DistributedDataParallel, or inside its ``no_sync``).
        seed: Of noise and stochastic rounding; draws depend on it, the parameter's name, the step
            and the element's index alone.
        on_nonfinite: ``"skip"``, ``"raise"``, or ``"trust"``: with one sample, gradients are not
            looked at, which saves a pass over them; NaN then counts as 0.
        maximize: Ascend instead of descend.
        additive_lr: lr of the AdamW group; ignored unless `params` is a `ParameterSplit`, as are
            `additive_betas`, `additive_eps` and `additive_weight_decay`.
        additive_betas: Its betas.
        additive_eps: Its eps.
        additive_weight_decay: Its decoupled weight decay.

    Raises:
        ValueError: A hyper-parameter out of range; a parameter whose standard deviation is 0 or
            unknown while `m0` is None; one that is not finite or is stored in codes.
        TypeError: A complex parameter.

    Example:
        >>> from rung.optim import split_parameters
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = LMD(split_parameters(model))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = model(torch.ones(2, 4)).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> loss = optimizer.step(closure)

    Source: Nishida, Kiral, Bannai, Khan, Moellenhoff, "Log-normal multiplicative dynamics for
    stable low-precision training of large networks", 2025, arXiv:2506.17768.
    """

    algorithm = "lmd"
    # h+ and h- of the draws since the last step; transient, as what the base class keeps.
    _sums: dict[Tensor, tuple[Tensor, Tensor]]

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | None = None,
        betas: tuple[float, float] | None = None,
        sigma: float = 0.05,
        prior: str = "lognormal",
        regularization: float | None = None,
        *,
        total_steps: int | None = None,
        reach: float | None = None,
        m0: float | None = None,
        offset: float = 0.1,
        entropy: bool = False,
        update: str = "sign",
        clip: float = 3.0,
        weight_scaled: bool = True,
        samples: int = 1,
        evaluate: str = "mean",
        state: str = "fp32",
        parts_format: str | Format | None = None,
        noise: str = "same",
        seed: int = 0,
        on_nonfinite: str = "skip",
        maximize: bool = False,
        additive_lr: float = 0.008,
        additive_betas: tuple[float, float] = _additive.DEFAULTS["betas"],  # type: ignore[assignment]
        additive_eps: float = _additive.DEFAULTS["eps"],  # type: ignore[assignment]
        additive_weight_decay: float = _additive.DEFAULTS["weight_decay"],  # type: ignore[assignment]
    ) -> None:
        if total_steps is not None:
            checks.check_total_steps(total_steps)
        lr = rule.default_lr(total_steps) if lr is None else lr
        given = dict(locals())
        options = {name: given[name] for name in checks.OPTIONS}
        # What the shared loop asks of a group and this rule has in one form only.
        fixed = {"foreach": None, "capturable": False, "differentiable": False}
        additive = {
            "lr": additive_lr,
            "betas": additive_betas,
            "eps": additive_eps,
            "weight_decay": additive_weight_decay,
        }
        super().__init__(params, options | fixed, additive)

    def _check_group(self, group: Group) -> None:
        check_range("lr", group["lr"], group["lr"] is not None, "a number in a parameter group")
        self._check_shared(group)
        checks.check_options(group)
        if "params" in group:
            rule.complete(group)

    def _init_state(self, group: Group, param: Tensor, name: str) -> None:
        if isinstance(param, CodedTensor):
            raise ValueError(
                f"{name} is stored in codes, which LMD in floating point can't move. For medians "
                "in codes leave the weights as they are and give state='lns16'."
            )
        m0 = checks.scale_of(param, group["m0"], name)
        state = self.state[param]
        state["step"] = torch.zeros((), dtype=torch.float32)
        state["key"] = torch.tensor(key_from_seed(group["seed"], name), device=param.device)
        state["m0"] = m0
        medians = rule.initial_medians(param, m0, group["offset"], group["sigma"])
        storage_of(group["state"]).init(state, *medians)

    # -- what the sampling optimizer asks ----------------------------------------------------

    def _write_sample(self, group: Group, params: list[Tensor], draw: Draw) -> None:
        rule.write_sample(group, params, self.state, draw)

    def _write_point(self, group: Group, params: list[Tensor], point: str) -> None:
        rule.write_point(group, params, self.state, point)

    def _accumulate(self, group: Group, param: Tensor, draw: Draw) -> None:
        self._sums[param] = rule.add_draw(
            group, param, self.state[param], draw, self._samples, self._sums.get(param)
        )

    def _kept(self, param: Tensor) -> tuple[Tensor, ...]:
        if param not in self._sums:
            like = rule.working_zeros(param)
            self._sums[param] = (like, like.clone())
        return self._sums[param]

    def _clear(self) -> None:
        self._sums = {}

    # -- the step ----------------------------------------------------------------------------

    def _step_group(self, work: Work, finite: Tensor | None) -> None:
        params = [param for param in work.params if param.numel()]
        rule.step(work.group, params, self.state, self._sums)
        for param in params:
            self._mark_written(param)

    def medians(self, param: Tensor) -> tuple[Tensor, Tensor]:
        """m+ and m- of a parameter: copies in its shape, float32 (float64 for float64).

        Raises:
            ValueError: This optimizer does not train the parameter by LMD.
        """
        for group in self._own_groups:
            if any(own is param for own in group["params"]) and param in self.state:
                pos, neg = storage_of(group["state"]).medians(self.state[param])
                return pos.clone(), neg.clone()
        raise ValueError(
            "`param` must be a weight that this LMD trains; got one of shape "
            f"{tuple(param.shape)}. Biases and norm gains of a ParameterSplit are trained by AdamW."
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in the base class; refuses medians that aren't positive before it loads anything.

        Raises:
            ValueError: Medians that are negative, zero, NaN or infinite; codes beyond their format;
                other numbers that are not finite; vectors that are missing or of another shape; the
                state of another algorithm.
            RuntimeError: Inside a block of `sampled` or `evaluated`.
        """
        self._require_outside("load_state_dict()")
        checks.check_loaded(state_dict, self.param_groups)
        super().load_state_dict(state_dict)
        self._forget()
        self._restore(param for _, param in self._weights())
