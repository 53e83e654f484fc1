"""How LMD stores medians and momenta: read as float, written back in their format."""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rung import formats
from rung.formats import LNS
from rung.kernels.moment import round_bfloat16
from rung.kernels.philox import PURPOSE_ROUND, uniform
from rung.optim._write import whole_rungs

State = dict[str, Any]
MEDIANS = ("median_pos", "median_neg")
MOMENTA = ("momentum_pos", "momentum_neg")

# Keys of the random streams, added to a parameter's own.
ROUNDING = 1 << 40


class Vectors(NamedTuple):
    """m+, m-, v+, v- of one parameter, in its shape and the working dtype."""

    m_pos: Tensor
    m_neg: Tensor
    v_pos: Tensor
    v_neg: Tensor


class Storage(ABC):
    """A storage of the four vectors in a parameter's state.

    Attributes:
        plain: Whether the state is what `kernels.lmd_lists` reads and writes itself.
    """

    plain = True

    @abstractmethod
    def init(self, state: State, m_pos: Tensor, m_neg: Tensor) -> None:
        """Put medians and zero momenta into a parameter's state."""

    @abstractmethod
    def medians(self, state: State) -> tuple[Tensor, Tensor]:
        """m+ and m- in the working dtype; not to be written to."""

    @abstractmethod
    def open(self, state: State) -> Vectors:
        """All four, for a step to write to."""

    def close(self, state: State, vectors: Vectors, step: int) -> None:  # noqa: B027
        """Store what a step wrote, where that is not the state itself."""


class FullStorage(Storage):
    """float32, or float64 for float64 parameters: 16 bytes a weight."""

    def init(self, state: State, m_pos: Tensor, m_neg: Tensor) -> None:
        for name, median in zip(MEDIANS, (m_pos, m_neg), strict=True):
            state[name] = median
        for name in MOMENTA:
            state[name] = torch.zeros_like(m_pos)

    def medians(self, state: State) -> tuple[Tensor, Tensor]:
        return state["median_pos"], state["median_neg"]

    def open(self, state: State) -> Vectors:
        return Vectors(*(state[name] for name in (*MEDIANS, *MOMENTA)))


class BFloat16Storage(Storage):
    """bfloat16, rounded stochastically: 8 bytes a weight.

    A late step moves m by less than half of bfloat16's spacing (0.4 %): rounded to nearest it
    would be lost.
    """

    def init(self, state: State, m_pos: Tensor, m_neg: Tensor) -> None:
        FullStorage().init(state, m_pos.to(torch.bfloat16), m_neg.to(torch.bfloat16))

    def medians(self, state: State) -> tuple[Tensor, Tensor]:
        return state["median_pos"].float(), state["median_neg"].float()

    def open(self, state: State) -> Vectors:
        return FullStorage().open(state)


class CodeStorage(Storage):
    """Medians as codes of an LNS, which move by whole codes; momenta in bfloat16.

    The codes span the format's octaves around m0: with 16 octaves from m0 / 256 to 256 m0. A move
    of ln m is rounded to whole codes stochastically, so that small ones count in the mean.
    """

    plain = False

    def __init__(self, fmt: LNS) -> None:
        self.fmt = fmt

    def init(self, state: State, m_pos: Tensor, m_neg: Tensor) -> None:
        largest = state["m0"] * 2 ** (self.fmt.octaves / 2)
        state["median_scale"] = torch.tensor(largest, dtype=torch.float32, device=m_pos.device)
        for name, median in zip(MEDIANS, (m_pos, m_neg), strict=True):
            state[name] = self.fmt.encode(median, scale=state["median_scale"]).codes
        for name in MOMENTA:
            state[name] = torch.zeros_like(m_pos, dtype=torch.bfloat16)

    def medians(self, state: State) -> tuple[Tensor, Tensor]:
        scale = state["median_scale"]
        pos, neg = (self.fmt.decode_codes(state[name], scale) for name in MEDIANS)
        return pos, neg

    def open(self, state: State) -> Vectors:
        return Vectors(*self.medians(state), *(state[name].float() for name in MOMENTA))

    def close(self, state: State, vectors: Vectors, step: int) -> None:
        last = self.fmt.levels - 1
        per_log = self.fmt.base_factor / math.log(2)
        before = self.medians(state)
        for index, name in enumerate(MEDIANS):
            move = per_log * torch.log(vectors[index] / before[index]).view(-1)
            key = state["key"] + (ROUNDING + index)
            draws = uniform(key, 0, move.numel(), step, PURPOSE_ROUND).to(move.device)
            exponent = state[name].view(-1).to(torch.int32) + whole_rungs(move, last, draws)
            state[name].copy_(exponent.clamp(0, last).view_as(state[name]))
        for index, name in enumerate(MOMENTA, 2):
            _write_bfloat16(state, name, vectors[index], index, step)


STORAGES: dict[str, Storage] = {"fp32": FullStorage(), "bf16": BFloat16Storage()}
"""By name; the name of an LNS makes a `CodeStorage`."""


def storage_of(name: str) -> Storage:
    """The storage of a checked name."""
    if name in STORAGES:
        return STORAGES[name]
    fmt = formats.get(name)
    assert isinstance(fmt, LNS)
    return CodeStorage(fmt)


def _write_bfloat16(state: State, name: str, values: Tensor, stream: int, step: int) -> None:
    if not values.numel():
        return
    # The magnitude's bits are rounded; a momentum's sign stays where it is.
    flat = values.to(torch.float32).view(-1)
    rounded = round_bfloat16(flat, state["key"] + (ROUNDING + stream), 0, step)
    state[name].copy_(rounded.view_as(state[name]))
