"""What an expression of PromQL reads and which labels its result has, from promql-parser's tree.

Only what our rules and dashboards use; anything else is an error and not a guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import promql_parser

TARGET = frozenset({"instance", "job"})
"""Labels that Prometheus gives every series of a target."""
EXPORTED = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
}
SETS = frozenset({"and", "unless"})
"""Operators whose result is a part of their left side."""
Labels = frozenset[str]


class Refused(AssertionError):
    """The expression reads what no process exports."""


@dataclass(frozen=True)
class Metrics:
    """Names of series as they are scraped, each with its labels."""

    labels: Mapping[str, Labels]

    @classmethod
    def of(cls, registry: Any) -> Metrics:
        """Those of prometheus-client's registry, whether they have a value yet or not."""
        found: dict[str, Labels] = {}
        for collector in list(registry._collector_to_names):
            if not hasattr(collector, "_labelnames"):
                families = collector.collect()
                found |= {s.name: frozenset(s.labels) for f in families for s in f.samples}
                continue
            for suffix in EXPORTED[collector._type]:
                more = {"le"} if suffix == "_bucket" else set()
                found[collector._name + suffix] = frozenset({*collector._labelnames, *more})
        return cls(found)

    def check(self, expression: str) -> Labels:
        """The labels of the result.

        Raises:
            Refused: an unknown metric, or a label that it does not have.
            ValueError: no PromQL.
        """
        return self._labels(promql_parser.parse(expression))

    def _labels(self, tree: Any) -> Labels:
        kind = type(tree).__name__
        if kind not in self._rules:
            raise Refused(f"{kind}: not known here")
        return self._rules[kind](tree)

    @property
    def _rules(self) -> dict[str, Callable[[Any], Labels]]:
        return {
            "NumberLiteral": lambda _: frozenset(),
            "ParenExpr": lambda tree: self._labels(tree.expr),
            "VectorSelector": self._selected,
            "MatrixSelector": lambda tree: self._selected(tree.vector_selector),
            "Call": self._called,
            "AggregateExpr": self._aggregated,
            "BinaryExpr": self._joined,
        }

    def _selected(self, tree: Any) -> Labels:
        if tree.name not in self.labels:
            raise Refused(f"no process exports {tree.name}")
        labels = self.labels[tree.name] | TARGET
        for matcher in tree.matchers.matchers:
            _has(labels, matcher.name, tree.name)
        return labels

    def _called(self, tree: Any) -> Labels:
        inner = [self._labels(item) for item in tree.args]
        match tree.func.name:
            case "time" | "absent":
                return frozenset()
            case "rate" | "increase":
                return inner[0]
            case "histogram_quantile":
                _has(inner[1], "le", tree.prettify())
                return inner[1] - {"le"}
        raise Refused(f"{tree.func.name}(): not known here")

    def _aggregated(self, tree: Any) -> Labels:
        inner = self._labels(tree.expr)
        if tree.modifier is None:
            return frozenset()
        if tree.modifier.type != promql_parser.AggModifierType.By:
            raise Refused("without: not known here")
        for label in tree.modifier.labels:
            _has(inner, label, tree.prettify())
        return frozenset(tree.modifier.labels)

    def _joined(self, tree: Any) -> Labels:
        left, right = self._labels(tree.lhs), self._labels(tree.rhs)
        if _scalar(tree.lhs) or _scalar(tree.rhs):
            return left | right
        matching = tree.modifier.matching if tree.modifier is not None else None
        if matching is None:
            if str(tree.op) not in SETS and left != right:
                raise Refused(f"{sorted(left)} never match {sorted(right)}: {tree.prettify()}")
            return left
        for label in matching.labels:
            _has(left, label, tree.prettify())
            _has(right, label, tree.prettify())
        ignores = matching.type == promql_parser.LabelModifierType.Exclude
        return left - frozenset(matching.labels) if ignores else left


def _scalar(tree: Any) -> bool:
    match type(tree).__name__:
        case "NumberLiteral":
            return True
        case "Call":
            return bool(tree.func.name == "time")
        case "BinaryExpr":
            return _scalar(tree.lhs) and _scalar(tree.rhs)
    return False


def _has(labels: Labels, label: str, where: str) -> None:
    if label not in labels:
        raise Refused(f"{where} has no label {label}; it has {sorted(labels)}")


def wanted_values(expression: str) -> Iterator[tuple[str, str]]:
    """Label and value of each matcher that asks for one value."""

    def visit(tree: Any) -> Iterator[tuple[str, str]]:
        for name in ("lhs", "rhs", "expr", "vector_selector"):
            if (below := getattr(tree, name, None)) is not None:
                yield from visit(below)
        for below in getattr(tree, "args", None) or ():
            yield from visit(below)
        if type(tree).__name__ == "VectorSelector":
            for matcher in tree.matchers.matchers:
                if matcher.op in (promql_parser.MatchOp.Equal, promql_parser.MatchOp.NotEqual):
                    yield matcher.name, matcher.value

    return visit(promql_parser.parse(expression))
