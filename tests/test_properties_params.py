"""Whatever stands in a params file or behind -p: a plan, or one error in one line; values have the types that were declared."""

import json
from pathlib import Path

import project
import pytest
from generated import always, plain, scalars, texts, values
from hypothesis import strategies as st

from lib import paths, show
from lib.errors import UserError, named, one_line
from lib.runner import params
from lib.runner.plan import plan
from lib.runner.study import load
from lib.text import clean as cleaned

PARAMETERS = """rate: float = 2e-5  # a
rounds: int = 1  # b
selection: str = "mfd"  # c
rejudge: bool = False  # d
names: list[str] = []  # e
mix: dict[str, float] = {}  # f
rows_from: str = ""  # g
"""
KINDS = {
    "rate": "float",
    "rounds": "int",
    "selection": "str",
    "rejudge": "bool",
    "names": "list[str]",
    "mix": "dict[str, float]",
}
PYTHON = {"float": float, "int": int, "str": str, "bool": bool, "list[str]": list, "dict[str, float]": dict}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """A project of two notebooks, made once: a property is tried many times."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("project")
        patch.setattr(paths, "ROOT", root)
        patch.chdir(root)
        small = project.Project(root)
        for name in ("data", "train"):
            small.notebook(name, PARAMETERS)
        yield root


strange = texts | st.sampled_from(
    ["../x", "/etc", "..", "a/b", "all", "a.b", "a\x00b", "2020-01-01", "~", "$HOME"]
)
given = st.dictionaries(
    st.sampled_from([*KINDS, "rows_from", "seed", "a_key", "rats"]) | strange, values, max_size=3
)
right = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.floats(0, 1) | st.sampled_from(["2e-5", 1]),
        "rounds": st.integers(0, 3) | st.sampled_from(["2"]),
        "selection": plain,
        "names": st.lists(plain, max_size=2),
        "mix": st.dictionaries(plain, st.floats(0, 1), max_size=2),
    },
)
entry = st.sampled_from(["data", "train", "../train", "/etc/passwd", "tarin"]) | strange
whens = st.sampled_from(
    ["round > 0", "rejudge", "rate < 'a'", "rounds ==", "not " * 3000 + "1", "a\x00", "1 < 2 < 3", 5]
)
stage = entry | st.dictionaries(
    entry, st.dictionaries(st.just("when"), whens) | right | given | values, max_size=2
)
stages = st.lists(
    stage
    | st.fixed_dictionaries(
        {"repeat": st.sampled_from([1, 2, "rounds"]) | values, "stages": st.lists(stage, max_size=2)}
    ),
    max_size=3,
)
studies = (
    st.fixed_dictionaries(
        {
            "stages": st.lists(st.sampled_from(["data", "train"]), min_size=1, max_size=2, unique=True)
            | stages
        },
        optional={
            "params": right | given | values,
            "arms": st.dictionaries(strange | st.sampled_from("ab"), right | given | st.none(), max_size=2)
            | values,
            "seeds": st.lists(st.integers(0, 3), unique=True) | values,
            "exploratory_seeds": st.lists(st.integers(0, 3)) | values,
            "title": plain | values,
            "metric": st.sampled_from(["gym.accuracy", "ifeval.strict"]) | plain | values,
            "primary": st.just(["a_vs_b"]) | values,
            "comparisons": st.just(["a_vs_b"]) | values,
            "extends": strange | values,
        },
    )
    | values
)
over = st.dictionaries(
    st.sampled_from([*KINDS, "a.rate", "run", "arm", "b.", "x.y.z"]) | strange,
    texts | scalars.map(str),
    max_size=2,
)


def planned(folder: Path, text: str, run: str = "demo", overrides: dict | None = None) -> list | None:
    """Return the plan, or None after one clear error; neither writes anything."""
    (folder / "params/a.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        return plan(load(folder / "params/a.yaml", overrides or {}), run)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return None
    finally:
        assert not (folder / "outputs").exists()


@always(150, 1500, file=studies, overrides=over, run=strange | st.just("demo"))
def test_a_params_file_is_a_plan_or_one_error(file, overrides, run):
    for stage in planned(paths.ROOT, json.dumps(file), run, overrides) or []:
        assert all(isinstance(stage.values[name], PYTHON[kind]) for name, kind in KINDS.items())
        json.dumps(stage.values, allow_nan=False)


yaml_signs = st.text(st.sampled_from("ab01:-?[]{},&*!|>'\"%@#=<~. \n\t\x00\x85é"), max_size=40)


@always(200, 3500, text=yaml_signs | texts | scalars.map(str), kind=st.sampled_from(list(KINDS.values())))
def test_a_value_of_the_command_line_has_its_type_or_is_refused(text, kind):
    try:
        value = params.from_text(text, kind, "-p x")
    except UserError as error:
        assert str(error).startswith("-p x") and str(error).isprintable()
        return
    assert type(value) is PYTHON[kind]
    assert kind != "str" or value == text


# Texts as they are stored and shown


@always(300, 9000, text=texts | yaml_signs)
def test_any_text_can_be_stored_named_and_shown(text):
    clean = cleaned(text)
    assert clean.encode().decode() == clean == cleaned(clean) and len(clean) == len(text)
    assert named([text, text]).isprintable() and one_line(text).isprintable()
    shown = show.code(text)
    assert shown[0] == shown[-1] == "`" and "`" not in shown[1:-1] and len(shown) <= 82 and "\n" not in shown
    seen = show.plain(text)
    assert not show.INVISIBLE.search(seen)
