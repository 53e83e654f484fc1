"""LMD's kernels against the definitions, in float64 and with the same float32 draws."""

import pytest
import torch
from kernels.gpu.lmd_samples import (
    SHAPES,
    WORDS,
    assert_near,
    clones,
    move,
    names_of,
    numbers_of,
    split,
    states_of,
)
from kernels.gpu.samples import DEVICE, triton

from rung.kernels import lmd, lmd_lists, normal
from rung.kernels.gpu import lists
from rung.kernels.gpu import lmd as gpu_lmd
from rung.kernels.gpu.jit import EXACT, jit
from rung.kernels.gpu.lmd_values import normals
from rung.kernels.lmd_lists import RELATIVE

tl = triton.language

RULES = [
    *({"prior": prior} for prior in lmd.PRIORS),
    *({"prior": prior, "entropy": True, "evaluate": "median"} for prior in lmd.PRIORS[1:3]),
    *({"prior": prior, "update": "rms"} for prior in lmd.PRIORS),
    {"sigma": 0.0},
    {"sigma": 0.0, "update": "rms"},
    {"sigma": 1.0},
    {"sigma": 12.0, "evaluate": "median"},
    {"update": "rms", "clip": 0.5},
    {"beta1": 0.0, "beta2": 0.0},
    {"lr": 0.0, "update": "rms", "clip": 1e300},
    {"lr": 40.0},
    {"reg": 0.0},
]


@pytest.mark.parametrize("changes", RULES, ids=str)
def test_a_step_equals_the_definition_in_float64(changes):
    every, (own, words) = states_of(SHAPES), split(changes)
    names, numbers = names_of(len(SHAPES)), numbers_of(len(SHAPES), **own)
    ours = move(gpu_lmd.update, clones(every), names, numbers, words)
    exact = move(lmd_lists.update_reference, clones(every, torch.float64), names, numbers, words)
    # A move by 60 octaves has an ulp of 4e-6 itself, noise of sigma 12 likewise.
    far = changes.get("lr") == 40.0 or changes.get("sigma") == 12.0
    assert_near(ours, exact, every, 2e-5 if far else RELATIVE)


@pytest.mark.parametrize("prior", lmd.PRIORS)
@pytest.mark.parametrize("update", lmd.UPDATES)
def test_a_step_of_stored_bfloat16_is_the_definitions_but_for_ties_of_its_rounding(prior, update):
    every, words = states_of(SHAPES, torch.bfloat16), (prior, False, update, "mean")
    names, numbers = names_of(len(SHAPES)), numbers_of(len(SHAPES))
    ours = move(gpu_lmd.update, clones(every), names, numbers, words)
    theirs = move(lmd_lists.update_reference, clones(every), names, numbers, words)
    apart = total = 0
    for left, right in zip(ours[1:], theirs[1:], strict=True):
        for x, y in zip(left, right, strict=True):
            assert x.dtype == torch.bfloat16
            # Values a few ulps of float32 apart round apart by a draw between them.
            assert torch.all((x.float() - y.float()).abs() <= 2.0**-7 * y.float().abs())
            apart, total = apart + int((x != y).sum()), total + x.numel()
    assert apart <= total / 500
    # The weight is the point of what is stored.
    points = [torch.zeros_like(w) for w in ours[0]]
    lmd_lists.point_reference(points, ours[1], ours[2], numbers, "mean")
    for x, y, p, n in zip(ours[0], points, ours[1], ours[2], strict=True):
        assert torch.all((x - y).abs() <= RELATIVE * (p.float() + n.float()))


