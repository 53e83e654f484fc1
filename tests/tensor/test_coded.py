import copy
import gc
import io
import pickle
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rung.formats import Ladder
from rung.tensor import CodedTensor, stored_bytes

FORMATS = ["ladder4", "ladder8", "ladder12", "ladder16"]


def coded(shape=(6, 4), fmt="ladder8", signs="packed", seed=0, dtype=torch.float32):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return CodedTensor.from_float(weight, fmt, 3.0, signs, seed, "w")


@pytest.fixture(params=["packed", "seed"])
def parameter(request):
    return nn.Parameter(coded(signs=request.param))


def same(a, b):
    assert type(a) is type(b) is CodedTensor
    assert a.format == b.format
    assert a.dtype == b.dtype
    for name, part in a.to_parts().items():
        assert torch.equal(part, b.to_parts()[name]), name
    return True


def test_it_is_a_parameter_with_the_outside_of_a_float(parameter):
    assert isinstance(parameter, nn.Parameter)
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert (parameter.shape, parameter.dtype) == (torch.Size((6, 4)), torch.float32)
    assert parameter.is_floating_point()


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("signs", ["packed", "seed"])
def test_bytes_are_those_of_codes_signs_scale_and_key(fmt, signs):
    weight = coded((50, 20), fmt, signs)
    code_bytes = 1000 if weight.format.bits <= 8 else 2000
    sign_bytes = 125 if signs == "packed" else 0
    assert weight.stored_bytes == code_bytes + sign_bytes + 4 + 8
    assert stored_bytes(weight) == weight.stored_bytes
    assert stored_bytes(torch.zeros(3, dtype=torch.float64)) == 24


@pytest.mark.parametrize("fmt", FORMATS)
def test_packed_signs_give_the_formats_own_rounding(fmt):
    weight = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    stored = CodedTensor.from_float(weight, fmt, 4.0)
    assert torch.equal(
        stored.decode(), stored.format.decode(stored.format.encode(weight, scale=4.0))
    )


def test_seeded_signs_keep_magnitudes_and_follow_seed_and_name():
    weight = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    packed = CodedTensor.from_float(weight, "ladder8", 4.0).decode()
    one = CodedTensor.from_float(weight, "ladder8", 4.0, "seed", 1, "a").decode()
    assert torch.equal(one.abs(), packed.abs())
    for seed, name in ((2, "a"), (1, "b")):
        other = CodedTensor.from_float(weight, "ladder8", 4.0, "seed", seed, name).decode()
        assert 0.4 < float((other != one).float().mean()) < 0.6


USES = {
    "linear": ((6, 4), lambda w, x: F.linear(x, w), (3, 4)),
    "matmul": ((6, 4), lambda w, x: x @ w, (3, 6)),
    "transposed matmul": ((6, 4), lambda w, x: torch.matmul(x, w.t()), (3, 4)),
    "einsum": ((6, 4), lambda w, x: torch.einsum("bi,oi->bo", x, w), (3, 4)),
    "conv1d": ((5, 3, 2), lambda w, x: F.conv1d(x, w), (2, 3, 7)),
    "conv2d": ((5, 3, 2, 2), lambda w, x: F.conv2d(x, w, padding=1), (2, 3, 6, 6)),
    "conv_transpose2d": ((3, 5, 2, 2), lambda w, x: F.conv_transpose2d(x, w), (2, 3, 6, 6)),
    "embedding": ((9, 4), lambda w, x: F.embedding(x.abs().long() % 9, w), (3, 5)),
    "elementwise": ((6, 4), lambda w, x: (w * x).sin(), (6, 4)),
    "slice": ((6, 4), lambda w, x: w[1:3] * x, (2, 4)),
}


