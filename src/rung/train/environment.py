"""Where a run happens: versions, machine, commit."""

import platform
import subprocess
from pathlib import Path

import torch

from rung._version import __version__


def environment() -> dict[str, str | int | None]:
    """Versions, platform, processor, CPU threads and the commit of the working folder, if any."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rung": __version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Full commit of the current folder's repository; ``-dirty`` where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
