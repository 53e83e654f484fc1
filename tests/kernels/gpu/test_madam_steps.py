"""The GPU's fused steps against their references: codes and moments to the last bit."""

import pytest
import torch
from kernels.gpu.samples import on_device
from kernels.moments import MOMENTA, MOMENTS, gradients, momenta_of, moments_of, randn

from rung.kernels import coded_madam, madam
from rung.kernels.coded_madam import LADDER, LNS, SINH
from rung.kernels.gpu import coded_madam as gpu_coded
from rung.kernels.gpu import lists
from rung.kernels.gpu import madam as gpu_madam
from rung.kernels.philox import key_from_seed

SHAPES = [(0,), (), (15,), (16,), (30, 20), (1040,)]
FORMATS = [(b, LADDER) for b in (2, 8, 12, 16)] + [(b, LNS) for b in (4, 8, 12, 16)]
FORMATS += [(b, SINH) for b in (2, 8, 12, 16)]


def coded_arguments(bits, system, kind, packed, shapes, **options):
    count, generator = len(shapes), torch.Generator().manual_seed(bits)
    dtype = torch.uint8 if bits <= 8 else torch.int16
    codes = [torch.randint(0, 2**bits, shape, generator=generator) for shape in shapes]
    codes = [torch.where(c >= 2**15, c - 2**16, c) if bits == 16 else c for c in codes]
    moments, scales = moments_of(kind, shapes, bits)
    sizes = [(c.numel() + 7) // 8 if packed and system == LADDER else 0 for c in codes]
    signs = [torch.randint(0, 256, (n,), generator=generator).to(torch.uint8) for n in sizes]
    rungs = torch.tensor([options.get("rungs", 1.7) * (1 + i / 7) for i in range(count)]).double()
    numbers = torch.tensor(
        [0.99, options.get("clip", 8.0), options.get("decay", 0.0), 0.9]
    ).double()
    momenta = momenta_of(options.get("momentum"), shapes, bits)
    return on_device(
        [c.to(dtype) for c in codes], moments, scales, momenta,
        options.get("grads") or gradients(shapes), signs,
        [torch.tensor(key_from_seed(i, "w")) for i in range(count)],
    ) + (
        torch.arange(1.0, count + 1), numbers, rungs, [bits] * count, system,
        options.get("stochastic", False), options.get("maximize", False),
    )  # fmt: skip


def assert_same_steps(arguments):
    ours, theirs = ([[t.clone() for t in part] for part in arguments[:4]] for _ in range(2))
    for _ in range(2):
        gpu_coded.step(*ours, *arguments[4:])
        coded_madam.reference(*theirs, *arguments[4:])
    for a, b in zip(ours, theirs, strict=True):
        for left, right in zip(a, b, strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize(("bits", "system"), FORMATS)
@pytest.mark.parametrize("stochastic", [False, True])
def test_codes_of_every_format_equal_the_references(bits, system, stochastic):
    assert_same_steps(coded_arguments(bits, system, "bf16", True, SHAPES, stochastic=stochastic))


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"decay": 0.3},
        {"decay": 0.3, "stochastic": True, "maximize": True},
        {"rungs": 1e30, "clip": 1.5},
        {"rungs": 1e-3, "stochastic": True},
    ],
)
def test_storages_signs_and_options_equal_the_references(kind, packed, options):
    for bits, system in ((8, LADDER), (16, LNS), (8, SINH)):
        assert_same_steps(coded_arguments(bits, system, kind, packed, SHAPES[:5], **options))


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("options", [{"stochastic": True, "maximize": True}, {"decay": 0.3}])
def test_momenta_of_every_storage_equal_the_references(momentum, options):
    for bits, system, kind in ((8, LADDER, "fp32"), (12, LNS, "bf16"), (8, SINH, "log8")):
        arguments = coded_arguments(
            bits, system, kind, True, SHAPES[:5], momentum=momentum, **options
        )
        assert_same_steps(arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_gradients_and_strides_equal_the_references(dtype):
    shapes = [(30, 20), (17, 3), (5,)]
    grads = [randn(*shape, seed=i).to(dtype) for i, shape in enumerate(shapes)]
    grads[0] = grads[0].t().contiguous().t()
    grads[2] = grads[2].float()
    for kind in MOMENTS:
        assert_same_steps(coded_arguments(8, LADDER, kind, False, shapes, grads=grads))


def madam_arguments(kind, shapes, **options):
    count = len(shapes)
    weights = [0.1 * randn(*shape, seed=70 + i) for i, shape in enumerate(shapes)]
    moments, scales = moments_of(kind, shapes, 3)
    numbers = [0.99, 8.0, options.get("decay", 0.0), options.get("lr", 0.01)]
    keys = [torch.tensor(i) for i in range(count)] if kind != "fp32" else []
    return on_device(
        weights, moments, scales, options.get("grads") or gradients(shapes),
        [torch.tensor(0.25)] * count, keys,
    ) + (
        torch.arange(1.0, count + 1), torch.tensor(numbers, dtype=torch.float64),
        options.get("maximize", False),
    )  # fmt: skip


def copied(arguments):
    return [*([t.clone() for t in part] for part in arguments[:3]), *arguments[3:]]


@pytest.mark.parametrize("kind", MOMENTS)
@pytest.mark.parametrize("options", [{}, {"decay": 0.1, "maximize": True}, {"lr": 0.06}])
@pytest.mark.parametrize("narrow", [False, True])
def test_float_weights_are_within_the_bound_of_the_reference(kind, options, narrow):
    # Gradients whose squares have no normal float32 move in proportion; the formula's are noise.
    grads = [torch.where(g.abs() < 1e-17, 0.0, g) for g in gradients(SHAPES)]
    options = {**options, "grads": [g.bfloat16() for g in grads] if narrow else grads}
    arguments = madam_arguments(kind, SHAPES, **options)
    ours, theirs = copied(arguments), copied(arguments)
    gpu_madam.step(*ours)
    madam.reference(*theirs)
    for left, right in zip(ours[0], theirs[0], strict=True):
        spacing = torch.finfo(torch.float32).eps * right.abs()
        assert bool(((left - right).abs() <= madam.ULPS * spacing).all())
    for left, right in zip(ours[1] + ours[2], theirs[1] + theirs[2], strict=True):
        assert torch.equal(left, right)


def test_a_step_of_lr_zero_changes_no_weight_beyond_the_bound():
    arguments = copied(madam_arguments("fp32", [(33,)], lr=0.0))
    before = arguments[0][0].clone()
    gpu_madam.step(*arguments)
    assert torch.equal(arguments[0][0], before)


def test_strided_weights_are_written_in_place():
    arguments = copied(madam_arguments("fp32", [(6, 7)]))
    other = copied(arguments)
    other[0] = [arguments[0][0].clone().t().contiguous().t()]
    gpu_madam.step(*arguments)
    gpu_madam.step(*other)
    assert torch.equal(other[0][0], arguments[0][0])
    assert not other[0][0].is_contiguous()


def test_tables_of_tensors_that_stay_where_they_are_are_made_once():
    arguments = copied(madam_arguments("bf16", [(20,), (16,)]))
    gpu_madam.step(*arguments)
    before = lists._kept_rows.cache_info()
    gpu_madam.step(*arguments)
    after = lists._kept_rows.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits
