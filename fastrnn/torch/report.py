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
        Names of replaced layers whose gradients fastrnn computes too. The others have narrow weights, or weights
        elsewhere than on the CPU or of other dtypes than float32 and float64.
    precision : str or None
        The narrow precision that replaced layers run in where no gradient is wanted; PyTorch runs elsewhere. None: that
        of their weights.

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
    precision: str | None = None

    def __str__(self) -> str:
        lines = [super().__str__()]
        if self.trained:
            lines.append(f"trained on fastrnn: {_names(self.trained)}")
        if self.precision and self.replaced:
            where = "where no gradient is wanted, as under torch.no_grad(), and PyTorch elsewhere"
            lines.append(f"{self.precision} {where}: {_names(self.replaced)}")
        return "\n".join(lines)


def _names(layers: tuple[str, ...]) -> str:
    return ", ".join(name or "(the model)" for name in layers)
