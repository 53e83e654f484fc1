"""Compiles the kernels for an H200, which needs no GPU; prints what of the code is looked at.

A program of its own: a process that has Triton's interpreter has not its compiler.
"""

import json
import re
import sys

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from rung.kernels.gpu import (
    coded_madam,
    datapath,
    finite,
    ladder,
    linear,
    lmd_steps,
    lns,
    madam,
    momenta,
    moments,
    mx,
)
from rung.kernels.gpu.jit import EXACT

HOPPER = GPUTarget("cuda", 90, 32)
TABLE = {"places": "*i64", "owners": "*i32", "numbers": "*fp32", "log8": "*fp32"}
NAMES = ("groups", "blocks", "parts", "length", "block", "scale_rows")
ALIGNED = ("length", "block", "width")
ROWS = {"rows": "*fp32", "draws": "*i16", "result": "*fp32", "given": "*fp32", "found": "*i32"}
ROWS |= {"out": "*fp32", **dict.fromkeys(NAMES, "i32")}
TILES = {"whole": {"G": 1, "P": 1024}, "blocks": {"G": 32, "P": 32}}
GRID = {"BITS": 8, "MANTISSA": 3, "LOWEST": -6, "LARGEST": 448.0, "SUBNORMALS": True}
GRID |= {"FIXED": False, "STOCHASTIC": True}
SCALED = {"rows": "*fp32", "draws": "*i32", "most": "fp32", **dict.fromkeys(NAMES, "i32")}


def cases():
    """(name, kernel, types of arguments, constants)."""
    for even in (True, False):
        chunk = {"EVEN": even, "CHUNK": 1024}
        look = {"DTYPE": tl.int32, "SIZE": 4, "MAGNITUDE": 2**31 - 1, "LARGEST": 190 << 23}
        pointers = {"places": "*i64", "owners": "*i32", "sound": "*i8"}
        yield f"finite-{even}", finite._look, pointers, {**look, **chunk}
        for kind in range(3):
            own = {"NARROW": kind == 1, "KIND": kind, **chunk}
            yield f"madam-{kind}-{even}", madam._step, TABLE, own
            own |= {"WIDE": kind == 0, "CARRIED": -1, "SIGNS": kind, "STOCHASTIC": kind > 0}
            yield f"coded-madam-{kind}-{even}", coded_madam._step, TABLE, own
            free = own | {"SIGNS": coded_madam.FREE, "CARRIED": kind}
            yield f"coded-madam-free-{kind}-{even}", coded_madam._step, TABLE, free
        four = {**free, "KIND": moments.LOG8, "CARRIED": momenta.FOUR_BITS}
        yield f"coded-madam-four-{even}", coded_madam._step, TABLE, four
    pointers = {"places": "*i64", "owners": "*i32", "found": "*i32"}
    own = {"NARROW": False, "EVEN": True, "CHUNK": 1024}
    yield "largest", moments._largest, pointers, own
    pointers = {"places": "*i64", "found": "*i32", "numbers": "*fp32", "log8": "*fp32"}
    yield "rescale", moments._rescale, {**pointers, "count": "i32"}, {"COLUMNS": 12, "ROWS": 128}
    pointers = {"a": "*u8", "b": "*u8", **dict.fromkeys(("sizes", "constants", "total"), "*i64")}
    pointers |= {"overflows": "*i64", **dict.fromkeys(("rows", "width", "depth"), "i32")}
    own = {"LAST": 127, "GAMMA": 8, "SPAN": 1, "BITS": 24, "WRAPS": False, "ZERO": True, "BINS": 8}
    own |= {"DEPTH": 512, "TILE": 16}
    yield "datapath", datapath._in_order, {**pointers, "dropped": "i32", "guard": "i32"}, own
    for name, tile in TILES.items():
        own = {**tile, "SOURCE": 2, "FROM": 0, "STOCHASTIC": True, "CODES": False, "BITS": 8}
        pointers = {**ROWS, "ends": "*fp64", "powers": "*fp32"}
        yield f"lns-{name}", lns._round, pointers, {**own, "GAMMA": 8, "SHIFT": 3, "LOW": 0}
        pointers = {**ROWS, "ends": "*fp64", "rungs": "*fp32", "per_octave": "fp32"}
        yield f"ladder-{name}", ladder._round, pointers, own
        pointers = {"codes": "*u8", "scales": "*fp32", "powers": "*fp32", "signs": "*u8"}
        pointers |= {"rungs": "*fp32", "out": "*fp32", **dict.fromkeys(NAMES, "i32")}
        yield f"lns-decode-{name}", lns._decode, pointers, {**tile, "BITS": 8, "DROP": 2}
        yield f"ladder-decode-{name}", ladder._decode, pointers, {**tile, "SIGNED": True}
        pointers = {**SCALED, "result": "*u8", "scales": "*u8"}
        own = {**tile, **GRID, "EMAX": 8, "THRESHOLD": 2**24, "CODES": True}
        yield f"mx-{name}", mx._quantize, pointers, own
        pointers = {**SCALED, "codes": "*u8", "scales": "*u8", "out": "*fp32"}
        own = {**tile, **GRID, "INFINITY": -1, "NAN": 127}
        yield f"mx-decode-{name}", mx._decode, pointers, own
        pointers = {**SCALED, "scales": "*fp32", "out": "*fp32"}
        yield f"cast-{name}", mx._cast, pointers, {**tile, **GRID, "BACK": True}
    yield from linear_cases()
    yield from lmd_cases()