def test_states_of_bfloat16_are_rounded_as_the_definition_rounds_them():
    # Medians do not move, and beta2 = 93 / 128 times a bfloat16 is exact in float32.
    every = states_of(SHAPES, torch.bfloat16)
    every[1] = [torch.zeros_like(g) for g in every[1]]
    names, numbers = names_of(len(SHAPES)), numbers_of(len(SHAPES), lr=0.0, beta2=0.7265625)
    ours = move(gpu_lmd.update, clones(every), names, numbers)
    theirs = move(lmd_lists.update_reference, clones(every), names, numbers)
    for left, right in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(left, right, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(ours[3], every[4], strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("sample", [0, 70000])
def test_a_sample_equals_the_definition(dtype, sigma, sample):
    weights, _, m_pos, m_neg, *_ = states_of(SHAPES, dtype)
    names = names_of(len(SHAPES), sample=sample)
    numbers = numbers_of(len(SHAPES), sigma=sigma)
    exact = [w.double() for w in weights]
    gpu_lmd.sample(weights, m_pos, m_neg, *names, numbers)
    wide = [[m.double() for m in medians] for medians in (m_pos, m_neg)]
    lmd_lists.sample_reference(exact, *wide, *names, numbers)
    for t, (x, y) in enumerate(zip(weights, exact, strict=True)):
        noise = lmd_lists._noise(names[0], t, sample, names[1][t])
        pos, neg = lmd.parts(wide[0][t].view(-1), wide[1][t].view(-1), sigma, noise)
        assert torch.all((x.double() - y).view(-1).abs() <= RELATIVE * (pos + neg))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("evaluate", ["mean", "median"])
def test_a_point_equals_the_definition(dtype, evaluate):
    weights, _, m_pos, m_neg, *_ = states_of(SHAPES, dtype)
    exact, numbers = [w.double() for w in weights], numbers_of(len(SHAPES), sigma=0.3)
    gpu_lmd.point(weights, m_pos, m_neg, numbers, evaluate)
    wide = [[m.double() for m in medians] for medians in (m_pos, m_neg)]
    lmd_lists.point_reference(exact, *wide, numbers, evaluate)
    for x, y, p, n in zip(weights, exact, *wide, strict=True):
        assert torch.all((x.double() - y).abs() <= RELATIVE * (p + n))


@pytest.mark.parametrize("update", lmd.UPDATES)
def test_gathered_draws_and_a_step_from_them_equal_the_definition(update):
    every, numbers = states_of(SHAPES), numbers_of(len(SHAPES))
    wide = clones(every, torch.float64)
    ours, exact = ([clones([one[0]] * 2)] for one in (every, wide))
    for sample in range(3):
        names = names_of(len(SHAPES), sample=sample)
        gpu_lmd.accumulate(*ours[0], *every[1:4], *names, numbers, 3)
        lmd_lists.accumulate_reference(*exact[0], *wide[1:4], *names, numbers, 3)
    for left, right in zip(ours[0], exact[0], strict=True):
        for x, y in zip(left, right, strict=True):
            assert torch.all((x.double() - y).abs() <= 1e-5 * y.abs())
    words, given = ("lognormal", False, update, "mean"), clones(ours[0], torch.float64)
    stepped = move(gpu_lmd.update, clones(every), names, numbers, words, ours[0])
    expected = move(lmd_lists.update_reference, wide, names, numbers, words, given)
    assert_near(stepped, expected, every)


@pytest.mark.parametrize("cut", [1, 2, 512, 1028])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_parts_of_a_tensor_move_as_the_whole_does(cut, dtype):
    whole, numbers = states_of([(2051,)], dtype), numbers_of(1)
    parts = [[[t[0][c].clone()] for t in whole] for c in (slice(0, cut), slice(cut, None))]
    moved = move(gpu_lmd.update, whole, names_of(1, [0]), numbers)
    for part, c in zip(parts, (slice(0, cut), slice(cut, None)), strict=True):
        own = move(gpu_lmd.update, part, names_of(1, [c.start or 0]), numbers)
        for x, y in zip(own, moved, strict=True):
            assert torch.equal(x[0], y[0][c])


def test_the_draw_of_the_step_is_the_draw_of_the_sample():
    weights, grads, *vectors = states_of([(600,), (33,)])
    names, numbers = names_of(2), numbers_of(2, sigma=0.5, beta2=0.0)
    ones = [torch.ones_like(g) for g in grads]
    gpu_lmd.sample(weights, *vectors[:2], *names, numbers)
    points = [torch.zeros_like(w) for w in weights]
    move(gpu_lmd.update, [points, ones, *vectors], names, numbers)
    # With a gradient of 1 and beta2 = 0, v+- become +-w+-.
    for v, u, w in zip(vectors[2], vectors[3], weights, strict=True):
        assert torch.equal(v + u, w)


# The interpreter's arithmetic warns.
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
@pytest.mark.parametrize("update", lmd.UPDATES)
@pytest.mark.parametrize("prior", lmd.PRIORS)
@pytest.mark.parametrize("lr", [0.03, 1e6])
def test_medians_stay_positive_and_finite_for_any_gradient(update, prior, lr):
    medians = torch.tensor([2.0**-126, 1e-20, 0.02, 1.0, 1e20, 2.0**100])
    hostile = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38, -3e38, 1e-45, 0.0, -0.0, 1e20])
    m, g = (t.reshape(-1) for t in torch.meshgrid(medians, hostile, indexing="ij"))
    zeros = [[torch.zeros_like(m).to(DEVICE)] for _ in range(3)]
    every = [zeros[0], [g.to(DEVICE)], [m.to(DEVICE)], [m.flip(0).to(DEVICE)], *zeros[1:]]
    for step in range(3):
        names = torch.tensor([[5, step, 6]], device=DEVICE), [0], 0
        words = (prior, False, update, "mean")
        weights, *vectors = move(gpu_lmd.update, every, names, numbers_of(1, lr=lr), words)
        for (median,) in vectors[:2]:
            assert torch.all((median >= lmd.SMALLEST) & (median <= lmd.LARGEST))
        assert all(bool(torch.isfinite(t[0]).all()) for t in (weights, *vectors))


