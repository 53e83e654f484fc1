import pytest
import torch

from rung.kernels.philox import PURPOSE_SIGN, key_from_seed, philox_scalar
from rung.kernels.signs import pack_signs, seeded_signs, unpack_signs


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_unpacking_gives_what_was_packed(count):
    negative = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.5
    packed = pack_signs(negative)
    assert packed.dtype == torch.uint8
    assert packed.numel() == (count + 7) // 8
    assert torch.equal(unpack_signs(packed, 0, count, torch.float32) < 0, negative)


@pytest.mark.parametrize("read", ["packed", "seeded"])
def test_any_slice_decodes_without_its_neighbours(read):
    key = torch.tensor(key_from_seed(1, "w"))
    whole = seeded_signs(key, 0, 300, torch.float32)
    packed = pack_signs(whole < 0)
    for start in range(0, 40, 3):
        for count in (0, 1, 8, 45):
            if read == "packed":
                part = unpack_signs(packed, start, count, torch.float32)
            else:
                part = seeded_signs(key, start, count, torch.float32)
            assert torch.equal(part, whole[start : start + count])


def test_seeded_sign_is_one_bit_of_the_counter():
    key = key_from_seed(2, "w") % 2**64
    signs = seeded_signs(torch.tensor(key_from_seed(2, "w")), 0, 400, torch.float32).tolist()
    for index, sign in enumerate(signs):
        block, bit = divmod(index, 128)
        words = philox_scalar((block, 0, 0, PURPOSE_SIGN), (key & 0xFFFFFFFF, key >> 32))
        assert sign == 1 - 2 * (words[bit // 32] >> bit % 32 & 1)


def test_seeded_signs_are_balanced():
    signs = seeded_signs(torch.tensor(3), 0, 100_000, torch.float32)
    assert abs(float(signs.mean())) < 3 / 100_000**0.5
