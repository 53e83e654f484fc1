import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rung.train.data import bptt_batches, random_windows, repeated_batches, shuffled_batches

seeds = st.integers(0, 2**31)
counts = st.integers(1, 60)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None)
@given(counts, st.integers(1, 70), seeds)
def test_an_epoch_covers_every_index_exactly_once(n, batch_size, seed):
    batches = list(shuffled_batches(n, batch_size, seeded(seed)))
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@settings(deadline=None)
@given(counts, st.integers(1, 20), seeds, st.data())
def test_an_epoch_resumed_at_start_is_the_tail_of_the_whole(n, batch_size, seed, data):
    whole = list(shuffled_batches(n, batch_size, seeded(seed)))
    start = data.draw(st.integers(0, len(whole)))
    tail = list(shuffled_batches(n, batch_size, seeded(seed), start))
    assert [batch.tolist() for batch in tail] == [batch.tolist() for batch in whole[start:]]


def test_the_order_is_drawn_when_the_epoch_is_made():
    generator = seeded(0)
    state = generator.get_state()
    epoch = shuffled_batches(10, 3, generator)
    assert not torch.equal(generator.get_state(), state)
    assert len(list(epoch)) == 4


def test_two_epochs_of_one_generator_differ():
    generator = seeded(0)
    first, second = (list(shuffled_batches(50, 50, generator)) for _ in range(2))
    assert not torch.equal(first[0], second[0])


@settings(deadline=None)
@given(st.integers(2, 120), st.integers(1, 5), st.integers(1, 12))
def test_windows_walk_down_columns_and_targets_are_the_next_tokens(n, batch_size, window):
    assume(n // batch_size >= 2)
    tokens = torch.arange(n, dtype=torch.int32)
    rows = n // batch_size
    batches = list(bptt_batches(tokens, batch_size, window))
    inputs = torch.cat([inputs for inputs, _ in batches])
    assert inputs.shape == (rows - 1, batch_size)
    assert all(part.shape[0] <= window for part, _ in batches)
    for column in range(batch_size):
        expected = list(range(column * rows, (column + 1) * rows - 1))
        assert inputs[:, column].tolist() == expected
    for part, targets in batches:
        assert part.dtype == targets.dtype == torch.int64
        assert torch.equal(targets, (part + 1).reshape(-1))


@settings(deadline=None)
@given(st.integers(10, 120), st.integers(1, 5), st.integers(1, 12), st.data())
def test_a_text_resumed_at_start_is_the_tail_of_the_whole(n, batch_size, window, data):
    tokens = torch.arange(n)
    whole = list(bptt_batches(tokens, batch_size, window))
    start = data.draw(st.integers(0, len(whole)))
    tail = list(bptt_batches(tokens, batch_size, window, start))
    assert len(tail) == len(whole) - start
    for (inputs, targets), (expected, following) in zip(tail, whole[start:], strict=True):
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, following)


@settings(deadline=None)
@given(st.integers(2, 80), st.integers(1, 6), seeds, st.data())
def test_a_random_window_is_a_piece_of_the_text_and_its_targets_follow(n, size, seed, data):
    context = data.draw(st.integers(1, n - 1))
    inputs, targets = random_windows(
        torch.arange(n, dtype=torch.int32), size, context, seeded(seed)
    )
    assert inputs.shape == targets.shape == (size, context)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(context))
    assert torch.equal(targets, inputs + 1)
    assert int(targets.max()) < n


def test_random_windows_reach_both_ends_of_the_text():
    inputs, targets = random_windows(torch.arange(6), 200, 3, seeded(0))
    assert (int(inputs.min()), int(targets.max())) == (0, 5)


@pytest.mark.parametrize(("n", "batch_size", "name"), [(0, 2, "n"), (4, 0, "batch_size")])
def test_an_epoch_without_examples_or_batches_is_refused(n, batch_size, name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1; got 0"):
        shuffled_batches(n, batch_size, seeded(0))


@pytest.mark.parametrize("start", [-1, 4])
def test_a_start_outside_the_epoch_is_refused(start):
    with pytest.raises(ValueError, match=rf"`start` must lie in 0\.\.3.*got {start}"):
        shuffled_batches(9, 3, seeded(0), start)
    with pytest.raises(ValueError, match=rf"`start` must lie in 0\.\.3.*got {start}"):
        bptt_batches(torch.arange(10), 1, 3, start)


def test_a_text_too_short_for_the_columns_is_refused():
    with pytest.raises(ValueError, match="at least 2 tokens for each of 4 columns; got 7"):
        bptt_batches(torch.arange(7), 4, 2)


def test_a_text_not_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match="longer than one context of 5; got 5 tokens"):
        random_windows(torch.arange(5), 1, 5, seeded(0))


def test_windows_of_no_tokens_are_refused():
    with pytest.raises(ValueError, match="`window` must be at least 1; got 0"):
        bptt_batches(torch.arange(5), 1, 0)
    with pytest.raises(ValueError, match="`context` must be at least 1; got 0"):
        random_windows(torch.arange(5), 1, 0, seeded(0))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 9])
def test_repeated_batches_are_whole_passes_cut_at_the_last_step(steps):
    whole = list(repeated_batches(8, 3, steps, torch.Generator().manual_seed(0)))
    assert len(whole) == steps
    for begin in range(0, steps - steps % 3, 3):
        seen = torch.cat(whole[begin : begin + 3])
        assert torch.equal(seen.sort().values, torch.arange(8))
    for start in range(steps + 1):
        generator = torch.Generator().manual_seed(0)
        rest = list(repeated_batches(8, 3, steps, generator, start))
        assert len(rest) == steps - start
        assert all(map(torch.equal, rest, whole[start:]))


def test_repeated_batches_of_one_pass_are_shuffled_batches():
    generators = (torch.Generator().manual_seed(3) for _ in range(2))
    repeated = list(repeated_batches(8, 3, 3, next(generators)))
    assert all(map(torch.equal, repeated, shuffled_batches(8, 3, next(generators))))


def test_repeated_batches_refuse_counts_below_one_and_a_start_outside():
    generator = torch.Generator()
    with pytest.raises(ValueError, match="`steps` must be at least 1; got 0"):
        next(repeated_batches(8, 3, 0, generator))
    with pytest.raises(ValueError, match=r"`start` must lie in 0\.\.2, .*; got 3"):
        next(repeated_batches(8, 3, 2, generator, 3))
