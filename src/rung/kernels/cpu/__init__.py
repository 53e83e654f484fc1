"""The operations on the CPU: numba loops (`*_loops`) and what hands tensors to them."""
