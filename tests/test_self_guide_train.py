"""SELF-GUIDE's training: its sets of rows, and what is trained again when a cell runs twice."""

from types import SimpleNamespace

import pytest
import tiny

from lib import records
from lib.errors import UserError
from lib.self_guide import pairs, train
from lib.self_guide.target import Demo, Instance, Material, Target
from lib.training import encoding
from lib.training.config import TrainingConfig

DEMOS = (Demo("cat", "tac"), Demo("horse", "esroh"))
MATERIAL = Material(Target("reverse", "Reverse it.", DEMOS), [Instance("1", "rat", ["tar"])], [])
ROWS = records.build(
    {"instruction": f"Reverse {word}.", "response": word[::-1]} for word in ("rat", "owl", "mouse")
)


def test_a_student_is_trained_on_its_pairs_and_on_the_baselines_that_are_named():
    sets = pairs.training_sets(MATERIAL, ROWS, ["gold", "demos_only"], seed=0)
    assert {name: len(rows) for name, rows in sets.items()} == {"self_guide": 3, "demos_only": 2, "gold": 1}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return str(tiny.make(tmp_path_factory.mktemp("students") / "tiny"))


@pytest.fixture
def tokenizer(student):
    from lib.models import loading

    return loading.load_tokenizer(student)


def test_long_rows_and_empty_sets_are_left_out_and_counted(tokenizer):
    lengths = sorted(map(len, encoding.encode(tokenizer, ROWS, 512)["input_ids"]))
    sets = {"self_guide": ROWS, "gold": ROWS.select([])}
    left, counts = train.fitting(sets, tokenizer, lengths[-1])
    assert list(left) == ["self_guide"] and counts.loc["gold"].tolist() == [0, 0]
    with pytest.raises(UserError, match=r"max_length=2: none of 3 pairs fits\. Raise it"):
        train.fitting(sets, tokenizer, 2)


def test_a_cell_that_runs_again_trains_again_only_where_something_else_is_asked_for(
    tmp_path, student, tokenizer
):
    (tmp_path / "work").mkdir()
    steps = []
    stage = SimpleNamespace(
        folder=tmp_path,
        work=tmp_path / "work",
        report_progress=lambda done, total, label: steps.append(label),
    )
    encoded = dict.fromkeys(("self_guide", "gold"), encoding.encode(tokenizer, ROWS, 512))

    def run(epochs):
        steps.clear()
        config = TrainingConfig(epochs=epochs, batch_size=3)
        return train.train_each(stage, student, tokenizer, encoded, config, seed=0), len(steps)

    (first, n), (again, none) = run(1), run(1)
    assert (first, n, none) == (again, 2, 0)
    assert (tmp_path / "baselines/gold/student/model.safetensors").is_file()
    more, n = run(2)
    assert n == 4 and len(more["gold"]) == 2
    assert train.summary(encoded, more).loc["gold", "rows"] == 3
