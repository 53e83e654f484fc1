"""The CPU's fused steps against their references: codes and moments to the last bit."""

import math

import pytest
import torch
from kernels.moments import MOMENTA, MOMENTS, gradients, momenta_of, moments_of, randn

from rung.kernels import coded_madam, finite, inverse_root, madam, moment, rung_moves
from rung.kernels.coded_madam import LADDER, LNS, SINH
from rung.kernels.philox import key_from_seed

SHAPES = [(0,), (), (1,), (15,), (16,), (17,), (1000,), (30, 20), (2049,), (4099,)]


def coded_arguments(bits, system, kind, packed, shapes, **options):
    count, generator = len(shapes), torch.Generator().manual_seed(bits)
    dtype = torch.uint8 if bits <= 8 else torch.int16
    top = 2**bits
    codes = [torch.randint(0, top, shape, generator=generator) for shape in shapes]
    codes = [torch.where(c >= 2**15, c - 2**16, c) if bits == 16 else c for c in codes]
    moments, scales = moments_of(kind, shapes, bits)
    bytes_ = [(c.numel() + 7) // 8 if packed and system == LADDER else 0 for c in codes]
    signs = [torch.randint(0, 256, (n,), generator=generator).to(torch.uint8) for n in bytes_]
    keys = [torch.tensor(key_from_seed(i, "w")) for i in range(count)]
    grads = options.get("grads") or gradients(shapes)
    rungs = torch.tensor([options.get("rungs", 1.7) * (1 + i / 7) for i in range(count)]).double()
    numbers = torch.tensor(
        [0.99, options.get("clip", 8.0), options.get("decay", 0.0), 0.9]
    ).double()
    momenta = momenta_of(options.get("momentum"), shapes, bits)
    return (
        [c.to(dtype) for c in codes], moments, scales, momenta, grads, signs, keys,
        torch.arange(1.0, count + 1), numbers, rungs, [bits] * count, system,
        options.get("stochastic", False), options.get("maximize", False),
    )  # fmt: skip


def copied(arguments, written=3):
    """The same with copies of the lists that a step writes."""
    return [*([t.clone() for t in part] for part in arguments[:written]), *arguments[written:]]


def assert_same_steps(operation, arguments):
    ours, theirs = copied(arguments, 4), copied(arguments, 4)
    for _ in range(2):
        operation(*ours)
        operation.reference(*theirs)
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        for left, right in zip(a, b, strict=True):
            assert torch.equal(left, right)


FORMATS = [(b, LADDER) for b in (2, 3, 4, 7, 8, 9, 12, 16)]
FORMATS += [(b, LNS) for b in (4, 8, 9, 10, 12, 16)]
FORMATS += [(b, SINH) for b in (2, 3, 4, 7, 8, 9, 12, 16)]


@pytest.mark.parametrize(("bits", "system"), FORMATS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_codes_of_every_format_equal_the_references(bits, system, stochastic):
    arguments = coded_arguments(bits, system, "bf16", True, SHAPES, stochastic=stochastic)
    assert_same_steps(coded_madam.step, arguments)


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"stochastic": True},
        {"decay": 0.3},
        {"decay": 0.3, "stochastic": True, "maximize": True},
        {"rungs": 1e30, "clip": 1.5},
        {"rungs": 0.0, "stochastic": True},
        {"rungs": 1e-3, "stochastic": True},
    ],
)
def test_storages_signs_and_options_equal_the_references(kind, packed, options):
    for bits, system in ((8, LADDER), (12, LADDER), (16, LNS), (8, SINH)):
        assert_same_steps(
            coded_madam.step, coded_arguments(bits, system, kind, packed, SHAPES, **options)
        )


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize(
    "options",
    [{}, {"stochastic": True, "maximize": True}, {"decay": 0.3, "rungs": 0.1}, {"rungs": 1e30}],
)
def test_momenta_of_every_storage_equal_the_references(momentum, options):
    for bits, system, kind in ((8, LADDER, "fp32"), (12, LNS, "bf16"), (8, SINH, "log8")):
        arguments = coded_arguments(bits, system, kind, True, SHAPES, momentum=momentum, **options)
        assert_same_steps(coded_madam.step, arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_gradients_and_strides_equal_the_references(dtype):
    shapes = [(30, 20), (17, 3), (5,)]
    grads = [randn(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes)]
    grads[0] = grads[0].t().contiguous().t()
    for kind in MOMENTS:
        assert_same_steps(
            coded_madam.step, coded_arguments(8, LADDER, kind, False, shapes, grads=grads)
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_large_and_many_tensors_on_threads_equal_the_references(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for shapes in ([(300_003,), (7,), (70_001,)], [(n % 40,) for n in range(120)]):
            assert_same_steps(
                coded_madam.step, coded_arguments(8, LADDER, "bf16", False, shapes, stochastic=True)
            )
    finally:
        torch.set_num_threads(before)


def madam_arguments(kind, shapes, **options):
    count = len(shapes)
    weights = [0.1 * randn(*shape, seed=70 + i) for i, shape in enumerate(shapes)]
    moments, scales = moments_of(kind, shapes, 3)
    numbers = [0.99, 8.0, options.get("decay", 0.0), options.get("lr", 0.01)]
    return (
        weights, moments, scales, options.get("grads") or gradients(shapes),
        [torch.tensor(0.25)] * count,
        [torch.tensor(i) for i in range(count)] if kind != "fp32" else [],
        torch.arange(1.0, count + 1), torch.tensor(numbers, dtype=torch.float64),
        options.get("maximize", False),
    )  # fmt: skip


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("options", [{}, {"decay": 0.1}, {"maximize": True}, {"lr": 0.06}])
@pytest.mark.parametrize("narrow", [False, True])
def test_float_weights_are_within_the_bound_of_the_reference(kind, options, narrow):
    shapes = [*SHAPES, (100_003,)]
    # Gradients whose squares have no normal float32 move in proportion; the formula's are noise.
    grads = [torch.where(g.abs() < 1e-17, 0.0, g) for g in gradients(shapes)]
    options = {**options, "grads": [g.bfloat16() for g in grads] if narrow else grads}
    arguments = madam_arguments(kind, shapes, **options)
    ours, theirs = copied(arguments), copied(arguments)
    madam.step(*ours)
    madam.step.reference(*theirs)
    for left, right in zip(ours[0], theirs[0], strict=True):
        spacing = torch.finfo(torch.float32).eps * right.abs()
        assert bool(((left - right).abs() <= madam.ULPS * spacing).all())
    for left, right in zip(ours[1] + ours[2], theirs[1] + theirs[2], strict=True):
        assert torch.equal(left, right)


def test_a_step_of_lr_zero_changes_no_weight_beyond_the_bound():
    arguments = copied(madam_arguments("fp32", [(33,)], lr=0.0))
    before = arguments[0][0].clone()
    madam.step(*arguments)
    assert torch.equal(arguments[0][0], before)


def test_strided_weights_are_written_in_place():
    arguments = copied(madam_arguments("fp32", [(6, 7)]))
    other = copied(arguments)
    other[0] = [arguments[0][0].clone().t().contiguous().t()]
    madam.step(*arguments)
    madam.step(*other)
    assert torch.equal(other[0][0], arguments[0][0])
    assert not other[0][0].is_contiguous()


def test_the_inverse_root_is_within_its_error_everywhere():
    v = torch.exp(torch.linspace(-87.3, 87.3, 1_000_001, dtype=torch.float64)).float()
    v = torch.cat([v, torch.linspace(1, 4, 1_000_001), torch.tensor([2.0**-126, 2.0**126])])
    got = inverse_root.FACTOR * inverse_root.unscaled(v).double()
    assert float((got * v.double().sqrt() - 1).abs().max()) <= inverse_root.ERROR
    tiny = inverse_root.unscaled(torch.tensor([0.0, 1e-45, 1e-39]))
    assert bool(((tiny > 0) & (tiny < 1e21)).all())


def test_wanted_rungs_are_those_of_the_formula():
    grad, v = randn(10_000), torch.exp(randn(10_000, seed=1))
    numbers = torch.tensor([0.999, 8.0, 0.1], dtype=torch.float64)
    steps, rungs = torch.tensor([5.0]), torch.tensor([1.7], dtype=torch.float64)
    new = coded_madam.next_moment(grad, v, numbers)
    ratio = grad * inverse_root.unscaled(new)
    signs = torch.where(randn(10_000, seed=2) < 0, -1.0, 1.0)
    got = rung_moves.rungs_down(signs, ratio, *rung_moves.moves(steps, numbers, rungs))
    expected_v, update = madam.normalized_gradient(grad.double(), v.double(), 5, 0.999, 8.0)
    torch.testing.assert_close(new.double(), expected_v, rtol=2e-7, atol=0)
    expected = (signs * update + 0.1) * 1.7
    torch.testing.assert_close(got.double(), expected, rtol=1.5e-6, atol=1e-6)


def test_a_step_moves_no_weight_further_than_its_reach():
    steps, rungs = torch.tensor([1.0]), torch.tensor([1e9], dtype=torch.float64)
    for decay in (0.0, 1.0):
        numbers = torch.tensor([0.9, 8.0, decay], dtype=torch.float64)
        _, reach, decay_in_rungs = rung_moves.moves(steps, numbers, rungs)
        assert float(reach + decay_in_rungs) == rung_moves.FURTHEST


def test_stochastic_moves_have_the_wanted_mean_whatever_the_draw():
    every = torch.arange(2**16, dtype=torch.int32)
    for wanted in (0.0, 0.25, -0.25, 1 / 3, -1 / 3, 2.0**-16, 5.875, -1234.5):
        moves = rung_moves.whole_rungs(torch.tensor(wanted), every)
        assert abs(float(moves.double().mean()) - wanted) < 2.0**-16
        assert set(moves.tolist()) <= {math.floor(wanted), math.floor(wanted) + 1}


def test_numbers_of_moves_and_of_moments_are_uniform_and_independent():
    low, high = moment.random_halves(torch.tensor(11), 0, 320_000, 3)
    for numbers in (low, high):
        assert 0 <= int(numbers.min()) < 9
        assert 2**16 - 9 < int(numbers.max()) < 2**16
        # Of 32 neighbours each part of the range has one: systematic sampling.
        parts = (numbers >> 11).reshape(-1, 32).sort(dim=1).values
        assert bool((parts == torch.arange(32, dtype=torch.int32)).all())
        for lane in (0, 5, 31):
            own = (numbers[lane::32].double() + 0.5) / 2**16
            assert abs(float(own.mean()) - 0.5) < 4 * (1 / 12 / len(own)) ** 0.5
    words = torch.stack((low[::32], high[::32])).double()
    assert abs(float(torch.corrcoef(words)[0, 1])) < 4 / 10_000**0.5


def test_random_numbers_belong_to_elements_wherever_a_part_begins():
    whole = moment.random_halves(torch.tensor(5), 0, 100, 7)
    for start, count in ((0, 1), (3, 40), (16, 16), (17, 83), (99, 1)):
        part = moment.random_halves(torch.tensor(5), start, count, 7)
        for own, every in zip(part, whole, strict=True):
            assert torch.equal(own, every[start : start + count])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -float("inf"), 1e20, 2.0**63])
def test_any_gradient_that_is_not_finite_is_seen(dtype, bad):
    for count, place in ((1, 0), (17, 16), (70_001, 70_000), (70_001, 5)):
        grads = [torch.ones(3, dtype=dtype), torch.full((count,), -1.0, dtype=dtype)]
        if bad is not None:
            grads[1][place] = bad
        expected = bool(all((g.double().abs() <= 2.0**63).all() for g in grads))
        assert bool(finite.all_finite(grads)) == expected
        assert bool(finite.reference(grads)) == expected
        grads[1] = grads[1].repeat(2)[::2]
        assert bool(finite.all_finite(grads)) == expected
