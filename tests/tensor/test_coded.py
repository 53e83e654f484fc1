import json

import pytest
import torch

from rung.formats import LNS, Ladder
from rung.tensor import CodedTensor, stored_bytes

from .weights import KINDS, coded, same

LADDER_NAMES = ["ladder4", "ladder8", "ladder12", "ladder16"]
FORMATS = [*LADDER_NAMES, "lns4", "lns8", "lns12", "lns16"]


DTYPES = [torch.float32, torch.float64, torch.bfloat16]


@pytest.mark.parametrize("fmt", LADDER_NAMES)
@pytest.mark.parametrize("signs", ["packed", "seed"])
def test_a_ladders_bytes_are_those_of_codes_signs_scale_and_key(fmt, signs):
    weight = coded((50, 20), fmt, signs)
    code_bytes = 1000 if weight.format.bits <= 8 else 2000
    sign_bytes = 125 if signs == "packed" else 0
    assert weight.stored_bytes == code_bytes + sign_bytes + 4 + 8
    assert stored_bytes(weight) == weight.stored_bytes
    assert stored_bytes(torch.zeros(3, dtype=torch.float64)) == 24


@pytest.mark.parametrize(
    ("fmt", "dtype", "code_bytes"),
    [
        ("lns4", torch.uint8, 1000),
        ("lns8", torch.uint8, 1000),
        ("lns10", torch.int16, 2000),
        ("lns16", torch.int16, 2000),
    ],
)
def test_an_lns_takes_one_or_two_bytes_a_weight_and_none_for_signs(fmt, dtype, code_bytes):
    weight = coded((50, 20), fmt)
    assert weight.codes.dtype == dtype
    assert weight.signs.numel() == 0
    assert not weight.seeded
    assert weight.stored_bytes == code_bytes + 4 + 8


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale", [1.0, "channel"])
def test_stored_weights_are_those_that_the_format_rounds_to(fmt, dtype, scale):
    weight = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight[0] = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 1e30])
    if scale == "channel":
        scale = torch.linspace(0.1, 4.0, 30)[:, None]
    stored = CodedTensor.from_float(weight, fmt, scale)
    assert stored.dtype == dtype
    assert torch.equal(stored.decode(), stored.format.quantize(weight, scale=scale))


@pytest.mark.parametrize("fmt", FORMATS)
def test_no_stored_weight_is_zero(fmt):
    assert bool((CodedTensor.from_float(torch.zeros(7), fmt, 1.0).decode() > 0).all())


@pytest.mark.parametrize(("fmt", "signs"), KINDS)
def test_sign_slices_are_the_signs_of_the_decoded_weight(fmt, signs):
    weight = coded((9, 7), fmt, signs)
    expected = weight.decode().sign().flatten()
    for start, count in ((0, 63), (0, 8), (5, 20), (62, 1), (30, 0)):
        slice_ = weight.sign_slice(start, count, torch.float32)
        assert slice_.dtype == torch.float32
        assert torch.equal(slice_, expected[start : start + count])


def test_seeded_signs_keep_magnitudes_and_follow_seed_and_name():
    weight = torch.randn(40, 50, generator=torch.Generator().manual_seed(0))
    packed = CodedTensor.from_float(weight, "ladder8", 4.0).decode()
    one = CodedTensor.from_float(weight, "ladder8", 4.0, "seed", 1, "a").decode()
    assert torch.equal(one.abs(), packed.abs())
    for seed, name in ((2, "a"), (1, "b")):
        other = CodedTensor.from_float(weight, "ladder8", 4.0, "seed", seed, name).decode()
        assert 0.4 < float((other != one).float().mean()) < 0.6


def test_an_lns_has_no_seeded_signs():
    for fmt, name in (("lns16", "lns16"), (LNS(8, 8), "lns8")):
        with pytest.raises(ValueError, match=f"is for ladders.* got {name}, .*Leave `signs` out"):
            CodedTensor.from_float(torch.ones(2), fmt, 1.0, "seed")
    for fmt in FORMATS:
        with pytest.raises(ValueError, match="`signs` must be 'seed' or 'packed'; got 'dense'"):
            CodedTensor.from_float(torch.ones(2), fmt, 1.0, "dense")


