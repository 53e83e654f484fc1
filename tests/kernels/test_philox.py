import numpy as np
import pytest
import torch

from rung.kernels.philox import (
    key_from_seed,
    philox_blocks,
    philox_blocks_reference,
    philox_scalar,
    random_bytes,
    random_words,
    uniform,
)

# Known answers of the generator's authors (counter, key, output).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
KEYS = [0, 1, -1, 2**63 - 1, -(2**63), key_from_seed(7, "layer.weight")]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_scalar_gives_the_published_answers(counter, key, expected):
    assert philox_scalar(counter, key) == expected


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(("first", "step"), [(0, 0), (5, 3), (2**32 - 2, 2**32 - 1)])
def test_reference_and_numba_equal_the_scalar(key, first, step):
    tensor = torch.tensor(key)
    fast = philox_blocks(tensor, first, 5, step, 2)
    slow = philox_blocks_reference(tensor, first, 5, step, 2)
    words = []
    for block in range(first, first + 5):
        counter = (block & 0xFFFFFFFF, block >> 32, step, 2)
        words += philox_scalar(counter, (key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF))
    assert [word & 0xFFFFFFFF for word in fast.tolist()] == words
    assert torch.equal(fast, slow)


@pytest.mark.parametrize("draw", [random_words, random_bytes, uniform])
def test_any_slice_equals_the_slice_of_the_whole(draw):
    key = torch.tensor(11)
    whole = draw(key, 0, 100, 4, 1)
    for start in range(0, 20):
        for count in (0, 1, 3, 4, 17):
            assert torch.equal(draw(key, start, count, 4, 1), whole[start : start + count])


def test_a_tensor_step_draws_the_same_as_a_number():
    key = torch.tensor(5)
    assert torch.equal(
        random_words(key, 3, 50, torch.tensor(9.0).long(), 1), random_words(key, 3, 50, 9, 1)
    )


def test_streams_of_names_purposes_and_steps_differ():
    draws = {
        tuple(random_words(torch.tensor(key_from_seed(seed, name)), 0, 4, step, purpose).tolist())
        for seed in (0, 1)
        for name in ("a", "b")
        for step in (0, 1)
        for purpose in (0, 1)
    }
    assert len(draws) == 16


def test_uniform_is_on_the_grid_of_24_bits_with_the_right_mean():
    draws = uniform(torch.tensor(3), 0, 200_000, 0, 1)
    assert draws.dtype == torch.float32
    assert torch.equal(draws * 2**24, torch.round(draws * 2**24))
    assert float(draws.min()) >= 0
    assert float(draws.max()) < 1
    # Three standard errors of a mean of uniforms.
    assert abs(float(draws.double().mean()) - 0.5) < 3 * (1 / 12 / 200_000) ** 0.5


def test_it_runs_where_nothing_can_be_cached_on_disk(monkeypatch):
    import numba.core.caching

    from rung.kernels.cpu import philox_loops
    from rung.kernels.cpu.jit import jit

    def no_locator(self, function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(numba.core.caching.FunctionCache, "__init__", no_locator)
    uncached = jit(philox_loops.fill.py_func)
    words = np.empty(8, np.int32)
    uncached(words, *(np.uint64(number) for number in (9, 0, 1, 1)))
    assert torch.equal(torch.from_numpy(words), random_words(torch.tensor(9), 0, 8, 1, 1))
