"""The run folder: what is written where, and when it may be written."""

import json
import os
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from rung.train.files import write_json

FORMAT_VERSION = 1
"""Version of the JSON files' layout."""

_MARKS = ("config.json", "metrics.jsonl", "checkpoint")


class RunFolder:
    """One run on disk: config.json, metrics.jsonl, diagnostics.json, summary.json, checkpoint/.

    Nothing is written before `begin`; from then to `close` the folder is one process's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoint = self.path / "checkpoint" / "last.safetensors"
        self._metrics: IO[str] | None = None
        self._lock = FileLock(self.path / ".lock", timeout=0)

    def check(self, resume: bool) -> None:
        """Refuse to mix two runs.

        Raises:
            FileExistsError: The folder holds a run and `resume` is false, or the path is a file.
            FileNotFoundError: `resume` is true and the folder holds no run.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"A run needs a folder; {self.path} is a file.")
        holds_run = any((self.path / mark).exists() for mark in _MARKS)
        if holds_run and not resume:
            raise FileExistsError(
                f"{self.path} holds a run already. Add --resume to go on with it, or give another "
                "folder by --out."
            )
        if resume and not holds_run:
            raise FileNotFoundError(
                f"There is no run to resume in {self.path}. Drop --resume, or give the folder of "
                "the run by --out."
            )

    def begin(self, config: dict[str, Any], metrics_bytes: int) -> None:
        """Make the folder, write config.json and cut metrics.jsonl back to a checkpoint.

        Args:
            config: Content of config.json.
            metrics_bytes: Size of metrics.jsonl at the checkpoint; 0 for a new run.

        Raises:
            ValueError: metrics.jsonl is shorter than it was at the checkpoint, or another process
                is at this run; nothing was overwritten.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise ValueError(
                f"A run folder must be trained by one process; {self.path} is another one's just "
                "now. Wait for it or stop it, or give another folder by --out."
            ) from None
        try:
            self._begin(config, metrics_bytes)
        except BaseException:
            self._lock.release()
            raise

    def _begin(self, config: dict[str, Any], metrics_bytes: int) -> None:
        metrics = self.path / "metrics.jsonl"
        size = metrics.stat().st_size if metrics.exists() else 0
        if size < metrics_bytes:
            raise ValueError(
                f"{metrics} must hold at least the {metrics_bytes} bytes of the checkpoint; got "
                f"{size}. Restore the file, or start again in another folder."
            )
        write_json(self.path / "config.json", config)
        # What an earlier end of this run said is no longer so.
        for stale in ("summary.json", "diagnostics.json"):
            (self.path / stale).unlink(missing_ok=True)
        self._metrics = open(metrics, "a", encoding="utf-8")  # noqa: SIM115
        self._metrics.truncate(metrics_bytes)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        assert self._metrics is not None, "begin() comes first"
        self._metrics.write(json.dumps(line, allow_nan=False) + "\n")
        self._metrics.flush()

    def metrics_bytes(self) -> int:
        """Size of metrics.jsonl, all of it on the disk."""
        assert self._metrics is not None, "begin() comes first"
        os.fsync(self._metrics.fileno())
        return os.fstat(self._metrics.fileno()).st_size

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Write one of the folder's JSON files whole."""
        write_json(self.path / name, value)

    def close(self) -> None:
        """Close metrics.jsonl and leave the folder to others."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        self._lock.release()
