import math

import pytest
import torch

from rung.kernels import lmd, lmd_lists
from rung.kernels.lmd import PRIORS, Noise, Settings
from rung.kernels.philox import key_from_seed

KEY = torch.tensor(key_from_seed(3, "layer.weight"))
NAMES = ("weight", "grad", "m+", "m-", "v+", "v-")
SIZES = [0, 1, 2, 3, 511, 512, 513, 1024, 3001]


def settings(**changes):
    given = {
        "lr": 0.03, "beta1": 0.5, "beta2": 0.8, "sigma": 0.1, "prior": "lognormal",
        "regularization": 0.1, "m0": 0.02, "entropy": False, "update": "sign", "clip": 3.0,
    }  # fmt: skip
    return Settings(**(given | changes))


class OneByOne:
    """The operations on lists, called as the definitions are: with one tensor each."""

    @staticmethod
    def names(noise):
        key = int(noise.key)
        rounding = (key + 2**40 + 2**63) % 2**64 - 2**63
        return torch.tensor([[key, int(noise.step), rounding]]), [noise.start], noise.sample

    @staticmethod
    def numbers(rule):
        return torch.tensor([lmd_lists.numbers_of(rule)], dtype=torch.float64)

    def sample_into(self, weight, m_pos, m_neg, sigma, noise):
        numbers = self.numbers(settings(sigma=sigma))
        lmd_lists.SAMPLE([weight], [m_pos], [m_neg], *self.names(noise), numbers)

    def point_into(self, weight, m_pos, m_neg, sigma, evaluate):
        numbers = self.numbers(settings(sigma=sigma))
        lmd_lists.POINT([weight], [m_pos], [m_neg], numbers, evaluate)

    def accumulate_into(self, h_pos, h_neg, grad, m_pos, m_neg, sigma, noise, samples=1):
        lists = [[t] for t in (h_pos, h_neg, grad, m_pos, m_neg)]
        numbers = self.numbers(settings(sigma=sigma))
        lmd_lists.ACCUMULATE(*lists, *self.names(noise), numbers, samples)

    def update(self, weight, grad, m_pos, m_neg, v_pos, v_neg, rule, noise, evaluate="mean"):
        states = (m_pos, m_neg, v_pos, v_neg)
        self._update(weight, [grad], [], [], states, rule, noise, evaluate)

    def update_from(self, weight, h_pos, h_neg, m_pos, m_neg, v_pos, v_neg, rule, evaluate="mean"):
        states = (m_pos, m_neg, v_pos, v_neg)
        self._update(weight, [], [h_pos], [h_neg], states, rule, Noise(KEY, 0), evaluate)

    def _update(self, weight, grads, h_pos, h_neg, states, rule, noise, evaluate):
        words = (rule.prior, rule.entropy, rule.update, evaluate)
        lists = ([weight], grads, h_pos, h_neg, *([s] for s in states))
        lmd_lists.UPDATE(*lists, *self.names(noise), self.numbers(rule), *words)


lmd_cpu = OneByOne()


def tensors(n, dtype=torch.float32):
    """weight, grad, m+, m-, v+, v-."""
    generator = torch.Generator().manual_seed(n)
    normal = [torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(5)]
    scales = (1e-2, 0.02, 0.02, 1e-4, 1e-4)
    grad, m_pos, m_neg, v_pos, v_neg = (s * x for s, x in zip(scales, normal, strict=True))
    medians = (m_pos.div(0.02).exp() * 0.02, m_neg.div(0.02).exp() * 0.02)
    return [t.to(dtype) for t in (torch.zeros(n).double(), grad, *medians, v_pos, v_neg)]


def clones(given):
    return [t.clone() for t in given]


def steps(given, rule, noise, evaluate="mean"):
    """The same step by the kernel and by the definition in float64."""
    fast, exact = clones(given), [t.double() for t in given]
    lmd_cpu.update(*fast, rule, noise, evaluate)
    lmd.update(*exact, rule, noise, evaluate)
    return fast, exact


