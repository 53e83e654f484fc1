import copy
import gc
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn

import rung
from rung.formats import LNS, Ladder
from rung.kernels import lns
from rung.kernels.ladder import load_codes
from rung.tensor import CodedTensor, store, stored_bytes


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.norm = nn.LayerNorm([8, 5])
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 20)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.conv(self.embed(tokens).transpose(1, 2))
        return self.head(self.norm(x).transpose(1, 2) * self.scale)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("fmt", ["ladder8", "lns16", "lns8"])
def test_the_report_names_every_parameter_once_with_format_or_reason(net, fmt):
    report = rung.store_weights_(net, fmt)
    kinds = {entry.name: (entry.format, entry.reason) for entry in report.entries}
    assert kinds == {
        "scale": (None, "1-d (bias, gain or scalar)"),
        "embed.weight": (fmt, None),
        "conv.weight": (fmt, None),
        "conv.bias": (None, "1-d (bias, gain or scalar)"),
        "norm.weight": (None, "parameter of LayerNorm"),
        "norm.bias": (None, "parameter of LayerNorm"),
        "head.bias": (None, "1-d (bias, gain or scalar)"),
    }
    assert report.bytes_after == sum(stored_bytes(p) for p in net.parameters())
    assert report.bytes_before == 4 * sum(p.numel() for p in net.parameters())
    assert all(entry.name in str(report) for entry in report.entries)
    assert isinstance(net.head.weight, CodedTensor)
    assert net.head.weight is net.embed.weight
    net(torch.zeros(2, 5, dtype=torch.long)).sum().backward()
    assert net.embed.weight.grad is not None


@pytest.mark.parametrize("fmt", ["ladder12", "lns16"])
def test_scale_is_the_bound_times_the_rms(net, fmt):
    rms = float(net.conv.weight.detach().square().mean().sqrt())
    rung.store_weights_(net, fmt, scale_bound=2.0)
    assert float(net.conv.weight.scale) == pytest.approx(2 * rms, rel=1e-6)


def test_a_format_of_powers_of_two_gets_such_scales(net):
    rms = net.conv.weight.detach().square().mean(dim=(1, 2), keepdim=True).sqrt()
    rung.store_weights_(net, LNS(16, 2048, power_of_two_scale=True), axis=0)
    torch.testing.assert_close(net.conv.weight.scale, 2 ** (3 * rms).log2().ceil())


@pytest.mark.parametrize("fmt", ["ladder12", "lns16"])
def test_one_scale_per_output_channel_on_request(net, fmt):
    rms = net.conv.weight.detach().square().mean(dim=(1, 2), keepdim=True).sqrt()
    rung.store_weights_(net, fmt, axis=0)
    torch.testing.assert_close(net.conv.weight.scale, 3 * rms)
    net(torch.zeros(2, 5, dtype=torch.long)).sum().backward()


@pytest.mark.parametrize("fmt", ["ladder12", "lns8", "lns16"])
def test_packed_signs_keep_a_trained_model_within_half_a_rung(net, fmt):
    before = net.conv.weight.detach().clone()
    rung.store_weights_(net, fmt, signs="packed")
    after = net.conv.weight.detach().decode()
    fmt, scale = net.conv.weight.format, float(net.conv.weight.scale)
    inside = (before.abs() < scale) & (before.abs() > scale * fmt.smallest)
    assert float((after / before - 1).abs()[inside].max()) <= fmt.max_relative_error * 1.001
    assert bool((after.sign() == before.sign()).all())


def test_uniform_codes_are_uniform_and_independent_of_signs():
    model = nn.Linear(400, 500, bias=False)
    rung.store_weights_(model, "ladder4", init="uniform", seed=3)
    codes = load_codes(model.weight.codes)
    counts = torch.bincount(codes.flatten(), minlength=16).double()
    expected = codes.numel() / 16
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert chi_squared < 37.7  # 99.9 % quantile at 15 degrees of freedom
    signs = model.weight.detach().decode().sign()
    centred = codes - codes.double().mean()
    correlation = float((signs * centred).mean() / centred.std())
    assert abs(correlation) < 4 / codes.numel() ** 0.5


