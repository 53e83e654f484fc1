import copy
import io
import pickle

import pytest
import torch
from torch import nn

from rung.tensor import CodedTensor

from .weights import coded, same


def test_it_is_a_parameter_with_the_outside_of_a_float(parameter):
    assert isinstance(parameter, nn.Parameter)
    assert parameter.is_leaf
    assert parameter.requires_grad
    assert (parameter.shape, parameter.dtype) == (torch.Size((6, 4)), torch.float32)
    assert parameter.is_floating_point()


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


def test_deepcopy_keeps_ties(parameter):
    model = nn.ModuleList([nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False)])
    model[0].weight = model[1].weight = parameter
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
    target.weight = nn.Parameter(coded(fmt=parameter.format, signs=signs, seed=9))
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


def test_named_parameters_clipping_and_tying_work(parameter):
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False))
    model[0].weight = model[1].weight = parameter
    assert [name for name, _ in model.named_parameters()] == ["0.weight"]
    model(torch.tensor([1, 2])).square().sum().backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert float(norm) > 1e-3
    assert float(model[0].weight.grad.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_shared_memory_dlpack_and_to_empty(parameter):
    layer = nn.Linear(4, 6)
    layer.weight = parameter
    expected = layer.weight.detach().decode()
    layer.share_memory()
    assert layer.weight.is_shared()
    assert torch.equal(layer.weight.detach().decode(), expected)
    with pytest.raises(TypeError, match="no float memory to share by DLPack.*weight.decode"):
        torch.from_dlpack(layer.weight.detach())
    empty = copy.deepcopy(layer).to("meta").to_empty(device="cpu")
    empty.load_state_dict(layer.state_dict())
    assert torch.equal(empty.weight.detach().decode(), expected)