@pytest.mark.parametrize("scale", [1e-20, 1e-38])
def test_tiny_gradients_have_relative_directions_too(scale):
    every = states_of([(600,)])
    every[1] = [torch.where(every[1][0] > 0, scale, -scale)]
    every[4:] = [[torch.zeros_like(t[0])] for t in every[4:]]
    words = ("lognormal", False, "rms", "mean")
    names, numbers = names_of(1), numbers_of(1, sigma=0.0, beta1=0.0)
    ours = move(gpu_lmd.update, clones(every), names, numbers, words)
    exact = move(lmd_lists.update_reference, clones(every, torch.float64), names, numbers, words)
    assert_near(ours[:3], exact[:3], every, 1e-5)
    assert not torch.equal(ours[1][0], every[2][0])


@jit
def _pairs(words, pos, neg, COUNT: tl.constexpr):
    i = tl.arange(0, COUNT)
    x, y = normals(tl.load(words + i))
    tl.store(pos + i, x)
    tl.store(neg + i, y)


def test_normals_are_within_the_bound_of_the_formula():
    count, generator = 2**16, torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (count,), generator=generator)
    bits[:4] = torch.tensor([0, -1, -(2**31), 2**31 - 1])
    pos, neg = (torch.empty(count, device=DEVICE) for _ in range(2))
    _pairs[(1,)](bits.to(DEVICE, torch.int32), pos, neg, count, **EXACT)
    word = bits & 0xFFFFFFFF
    radius = torch.sqrt(-2 * torch.log(((word >> 14).double() + 0.5) * 2.0**-18))
    angle = (((word >> 2) & 0xFFF).double() + 0.5) * (torch.pi / 2 * 2.0**-12)
    for own, part, bit in ((pos, torch.cos(angle), 0), (neg, torch.sin(angle), 1)):
        exact = (1 - 2 * ((word >> bit) & 1)) * radius * part
        assert float((own.cpu().double() - exact).abs().max()) <= normal.ERROR


def test_numbers_on_the_device_give_the_same_step():
    every, names = states_of(SHAPES), names_of(len(SHAPES))
    numbers = numbers_of(len(SHAPES), sigma=0.4)
    host = move(gpu_lmd.update, clones(every), names, numbers)
    there = move(gpu_lmd.update, clones(every), names, numbers.to(DEVICE))
    for left, right in zip(host, there, strict=True):
        for x, y in zip(left, right, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=0)


def test_tables_of_tensors_that_stay_where_they_are_are_made_once():
    every, names, numbers = states_of([(20,), (16,)]), names_of(2), numbers_of(2)
    move(gpu_lmd.update, every, names, numbers)
    before = lists._kept_rows.cache_info()
    move(gpu_lmd.update, every, names_of(2, sample=3), numbers)
    after = lists._kept_rows.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits


def test_what_is_refused_is_refused_before_anything_is_written():
    every, names, numbers = states_of([(20,)]), names_of(1), numbers_of(1)
    before = clones(every)
    for words in (("flat", *WORDS[1:]), (*WORDS[:2], "adam", "mean"), (*WORDS[:3], "mode")):
        with pytest.raises(ValueError, match="must be"):
            move(gpu_lmd.update, every, names, numbers, words)
    with pytest.raises(ValueError, match=r"elements must lie in \[0, 2\^33\)"):
        move(gpu_lmd.update, every, (names[0], [2**33], 0), numbers)
    every[5] = [every[5][0][:10].clone()]
    with pytest.raises(ValueError, match="all tensors of a weight must be of one length"):
        move(gpu_lmd.update, every, names, numbers)
    for left, right in zip(every[:5], before[:5], strict=True):
        assert torch.equal(left[0], right[0])


def test_empty_lists_do_nothing():
    keys, numbers = torch.zeros((0, 3), dtype=torch.int64), torch.zeros((0, 7))
    gpu_lmd.sample([], [], [], keys, [], 0, numbers)
    gpu_lmd.point([], [], [], numbers, "mean")
    gpu_lmd.accumulate([], [], [], [], [], keys, [], 0, numbers, 1)
    gpu_lmd.update([], [], [], [], [], [], [], [], keys, [], 0, numbers, *WORDS)
