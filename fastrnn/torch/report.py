"""What `accelerate` did to a model."""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn import _report


@dataclass(frozen=True)
class Report(_report.Report):
    """What `accelerate` did to the recurrent layers of a model.

    Attributes
    ----------
    replaced : tuple of str
        Names of layers that run on fastrnn where they may; "" is the model itself.
    kept : dict of str to str
        Names of layers that stay as they were, each with the reason.
    trained : tuple of str
        Names of replaced layers whose gradients fastrnn computes too. The others have weights elsewhere than on the
        CPU, or of other dtypes than float32 and float64.

    Examples
    --------
    >>> from fastrnn.torch import Report
    >>> print(Report(("encoder", "adapter"), {"decoder": "it is scripted"}, trained=("encoder",)))
    encoder: replaced
    adapter: replaced
    decoder: kept, since it is scripted
    trained on fastrnn: encoder
    """

    trained: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [super().__str__()]
        if self.trained:
            lines.append(f"trained on fastrnn: {', '.join(name or '(the model)' for name in self.trained)}")
        return "\n".join(lines)
