"""The GPU's kernels, in Triton: imported at an operation's first call on a device."""
