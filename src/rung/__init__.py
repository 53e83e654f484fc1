"""Rung: neural networks whose weights live on a logarithmic ladder and move by multiplication."""

from rung._version import __version__ as __version__
