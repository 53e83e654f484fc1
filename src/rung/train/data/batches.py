"""The order in which a recipe sees its examples. All of it is drawn from a given generator."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor


def shuffled_batches(
    n: int, batch_size: int, generator: torch.Generator, start: int = 0
) -> Iterator[Tensor]:
    """Draw one epoch's order and cut it into batches.

    The order is drawn at once when this is called, not when the first batch is asked for: a run
    that is resumed sets the generator to its state at the epoch's begin and gives ``start``.

    Args:
        n: Number of examples, at least 1.
        batch_size: Examples a batch; the last batch may be smaller.
        generator: Source of the order.
        start: Number of batches to leave out at the begin, 0 to all of them.

    Returns:
        Iterator of int64 index tensors, shape (B,), on the generator's device.

    Raises:
        ValueError: ``n`` or ``batch_size`` is below 1, or ``start`` lies outside the epoch.
    """
    _check_positive("n", n)
    _check_positive("batch_size", batch_size)
    _check_start(start, -(-n // batch_size))
    order = torch.randperm(n, generator=generator, device=generator.device)
    return (order[i : i + batch_size] for i in range(start * batch_size, n, batch_size))


def repeated_batches(
    n: int, batch_size: int, steps: int, generator: torch.Generator, start: int = 0
) -> Iterator[Tensor]:
    """Draw an exact number of batches: pass after pass, each in an order of its own.

    A pass's order is drawn when its first batch is asked for, or passed over because of ``start``;
    the generator moves by whole passes, so an epoch that is resumed sees the same batches.

    Args:
        n: Number of examples, at least 1.
        batch_size: Examples a batch; the last batch of every pass may be smaller.
        steps: Number of batches, at least 1.
        generator: Source of the orders.
        start: Number of batches to leave out at the begin, 0 to all of them.

    Yields:
        int64 index tensors, shape (B,), on the generator's device.

    Raises:
        ValueError: ``n``, ``batch_size`` or ``steps`` is below 1, or ``start`` lies outside the
            epoch.
    """
    _check_positive("n", n)
    _check_positive("batch_size", batch_size)
    _check_positive("steps", steps)
    _check_start(start, steps)
    in_pass = -(-n // batch_size)
    for begin in range(0, steps, in_pass):
        count = min(in_pass, steps - begin)
        skipped = min(max(start - begin, 0), count)
        order = shuffled_batches(n, batch_size, generator, skipped)
        yield from islice(order, count - skipped)


def bptt_batches(
    tokens: Tensor, batch_size: int, window: int, start: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut a text into ``batch_size`` columns and walk down them window by window.

    Each column is a contiguous piece of the text; the tail that fills no column is left out. The
    last window may be shorter. This is the convention of published word-level language models.

    Args:
        tokens: Shape (N,), any integer type.
        batch_size: Number of columns B.
        window: Tokens T of each column that one batch holds (backpropagation through time).
        start: Number of windows to leave out at the begin, 0 to all of them.

    Returns:
        Iterator of (inputs, targets): int64, shapes (T, B) and (T * B,); each target is the token
        that follows its input.

    Raises:
        ValueError: A count is below 1, the text is too short for two tokens a column, or
            ``start`` lies outside the text.
    """
    _check_positive("batch_size", batch_size)
    _check_positive("window", window)
    rows = len(tokens) // batch_size
    if rows < 2:
        raise ValueError(
            f"`tokens` must hold at least 2 tokens for each of {batch_size} columns; got "
            f"{len(tokens)}. Take a longer text or a smaller batch."
        )
    _check_start(start, -(-(rows - 1) // window))
    # (N,) -> (B, L) -> (L, B): column b is the b-th piece of the text
    columns = tokens[: rows * batch_size].view(batch_size, rows).t().contiguous()
    return (_window(columns, i, window) for i in range(start * window, rows - 1, window))


def _window(columns: Tensor, begin: int, window: int) -> tuple[Tensor, Tensor]:
    end = min(begin + window, len(columns) - 1)
    inputs = columns[begin:end].long()
    targets = columns[begin + 1 : end + 1].long()
    return inputs, targets.reshape(-1)  # (T, B), (T, B) -> (T * B,)


def random_windows(
    tokens: Tensor, batch_size: int, context: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw one batch of windows, each from anywhere in the text.

    Args:
        tokens: Shape (N,), any integer type, on the generator's device.
        batch_size: Number of windows B.
        context: Tokens T of a window.
        generator: Source of the places; the draw is with replacement.

    Returns:
        (inputs, targets): int64, both of shape (B, T); each target is the token that follows its
        input.

    Raises:
        ValueError: A count is below 1, or the text is not longer than one window.
    """
    _check_positive("batch_size", batch_size)
    _check_positive("context", context)
    if len(tokens) <= context:
        raise ValueError(
            f"`tokens` must be longer than one context of {context}; got {len(tokens)} tokens. "
            "Take a longer text or a shorter context."
        )
    begins = torch.randint(
        len(tokens) - context, (batch_size,), generator=generator, device=generator.device
    )
    windows = tokens.unfold(0, context + 1, 1)[begins].long()  # (N - T, T + 1) -> (B, T + 1)
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"`{name}` must be at least 1; got {value}. Give a positive whole number.")


def _check_start(start: int, batches: int) -> None:
    if not 0 <= start <= batches:
        raise ValueError(
            f"`start` must lie in 0..{batches}, the batches of this epoch; got {start}. "
            "Resume with the data and batch size of the run that was stopped."
        )