@pytest.mark.parametrize("use", USES, ids=str)
@pytest.mark.parametrize("signs", ["packed", "seed"])
def test_forward_and_gradient_equal_those_of_the_decoded_weight(use, signs):
    shape, compute, input_shape = USES[use]
    weight = nn.Parameter(coded(shape, signs=signs))
    floats = weight.detach().decode().requires_grad_()
    x = torch.randn(input_shape, generator=torch.Generator().manual_seed(5))
    results = [compute(w, x.clone()) for w in (weight, floats)]
    for result in results:
        result.square().sum().backward()
    assert torch.equal(*results)
    assert type(weight.grad) is torch.Tensor
    assert torch.equal(weight.grad, floats.grad)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_compute_with_coded_weights(layer):
    torch.manual_seed(0)
    module = layer(4, 5)
    reference = copy.deepcopy(module)
    for name, weight in list(module.named_parameters()):
        if weight.ndim == 2:
            stored = CodedTensor.from_float(weight, "ladder12", 1.0)
            setattr(module, name, nn.Parameter(stored))
            setattr(reference, name, nn.Parameter(stored.decode()))
    x = torch.randn(3, 2, 4)
    module(x)[0].sum().backward()
    reference(x)[0].sum().backward()
    for (name, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def float_tensors_of(shape):
    gc.collect()
    with warnings.catch_warnings():
        # Looking at every object wakes deprecated module attributes.
        warnings.simplefilter("ignore")
        return [
            t
            for t in gc.get_objects()
            if type(t) is torch.Tensor
            and t.is_floating_point()
            and t.numel() == shape[0] * shape[1]
        ]


def test_no_float_copy_outlives_the_forward_or_the_backward_pass():
    shape = (173, 211)
    layer = nn.Linear(shape[1], shape[0], bias=False)
    layer.weight = nn.Parameter(coded(shape))
    x = torch.randn(2, shape[1], requires_grad=True)
    y = layer(x)
    assert not float_tensors_of(shape)
    y.sum().backward()
    # The dense gradient has the weight's shape; nothing else has.
    assert [t.data_ptr() for t in float_tensors_of(shape)] in ([], [layer.weight.grad.data_ptr()])
    layer.weight.grad = None
    assert not float_tensors_of(shape)


def test_codes_changed_before_backward_are_noticed(parameter):
    x = torch.randn(3, 4, requires_grad=True)
    y = F.linear(x, parameter)
    with torch.no_grad():
        parameter.codes.add_(1)
    with pytest.raises(
        RuntimeError, match="codes were changed between the forward and the backwar"
    ):
        y.sum().backward()


def test_deepcopy_and_pickle_keep_everything(parameter):
    parameter.grad = torch.ones(6, 4)
    twin = copy.deepcopy(parameter)
    assert same(parameter, twin)
    assert isinstance(twin, nn.Parameter)
    assert torch.equal(twin.grad, parameter.grad)
    twin.codes.zero_()
    assert not torch.equal(twin.codes, parameter.codes)
    loaded = pickle.loads(pickle.dumps(parameter))
    assert same(parameter, loaded)
    assert isinstance(loaded, nn.Parameter)
    assert loaded.requires_grad


def test_deepcopy_keeps_ties():
    model = nn.ModuleList([nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)])
    model[0].weight = model[1].weight = nn.Parameter(coded())
    twin = copy.deepcopy(model)
    assert twin[0].weight is twin[1].weight
    assert len(list(twin.parameters())) == 1


