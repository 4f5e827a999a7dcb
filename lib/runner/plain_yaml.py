"""YAML that says what JSON can: texts, numbers, true, false, null, lists and mappings."""

import math

import yaml

KINDS = ("null", "bool", "int", "float", "seq", "map", "str", "merge")
MOST = 100_000  # values of a document; a few lines of aliases within aliases stand for billions
TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Dates are texts, other tags unknown; and a key written twice, of which YAML would silently take the last, is refused."""

    yaml_constructors = {
        tag: make
        for tag, make in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix(TAG) in KINDS
    }
    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in those if tag.removeprefix(TAG) in KINDS]
        for first, those in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load(text: str) -> object:
    """What a document says, None where it says nothing. Raises YAMLError, ValueError or RecursionError for what is none."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST:
            raise yaml.YAMLError("its aliases stand for more values than can be held: write them out")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _size(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node stands for, aliases written out; infinite where one holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inside = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = [part for one in inside for part in (one if isinstance(one, tuple) else (one,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _unique(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [(key.tag, _joined(key.value)) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(keys)) < len(keys):
        twice = max(keys, key=keys.count)[1]
        raise yaml.YAMLError(f"{twice} stands twice, line {node.start_mark.line + 1} on")
    return loader.construct_mapping(node, deep=True)


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    return _joined(loader.construct_scalar(node))


def _joined(text: str) -> str:
    """As JSON means it, which writes a character beyond U+FFFF as two escapes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_SCALAR_TAG, _text)