def assert_near(fast, exact, given, relative):
    for i, (x, y) in enumerate(zip(fast, exact, strict=True)):
        # A difference is as accurate as what it is taken of.
        size = exact[2] + exact[3] if i == 0 else y.abs()
        size = size + given[i].abs() if i > 3 else size
        assert torch.all((x.double() - y).abs() <= relative * size), NAMES[i]


RULES = [
    *({"prior": prior} for prior in PRIORS),
    *({"prior": prior, "entropy": True} for prior in ("exponential", "gaussian")),
    *({"prior": prior, "update": "rms"} for prior in PRIORS),
    {"sigma": 0.0},
    {"sigma": 0.0, "update": "rms"},
    {"sigma": 1.0},
    {"update": "rms", "clip": 0.5},
    {"beta1": 0.0, "beta2": 0.0},
    {"lr": 0.0},
    {"regularization": 0.0},
]


@pytest.mark.parametrize("changes", RULES, ids=str)
@pytest.mark.parametrize("evaluate", ["mean", "median"])
def test_a_step_equals_the_definition_in_float64(changes, evaluate):
    given = tensors(3001)
    fast, exact = steps(given, settings(**changes), Noise(KEY, 7, 2, 5), evaluate)
    assert_near(fast, exact, given, 3e-6)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("update", ["sign", "rms"])
def test_every_length_equals_the_definition(n, update):
    given = tensors(n)
    fast, exact = steps(given, settings(update=update), Noise(KEY, 7))
    assert_near(fast, exact, given, 3e-6)


@pytest.mark.parametrize("scale", [1e-20, 1e-38, 1e-41])
@pytest.mark.parametrize("clip", [3.0, 1e30])
def test_tiny_gradients_have_directions_too(scale, clip):
    given = tensors(600)
    given[1] = torch.where(given[1] > 0, scale, -scale)
    given[4].zero_()
    given[5].zero_()
    rule = settings(update="rms", clip=clip, sigma=0.0, beta1=0.0)
    medians = [
        m.div(0.02).log().mul(1e-6).exp() * (1.0 if scale > 1e-41 else 1e3) for m in given[2:4]
    ]
    given[2:4] = medians
    fast, exact = steps(given, rule, Noise(KEY, 7))
    definition = clones(given)
    lmd.update(*definition, rule, Noise(KEY, 7))
    assert all(bool(torch.isfinite(t).all()) for t in definition)
    assert not torch.equal(definition[2], given[2])
    # A gradient in subnormal numbers has few digits.
    near = 3e-6 if scale > 1e-38 else 2e-3
    for own in (fast, definition):
        for x, y in zip(own[:4], exact[:4], strict=True):
            assert torch.allclose(x.double(), y, rtol=near, atol=near * float(exact[2].max()))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0])
def test_a_sample_equals_the_definition(n, sigma):
    weight, _, m_pos, m_neg, *_ = tensors(n)
    expected = weight.double()
    lmd_cpu.sample_into(weight, m_pos, m_neg, sigma, Noise(KEY, 7, 2, 5))
    lmd.sample_into(expected, m_pos.double(), m_neg.double(), sigma, Noise(KEY, 7, 2, 5))
    pos, neg = lmd.parts(m_pos, m_neg, sigma, Noise(KEY, 7, 2, 5))
    assert torch.all((weight.double() - expected).abs() <= 3e-6 * (pos + neg))


