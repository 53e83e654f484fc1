"""Made-up gradients and second moments for tests of optimizers' steps."""

import torch

MOMENTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "log8": torch.uint8}
MOMENTA = (*MOMENTS, "four bits")


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def gradients(shapes, seed=0):
    """Of all sizes, some 0, some tiny, some huge."""
    grads = [randn(*shape, seed=seed + i) for i, shape in enumerate(shapes)]
    sizes = [torch.exp(3 * randn(*shape, seed=seed + 50 + i)) for i, shape in enumerate(shapes)]
    grads = [g * s for g, s in zip(grads, sizes, strict=True)]
    for grad in grads:
        flat = grad.view(-1)
        flat[3::11], flat[5::29], flat[7::31], flat[9::37] = 0.0, 1e-30, 1e15, 3e-19
    return grads


def moments_of(kind, shapes, seed):
    values = [torch.exp(4 * randn(*shape, seed=seed + i)) for i, shape in enumerate(shapes)]
    for v in values:
        v.view(-1)[2::13], v.view(-1)[4::17], v.view(-1)[6::19] = 0.0, 1e-42, 1e30
    if kind != "log8":
        return [v.to(MOMENTS[kind]) for v in values], []
    generator = torch.Generator().manual_seed(seed)
    codes = [torch.randint(0, 256, v.shape, generator=generator).to(torch.uint8) for v in values]
    return codes, [torch.tensor(2.0 ** (i % 5)) for i in range(len(shapes))]


def paired(count, seed):
    """Codes of `count` elements, two in an int8, and zeros up to a whole block."""
    whole = -(-count // 32) * 32
    codes = torch.randint(0, 16, (whole,), generator=torch.Generator().manual_seed(seed))
    codes[count:] = 0
    low, high = codes.view(-1, 2, 16).unbind(1)
    return (low | (high << 4)).view(-1).to(torch.uint8).view(torch.int8)


def momenta_of(kind, shapes, seed):
    """Of the sizes that normalised gradients have, some 0; no items of None."""
    if kind is None:
        return []
    if kind == "four bits":
        return [paired(torch.Size(shape).numel(), seed + i) for i, shape in enumerate(shapes)]
    values = [
        randn(*shape, seed=seed + i) * torch.exp(2 * randn(*shape, seed=i))
        for i, shape in enumerate(shapes)
    ]
    for m in values:
        m.view(-1)[1::17], m.view(-1)[3::19] = 0.0, 1e-5
    if kind == "log8":
        return [m.clamp(-400, 400).to(torch.float8_e4m3fn).view(torch.uint8) for m in values]
    return [m.to(MOMENTS[kind]) for m in values]
