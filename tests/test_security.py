"""What others made is data: no folder, template, name, link or row of theirs runs code, leaves its place or is lost unsaid."""

import json
import pickle
from pathlib import Path

import pytest
from hostile import HOSTILE
from peft import LoraConfig, get_peft_model
from tiny import answer

from lib import corpus, models, paths, prompts, records, run
from lib.corpus import contamination, duplicates
from lib.errors import UserError
from lib.models import loading
from lib.stage import open_stage
from lib.text import clean

HI = [[{"role": "user", "content": "Hi"}]]


class Taken:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that is there once foreign code has run."""
    path = tmp_path / "taken"
    yield path
    assert not path.exists()


def put_pickles(folder: Path, mark: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(pickle.dumps(Taken(mark)))


def changed(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


# Students


def test_the_pickle_of_these_tests_does_run_code_where_it_is_loaded(tmp_path):
    put_pickles(tmp_path, tmp_path / "taken", "a.bin")
    pickle.loads((tmp_path / "a.bin").read_bytes())
    assert (tmp_path / "taken").exists()


def test_pickles_beside_safetensors_are_not_loaded(copy, mark):
    names = ["pytorch_model.bin", "training_args.bin", "adapter_model.bin", "optimizer.pt", "scheduler.pth"]
    put_pickles(copy, mark, *names)
    assert answer(models.load(copy), HI, max_new_tokens=1)


def test_an_adapter_in_safetensors_is_loaded_and_one_in_a_pickle_refused(copy, mark):
    adapter = get_peft_model(
        loading.load_model(copy), LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    )
    adapter.save_pretrained(copy)
    assert answer(models.load(copy), HI, max_new_tokens=1)
    (copy / "adapter_model.safetensors").unlink()
    put_pickles(copy, mark, "adapter_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        models.load(copy)


def test_an_index_of_pickles_beside_one_of_safetensors_is_not_read(copy, mark):
    """As many a folder of the hub has them: Llama 2's, for one."""
    loading.load_model(copy).save_pretrained(copy, max_shard_size="1MB")
    (copy / "model.safetensors").unlink()
    put_pickles(copy, mark, "pytorch_model-00001-of-00001.bin")
    index = {"metadata": {}, "weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert (copy / "model.safetensors.index.json").is_file()
    assert answer(models.load(copy), HI, max_new_tokens=1)


@pytest.mark.parametrize("named", ["evil.bin", "../evil.safetensors", "/etc/evil.safetensors", "evil.pt\nx"])
def test_an_index_that_leads_to_other_weights_is_refused(copy, mark, named):
    (copy / "model.safetensors").rename(copy / "decoy.safetensors")
    put_pickles(copy, mark, "evil.bin")
    (copy / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {"a": named}})
    )
    with pytest.raises(UserError, match="only safetensors beside it are loaded") as error:
        models.load(copy)
    assert str(error.value).isprintable()


def test_pickled_weights_alone_are_refused(copy, mark):
    (copy / "model.safetensors").unlink()
    put_pickles(copy, mark, "pytorch_model.bin")
    with pytest.raises(
        UserError, match=rf"{copy} has no \*.safetensors weights \(pickled weights are refused"
    ):
        models.load(copy)


