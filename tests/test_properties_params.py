"""Whatever stands in a params file or behind -p: a plan, or one error in one line; values have the types that were declared."""

import json
import math
from pathlib import Path

import project
import pytest
import yaml
from generated import always, plain, scalars, texts, values
from hypothesis import strategies as st

from lib import files, paths, show
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
        made = project.Project(root)
        for name in ("data", "train"):
            made.notebook(name, PARAMETERS)
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
        {"repeat": st.sampled_from([1, 2, "rounds", 10**12]) | values, "stages": st.lists(stage, max_size=2)}
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
    """The plan, or None where one clear error was said; neither writes anything."""
    (folder / "params/a.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        return plan(load(folder / "params/a.yaml"), run, overrides or {})
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 2000
        return None
    finally:
        assert not (folder / "outputs").exists()


@always(150, 1500, file=studies, overrides=over, run=strange | st.just("demo"))
def test_a_params_file_is_a_plan_or_one_error(file, overrides, run):
    made = planned(paths.ROOT, json.dumps(file), run, overrides)
    for one in made or []:
        assert all(isinstance(one.values[name], PYTHON[kind]) for name, kind in KINDS.items())
        assert math.isfinite(one.values["rate"]) and all(map(math.isfinite, one.values["mix"].values()))
        json.dumps(one.values, allow_nan=False)


@always(50, 500, values=right, arms=st.dictionaries(st.sampled_from("abc"), right, max_size=2), over=right)
def test_values_that_are_right_are_those_of_the_plan(values, arms, over):
    file = {"stages": ["data", "train"], "params": values, "arms": arms or {"main": {}}}
    free = {"rate", "rounds", "selection"} - {name for own in arms.values() for name in own}
    given = {name: str(value) for name, value in over.items() if name in free}
    # not JSON, whose escaped pairs of surrogates YAML reads as two characters
    text = yaml.safe_dump(file, allow_unicode=True, sort_keys=False)
    made = planned(paths.ROOT, text, overrides=given)
    assert [one.arm for one in made] == [arm for arm in file["arms"] for _ in file["stages"]]
    for one in made:
        for name, value in (values | file["arms"][one.arm] | given).items():
            assert one.values[name] == (PYTHON[KINDS[name]](value) if isinstance(value, str) else value)


yaml_signs = st.text(st.sampled_from("ab01:-?[]{},&*!|>'\"%@#=<~. \n\t\x00\x85é"), max_size=40)
yaml_parts = st.lists(
    st.sampled_from(
        [
            "stages: [train]\n",
            "params:\n",
            "  rate: ",
            "2e-5",
            "1_0",
            "0x1F",
            "1:30",
            "2020-01-01",
            "!!binary aa",
        ]
    )
    | st.sampled_from(
        [
            "!!python/object/apply:os.system [ls]",
            "!!set {a}",
            "&a [*a]",
            "<<: *a",
            "? [a]\n",
            ".nan",
            "\n",
            "arms: ",
        ]
    )
    | yaml_signs,
    max_size=8,
).map("".join)


@always(200, 3500, text=yaml_parts | texts | st.binary(max_size=20).map(lambda raw: raw.decode("latin-1")))
def test_any_text_as_a_params_file_is_a_plan_or_one_error(text):
    planned(paths.ROOT, text)


@always(200, 3500, text=yaml_parts | texts | scalars.map(str), kind=st.sampled_from(list(KINDS.values())))
def test_a_value_of_the_command_line_has_its_type_or_is_refused(text, kind):
    try:
        value = params.from_text(text, kind, "-p x")
    except UserError as error:
        assert str(error).startswith("-p x") and str(error).isprintable()
        return
    assert type(value) is PYTHON[kind]
    assert kind != "str" or value == text


def test_a_date_is_the_text_that_it_is(folder):
    (one,) = planned(folder, "stages: [train]\nparams: {selection: 2020-01-01}\narms: {2020-01-01: {}}")
    assert (one.arm, one.values["selection"]) == ("2020-01-01", "2020-01-01")


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


def test_yaml_of_the_files_that_come_with_the_suite_is_plain():
    for file in (Path(__file__).parents[1] / "params").rglob("*.yaml"):
        text = file.read_text()
        assert files.load_yaml(text, file.name) == yaml.safe_load(text)
