"""What each process of tests/optim/test_lmd_ranks.py does; a module of its own, to be imported."""

import datetime
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from rung.optim import LMD, split_parameters

CASES = {
    "same": {"noise": "same"},
    "per_rank": {"noise": "per_rank"},
    "per_rank, three samples": {"noise": "per_rank", "samples": 3},
    "per_rank, lns16": {"noise": "per_rank", "state": "lns16"},
    "per_rank, rms": {"noise": "per_rank", "update": "rms"},
    "per_rank, no noise": {"noise": "per_rank", "sigma": 0.0},
}


def main(rank: int, port: int, folder: str) -> None:
    """One rank of two; writes what it saw to `folder`."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        # A rank that waits for a call that the other never makes should say so soon.
        timeout=datetime.timedelta(seconds=60),
    )
    try:
        found = {name: _train(rank, **options) for name, options in CASES.items()}
        found["mean of h"] = _mean_of_h(rank)
        found["uneven"] = _uneven(rank)
        try:
            found["spoiled"] = _spoiled(rank)
        except RuntimeError as error:  # the other rank went another way
            found["spoiled"] = {"error": str(error)}
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        distributed.destroy_process_group()


def _train(rank: int, **options: Any) -> dict[str, Any]:
    """Three steps on data that differ by rank."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = LMD(split_parameters(model), **{"sigma": 0.2, **options})
    # As DistributedDataParallel would; LMD does it itself where every rank draws its own noise.
    averages = options["noise"] == "same"
    inputs = torch.randn(16, 5, generator=torch.Generator().manual_seed(rank))
    samples = []
    before = _copy(model.state_dict())

    def closure() -> Tensor:
        samples.append(model[0].weight.detach().clone())
        optimizer.zero_grad()
        loss = (model(inputs) - 1).square().mean()
        loss.backward()
        for parameter in model.parameters() if averages else ():
            distributed.all_reduce(parameter.grad)
            parameter.grad /= 2
        return loss.detach()

    for _ in range(3):
        optimizer.step(closure)
    # Without noise a step may do without a closure.
    if options.get("sigma") == 0.0:
        closure()
        optimizer.step()
    with optimizer.evaluated("sample"):
        predictive = model[0].weight.detach().clone()
    after = _copy(model.state_dict())
    for index, (_, stored) in enumerate(optimizer.state.items()):
        after |= {f"{index} {k}": torch.as_tensor(v).clone() for k, v in stored.items()}
    return {"before": before, "after": after, "samples": samples, "predictive": predictive}


def _mean_of_h(rank: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    param = nn.Parameter(torch.randn(4, 3))
    optimizer = LMD([param], betas=(0.0, 0.0), sigma=0.5, noise="per_rank", m0=1.0)
    grad = torch.full((4, 3), 1.0 + rank)
    drawn = []

    def closure() -> float:
        drawn.append(param.detach().clone())
        param.grad = grad.clone()
        return 0.0

    optimizer.step(closure)
    # h+ + h- = (w+ - w-) g.
    state = optimizer.state[param]
    return {"h": drawn[0] * grad, "momentum": state["momentum_pos"] + state["momentum_neg"]}


def _spoiled(rank: int) -> dict[str, Any]:
    torch.manual_seed(0)
    param, bias = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))
    groups = [{"params": [param]}, {"params": [bias], "algorithm": "adamw"}]
    optimizer = LMD(groups, noise="per_rank")
    before = {"param": param.detach().clone(), "bias": bias.detach().clone()}

    def closure() -> float:
        param.grad, bias.grad = torch.ones(4, 3), torch.ones(3)
        if rank == 1:
            param.grad[0, 0] = float("nan")
        return 0.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer.step(closure)
    after = {"param": param.detach().clone(), "bias": bias.detach().clone()}
    return {"skipped": optimizer.skipped_steps, "before": before, "after": after}


def _uneven(rank: int) -> dict[str, Tensor]:
    """Rank 0 has gradients of `a` and a bias only, rank 1 of `b` only."""
    torch.manual_seed(0)
    a, b, c = (nn.Parameter(torch.randn(4, 3)) for _ in range(3))
    bias = nn.Parameter(torch.zeros(3))
    groups = [{"params": [a, b, c]}, {"params": [bias], "algorithm": "adamw"}]
    optimizer = LMD(groups, noise="per_rank")

    def closure() -> float:
        for param in (a, bias) if rank == 0 else (b,):
            param.grad = torch.ones_like(param)
        return 0.0

    optimizer.step(closure)
    steps = [
        torch.as_tensor(float(p in optimizer.state and optimizer.state[p]["step"]))
        for p in (a, b, c, bias)
    ]
    names = ("a", "b", "c", "bias")
    found = {f"{n} steps": count for n, count in zip(names, steps, strict=True)}
    return found | {n: p.detach().clone() for n, p in zip(names, (a, b, c, bias), strict=True)}


def _copy(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}
