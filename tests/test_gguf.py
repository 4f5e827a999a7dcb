"""A student may be a GGUF file: it is loaded, trained and saved as any other."""

import json

import pytest
import tiny
import torch
from tiny import answer

from lib import models
from lib.errors import UserError
from lib.models import loading
from lib.training import encoding, sft
from lib.training.config import TrainingConfig

HI = [[{"role": "user", "content": "Hi"}]]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_gguf_file_is_loaded_by_its_path_or_by_the_folder_that_holds_nothing_else(tmp_path, kind):
    file = tiny.gguf(tmp_path)
    loaded = models.load(file if kind == "file" else tmp_path)
    assert loaded.model.dtype == torch.float32
    assert (loaded.tokenizer.eos_token, loaded.tokenizer.pad_token) == ("<|end|>", "<|pad|>")
    ((reply,),) = answer(loaded, HI, max_new_tokens=3)
    assert reply.completion_tokens <= 3


def test_of_several_gguf_files_one_must_be_named(tmp_path):
    for name in ("q4.gguf", "q8.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"holds 2 GGUF files \(q4.gguf, q8.gguf\). Name one"):
        models.load(tmp_path)
    assert loading.locate("student", tmp_path / "q8.gguf") == str(tmp_path / "q8.gguf")


@pytest.mark.parametrize("file", ["q4.gguf", "sub/q4.gguf"])
def test_a_gguf_file_on_the_hub_is_named_by_its_place_in_the_repository(file):
    arguments = loading.source(loading.locate("student", f"owner/name/{file}"))
    assert (arguments["pretrained_model_name_or_path"], arguments["gguf_file"]) == ("owner/name", file)


def test_a_file_that_is_no_gguf_is_named(tmp_path):
    (tmp_path / "q4.gguf").write_bytes(b"no GGUF")
    with pytest.raises(UserError, match=r"the student .*q4.gguf cannot be loaded"):
        models.load(tmp_path / "q4.gguf")


def test_a_student_trained_from_a_gguf_file_is_an_ordinary_folder(tmp_path):
    file = tiny.gguf(tmp_path)
    tokenizer = loading.load_tokenizer(file)
    rows = encoding.encode(tokenizer, tiny.ROWS, 64)
    sft.train(
        file, tokenizer, rows, tmp_path / "out", TrainingConfig(epochs=1, batch_size=1, learning_rate=1e-3)
    )
    trained = tmp_path / "out/student"
    assert not list(trained.glob("*.gguf")) and (trained / "model.safetensors").is_file()
    before, after = models.load(file), models.load(trained)
    assert after.tokenizer("thé <|end|>")["input_ids"] == before.tokenizer("thé <|end|>")["input_ids"]
    assert after.tokenizer.chat_template == before.tokenizer.chat_template
    assert not torch.equal(after.model.lm_head.weight, before.model.lm_head.weight)


def test_a_unpacked_student_is_an_ordinary_folder_that_a_second_call_leaves_as_it_is(tmp_path):
    file, folder = tiny.gguf(tmp_path), tmp_path / "unpacked"
    loading.unpack(file, folder)
    packed, unpacked = models.load(file), models.load(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    end = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    assert end == packed.tokenizer.eos_token_id
    for name, tensor in packed.model.state_dict().items():
        assert torch.equal(tensor.to(torch.bfloat16).float(), unpacked.model.state_dict()[name])
    file.unlink()
    loading.unpack(file, folder)
