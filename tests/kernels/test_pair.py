"""Codes of two ladders by the loop and by the reference; oracle: tests/formats/test_pair.py."""

import pytest
import torch

from rung.kernels.pair import pair_decode


@pytest.mark.parametrize(("bits", "knee"), [(4, 0.03), (8, 0.03), (10, 0.1), (16, 0.03), (8, 1e-9)])
def test_decoding_by_the_loop_and_by_the_reference_agree_for_every_pattern(bits, knee):
    patterns = torch.arange(1 << bits, dtype=torch.int32)
    codes = patterns.to(torch.uint8 if bits <= 8 else torch.int16).repeat(3)[:-5]
    matrix = codes[:12].reshape(3, 4)
    cases = [(codes, torch.tensor(scale), 0) for scale in (0.37, 0.0)]
    cases += [(matrix, torch.tensor([[1.0], [2.0], [0.5]]), 0), (matrix, torch.rand(3, 2), 3)]
    for stored, scale, block in cases:
        arguments = (stored, scale, bits, knee, block)
        assert torch.equal(pair_decode(*arguments), pair_decode.reference(*arguments))
        torch.library.opcheck(torch.ops.rung.pair_decode, arguments)
    assert pair_decode(codes, torch.tensor(float("nan")), bits, knee, 0).isnan().all()
    assert pair_decode(codes, torch.ones((), dtype=torch.float64), bits, knee, 0).dtype == (
        torch.float64
    )
