import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rung.formats.packing import pack_bits, packed_length, unpack_bits


@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 40), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_bits_are_little_endian_and_come_back(bits, rows, count, seed):
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (rows, count), generator=generator, dtype=torch.uint8)
    packed = pack_bits(codes, bits)
    assert packed.shape == (rows, packed_length(count, bits))
    for row in range(rows):
        number = sum(code << (bits * i) for i, code in enumerate(codes[row].tolist()))
        assert bytes(packed[row].tolist()) == number.to_bytes(packed.shape[1], "little")
    assert torch.equal(unpack_bits(packed, bits, count), codes)


def test_two_nibbles_fill_a_byte_and_four_codes_of_six_bits_three():
    nibbles = torch.tensor([[0x1, 0x2, 0xF]], dtype=torch.uint8)
    assert pack_bits(nibbles, 4).tolist() == [[0x21, 0x0F]]
    assert pack_bits(torch.full((1, 4), 0x3F, dtype=torch.uint8), 6).tolist() == [[255] * 3]


def test_what_cannot_be_packed_is_refused():
    codes = torch.tensor([[3, 16]], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"Codes must have 4 bits, be under 16; got 16"):
        pack_bits(codes, 4)
    for bits in (0, 9):
        with pytest.raises(ValueError, match=rf"`bits` must be from 1 to 8; got bits={bits}"):
            pack_bits(codes, bits)
    with pytest.raises(TypeError, match=r"must be uint8; got torch\.int32"):
        pack_bits(codes.int(), 4)
    with pytest.raises(ValueError, match=r"must be a matrix; got shape \(2,\)"):
        pack_bits(codes[0], 4)
    with pytest.raises(ValueError, match=r"5 codes of 6 bits take 4 bytes; got 2"):
        unpack_bits(codes, 6, 5)
