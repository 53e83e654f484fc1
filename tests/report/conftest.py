"""Fixtures of the report's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .run_folders import write_run


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A maker of synthetic run folders below the test's own folder."""

    def make(name: str = "run", **options: Any) -> Path:
        return write_run(tmp_path / name, **options)

    return make
