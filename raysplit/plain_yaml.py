"""Settings as YAML text: the plain values of YAML 1.2, with duplicate keys refused.

``5e-4`` and ``1e5`` are numbers; ``no``, ``on``, ``1:30`` and dates are text (YAML 1.2.2, section 10.3). Where a
setting holds text, a plain value is that text, character by character: a run may be named ``123``.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from raysplit.registry import clipped, shown

_TAG = "tag:yaml.org,2002:"
_STR, _NULL = f"{_TAG}str", f"{_TAG}null"
_MAX_NODES = 100_000
"""Values of a document, those behind anchors counted as often as they are named."""
_MAX_CHARACTERS = 2**20
"""Length of a document; a configuration has some thousand characters."""

_MAX_DIGITS = 40

_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class NotYaml(ValueError):
    """Exception for text that cannot be read; the message has its source and the line."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The places of a document that hold text, which is never taken for a number, a truth value or a date.

    Attributes:
        scalar: a plain value here is text; ``null`` is still nothing.
        keys: what is below a mapping, by key; the keys of such a mapping are text.
        each: what is below any other key, or every item.
    """

    scalar: bool = False
    keys: Mapping[str, Texts] = field(default_factory=dict)
    each: Texts | None = None

    def below(self, key: str) -> Texts:
        """Return what is below a key."""
        return self.keys.get(key) or self.each or NO_TEXTS

    @property
    def names_keys(self) -> bool:
        return bool(self.keys) or self.each is not None


NO_TEXTS = Texts()


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the plain values of YAML 1.2, and with no others."""

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        None: yaml.SafeLoader.construct_undefined,
        **{
            f"{_TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{kind}"]
            for kind in ("null", "bool", "str", "seq", "map")
        },
    }

    num_nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.num_nodes += 1
        if self.num_nodes > _MAX_NODES:  # told before a long document has been read to its end
            raise _too_many(self.peek_event())  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            merges = key_node.tag == f"{_TAG}merge"
            key = "<<" if merges else self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise _problem(
                    f"the key {shown(key)} is a list or a mapping, and a key must be a single value", key_node
                )
            if key in seen:
                where = f"line {line}" if seen[key] == line else f"lines {seen[key]} and {line}"
                raise _problem(f"the key {shown(key)} is there twice, in {where}; keep one", key_node)
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def _integer(loader: _Loader, node: ScalarNode) -> int:
    text = loader.construct_scalar(node)
    if len(text) > _MAX_DIGITS:
        raise _problem(f"a whole number of {len(text):,} digits; settings have at most {_MAX_DIGITS}", node)
    return int(text, 0) if re.match(r"0[ox]", text) else int(text)


def _float(loader: _Loader, node: ScalarNode) -> float:
    return float(re.sub(r"\.(inf|nan)", r"\1", loader.construct_scalar(node).lower()))


_Loader.add_constructor(f"{_TAG}int", _integer)
_Loader.add_constructor(f"{_TAG}float", _float)


class _Dumper(yaml.SafeDumper):
    """A writer whose text reads the same by the rules of YAML 1.1 and 1.2: what either takes for a number is quoted."""


for _kind, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(f"{_TAG}{_kind}", re.compile(rf"^(?:{_pattern})$"), _first)


def text_of(path: Path) -> str:
    """Read a file of settings.

    Raises ``OSError`` or ``ValueError`` where it cannot be read, is no UTF-8, or is longer than settings are.
    """
    with path.open("rb") as file:
        content = file.read(_MAX_CHARACTERS + 1)  # a path such as /dev/zero has no end
    if len(content) > _MAX_CHARACTERS:
        raise ValueError(f"it has more than {_MAX_CHARACTERS:,} bytes, which is more than any settings have")
    return content.decode("utf-8")


