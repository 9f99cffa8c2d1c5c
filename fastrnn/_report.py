"""What was done to the recurrent layers of a model of another system."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Report:
    """What `accelerate` did to the recurrent layers of a model.

    Attributes
    ----------
    replaced : tuple of str
        Names of layers that run on fastrnn where they may; "" is the model itself.
    kept : dict of str to str
        Names of layers that stay as they were, each with the reason.

    Examples
    --------
    >>> from fastrnn.torch import Report
    >>> print(Report(replaced=("encoder",), kept={"decoder": "it is scripted"}))
    encoder: replaced
    decoder: kept, since it is scripted
    """

    replaced: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name or '(the model)'}: replaced" for name in self.replaced]
        lines += [f"{name or '(the model)'}: kept, since {why}" for name, why in self.kept.items()]
        return "\n".join(lines) or "no recurrent layers"
