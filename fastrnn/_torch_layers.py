"""The name under which pickles of accelerated layers once knew `fastrnn.torch.layers`."""

from fastrnn.torch.layers import _new as _new