def test_weights_live_in_no_format_with_a_zero_and_in_nothing_but_codes():
    with pytest.raises(ValueError, match="must have no zero.*got LNS.*zero=True.*zero=False"):
        CodedTensor.from_float(torch.ones(2), LNS(8, 8, zero=True), 1.0)
    meta = {**coded(fmt="lns8").meta(), "zero": True}
    with pytest.raises(ValueError, match="must have no zero"):
        CodedTensor.from_parts(coded(fmt="lns8").to_parts(), meta)
    with pytest.raises(TypeError, match="got int"):
        CodedTensor.from_float(torch.ones(2), 8, 1.0)


@pytest.mark.parametrize("fmt", ["ladder8", "lns8", "lns16"])
def test_a_scale_must_be_positive(fmt):
    for scale in (0.0, -1.0, float("nan"), torch.tensor([[1.0], [0.0]])):
        with pytest.raises(ValueError, match="`scale` must be positive and finite; got 1 of"):
            CodedTensor.from_float(torch.ones(2, 3), fmt, scale)


META_FORMATS = [
    Ladder(8),
    Ladder(12, 0.002),
    LNS(8, 8),
    LNS(6, base_factor=4),
    LNS(16, 2048, power_of_two_scale=True),
]


@pytest.mark.parametrize("fmt", META_FORMATS, ids=repr)
def test_parts_and_meta_say_everything_in_json(fmt):
    weight = coded(fmt=fmt, dtype=torch.bfloat16)
    meta = json.loads(json.dumps(weight.meta()))
    assert meta["kind"] == type(fmt).__name__.lower()
    assert same(CodedTensor.from_parts(weight.to_parts(), meta), weight)


def test_metas_without_a_kind_are_a_ladders():
    weight = coded()
    meta = {"bits": 8, "base_precision": weight.format.base_precision, "dtype": "float32"}
    assert same(CodedTensor.from_parts(weight.to_parts(), meta), weight)


def test_a_meta_of_another_kind_or_without_a_field_is_refused():
    weight = coded(fmt="lns8")
    parts, meta = weight.to_parts(), weight.meta()
    with pytest.raises(ValueError, match="Unknown kind of format 'mx'; the kinds are: ladder, lns"):
        CodedTensor.from_parts(parts, {**meta, "kind": "mx"})
    for name in ("base_factor", "zero", "underflow", "power_of_two_scale", "dtype"):
        with pytest.raises(ValueError, match=f"A coded tensor needs {name}; got parts codes"):
            CodedTensor.from_parts(parts, {k: v for k, v in meta.items() if k != name})


def test_parts_of_another_lns_are_refused():
    weight = coded(fmt="lns16")
    parts, meta = weight.to_parts(), weight.meta()
    with pytest.raises(ValueError, match="Codes of 8 bits must be torch.uint8; got torch.int16"):
        CodedTensor.from_parts(parts, coded(fmt="lns8").meta())
    with pytest.raises(ValueError, match=r"Codes of lns12 must be under 2\^12; got \d+"):
        CodedTensor.from_parts(parts, coded(fmt="lns12").meta())
    with pytest.raises(ValueError, match="codes of lns16 hold the signs.* must be empty; got 3"):
        CodedTensor.from_parts({**parts, "signs": torch.zeros(3, dtype=torch.uint8)}, meta)


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


def test_repr_tells_format_and_bytes():
    text = repr(coded())
    assert "ladder8, shape=(6, 4)" in text
    assert "stored_bytes=39" in text
    assert "signs=packed" in text
    assert "signs=seed" in repr(coded(signs="seed"))
    assert "CodedTensor(lns16, shape=(6, 4)" in repr(coded(fmt="lns16"))
    assert "signs=codes, stored_bytes=60" in repr(coded(fmt="lns16"))
    assert "Ladder(bits=8, base_precision=0.02)" in repr(coded(fmt=Ladder(8, 0.02)))