def read(text: str, source: str, texts: Texts = NO_TEXTS) -> Any:
    """Read a document.

    Args:
        text: the document.
        source: name of the text in errors.
        texts: the places that hold text.

    Raises:
        NotYaml: the text is no YAML, a key is there twice, a value has a type of its own (``!!timestamp``), or anchors
            make the document larger than any configuration.
    """
    if len(text) > _MAX_CHARACTERS:
        raise NotYaml(f"{source} has {len(text):,} characters; settings have at most {_MAX_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _bounded(node)
        return loader.construct_document(_with_texts(node, texts))
    except yaml.MarkedYAMLError as error:
        parts = [part for part in (error.context, error.problem) if part]
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise NotYaml(f"{source} is not valid YAML: {clipped(', '.join(parts), 400)}{where}") from error
    except RecursionError as error:
        raise NotYaml(f"{source} is not valid YAML: its values are nested too deep") from error
    # PyYAML raises more than YAMLError, for example for !!bool x
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise NotYaml(f"{source} is not valid YAML: {clipped(' '.join(str(error).split()), 400)}") from error


def read_value(text: str, source: str, texts: Texts = NO_TEXTS) -> Any:
    """Read the value of an option such as ``--set key=value``, as `read` does; text is taken as it is, without YAML.

    Text in quotes loses them, and ``null`` is still nothing.
    """
    plain = text.strip()
    opens = ("'", '"') + (("{", "[") if texts.names_keys else ())
    if texts.scalar and plain and plain not in ("null", "Null", "NULL") and not plain.startswith(opens):
        return plain
    return read(text, source, texts)


def write(tree: Mapping[str, Any]) -> str:
    """Write plain data, with the keys in their order; `read` gives the same data again."""
    return yaml.dump(dict(tree), Dumper=_Dumper, sort_keys=False)


def flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return the settings of a plain configuration as pairs of a key path and a value."""
    pairs: list[tuple[str, Any]] = []
    for key, value in tree.items():
        inner = isinstance(value, dict)
        pairs += flat(value, f"{prefix}{key}.") if inner else [(f"{prefix}{key}", value)]
    return pairs


def _too_many(node: Any) -> yaml.MarkedYAMLError:
    return _problem(f"more than {_MAX_NODES:,} values, with anchors written out", node)


def _problem(text: str, node: Any) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, text, node.start_mark)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _bounded(root: Node) -> None:
    """Refuse a document that contains itself, or is huge once its anchors are written out."""
    sizes: dict[int, int | None] = {}

    def size(node: Node) -> int:
        if id(node) in sizes:
            known = sizes[id(node)]
            if known is None:
                raise _problem("an anchor contains itself", node)
            return known
        sizes[id(node)] = None
        sizes[id(node)] = total = 1 + sum(size(child) for child in _children(node))
        if total > _MAX_NODES:
            raise _too_many(node)
        return total

    size(root)


def _with_texts(node: Node, texts: Texts) -> Node:
    """Return the node with plain values as text at the places of ``texts``."""
    if isinstance(node, ScalarNode):
        is_text = texts.scalar and node.style is None and node.tag != _NULL
        return _as_text(node) if is_text and _is_plain(node) else node
    if texts.names_keys and isinstance(node, SequenceNode):
        node.value = [_with_texts(item, texts.each or NO_TEXTS) for item in node.value]
    elif texts.names_keys and isinstance(node, MappingNode):
        node.value = [
            (_key(key), _with_texts(value, texts.below(key.value))) if isinstance(key, ScalarNode) else (key, value)
            for key, value in node.value
        ]
    return node


def _key(node: ScalarNode) -> Node:
    return _as_text(node) if node.tag != f"{_TAG}merge" and _is_plain(node) else node


def _is_plain(node: ScalarNode) -> bool:
    """Return whether a value has no type of its own, such as ``!include``, which is refused and not dropped."""
    return node.tag in _Loader.yaml_constructors or node.tag == f"{_TAG}merge"


def _as_text(node: ScalarNode) -> Node:
    return ScalarNode(_STR, node.value, node.start_mark, node.end_mark)