@pytest.mark.parametrize("fmt", ["lns4", "lns8", "lns16"])
def test_uniform_lns_codes_have_uniform_exponents_and_the_signs_that_were(fmt):
    model = nn.Linear(400, 500, bias=False)
    before = model.weight.detach().clone()
    rung.store_weights_(model, fmt, init="uniform", seed=3)
    stored = model.weight.detach()
    e = lns.exponents(stored.codes, stored.format.bits).flatten()
    counts = torch.bincount(e * 8 // stored.format.levels, minlength=8).double()
    expected = e.numel() / 8
    assert len(counts) == 8
    assert float(((counts - expected) ** 2 / expected).sum()) < 24.3  # 99.9 %, 7 degrees
    assert torch.equal(stored.decode().sign(), before.sign())


@pytest.mark.parametrize("fmt", ["lns8", "lns16"])
def test_an_lns_keeps_signs_whether_told_to_or_not(fmt):
    weights = []
    for options in ({}, {"signs": None}, {"signs": "packed"}):
        torch.manual_seed(0)
        model = nn.Linear(9, 5)
        before = model.weight.detach().clone()
        rung.store_weights_(model, fmt, **options)
        assert torch.equal(model.weight.detach().decode().sign(), before.sign())
        weights.append(model.weight.codes)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(("fmt", "code_bytes"), [("lns16", 2), ("lns10", 2), ("lns8", 1)])
def test_an_lns_weight_takes_its_codes_a_scale_and_a_key(fmt, code_bytes):
    model = nn.Linear(64, 32, bias=False)
    report = rung.store_weights_(model, fmt)
    assert report.bytes_after == 64 * 32 * code_bytes + 12


@pytest.mark.parametrize("fmt", ["ladder8", "lns8"])
def test_codes_do_not_depend_on_the_order_of_parameters(fmt):
    torch.manual_seed(0)
    a, b = nn.Linear(9, 5), nn.Linear(5, 3)
    weights = [a.weight.detach().clone(), b.weight.detach().clone()]
    decoded = []
    for order in (("a", "b"), ("b", "a")):
        model = nn.ModuleDict()
        for name in order:
            layer = nn.Linear(9, 5) if name == "a" else nn.Linear(5, 3)
            layer.weight = nn.Parameter(weights[name == "b"].clone())
            model[name] = layer
        rung.store_weights_(model, fmt, init="uniform", seed=4)
        decoded.append({name: model[name].weight.detach().decode() for name in order})
    for name in ("a", "b"):
        assert torch.equal(decoded[0][name], decoded[1][name])


def test_left_parameters_have_their_reasons():
    model = nn.ModuleDict(
        {
            "sparse": nn.Embedding(5, 4, sparse=True),
            "padded": nn.Embedding(5, 4, padding_idx=0),
            "renormed": nn.Embedding(5, 4, max_norm=1.0),
            "frozen": nn.Linear(4, 4, bias=False).requires_grad_(False),
            "skipped": nn.Linear(4, 4, bias=False),
            "complex": nn.Linear(4, 4, bias=False, dtype=torch.complex64),
            "stored": nn.Linear(4, 4, bias=False),
        }
    )
    report = rung.store_weights_(model, "ladder8", skip=["skipped.weight"])
    reasons = {entry.name: entry.reason for entry in report.entries}
    assert reasons == {
        "sparse.weight": "sparse gradients",
        "padded.weight": "embedding with a padding row, which must stay 0",
        "renormed.weight": "embedding with max_norm, which rescales rows in place",
        "frozen.weight": "frozen (requires_grad=False)",
        "skipped.weight": "named in skip",
        "complex.weight": "complex",
        "stored.weight": None,
    }


def refused(model, match, error=ValueError, **options):
    before = [p for p in model.parameters()]
    with pytest.raises(error, match=match):
        rung.store_weights_(model, **{"format": "ladder8", **options})
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))


