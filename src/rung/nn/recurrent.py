"""Recurrent layers by their linear parts: products have formats, gates stay floating point."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from rung.nn.linear import linear
from rung.nn.quantizer import Quantizers
from rung.nn.straight_through import straight_through

# (h,), or (h, c) for an LSTM.
State = tuple[Tensor, ...]
Step = Callable[[Tensor, Tensor, State], State]


def _elman(activation: Callable[[Tensor], Tensor]) -> Step:
    return lambda of_input, of_state, state: (activation(of_input + of_state),)


def _lstm(of_input: Tensor, of_state: Tensor, state: State) -> State:
    i, f, g, o = (of_input + of_state).chunk(4, dim=-1)
    cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru(of_input: Tensor, of_state: Tensor, state: State) -> State:
    reset_x, update_x, new_x = of_input.chunk(3, dim=-1)
    reset_h, update_h, new_h = of_state.chunk(3, dim=-1)
    new = torch.tanh(new_x + (reset_x + reset_h).sigmoid() * new_h)
    return (new + (update_x + update_h).sigmoid() * (state[0] - new),)


def _step_of(module: nn.RNNBase | nn.RNNCellBase) -> Step:
    if isinstance(module, nn.LSTM | nn.LSTMCell):
        return _lstm
    if isinstance(module, nn.GRU | nn.GRUCell):
        return _gru
    return _elman(torch.tanh if module.nonlinearity == "tanh" else torch.relu)


# -- one step --------------------------------------------------------------------------------


def cell(
    module: nn.RNNCellBase, quantizers: Quantizers, input: Tensor, hx: Any = None
) -> Tensor | State:
    """The forward pass of an RNNCell, LSTMCell or GRUCell.

    Args:
        module: The cell, whose weights are used.
        quantizers: Of both of its products, input by W_ih and state by W_hh.
        input: Shape (batch, in) or (in,).
        hx: The state as the cell takes it; default: zeros.

    Returns:
        The new state as the cell returns it: h, or (h, c).

    Raises:
        ValueError: An input that is neither a vector nor a batch of vectors.
    """
    if input.ndim not in (1, 2):
        raise ValueError(
            f"A recurrent cell takes (in,) or (batch, in); got an input of {input.ndim} dimensions."
            " Give it one step at a time, or use the layer for sequences."
        )
    is_lstm = isinstance(module, nn.LSTMCell)
    rows = input if input.ndim == 2 else input[None]
    if hx is None:
        zeros = rows.new_zeros(rows.shape[0], module.hidden_size)
        state: State = (zeros, zeros) if is_lstm else (zeros,)
    else:
        given = tuple(hx) if is_lstm else (hx,)
        state = given if input.ndim == 2 else tuple(part[None] for part in given)
    new = _step_of(module)(
        linear(rows, module.weight_ih, module.bias_ih, quantizers=quantizers),
        linear(state[0], module.weight_hh, module.bias_hh, quantizers=quantizers),
        state,
    )
    new = new if input.ndim == 2 else tuple(part[0] for part in new)
    return new if is_lstm else new[0]


# -- a sequence ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Direction:
    """One layer in one direction, with its weights by their names in the module."""

    module: nn.RNNBase
    quantizers: Quantizers
    layer: int
    is_reverse: bool

    def weight(self, name: str) -> Any:
        suffix = "_reverse" if self.is_reverse else ""
        return getattr(self.module, f"{name}_l{self.layer}{suffix}", None)

    def run(self, rows: Tensor, sizes: Sequence[int], state: State) -> tuple[Tensor, State]:
        """Outputs of all steps, shape (rows, features), and the last state of each sequence.

        The input's part of all steps is one product. W_hh is rounded once for all steps, and Q_G
        rounds the sum of its gradients over the steps, as if that were one product too.
        """
        quantizers, step = self.quantizers, _step_of(self.module)
        of_input = linear(
            rows, self.weight("weight_ih"), self.weight("bias_ih"), quantizers=quantizers
        )
        w_hh, w_hr = self._rounded("weight_hh"), self._rounded("weight_hr")
        rounded = replace(quantizers, weight=None, gradient=None)
        outputs: list[Tensor] = []
        parts = list(torch.split(of_input, list(sizes)))
        for part in reversed(parts) if self.is_reverse else parts:
            active = tuple(values[: len(part)] for values in state)
            of_state = linear(active[0], w_hh, self.weight("bias_hh"), quantizers=rounded)
            new = step(part, of_state, active)
            if w_hr is not None:
                new = (linear(new[0], w_hr, quantizers=rounded), *new[1:])
            outputs.append(new[0])
            # Sequences that have ended, or have not begun in reverse, keep their state.
            state = tuple(
                torch.cat([ours, before[len(part) :]])
                for ours, before in zip(new, state, strict=True)
            )
        return torch.cat(outputs[::-1] if self.is_reverse else outputs), state

    def _rounded(self, name: str) -> Any:
        weight = self.weight(name)
        if weight is None:
            return None
        q = self.quantizers
        return straight_through(weight, q.weight, q.gradient, 0, product_grad=True)


def sequence(
    module: nn.RNNBase, quantizers: Quantizers, input: Tensor | PackedSequence, hx: Any = None
) -> tuple[Tensor | PackedSequence, Tensor | State]:
    """The forward pass of an RNN, LSTM or GRU over sequences, step by step.

    All of torch's settings: layers, directions, batch_first, bias, dropout, proj_size, packed
    sequences. While gradients are recorded, W_hh is kept as floats until the backward pass.

    Args:
        module: The layer, whose weights are used.
        quantizers: Of all of its products.
        input: Shape (time, batch, in), (batch, time, in) with batch_first, (time, in), or packed.
        hx: The state as the layer takes it; default: zeros.

    Returns:
        Outputs and last state, as the layer returns them.

    Raises:
        RuntimeError, ValueError: Shapes that torch's layer refuses, with its texts.
    """
    if isinstance(input, PackedSequence):
        rows, hidden = _run_layers(
            module,
            quantizers,
            input.data,
            input.batch_sizes.tolist(),
            hx,
            (input.sorted_indices, input.unsorted_indices),
        )
        packed = PackedSequence(
            rows, input.batch_sizes, input.sorted_indices, input.unsorted_indices
        )
        return packed, hidden
    if input.ndim not in (2, 3):
        raise ValueError(f"A recurrent layer takes 2 or 3 dimensions; got {input.ndim}.")
    batched = input.ndim == 3
    time = 1 if module.batch_first and batched else 0
    steps = input.transpose(0, time) if batched else input[:, None]
    if hx is not None and not batched:
        hx = tuple(part[:, None] for part in hx) if isinstance(hx, tuple) else hx[:, None]
    length, batch, features = steps.shape
    if not length:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
    rows, hidden = _run_layers(
        module, quantizers, steps.reshape(-1, features), [batch] * length, hx, (None, None)
    )
    outputs = rows.reshape(length, batch, -1).transpose(0, time)
    if batched:
        return outputs, hidden
    alone = tuple(h[:, 0] for h in hidden) if isinstance(hidden, tuple) else hidden[:, 0]
    return outputs[:, 0], alone


def _run_layers(
    module: nn.RNNBase,
    quantizers: Quantizers,
    rows: Tensor,
    sizes: list[int],
    hx: Any,
    orders: tuple[Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor | State]:
    """All layers over rows sorted by step; `sizes` are the sequences active in each step."""
    is_lstm = isinstance(module, nn.LSTM)
    states = _initial(module, rows, sizes[0], hx, orders[0])
    batch_sizes = torch.tensor(sizes)  # rows are what a packed sequence holds
    hidden: Any = states if is_lstm else states[0]
    module.check_forward_args(rows, hidden, batch_sizes)
    last: list[State] = []
    directions = (False, True) if module.bidirectional else (False,)
    for layer in range(module.num_layers):
        outputs = []
        for is_reverse in directions:
            state = tuple(part[len(last)] for part in states)
            direction = _Direction(module, quantizers, layer, is_reverse)
            output, state = direction.run(rows, sizes, state)
            outputs.append(output)
            last.append(state)
        rows = torch.cat(outputs, dim=-1) if len(outputs) > 1 else outputs[0]
        if layer < module.num_layers - 1:
            rows = F.dropout(rows, module.dropout, module.training)
    states = tuple(torch.stack(parts) for parts in zip(*last, strict=True))
    if orders[1] is not None:
        states = tuple(part.index_select(1, orders[1]) for part in states)
    return rows, states if is_lstm else states[0]


def _initial(module: nn.RNNBase, rows: Tensor, batch: int, hx: Any, order: Tensor | None) -> State:
    """States of all layers and directions, shape (layers * directions, batch, features)."""
    if hx is not None:
        given: State = tuple(hx) if isinstance(module, nn.LSTM) else (hx,)
        return given if order is None else tuple(part.index_select(1, order) for part in given)
    count = module.num_layers * (2 if module.bidirectional else 1)
    state = rows.new_zeros(count, batch, module.proj_size or module.hidden_size)
    if not isinstance(module, nn.LSTM):
        return (state,)
    return state, rows.new_zeros(count, batch, module.hidden_size)


# What takes the place of a module's own forward: ``FORWARDS[type(module)](module, quantizers,
# *args, **kwargs)``.
FORWARDS: dict[type[nn.Module], Callable[..., Any]] = {
    **dict.fromkeys((nn.RNNCell, nn.LSTMCell, nn.GRUCell), cell),
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), sequence),
}