def test_torch_save_loads_with_weights_only(parameter):
    buffer = io.BytesIO()
    torch.save({"parameter": parameter, "tensor": parameter.detach()}, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    assert same(loaded["parameter"], parameter)
    assert isinstance(loaded["parameter"], nn.Parameter)
    assert not isinstance(loaded["tensor"], nn.Parameter)


@pytest.mark.parametrize("assign", [False, True])
def test_state_dict_round_trip(parameter, assign):
    source, target = nn.Linear(4, 6), nn.Linear(4, 6)
    source.weight = parameter
    signs = "seed" if parameter.seeded else "packed"
    target.weight = nn.Parameter(coded(signs=signs, seed=9))
    state = source.state_dict()
    assert type(state["weight"]) is CodedTensor
    target.load_state_dict(state, assign=assign)
    assert same(target.weight.detach(), source.weight.detach())


def test_to_changes_the_outer_dtype_and_keeps_the_codes(parameter):
    layer = nn.Linear(4, 6)
    layer.weight = parameter
    before = parameter.codes.clone()
    for dtype in (torch.bfloat16, torch.float64, torch.float32):
        layer.to(dtype)
        assert layer.weight.dtype == dtype
        assert isinstance(layer.weight, nn.Parameter)
        assert torch.equal(layer.weight.codes, before)
        assert layer(torch.ones(2, 4, dtype=dtype)).dtype == dtype
    assert parameter.detach().to("meta").device.type == "meta"
    assert parameter.detach().to(torch.int32).dtype == torch.int32


def test_named_parameters_clipping_and_tying_work():
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[0].weight = model[1].weight = nn.Parameter(coded())
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    model(torch.tensor([1, 2])).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert float(norm) > 1e-3
    assert float(model[0].weight.grad.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_in_place_arithmetic_is_refused(parameter):
    with pytest.raises(RuntimeError, match="would write floats into a weight that lives in codes"):
        parameter.data.add_(1)
    with pytest.raises(RuntimeError, match="would write floats"), torch.no_grad():
        parameter.mul_(2)


LOST = {
    "foreach": lambda w: torch._foreach_mul_([w], 2.0),
    "out": lambda w: torch.mul(torch.ones(6, 4), 2.0, out=w),
    "init": lambda w: nn.init.normal_(w),
    "setitem": lambda w: w.__setitem__(0, 0.0),
    "setitem of data": lambda w: w.data.__setitem__(slice(1, None), 9.0),
    "AdamW": lambda w: stepped(torch.optim.AdamW([w], foreach=True), w),
    "AdamW fused": lambda w: stepped(torch.optim.AdamW([w], fused=True), w),
    "SGD": lambda w: stepped(torch.optim.SGD([w]), w),
}


def stepped(optimizer, weight):
    weight.grad = torch.ones(6, 4)
    optimizer.step()


@pytest.mark.parametrize("write", LOST)
def test_no_write_is_lost_in_silence(parameter, write):
    before = parameter.codes.clone()
    with pytest.raises(RuntimeError, match="would write floats into a weight"), torch.no_grad():
        LOST[write](parameter)
    assert torch.equal(parameter.codes, before)


def test_assigning_data_assigns_the_codes():
    weight = nn.Parameter(coded())
    half = weight.detach().decode() * 0.5
    weight.data = half
    assert float((weight.detach().decode() / half - 1).abs().max()) < 0.01
    nn.utils.vector_to_parameters(2 * half.flatten(), [weight])
    assert float((weight.detach().decode() / (2 * half) - 1).abs().max()) < 0.01


def test_shared_memory_dlpack_and_to_empty():
    layer = nn.Linear(4, 6)
    layer.weight = nn.Parameter(coded())
    expected = layer.weight.detach().decode()
    layer.share_memory()
    assert layer.weight.is_shared()
    assert torch.equal(layer.weight.detach().decode(), expected)
    with pytest.raises(TypeError, match="no float memory to share by DLPack.*weight.decode"):
        torch.from_dlpack(layer.weight.detach())
    empty = copy.deepcopy(layer).to("meta").to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    assert torch.equal(empty.weight.detach().decode(), expected)


def test_a_stale_weight_in_any_graph_is_noticed(parameter):
    from rung.optim import BBitMadam

    x = torch.ones(6, 4, requires_grad=True)
    loss = (parameter * x).sum()
    parameter.grad = torch.ones(6, 4)
    BBitMadam([parameter], lr=0.1).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_activation_checkpointing_keeps_its_hooks():
    from torch.utils.checkpoint import checkpoint

    layer = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 4))
    layer[0].weight = nn.Parameter(coded())
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=False)):
        layer.zero_grad()
        run(x.clone()).square().sum().backward()
        gradients.append([p.grad.clone() for p in layer.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    seen = []
    x.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t.shape) or t, lambda t: t):
        layer[0](x)
    assert torch.Size([3, 4]) in seen
    assert torch.Size([6, 4]) not in seen


def test_torch_func_differentiates_through_codes():
    layer = nn.Linear(4, 6)
    layer.weight = nn.Parameter(coded())
    x = torch.randn(4, generator=torch.Generator().manual_seed(0))
    expected = layer.weight.detach().decode().sum(0)
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).sum())(x), expected)
    jacobian = torch.func.jacrev(layer)(x)
    torch.testing.assert_close(jacobian, layer.weight.detach().decode())