def test_refusals_leave_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    refused(model, "Unknown format 'ladder1'; the formats are: ladder2", format="ladder1")
    refused(model, "`init` must be 'round' or 'uniform'; got 'normal'", init="normal")
    refused(model, "`signs` must be 'seed' or 'packed'; got 'none'", signs="none")
    refused(model, "is for ladders.*got lns16.*Leave `signs` out", format="lns16", signs="seed")
    refused(model, "must have no zero.*got LNS", format=LNS(16, 2048, zero=True))
    refused(model, "`scale_bound` must be positive; got scale_bound=0", scale_bound=0)
    refused(
        model,
        "must name parameters of the model; got 9.weight. The par.*0.weight",
        skip=["9.weight"],
    )
    refused(model, "must be a dimension of the tensor, from -2 to 1; got axis=2", axis=2)
    with torch.no_grad():
        model[1].weight.zero_()
    refused(model, r"1.weight is all zero and has no scale: .*init_zeros_.*skip=\['1.weight'\]")
    with torch.no_grad():
        model[1].weight.fill_(1.0)[0].zero_()
    refused(model, "1.weight has an all-zero index of axis 0", axis=0)
    with torch.no_grad():
        model[1].weight.fill_(float("nan"))
    refused(
        model, "1.weight must be finite to be stored; got 9 NaN or infinite of 9 weights. Nothing"
    )
    refused(nn.LayerNorm(4), "The model has no weight to store")


def test_a_model_is_stored_once():
    model = nn.Linear(3, 3)
    rung.store_weights_(model, "ladder8")
    with pytest.raises(ValueError, match="weight is already stored as ladder8; store a model once"):
        rung.store_weights_(model, Ladder(8, 0.02))
    model = nn.Linear(3, 3)
    rung.store_weights_(model, "lns16")
    with pytest.raises(ValueError, match="weight is already stored as lns16; store a model once"):
        rung.store_weights_(model, "lns16")


def tensor_bytes(model):
    """Bytes of every tensor that is reachable from the model's objects, codes included."""
    seen, total, stack = set(), 0, [model]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while stack:
            item = stack.pop()
            if id(item) in seen or isinstance(item, type | type(sys)):
                continue
            seen.add(id(item))
            if type(item) is torch.Tensor or type(item) is nn.Parameter:
                total += item.untyped_storage().nbytes()
            if isinstance(item, nn.Module | torch.Tensor | dict | list | tuple | set):
                stack.extend(gc.get_referents(item))
                stack.extend(getattr(item, "__dict__", {}).values())
    return total


@pytest.mark.parametrize("fmt", ["ladder8", "lns16", "lns8"])
def test_no_hidden_float_copy_is_reachable_from_the_model(net, fmt):
    report = rung.store_weights_(net, fmt)
    assert tensor_bytes(net) == report.bytes_after