@pytest.mark.parametrize("n", SIZES)
def test_gathering_draws_and_a_step_from_them_equal_the_definition(n):
    weight, grad, m_pos, m_neg, v_pos, v_neg = tensors(n)
    fast, exact = [torch.zeros(n) for _ in range(2)], [torch.zeros(n).double() for _ in range(2)]
    for sample in range(3):
        noise = Noise(KEY, 1, sample)
        lmd_cpu.accumulate_into(*fast, grad, m_pos, m_neg, 0.1, noise, 3)
        lmd.accumulate_into(*exact, grad.double(), m_pos.double(), m_neg.double(), 0.1, noise, 3)
    for x, y in zip(fast, exact, strict=True):
        assert torch.all((x.double() - y).abs() <= 1e-5 * y.abs())
    given = [weight, m_pos, m_neg, v_pos, v_neg]
    for update in ("sign", "rms"):
        own, other = clones(given), [t.double() for t in given]
        lmd_cpu.update_from(own[0], *fast, *own[1:], settings(update=update))
        lmd.update_from(other[0], *(h.double() for h in fast), *other[1:], settings(update=update))
        results = [own[0], grad, *own[1:]], [other[0], grad.double(), *other[1:]]
        assert_near(*results, tensors(n), 3e-6)


def test_one_draw_gathered_is_a_plain_step():
    given = tensors(700)
    plain, gathered = clones(given), clones(given)
    h = [torch.zeros(700) for _ in range(2)]
    lmd_cpu.accumulate_into(*h, gathered[1], *gathered[2:4], 0.1, Noise(KEY, 3))
    lmd_cpu.update(*plain, settings(), Noise(KEY, 3))
    lmd_cpu.update_from(gathered[0], *h, *gathered[2:], settings())
    for x, y in zip(plain, gathered, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("cut", [1, 2, 511, 512, 700])
def test_parts_of_a_tensor_move_as_the_whole_does(cut):
    whole = tensors(1500)
    cuts = [slice(0, cut), slice(cut, None)]
    parts = [[t[c].clone() for t in whole] for c in cuts]
    sample = whole[0].clone()
    lmd_cpu.sample_into(sample, whole[2], whole[3], 0.1, Noise(KEY, 3))
    for part, c in zip(parts, cuts, strict=True):
        lmd_cpu.sample_into(part[0], part[2], part[3], 0.1, Noise(KEY, 3, 0, c.start))
        assert torch.equal(part[0], sample[c])
    lmd_cpu.update(*whole, settings(), Noise(KEY, 3))
    for part, c in zip(parts, cuts, strict=True):
        lmd_cpu.update(*part, settings(), Noise(KEY, 3, 0, c.start))
        for x, y in zip(part, whole, strict=True):
            assert torch.equal(x, y[c])


def test_the_draw_of_the_step_is_the_draw_of_the_sample():
    # With a gradient of 1 and beta2 = 0, v+- become +-w+-.
    weight, grad, *others = tensors(600)
    lmd_cpu.sample_into(weight, others[0], others[1], 0.5, Noise(KEY, 4, 1))
    out = torch.zeros(600)
    rule = settings(beta2=0.0, sigma=0.5)
    lmd_cpu.update(out, torch.ones_like(grad), *others, rule, Noise(KEY, 4, 1))
    assert torch.allclose(others[2] + others[3], weight, rtol=1e-5, atol=1e-8)


HOSTILE = [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45, 0.0, -0.0, 1e20]


@pytest.mark.parametrize("implementation", [lmd, lmd_cpu], ids=["definition", "kernel"])
@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("lr", [0.03, 1e6])
def test_medians_stay_positive_and_finite_for_any_gradient(implementation, update, prior, lr):
    medians = torch.tensor([2.0**-126, 1e-20, 0.02, 1.0, 1e20, 2.0**100])
    m, g = (t.reshape(-1) for t in torch.meshgrid(medians, torch.tensor(HOSTILE), indexing="ij"))
    weight, v_pos, v_neg = (torch.zeros_like(m) for _ in range(3))
    m_pos, m_neg = m.clone(), m.flip(0).clone()
    rule = settings(update=update, prior=prior, lr=lr)
    for step in range(5):
        implementation.update(weight, g, m_pos, m_neg, v_pos, v_neg, rule, Noise(KEY, step))
        for median in (m_pos, m_neg):
            assert torch.all(median >= lmd.SMALLEST)
            assert torch.all(median <= lmd.LARGEST)
        assert torch.all(torch.isfinite(torch.stack((weight, v_pos, v_neg))))


def test_nan_counts_as_zero_and_infinities_as_two_to_the_63():
    for implementation in (lmd, lmd_cpu):
        v_pos, v_neg, weight = (torch.zeros(3) for _ in range(3))
        h = torch.tensor([math.nan, math.inf, -math.inf])
        medians = [torch.ones(3), torch.ones(3)]
        rule = settings(beta2=0.0)
        implementation.update_from(weight, h, -h, *medians, v_pos, v_neg, rule)
        assert v_pos.tolist() == [0.0, 2.0**63, -(2.0**63)]
        assert v_neg.tolist() == [0.0, -(2.0**63), 2.0**63]


@pytest.mark.parametrize("implementation", [lmd, lmd_cpu], ids=["definition", "kernel"])
def test_without_any_gradient_only_the_prior_moves_medians(implementation):
    weight, _, m_pos, m_neg, v_pos, v_neg = tensors(600)
    expected = m_pos * torch.exp(-0.03 * 0.1 * torch.log(m_pos / 0.02))
    zero = torch.zeros(600)
    for update in ("sign", "rms"):
        m = [m_pos.clone(), m_neg.clone()]
        rule = settings(update=update)
        implementation.update(weight, zero, *m, zero.clone(), zero.clone(), rule, Noise(KEY, 0))
        assert torch.allclose(m[0], expected, rtol=1e-6)


def test_rms_directions_know_no_unit_of_the_gradient():
    given = tensors(1000)
    given[4].zero_()
    given[5].zero_()
    results = []
    for scale in (1.0, 2.0**-60, 2.0**40):
        own = clones(given)
        own[1] *= scale
        lmd_cpu.update(*own, settings(update="rms"), Noise(KEY, 0))
        results.append(own[2])
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("evaluate", ["mean", "median"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_point_equals_the_definition(n, evaluate, dtype):
    weight, _, m_pos, m_neg, *_ = tensors(n, dtype)
    expected = weight.clone()
    lmd_cpu.point_into(weight, m_pos, m_neg, 0.5, evaluate)
    lmd.point_into(expected, m_pos, m_neg, 0.5, evaluate)
    assert torch.allclose(weight, expected, rtol=1e-6)


def test_gradients_are_left_alone():
    given = tensors(1000)
    before = given[1].clone()
    for update in ("sign", "rms"):
        lmd_cpu.update(*given, settings(update=update), Noise(KEY, 0))
    assert torch.equal(given[1], before)


def strided():
    return [t.repeat_interleave(2)[::2] for t in tensors(40)]


def double():
    return tensors(40, torch.float64)


@pytest.mark.parametrize("make", [strided, double])
def test_only_contiguous_float32_takes_the_loops(make):
    assert lmd_lists.usable([0.1], tensors(40)[:2], tensors(40)[2:])
    assert not lmd_lists.usable([0.1], make()[:2], make()[2:])
    assert not lmd_lists.usable([12.5], tensors(40)[:2], tensors(40)[2:])


@pytest.mark.parametrize("make", [double])
def test_other_tensors_take_the_definition(make):
    own, other = make(), make()
    lmd_cpu.update(*own, settings(), Noise(KEY, 0))
    lmd.update(*other, settings(), Noise(KEY, 0))
    for x, y in zip(own, other, strict=True):
        assert torch.equal(x, y)
    h = [make()[1], make()[1]]
    lmd_cpu.accumulate_into(*h, own[1], *own[2:4], 0.1, Noise(KEY, 1), 2)
    lmd_cpu.update_from(own[0], *h, *own[2:], settings())
    lmd.update_from(other[0], *h, *other[2:], settings())
    assert torch.equal(own[0], other[0])


def test_a_sigma_too_wide_for_the_kernel_takes_the_definition():
    weight, _, m_pos, m_neg, *_ = tensors(40)
    expected = weight.clone()
    lmd_cpu.sample_into(weight, m_pos, m_neg, 30.0, Noise(KEY, 0))
    lmd.sample_into(expected, m_pos, m_neg, 30.0, Noise(KEY, 0))
    assert torch.equal(weight, expected)
    assert bool(torch.isfinite(weight).all())
    for evaluate in ("mean", "median"):
        lmd_cpu.point_into(weight, m_pos, m_neg, 30.0, evaluate)
        lmd.point_into(expected, m_pos, m_neg, 30.0, evaluate)
        assert torch.equal(weight, expected)
        own, other = tensors(40), tensors(40)
        rule = settings(sigma=13.0, prior="gaussian")
        lmd_cpu.update_from(own[0], own[1], own[1], *own[2:], rule, evaluate)
        lmd.update_from(other[0], other[1], other[1], *other[2:], rule, evaluate)
        for x, y in zip(own, other, strict=True):
            assert torch.equal(x, y)


def test_a_graph_holds_the_operation():
    numbers = OneByOne.numbers(settings())

    def step(*lists):
        keys = torch.stack((KEY, torch.tensor(6), KEY)).unsqueeze(0)
        given = [[t] for t in lists]
        lmd_lists.UPDATE(
            *given[:2], [], [], *given[2:], keys, [0], 0, numbers, "lognormal", False, "sign",
            "mean",
        )  # fmt: skip

    fast, given = tensors(100), tensors(100)
    torch.compile(step, backend="aot_eager", fullgraph=True)(*given)
    lmd_cpu.update(*fast, settings(), Noise(KEY, 6))
    for x, y in zip(fast, given, strict=True):
        assert torch.equal(x, y)


def lists_of(sizes, dtype=torch.float32):
    """Lists of weights, gradients and states of several tensors, the arguments' tail."""
    each = [tensors(n) for n in sizes]
    lists = [list(column) for column in zip(*each, strict=True)]
    lists[2:] = [[t.to(dtype) for t in column] for column in lists[2:]]
    keys = torch.tensor([[100 + i, 3 + i, 2**40 + i] for i in range(len(sizes))])
    numbers = OneByOne.numbers(settings()).repeat(len(sizes), 1)
    return lists, (keys, [0] * len(sizes), 0, numbers, "lognormal", False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("update", ["sign", "rms"])
def test_a_list_is_its_tensors_whatever_the_threads(update, dtype):
    sizes = [3, 64, 0, 200_001, 65, 150_000]
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 5):
        lists, tail = lists_of(sizes, dtype)
        torch.set_num_threads(threads)
        try:
            lmd_lists.UPDATE(*lists[:2], [], [], *lists[2:], *tail, update, "mean")
        finally:
            torch.set_num_threads(before)
        results.append(lists)
    alone, (keys, _, _, numbers, *words) = lists_of(sizes, dtype)
    for i in range(len(sizes)):
        one = [[column[i]] for column in alone]
        names = (keys[i : i + 1], [0], 0, numbers[i : i + 1])
        lmd_lists.UPDATE(*one[:2], [], [], *one[2:], *names, *words, update, "mean")
    for lists in results:
        for column, expected in zip(lists, alone, strict=True):
            for x, y in zip(column, expected, strict=True):
                assert torch.equal(x, y)


@pytest.mark.parametrize("update", ["sign", "rms"])
@pytest.mark.parametrize("prior", PRIORS)
def test_bfloat16_states_round_as_the_definition_does(prior, update):
    fast, tail = lists_of([1000, 67], torch.bfloat16)
    slow, _ = lists_of([1000, 67], torch.bfloat16)
    tail = (*tail[:4], prior, False)
    lmd_lists.UPDATE(*fast[:2], [], [], *fast[2:], *tail, update, "mean")
    lmd_lists.update_reference(*slow[:2], [], [], *slow[2:], *tail, update, "mean")
    for name, column, expected in zip(NAMES, fast, slow, strict=True):
        for x, y in zip(column, expected, strict=True):
            # The same draws of 16 bits: a last bit of float32 decides one rounding in thousands.
            different = x.float() != y.float()
            if name == "weight":
                different = (x - y).abs() > 3e-6 * y.abs() + 1e-8
            assert int(different.sum()) <= 3, name


def test_bfloat16_states_keep_their_mean():
    n = 40_000
    medians = [torch.full((n,), 0.02).bfloat16() for _ in range(2)]
    zero = [torch.zeros(n).bfloat16() for _ in range(2)]
    rule = settings(prior="constant", regularization=1.0, lr=1e-4, sigma=0.0)
    keys = torch.tensor([[1, 2, 3]])
    before = float(medians[0][0])
    lmd_lists.UPDATE(
        [torch.zeros(n)], [torch.zeros(n)], [], [], [medians[0]], [medians[1]], [zero[0]],
        [zero[1]], keys, [0], 0, OneByOne.numbers(rule), "constant", False, "sign", "mean",
    )  # fmt: skip
    spacing = 2.0**-13
    odds = before * 1e-4 / spacing
    bound = 5 * spacing * (odds / n) ** 0.5
    for median in medians:
        assert len(median.unique()) == 2
        assert abs(float(median.double().mean()) - before * (1 - 1e-4)) < bound
    # The halves of a word are independent.
    down = [(m.float() < before).double() for m in medians]
    both = float((down[0] * down[1]).mean())
    assert abs(both - odds**2) < 5 * odds / n**0.5


def test_what_the_kernel_cannot_name_is_refused():
    given = tensors(10)
    with pytest.raises(ValueError, match=r"of one length; got 10 and 9 at place 0"):
        lmd_cpu.update(given[0][:9].clone(), *given[1:], settings(), Noise(KEY, 0))
    with pytest.raises(ValueError, match=r"`prior` must be one of 'lognormal', .*; got 'cauchy'"):
        lmd_cpu.update(*given, settings(prior="cauchy"), Noise(KEY, 0))
    with pytest.raises(ValueError, match="`evaluate` must be 'mean' or 'median'; got 'mode'"):
        lmd_cpu.update(*given, settings(), Noise(KEY, 0), "mode")
    for step in (-1, 2**32):
        with pytest.raises(
            ValueError, match=rf"a step must be in \[0, 2\^32\); got {step}\. Count"
        ):
            lmd_cpu.sample_into(given[0], *given[2:4], 0.1, Noise(KEY, step))
    with pytest.raises(ValueError, match=r"in \[0, 2\^31\); got -1"):
        lmd_cpu.sample_into(given[0], *given[2:4], 0.1, Noise(KEY, 0, -1))


@pytest.mark.parametrize("implementation", [lmd, lmd_cpu], ids=["definition", "kernel"])
@pytest.mark.parametrize(
    ("changes", "evaluate", "text"),
    [
        ({"update": "RMS"}, "mean", r"`update` must be one of 'sign', 'rms'; got 'RMS'"),
        ({"update": "signs"}, "mean", r"`update` must be one of 'sign', 'rms'; got 'signs'"),
        ({"prior": "cauchy"}, "mean", r"`prior` must be one of 'lognormal', .*; got 'cauchy'"),
        ({}, "mode", r"`evaluate` must be 'mean' or 'median'; got 'mode'"),
    ],
)
def test_unknown_words_are_refused_before_anything_is_written(
    implementation, changes, evaluate, text
):
    given = tensors(10)
    own = clones(given)
    with pytest.raises(ValueError, match=text):
        implementation.update(*own, settings(**changes), Noise(KEY, 0), evaluate)
    with pytest.raises(ValueError, match=text):
        implementation.update_from(own[0], own[1], own[1], *own[2:], settings(**changes), evaluate)
    for x, y in zip(own, given, strict=True):
        assert torch.equal(x, y)
