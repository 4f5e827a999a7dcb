"""lib is a house of rooms: an import points to an earlier room, and never in a circle."""

import ast
import inspect
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
LIB = ROOT / "lib"
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
]
ORDER += [
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
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lib":
            base = node.module.split(".")[1:]
            names = [".".join([*base, alias.name]) for alias in node.names]
            modules |= {name if name in MODULES else ".".join(base) for name in names}
    return modules - {""}


GRAPH = {name: imported(path) for name, path in MODULES.items()}


def test_an_import_points_to_an_earlier_room():
    assert [(a, b) for a, imports in GRAPH.items() for b in imports if room(b) > room(a)] == []


def test_no_imports_go_in_a_circle():
    TopologicalSorter(GRAPH).prepare()  # raises CycleError with the circle


def test_there_are_ten_rooms_and_few_files_on_top():
    rooms = {path.name for path in LIB.iterdir() if (path / "__init__.py").exists()}
    assert len(rooms) == 10 and rooms <= set(ORDER)
    assert len(list(LIB.glob("*.py"))) <= 12


def test_no_module_is_longer_than_260_lines():
    assert [name for name, path in MODULES.items() if len(path.read_text("utf-8").splitlines()) > 260] == []


# names that do not say what they hold
VAGUE = {"told", "said", "found", "made", "of", "it", "one", "mine", "ours", "theirs", "those"}
VAGUE |= {"how", "asked", "place", "known", "way", "suits", "keep"}


def bound_names(source: str) -> set[str]:
    """The names that a source binds: variables, parameters, attributes, functions and classes."""
    nodes = list(ast.walk(ast.parse(source)))
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    names = {node.id for node in stored if isinstance(node, ast.Name)}
    names |= {node.attr for node in stored if isinstance(node, ast.Attribute)}
    names |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    return names | {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def vague(folder: str) -> dict[str, set[str]]:
    """The vague names that each module or notebook of a folder binds."""
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / folder).rglob("*.py")}
    for path in (ROOT / folder).rglob("*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        sources[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    names = {
        str(path.relative_to(ROOT / folder)): bound_names(text) & VAGUE for path, text in sources.items()
    }
    return {path: vague_names for path, vague_names in sorted(names.items()) if vague_names}


def test_names_say_what_they_hold():
    assert vague("lib") == vague("notebooks") == vague("tests") == {}


PUBLIC = {  # docs/architecture.md: names that code outside lib may import, with their first parameters
    "lib.corpus:load": "source",
    "lib.tapir.judge:read_scores": "verdict",
    "lib.tapir.curriculum:mfd": "oracle_score student_score",
    "lib.evaluation.metrics:exact_match": "predictions references",
    "lib.evaluation.metrics:rouge_l": "predictions references",
    "lib.evaluation.metrics:rouge_l_char": "predictions references",
    "lib.evaluation.statistics:bootstrap_interval": "scores",
    "lib.evaluation.statistics:compare": "folders_a folders_b",
    "lib.models:load": "student chat_template",
    "lib.models:connect": "model ledger run concurrency",
    "lib.models.backend:Backend.generate": "self prompts params report",
    "lib.models.types:SamplingParams": "n temperature top_k top_p max_tokens seed",
    "lib.models.types:Completion": "text reasoning finish_reason prompt_tokens completion_tokens",
    "lib.oracle:LLMOracle": "backend judge labels",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_others_import_keeps_its_name_and_parameters(name):
    parameters = PUBLIC[name].split()
    assert list(inspect.signature(resolve_name(name)).parameters)[: len(parameters)] == parameters


@pytest.mark.parametrize("ask", ["answer", "score", "classify", "rate", "expand", "refine"])
def test_an_oracle_answers_what_others_ask(ask):
    assert callable(getattr(resolve_name("lib.oracle:LLMOracle"), ask))
