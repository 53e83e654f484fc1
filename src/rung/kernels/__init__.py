"""Arithmetic on plain tensors: random bits, signs, ladder codes, moments."""
