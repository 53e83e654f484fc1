"""The command line; importing this costs nothing, `main` brings what it needs."""

from rung.cli.main import main

__all__ = ["main"]
