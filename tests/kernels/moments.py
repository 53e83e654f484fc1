"""Made-up gradients and second moments for tests of optimizers' steps."""

import torch

MOMENTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "log8": torch.uint8}


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


def momenta_of(kind, shapes, seed):
    """Of the sizes that normalised gradients have, some 0; no items of None."""
    if kind is None:
        return []
    values = [
        randn(*shape, seed=seed + i) * torch.exp(2 * randn(*shape, seed=i))
        for i, shape in enumerate(shapes)
    ]
    for m in values:
        m.view(-1)[1::17], m.view(-1)[3::19] = 0.0, 1e-5
    if kind == "log8":
        return [m.clamp(-400, 400).to(torch.float8_e4m3fn).view(torch.uint8) for m in values]
    return [m.to(MOMENTS[kind]) for m in values]
