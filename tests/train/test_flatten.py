import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.tensor import CodedTensor
from rung.train.flatten import flatten, unflatten

plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.builds(lambda n: torch.arange(n, dtype=torch.float32), st.integers(0, 4))
    | st.builds(lambda n: torch.tensor(n, dtype=torch.int16), st.integers(-9, 9))
)
keys = st.text(max_size=4) | st.integers(-3, 12)
trees = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def same(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and math.isnan(a):
        return math.isnan(b)
    return a == b


@settings(deadline=None, max_examples=200)
@given(trees)
def test_a_tree_comes_back_with_its_types_through_json(tree):
    structure, tensors = flatten(tree)
    assert same(unflatten(json.loads(json.dumps(structure, allow_nan=False)), tensors), tree)


def test_keys_that_look_alike_get_tensors_of_their_own():
    tree = {"1": torch.tensor(0), 1: torch.tensor(1), "a/b": torch.tensor(2), "~1": torch.tensor(4)}
    tree["a"] = {"b": torch.tensor(3)}
    structure, tensors = flatten(tree)
    assert len(tensors) == 5
    assert same(unflatten(structure, tensors), tree)


def test_tensors_are_copies_that_share_no_memory():
    weight = torch.zeros(3, 2).t()
    _, tensors = flatten({"a": weight, "b": weight})
    assert len({tensor.data_ptr() for tensor in tensors.values()}) == 2
    assert all(tensor.is_contiguous() for tensor in tensors.values())


@pytest.mark.parametrize("signs", ["seed", "packed"])
def test_coded_tensors_come_back_as_codes(signs):
    coded = CodedTensor.from_float(torch.randn(4, 3), "ladder12", 2.0, signs=signs, seed=3)
    structure, tensors = flatten({"weight": coded})
    back = unflatten(structure, tensors)["weight"]
    assert isinstance(back, CodedTensor)
    assert torch.equal(back.codes, coded.codes)
    assert torch.equal(back.decode(), coded.decode())
    assert all(tensor.dtype != torch.float32 or tensor.ndim == 0 for tensor in tensors.values())


def test_other_types_are_refused_with_their_path():
    with pytest.raises(TypeError, match="got set at 'optimizer/~0'"):
        flatten({"optimizer": [{1, 2}]})
    with pytest.raises(TypeError, match="keys are str or int; got float 1.5"):
        flatten({"a": {1.5: 0}})


def test_a_damaged_structure_is_refused():
    structure, tensors = flatten({"a": torch.zeros(2)})
    with pytest.raises(ValueError, match="tensor that isn't there: 'a'"):
        unflatten(structure, {})
    with pytest.raises(ValueError, match="Unknown kind of node in a checkpoint's structure: 'set'"):
        unflatten({"kind": "set", "value": []}, tensors)