def test_a_source_far_smaller_than_the_scale_gets_a_scale_of_its_own():
    weight = coded((100, 16))
    small = 0.02 * torch.randn(100, 16, generator=torch.Generator().manual_seed(1))
    weight.copy_(small)
    assert float(weight.scale) == float(small.abs().max())
    assert float(weight.decode().std()) == pytest.approx(float(small.std()), rel=0.02)


def test_copy_from_floats_rounds_and_grows_the_scale():
    weight = nn.Parameter(coded())
    values = torch.randn(6, 4, generator=torch.Generator().manual_seed(8)) * 10
    with torch.no_grad():
        weight.copy_(values)
    assert float(weight.scale) == float(values.abs().max())
    error = (weight.decode() / values - 1).abs()
    in_range = values.abs() > float(weight.scale) / weight.format.dynamic_range
    assert float(error[in_range].max()) <= weight.format.max_relative_error * 1.001
    floats = torch.empty(6, 4)
    floats.copy_(weight.detach())
    assert torch.equal(floats, weight.detach().decode())


def test_copy_into_seeded_signs_needs_the_seeds_signs():
    weight = coded(signs="seed")
    weight.copy_(weight.decode() * 0.5)
    before = weight.codes.clone()
    with pytest.raises(ValueError, match=r"\d+ of 24 signs differ .* signs='packed'"):
        weight.copy_(-weight.decode())
    assert torch.equal(weight.codes, before)


def test_copy_refuses_other_shapes_and_nan():
    weight = coded()
    with pytest.raises(ValueError, match=r"must have shape \(6, 4\); got \(4, 6\)"):
        weight.copy_(torch.ones(4, 6))
    with pytest.raises(ValueError, match="must be finite; got 1 NaN"):
        weight.copy_(
            torch.full((6, 4), 1.0)
            .index_fill(0, torch.tensor([]).long(), 0)
            .masked_fill(torch.arange(24).reshape(6, 4) == 3, float("nan"))
        )


def test_bad_parts_are_refused():
    weight = coded()
    parts, meta = weight.to_parts(), weight.meta()
    assert same(CodedTensor.from_parts(parts, meta), weight)
    with pytest.raises(ValueError, match="A coded tensor needs scale"):
        CodedTensor.from_parts({k: v for k, v in parts.items() if k != "scale"}, meta)
    with pytest.raises(ValueError, match="Codes of 8 bits must be torch.uint8; got torch.int16"):
        CodedTensor.from_parts({**parts, "codes": parts["codes"].short()}, meta)
    with pytest.raises(
        ValueError, match="Signs of 24 weights take 3 bytes, or none if seeded; got 2"
    ):
        CodedTensor.from_parts({**parts, "signs": parts["signs"][:2]}, meta)
    with pytest.raises(ValueError, match=r"must broadcast to the tensor's shape \(6, 4\); got"):
        CodedTensor.from_parts({**parts, "scale": torch.ones(5, 1)}, meta)
    with pytest.raises(ValueError, match="`signs` must be 'seed' or 'packed'; got 'dense'"):
        CodedTensor.from_float(torch.ones(2), "ladder8", 1.0, "dense")


def test_repr_tells_format_and_bytes():
    text = repr(coded())
    assert "ladder8, shape=(6, 4)" in text
    assert "stored_bytes=39" in text
    assert "Ladder(bits=8, base_precision=0.02)" in repr(coded(fmt=Ladder(8, 0.02)))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("signs", ["packed", "seed"])
def test_a_compiled_model_equals_eager_in_one_graph_and_follows_its_codes(signs):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model[0].weight = nn.Parameter(coded(signs=signs))
    # The graph is what is tested; inductor's C++ step would need a compiler and a minute.
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(3, 4)
    for _ in range(3):
        model.zero_grad()
        compiled(x).square().sum().backward()
        ours = model[0].weight.grad.clone()
        model.zero_grad()
        y = model(x)
        y.square().sum().backward()
        assert torch.equal(compiled(x), y)
        assert torch.equal(ours, model[0].weight.grad)
        with torch.no_grad():
            model[0].weight.codes.add_(3)
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()
