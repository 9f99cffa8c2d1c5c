"""Whole ONNX models: the recurrent nodes on fastrnn, the rest in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from fastrnn import _check, _report, config
from fastrnn._precision import check_precision
from fastrnn._types import Precision

_WAYS = ("auto", "always", "never")


@dataclass(frozen=True)
class Report(_report.Report):
    """What became of the recurrent nodes of a session's model.

    Attributes
    ----------
    replaced : tuple of str
        Labels of nodes that run on fastrnn: a name, or else the name of an output.
    kept : dict of str to str
        Labels of nodes that run in ONNX Runtime, each with the reason.
    speedups : dict of str to float
        How many times as fast as the whole model in ONNX Runtime the cut one was, by the shapes that were measured.
        Below 1, ONNX Runtime runs the whole model.

    Examples
    --------
    >>> from fastrnn.onnx import Report
    >>> print(Report(("rnn",), {"decoder": "it lies in a body of 'If'"}, {"x (100, 1, 80)": 1.84, "x (1, 1, 80)": 0.6}))
    rnn: replaced
    decoder: kept, since it lies in a body of 'If'
    x (100, 1, 80): cut, 1.84 times as fast as ONNX Runtime alone
    x (1, 1, 80): not cut, which would be 0.60 times as fast as ONNX Runtime alone
    """

    speedups: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [super().__str__()]
        for shapes, speedup in self.speedups.items():
            way = "cut," if speedup > 1 else "not cut, which would be"
            lines.append(f"{shapes}: {way} {speedup:.2f} times as fast as ONNX Runtime alone")
        return "\n".join(lines)


@dataclass(frozen=True)
class NodeArg:
    """An input or an output of a model, as ONNX Runtime describes it.

    Attributes
    ----------
    name : str
    type : str
        "tensor(float)", for example.
    shape : list of int, str or None
        An int for each size that is fixed, a name or None for others.

    Examples
    --------
    >>> NodeArg("x", "tensor(float)", ["T", 1, 80]).shape
    ['T', 1, 80]
    """

    name: str
    type: str
    shape: list[int | str | None]


class Session:
    """What `session` gives: a model with the calls of ONNX Runtime's ``InferenceSession``.

    Attributes
    ----------
    report : Report
        Which nodes run on fastrnn, which do not, and why; with what was measured until now.

    Examples
    --------
    See `session`.
    """

    def __init__(
        self,
        path_or_model: Any,
        threads: int | None,
        cut: str | Collection[str],
        precision: Precision | None,
        requantize: bool,
    ) -> None:
        from fastrnn.onnx import plan  # which imports onnx and ONNX Runtime

        number = config.get_num_threads() if threads is None else _check.threads(threads)
        assert number is not None
        check_precision(precision)
        requantize = bool(_check.flag("requantize", requantize))
        self._plan = plan.Plan(path_or_model, number, _check_cut(cut), precision, requantize)

    def run(
        self, output_names: Collection[str] | None, input_feed: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """Run the model.

        Parameters
        ----------
        output_names : list of str or None
            None for all outputs.
        input_feed : dict of str to ndarray
            An array for each input of the model.
        run_options : onnxruntime.RunOptions, optional
            For the parts that ONNX Runtime runs.

        Returns
        -------
        list of ndarray
            The outputs in the order of their names.

        Raises
        ------
        ValueError
            A name, dtype or shape that the model does not take.
        Exception
            What ONNX Runtime raises for the parts that it runs.

        Examples
        --------
        See `session`.
        """
        return self._plan.run(output_names, input_feed, run_options)

    def get_inputs(self) -> list[NodeArg]:
        """Name, type and shape of each input.

        Returns
        -------
        list of NodeArg

        Examples
        --------
        ``[x.name for x in session.get_inputs()]``
        """
        return list(self._plan.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """Name, type and shape of each output.

        Returns
        -------
        list of NodeArg

        Examples
        --------
        ``[y.name for y in session.get_outputs()]``
        """
        return list(self._plan.outputs)

    @property
    def report(self) -> Report:
        return self._plan.report()

    def __reduce__(self) -> NoReturn:
        raise TypeError("session: expected not to be pickled or copied; fastrnn.onnx.session(path) makes another one")


def _check_cut(cut: Any) -> str | tuple[str, ...]:
    if isinstance(cut, str):
        if cut not in _WAYS:
            raise ValueError(f"cut: expected {_check.either(map(repr, _WAYS))}, or a list of nodes, got {cut!r}")
        return cut
    if not isinstance(cut, Collection) or not all(isinstance(name, str) for name in cut):
        raise TypeError(f"cut: expected a str or a list of str, got {_check.shown(cut)}")
    return tuple(cut)
