"""Checkpoints of the optimizers: groups of older versions, state in the dtype it was saved in."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from rung.optim._checks import ADDITIVE

# What groups had before they had these options.
_BEFORE = {"momentum": 0.0, "momentum_bits": None}


class CheckpointedOptimizer(Optimizer):
    """torch's Optimizer, whose checkpoints lose nothing.

    Attributes:
        algorithm: Name of the multiplicative rule, which groups have under that key.
    """

    algorithm: str

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            if group.get("algorithm", self.algorithm) != ADDITIVE:
                for key, value in self.defaults.items():
                    group.setdefault(key, _BEFORE.get(key, value))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's, with every state tensor in the dtype in which it was saved.

        torch casts floating and integer state to the parameter's dtype: a bfloat16 moment comes
        back as float32, an integer code of 4095 in a bfloat16 model as 4096
        (github.com/pytorch/pytorch/issues/43706).

        Raises:
            ValueError: The state is of another algorithm, or its groups don't fit.
        """
        ours = [group["algorithm"] for group in self.param_groups]
        theirs = [group.get("algorithm") for group in state_dict["param_groups"]]
        if len(ours) == len(theirs) and ours != theirs:
            raise ValueError(
                f"The state must be of the same algorithms, group by group: {ours}; got {theirs}. "
                "Load it into the optimizer that wrote it."
            )
        final: dict[str, Any] = {}
        # Last of the pre-hooks and first of the post-hooks: users' hooks see what they expect.
        before = self.register_load_state_dict_pre_hook(lambda _, loaded: final.update(loaded))
        after = self.register_load_state_dict_post_hook(
            lambda _: self._restore_dtypes(final), prepend=True
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            before.remove()
            after.remove()

    def _restore_dtypes(self, loaded: dict[str, Any]) -> None:
        ids = [index for group in loaded["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(ids, params, strict=True):
            for key, value in loaded["state"].get(index, {}).items():
                if isinstance(value, Tensor):
                    # torch has put a step counter where it belongs, but may share it with the file.
                    device = self.state[param][key].device if key == "step" else param.device
                    self.state[param][key] = value.detach().to(device, copy=True)


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors in an optimizer's state, step counters included."""
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    )