def lmd_cases():
    pointers = {"places": "*i64", "owners": "*i32", "numbers": "*fp32", "keys": "*i64"}
    pointers |= {"sums": "*fp64", "inverse": "*fp64"}
    for even in (True, False):
        kind = {"NARROW": not even, "NOISY": True, "ALIGNED": even, "EVEN": even, "CHUNK": 1024}
        yield f"lmd-sample-{even}", lmd_steps.draw, pointers, kind
        yield f"lmd-point-{even}", lmd_steps.put_point, pointers, kind
        yield f"lmd-accumulate-{even}", lmd_steps.add_gradients, pointers, kind
        kind |= {"GIVEN": False}
        yield f"lmd-squares-{even}", lmd_steps.squares, pointers, kind
        for prior in range(4):
            own = {**kind, "PRIOR": prior, "BY_RMS": prior % 2 == 1, "NARROW": prior > 1}
            yield f"lmd-update-{prior}-{even}", lmd_steps.move, pointers, own
    own = {"CHUNK": 1024, "BLOCK": 1024}
    yield "lmd-invert", lmd_steps.invert, pointers, own


def linear_cases():
    pointers = {"x": "*bf16", "codes": "*u8", "scale": "*fp32", "signs": "*u8", "key": "*i64"}
    pointers |= {"low": "*fp32", "high": "*fp32", "y": "*i16"}
    pointers |= dict.fromkeys(("batch", "height", "width", "scale_step"), "i32")
    for signs in range(3):
        own = {
            "SIGNS": signs,
            "BITS": 8,
            "SHIFT": 3 if signs == 2 else 4,
            "PARTS": 4,
            "NARROW": True,
        }
        yield f"rows-{signs}", linear._rows, pointers, {**own, "COLUMNS": 1024, "BATCH": 2}
        own |= {"ROWS": 16, "COLUMNS": 256, "BATCH": 16}
        yield f"product-{signs}", linear._product, pointers, {**own, "SPLIT": True}
        own |= {"SPLIT": False}
        yield f"product-wide-{signs}", linear._product, {**pointers, "x": "*fp32"}, own


def compiled(kernel, types, constants):
    """The machine's assembly."""
    names = kernel.arg_names
    own = {name: constants[name] for name in names if name in constants}
    signature = {name: "constexpr" if name in own else types[name] for name in names}
    aligned = [name for name in names if signature[name].startswith("*") or name in ALIGNED]
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in own.items()},
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return triton.compile(source, target=HOPPER, options=EXACT).asm["ptx"]


if __name__ == "__main__":
    found = {}
    for name, kernel, types, constants in cases():
        if len(sys.argv) > 1 and not re.search(sys.argv[1], name):
            continue
        ptx = compiled(kernel, types, constants)
        found[name] = {
            "fused": len(re.findall(r"\bfma\.rn\.f32", ptx)),
            "flushed": len(re.findall(r"\b(?:mul|add|sub|fma)\.(?:\w+\.)*ftz", ptx)),
            "vectors": len(re.findall(r"(?:ld|st)\.global[\w.:]*\.v\d", ptx)),
            "exchanges": len(re.findall(r"st\.shared", ptx)),
            "lines": ptx.count("\n"),
        }
    print(json.dumps(found))
