"""Whether PyTorch records or changes each operation, so that its own layers have to run."""

from __future__ import annotations

import torch
from torch.autograd import forward_ad


def is_followed() -> bool:
    """Whether there is tracing, autocast, a mode of dispatch, vmap and the like."""
    return bool(
        torch._C._is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or _function_modes()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def _function_modes() -> bool:
    """Modes that see functions of PyTorch, but for the one that only sets the default device."""
    stack = torch.overrides._get_current_function_mode_stack() if torch._C._len_torch_function_stack() else ()
    return any(type(mode) is not torch.utils._device.DeviceContext for mode in stack)
