"""Rows of memory: bytes that training holds, and the most that a step takes on top."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rung.bench.row import CountedRow
from rung.bench.setting import Setting
from rung.bench.steps import RULES, gradients, real_models, square_case, step_of
from rung.optim import split_parameters, state_bytes
from rung.tensor import store_weights_, stored_bytes

_SECONDS = 600


def held(setting: Setting) -> tuple[float, dict[str, Any]]:
    """Bytes of weights and state after a step, 8-bit Madam over AdamW in float32."""

    def model() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            return real_models(setting)

    ours, theirs = model(), model()
    store_weights_(ours, "ladder8", signs="seed")
    optimizers = RULES["madam8"][2](split_parameters(ours)), torch.optim.AdamW(theirs.parameters())
    held_bytes = []
    for each, optimizer in zip((ours, theirs), optimizers, strict=True):
        gradients(each, setting)
        step_of(optimizer)()
        weights = sum(stored_bytes(param) for param in each.parameters())
        held_bytes.append({"weights": weights, "state": state_bytes(optimizer)})
    mine, adamw = (sum(part.values()) for part in held_bytes)
    count = sum(param.numel() for param in theirs.parameters())
    details = {"parameters": count, "8-bit Madam": held_bytes[0], "AdamW float32": held_bytes[1]}
    return mine / adamw, details


def peak(name: str) -> Callable[[Setting], tuple[float, dict[str, Any]]]:
    """Most resident memory during a warm step beyond that before it, in float32 tensors.

    Of a process of its own, in which memory goes back to the system as soon as it is free.
    """

    def count(setting: Setting) -> tuple[float, dict[str, Any]]:
        arguments = [name, str(setting.count), str(setting.side)]
        # Blocks from 64 KiB on are pages of their own: what a step frees shows at once.
        variables = {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "rung.bench.memory", *arguments],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
        extra, tensor = int(done.stdout.split()[-1]), 4 * setting.side**2
        return extra / tensor, {"bytes": extra, "largest_tensor_bytes": tensor}

    return count


def measure_here(name: str, setting: Setting) -> int:
    """Peak extra bytes of a step in this process, from the system's own books (Linux).

    Raises:
        OSError: The system keeps no such books.
    """
    torch.set_num_threads(1)
    step = square_case(name).make(setting)
    for _ in range(3):
        step()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    step()
    return max(0, _status("VmHWM") - before)


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status must hold {field}; this system's doesn't.")
    return 1024 * int(found[1])


def memory_rows() -> list[CountedRow]:
    """What is held, and each optimizer's peak."""
    rows = [
        CountedRow(
            "bytes-held",
            "Bytes of weights + state in training, 8-bit Madam / AdamW float32",
            held,
            0.27,
            0.25,
        )
    ]
    rows += [
        CountedRow(
            f"peak-{name}",
            f"Peak extra memory of a step of {rule[0]}, in float32 tensors of a weight's size",
            peak(name),
            1.0,
            # "None": a tenth of a tensor is scratch of a fixed size.
            0.1,
        )
        for name, rule in RULES.items()
    ]
    return rows


if __name__ == "__main__":
    print(measure_here(sys.argv[1], Setting(count=int(sys.argv[2]), side=int(sys.argv[3]))))
