"""Arithmetic on plain tensors: random bits, ladder codes, moments. Knows no formats, no parameters."""