def test_safetensors_of_another_name_do_not_let_a_pickle_in(copy, mark):
    (copy / "model.safetensors").rename(copy / "decoy.safetensors")
    put_pickles(copy, mark, "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        models.load(copy)


def put_code(folder: Path, mark: Path) -> None:
    classes = (
        "from transformers import LlamaConfig as C, LlamaForCausalLM as M, PreTrainedTokenizerFast as T\n"
    )
    (folder / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n{classes}")


def no_questions(monkeypatch) -> None:
    def ask(*_):
        raise AssertionError("a question at the terminal, which nobody may be sitting at")

    monkeypatch.setattr("builtins.input", ask)


@pytest.mark.parametrize("kind", ["llama", "theirs"])
def test_the_code_of_a_folder_is_not_run_and_nobody_is_asked_whether_to(copy, mark, monkeypatch, kind):
    no_questions(monkeypatch)
    put_code(copy, mark)
    changed(
        copy / "config.json",
        model_type=kind,
        auto_map={"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.M"},
    )
    if kind == "llama":  # which transformers has itself
        assert models.load(copy)
    else:
        with pytest.raises(UserError, match="cannot be loaded"):
            models.load(copy)


def test_the_code_of_a_tokenizer_is_not_run_either(copy, mark, monkeypatch):
    no_questions(monkeypatch)
    put_code(copy, mark)
    settings = {"auto_map": {"AutoTokenizer": ["theirs.T", None]}, "tokenizer_class": "Theirs"}
    changed(copy / "tokenizer_config.json", **settings)
    with pytest.raises(UserError, match="cannot be loaded"):
        models.load(copy)


TEMPLATES = [
    "{{ cycler.__init__.__globals__.os.system('touch MARK') }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{% for",
    "{{ raise_exception('no\\nmore') }}",
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_hostile_chat_template_is_kept_in_its_sandbox_and_is_one_error(copy, mark, template):
    (copy / "chat_template.jinja").write_text(template.replace("MARK", str(mark)))
    with pytest.raises(UserError, match="chat template cannot write a prompt of user") as error:
        models.load(copy)
    assert str(error.value).isprintable()


def test_what_a_row_says_is_no_template():
    text = "{{ 7 * 191 }} {% include '/etc/passwd' %} {instruction} {first}"
    (message,) = prompts.template("judge")(conversation=text, first=text, second=text)
    assert message["content"].count(text) == 3


# Names and places


@pytest.fixture
def study(project):
    project.notebook("data", 'rows_from: str = ""', "(stage.folder / 'rows.txt').write_text('1')")
    project.notebook("train", 'rows_from: str = "data/rows.txt"')
    return project


OUTSIDE = ["../x", "..", "/tmp/x", "a/b", "a\\b", "a\x00b", "a\nb", ".hidden", "-rf", "\u202ea", "a" * 300]
OUTSIDE += ["", " ", "*"]


def refused(study, text: str, *, name: str | None = None, **overrides) -> None:
    before = around(study.root)
    path = study.params(text)
    with pytest.raises(UserError) as error:
        run.run_study(path, overrides, name)
    assert str(error.value).isprintable() and len(str(error.value)) < 1000
    assert around(study.root) == {*before, path}


def around(root: Path) -> set[Path]:
    return {*root.rglob("*"), *root.parent.iterdir()}


@pytest.mark.parametrize("name", OUTSIDE)
def test_the_name_of_a_run_an_arm_or_a_notebook_stays_in_outputs(study, name):
    refused(study, "stages: [data]", name=name)
    refused(study, f"stages: [data]\narms: {json.dumps({name: {}})}")
    if name != "a/b":
        refused(study, f"stages: {json.dumps([name])}")
    refused(study, f"stages: {json.dumps([{name + '/data': {}}])}")


@pytest.mark.parametrize("name", ["run", "arm", "seed", "round"])
def test_where_a_stage_writes_is_no_parameter(study, name):
    refused(study, "stages: [data]", **{name: "../x"})
    refused(study, f"stages: [data]\nparams: {{{name}: ../x}}")
    refused(study, f"stages: [data: {{{name}: ../x}}]")
    refused(study, f"stages: [data]\n{name}: ../x")


NOWHERE = ["../../../nowhere", "/nowhere/at/all", "a\x00b", "data@0/../../../x", "data@0//etc/passwd"]
NOWHERE += ["data/../../x", "../notebooks/data@0/x", "x/" * 3000, "x" * 300]


@pytest.mark.parametrize("path", NOWHERE)
def test_an_input_that_leaves_its_stage_or_is_nowhere_is_refused(study, path):
    refused(study, f"stages: [data, train: {json.dumps({'rows_from': path})}]")
    refused(study, "stages: [data, train]", rows_from=path)


@pytest.mark.parametrize(
    ("run", "refused"), [("../../x", "run name '..'"), ("interactive/../x", "arm name '../x'")]
)
def test_a_notebook_opened_by_hand_writes_nowhere_else_either(study, run, refused):
    with pytest.raises(UserError, match=f"{refused} must be a plain word"):
        open_stage("data", {"run": run})
    assert not (study.root / "outputs").exists()


# Rows

SHEET = ["=cmd|' /C calc'!A0", "+1+1", "@SUM(A1)", '=HYPERLINK("https://example.com")']
ROWS = [*HOSTILE, *SHEET, "a\x00b", "\u202ereversed\u2066 \u2069", "\ud800"]
ROWS += ["x" * 10_000_000, "word " * 200_000]


def test_a_hostile_corpus_goes_through_selection_with_every_row_kept_or_counted(tmp_path):
    source_rows = [{"instruction": text, "input": text[:100], "output": text} for text in ROWS]
    source_rows += [source_rows[0], {"instruction": "Say nothing.", "output": ""}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, source_rows)))
    (tmp_path / "b.json").write_text(json.dumps([{"instruction": HOSTILE[0]}]))
    rows = corpus.load(str(tmp_path / "a.jsonl"))
    assert len(rows) == len(source_rows)
    rows, exact = duplicates.drop_exact(rows)
    rows, near = duplicates.drop_near(rows)
    silent = [row["id"] for row in rows if not row["response"]]
    rows = records.drop_ids(rows, silent)
    rows, overlap = contamination.drop(rows, contamination.load([str(tmp_path / "b.json")]))
    assert (len(exact), len(silent), overlap["id"].nunique()) == (1, 1, 1)
    assert len(rows) + len(exact) + len(near) + len(silent) + overlap["id"].nunique() == len(source_rows)
    again = records.read(records.write(rows, tmp_path / "rows.parquet"))
    assert again["instruction"][:] == rows["instruction"][:]
    kept, sent = set(again["instruction"]), {clean(text) for text in ROWS}
    assert kept < sent and len(sent - kept) == 1 + len(near)


@pytest.mark.parametrize("name", ["theirs", "theirs:train"])
def test_a_folder_with_a_script_is_read_as_files_and_its_script_is_not_run(tmp_path, monkeypatch, mark, name):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError):
        corpus.load(name)
    (folder / "rows.json").write_text(json.dumps([{"instruction": "a"}]))
    assert corpus.load("theirs")["instruction"][:] == ["a"]
