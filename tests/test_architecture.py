"""lib is a house of rooms: an import points to an earlier room, and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

LIB = Path(__file__).parents[1] / "lib"
ORDER = [
    "errors",
    "paths",
    "files",
    "text",
    "show",
    "plots",
    "records",
    "prompts",
    "corpus",
    "models",
    "judge",
    "oracle",
    "training",
    "tapir",
    "self_guide",
    "evaluation",
    "gym",
    "runner",
    "stage",
    "report",
    "run",
]
JUDGE = {"tapir.judge", "tapir.fitness"}  # what the oracle needs of TAPIR: reading verdicts


def module(path: Path) -> str:
    return ".".join(path.relative_to(LIB).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module(path): path for path in LIB.rglob("*.py") if path != LIB / "__init__.py"}


def room(name: str) -> int:
    return ORDER.index("judge" if name in JUDGE else name.split(".")[0])


def imported(path: Path) -> set[str]:
    """The modules of lib that a module imports, inside functions, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            base = node.module.split(".")[1:]
            names = [".".join([*base, alias.name]) for alias in node.names]
            found |= {name if name in MODULES else ".".join(base) for name in names}
    return found - {""}


GRAPH = {name: imported(path) for name, path in MODULES.items()}


def test_an_import_points_to_an_earlier_room():
    assert [(a, b) for a, of in GRAPH.items() for b in of if room(b) > room(a)] == []


def test_no_imports_go_in_a_circle():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError with the circle


def test_there_are_ten_rooms_and_few_files_on_top():
    rooms = {path.name for path in LIB.iterdir() if (path / "__init__.py").exists()}
    assert len(rooms) == 10 and rooms <= set(ORDER)
    assert len(list(LIB.glob("*.py"))) <= 12


# names that say nothing of what they hold
VAGUE = {
    *[
        "told",
        "said",
        "found",
        "made",
        "of",
        "it",
        "one",
        "mine",
        "ours",
        "theirs",
        "those",
        "how",
        "asked",
        "place",
        "known",
        "way",
        "suits",
        "keep",
    ]
}


def bound_names(path: Path) -> set[str]:
    """The names that a module binds: variables, parameters, attributes, functions and classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    names = {node.id for node in stored if isinstance(node, ast.Name)}
    names |= {node.attr for node in stored if isinstance(node, ast.Attribute)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return names | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_names_say_what_they_hold():
    assert {name: vague for name, path in MODULES.items() if (vague := bound_names(path) & VAGUE)} == {}