MEMORY = """
import gc, resource, sys, torch, rung
from torch import nn

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

layers = 50
model = nn.Sequential(*[nn.Linear(1000, 1000, bias=False) for _ in range(layers)])
# As large as it takes for the loops of the large one to be compiled.
warm = nn.Sequential(*[nn.Linear(1000, 1000, bias=False) for _ in range(2)])
rung.store_weights_(warm, "ladder8")
gc.collect()
before = resident()
report = rung.store_weights_(model, "ladder8")
gc.collect()
print(before - resident(), report.bytes_before - report.bytes_after)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_process_memory_of_fifty_million_parameters_falls_by_what_the_report_says():
    run = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        check=True,
        # glibc gives blocks back to the system at once only above this threshold.
        env={"MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536", "PATH": ""},
    )
    freed, promised = map(int, run.stdout.split())
    assert promised == 50 * 1_000_000 * 3 - 50 * 12
    assert freed == pytest.approx(promised, rel=0.05)


@pytest.mark.parametrize("fmt", ["ladder8", "lns16"])
@pytest.mark.parametrize("init", ["round", "uniform"])
def test_biases_and_gains_are_stored_on_request_as_they_are(net, fmt, init):
    rung.optim.init_zeros_(net)
    before = {
        name: p.detach().clone() for name, p in net.named_parameters() if "weight" not in name
    }
    before["norm.weight"] = net.norm.weight.detach().clone()
    report = rung.store_weights_(net, fmt, init=init, others=True, axis=0)
    assert {entry.format for entry in report.entries} == {fmt}
    after = dict(net.named_parameters())
    for name, values in before.items():
        stored = after[name].detach()
        assert isinstance(stored, CodedTensor)
        assert stored.scale.ndim == 0
        rms = float(values.square().mean().sqrt())
        decoded, inside = stored.decode(), values.abs() > 3 * rms * stored.format.smallest
        assert torch.equal(decoded.sign(), values.sign()), name
        torch.testing.assert_close(decoded[inside], values[inside], rtol=0.02, atol=0)
    assert net.conv.weight.scale.shape == (8, 1, 1)
    net(torch.zeros(2, 5, dtype=torch.long)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_biases_at_zero_are_no_codes(net):
    with pytest.raises(ValueError, match="norm.bias is all zero and has no scale: .*init_zeros_"):
        rung.store_weights_(net, others=True)
    assert type(net.conv.weight) is nn.Parameter


def test_a_least_scale_makes_zero_no_code_of_a_ladder_but_one_of_a_sinh():
    model = nn.Linear(4, 3, bias=False)
    nn.init.zeros_(model.weight)
    for fmt in ("ladder8", "lns8"):
        with pytest.raises(ValueError, match="weight is all zero and has no scale"):
            rung.store_weights_(model, fmt, min_scale=0.5)
    rung.store_weights_(model, "sinh8", min_scale=0.5)
    assert not model.weight.detach().decode().any()


@pytest.mark.parametrize("fmt", ["ladder8", "lns16"])
def test_scales_are_taken_as_they_are_given(net, fmt):
    names = ("embed.weight", "conv.weight", "norm.bias")
    scales = dict(zip(names, (2.0, 0.25, 0.0), strict=True))
    rung.store_weights_(net, fmt, scales=scales)
    assert float(net.embed.weight.scale) == 2.0
    assert float(net.conv.weight.scale) == 0.25
    assert float(net.conv.weight.detach().decode().abs().max()) <= 0.25


@pytest.mark.parametrize(
    ("scales", "axis", "text"),
    [
        ({"conv.weight": 1.0}, None, "`scales` must have a positive .* got None for embed.weight"),
        ({"conv.weight": 0.0, "embed.weight": 1.0}, None, "positive .* got 0.0 for conv.weight"),
        (
            {"conv.weight": float("nan"), "embed.weight": 1.0},
            None,
            "got nan for conv.weight. Leave",
        ),
        ({"cone.weight": 1.0}, None, "`scales` must name parameters.*got cone.weight. The param"),
        (
            {"conv.weight": 1.0, "embed.weight": 1.0},
            0,
            "`axis` must be None; got axis=0. Leave one",
        ),
    ],
)
def test_wrong_scales_are_refused(net, scales, axis, text):
    with pytest.raises(ValueError, match=text):
        rung.store_weights_(net, scales=scales, axis=axis)
    assert type(net.embed.weight) is nn.Parameter


@pytest.mark.parametrize("name", ["ladder8", "ladder12", "lns16"])
def test_small_models_are_stored_without_a_compiled_loop_and_alike(name, monkeypatch):
    torch.manual_seed(0)
    small = nn.Sequential(nn.Linear(24, 16), nn.Linear(16, 4))
    large = copy.deepcopy(small)
    rung.store_weights_(small, name, seed=3)
    monkeypatch.setattr(store, "_SMALL", -1)
    rung.store_weights_(large, name, seed=3)
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        if isinstance(one, CodedTensor):
            assert torch.equal(one.codes, other.codes)
            assert torch.equal(one.scale, other.scale)


def test_a_least_scale_for_small_weights_and_the_largest_of_large_ones():
    model = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 2))
    with torch.no_grad():
        model[2].weight.fill_(0.01)
    rung.store_weights_(model, "sinh8", others=True, skip=["0.bias", "1.bias", "2.bias"])
    assert [float(model[i].weight.scale) for i in (1, 2)] == [1.0, pytest.approx(0.6)]
    first = nn.Embedding(16, 8)
    largest = float(first.weight.detach().abs().max())
    assert largest > 0.6
    rung.store_weights_(first, "sinh8")
    assert float(first.weight.scale) == largest
    for fmt, given, expected in (
        ("sinh8", 0.0, 0.01),
        ("ladder8", None, 0.03),
        ("lns16", 0.5, 0.5),
    ):
        layer = nn.Linear(4, 4, bias=False).double()
        with torch.no_grad():
            layer.weight.fill_(0.01)
        rung.store_weights_(layer, fmt, min_scale=given)
        assert float(layer.weight.scale) == pytest.approx(expected)
        assert layer.weight.scale.dtype == torch.float64
    rows = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        rows.weight.copy_(torch.tensor([[0.01], [0.8]]).expand(2, 4))
    rung.store_weights_(rows, "sinh8", axis=0)
    torch.testing.assert_close(rows.weight.scale.reshape(-1), torch.tensor([0.6, 0.8]))


def test_where_zero_is_a_code_a_layer_may_begin_at_zero():
    model = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(model.weight)
    rung.store_weights_(model, "sinh8")
    assert float(model.weight.scale) == pytest.approx(0.6)
    assert not model.weight.detach().decode().any()
    optimizer = rung.optim.SignedMadam(model.parameters())
    for _ in range(20):
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert bool((model.weight.detach().decode() < 0).all())


def test_a_sinh_ladder_keeps_its_room_and_its_zeros_when_weights_are_loaded():
    model, weights = nn.Linear(64, 64, bias=False), torch.randn(64, 64)
    with torch.no_grad():
        model.weight.copy_(weights)
    rung.store_weights_(model, "sinh8")
    scale = model.weight.scale.clone()
    weights[0, 0] = 0.0
    model.load_state_dict({"weight": weights})
    assert torch.equal(model.weight.scale, scale)
    assert float(model.weight.detach().decode()[0, 0]) == 0.0
    model.load_state_dict({"weight": 100 * weights})
    assert float(model.weight.scale) == float((100 * weights).abs().max())


@pytest.mark.parametrize("fmt", ["sinh8", "pair16"])
def test_magnitudes_are_not_drawn_where_signs_are_free(fmt):
    with pytest.raises(
        ValueError, match=rf"draws magnitudes of up to W_max, .* got format {fmt}\. U"
    ):
        rung.store_weights_(nn.Linear(4, 4), fmt, init="uniform")


def test_the_pattern_that_stands_for_nothing_is_refused():
    for fmt, last in (("sinh4", 15), ("sinh8", 255), ("sinh16", 65535)):
        coded = CodedTensor.from_float(torch.ones(3), fmt, 1.0)
        parts, bits = coded.to_parts(), coded.format.bits
        top = torch.full((3,), last)
        parts["codes"] = (top if bits < 16 else top - 2**16).to(coded.codes.dtype)
        with pytest.raises(ValueError, match=f"must be under 2.{bits} - 1; got {last}"):
            CodedTensor.from_parts(parts, coded.meta())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"min_scale": -1.0}, r"`min_scale` must be 0 or more and finite; got min_scale=-1\.0"),
        ({"min_scale": float("inf")}, "`min_scale` must be 0 or more and .* got min_scale=inf"),
    ],
)
def test_a_least_scale_that_makes_no_sense_is_refused(options, text):
    model = nn.Linear(4, 4)
    before = model.weight.detach().clone()
    with pytest.raises(ValueError, match=text):
        rung.store_weights_(model, "sinh8", **options)
    assert torch.equal(model.weight, before)
