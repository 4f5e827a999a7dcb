"""The student answers the same however its prompts are batched, and a restart goes on where it was."""

import json
import shutil
from functools import partial
from importlib.resources import files

import pytest
import tiny
import torch
from tiny import answer, byte_tokenizer

from lib import models, records
from lib.errors import UserError
from lib.gym.pretrain import chat
from lib.models import catalog, loading, local
from lib.models.local import LocalBackend
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams

TEXTS = [
    "hi",
    "a somewhat longer question?",
    "three",
    "count to ten, and then back to one again, please",
    "x",
]
PROMPTS = [[{"role": "user", "content": text}] for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("students") / "tiny")


@pytest.fixture(scope="module")
def asked(folder):
    return models.load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


# Answering


def test_batched_replies_equal_those_made_one_by_one(asked):
    together = answer(asked, PROMPTS, max_new_tokens=12, batch_size=8)
    alone = [answer(asked, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    assert together == alone


def test_replies_come_in_the_order_of_the_prompts(asked):
    forward = answer(asked, PROMPTS, max_new_tokens=12, batch_size=2)
    backward = answer(asked, PROMPTS[::-1], max_new_tokens=12, batch_size=2)
    assert forward == backward[::-1]


def test_samples_differ_from_each_other_and_repeat_with_the_seed(asked):
    how = {"samples": 4, "temperature": 1.0, "max_new_tokens": 8, "batch_size": 2}
    first, again, other = (answer(asked, PROMPTS, seed=seed, **how) for seed in (1, 1, 2))
    assert [len(replies) for replies in first] == [4] * 5
    assert all(len({reply.text for reply in replies}) > 1 for replies in first)
    assert first == again != other


def test_a_reply_that_the_limit_cuts_is_marked_and_its_tokens_counted(asked):
    for (reply,) in answer(asked, PROMPTS, max_new_tokens=3):
        assert (reply.finish_reason, reply.completion_tokens) == ("length", 3)


def read(ids: list[int], tokenizer, prompt: str = ""):
    """The completion of a student that generated these tokens."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return LocalBackend(None, tokenizer)._completion(ids, {end}, prompt, 0)


def test_a_completion_ends_at_its_end_marker():
    tokenizer = byte_tokenizer()
    end, i = (tokenizer.convert_tokens_to_ids(token) for token in ("<|end|>", "i"))
    assert read([i, i, end], tokenizer)[:5] == ("ii", "", "stop", 0, 3)
    assert read([i, i, i, i, end], tokenizer)[:5] == ("iiii", "", "stop", 0, 5)
    assert read([i, i], tokenizer)[:5] == ("ii", "", "length", 0, 2)


def drawn(text: str, prompt: str = "", special: tuple[str, ...] = ()):
    """The completion of a student that generated this text and its end marker."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return read([*tokenizer(text, add_special_tokens=False)["input_ids"], end], tokenizer, prompt)


@pytest.mark.parametrize(
    "text, prompt, special, said, reasoning",
    [
        ("<think>hm</think>\n\nfour", "", (), "four", "hm"),
        ("hm</think>four", "What is 2 + 2?<think>\n", (), "four", "hm"),
        ("[THINK]hm[/THINK]four", "", ("[THINK]", "[/THINK]"), "four", "hm"),
        ("write </think>", "How do I close it?", (), "write </think>", ""),
        ("hm, so", "What is 2 + 2?<think>", (), "", "hm, so"),
    ],
)
def test_what_a_student_thinks_is_kept_apart_from_what_it_says(text, prompt, special, said, reasoning):
    reply = drawn(text, prompt, special)
    assert (reply.text, reply.reasoning, reply.finish_reason) == (said, reasoning, "stop")
    assert reply.thoughts_alone == (not said)


def test_a_reply_ends_where_the_chat_template_ends_it_whatever_the_tokenizers_eos_is(tmp_path):
    asked = models.load(tiny.ended_elsewhere(tmp_path / "student"))
    replies = answer(asked, PROMPTS, max_new_tokens=64)
    assert replies == answer(models.load(tiny.GYM), PROMPTS, max_new_tokens=64)
    assert "stop" in {reply.finish_reason for (reply,) in replies}


def test_an_end_token_is_no_text_of_a_reply_though_the_tokenizer_does_not_call_it_special(copy):
    path = copy / "tokenizer.json"
    path.write_text(path.read_text().replace('"special": true', '"special": false'))
    config = json.loads((copy / "tokenizer_config.json").read_text())
    for name in ("eos_token", "pad_token", "extra_special_tokens"):
        del config[name]
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    tokenizer = loading.load_tokenizer(copy)
    ids = tokenizer("Yes.<|end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "Yes." and tokenizer.pad_token == "<|end|>"


GEMMA = files("trl").joinpath("chat_templates/gemma.jinja")
TOLD = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_system_message_reaches_a_student_whose_template_has_none(copy, tmp_path):
    (tmp_path / "gemma.jinja").write_text(GEMMA.read_text())
    asked = models.load(copy, chat_template=str(tmp_path / "gemma.jinja"))
    assert "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>" in asked.render([TOLD])[0]
    assert asked.adaptation([TOLD, *PROMPTS]).startswith("1 conversations")
    assert len(answer(asked, [TOLD, *PROMPTS], max_new_tokens=1)) == 6


def test_a_server_is_sent_turns_that_the_template_in_the_students_folder_takes(copy):
    (copy / "chat_template.jinja").write_text(GEMMA.read_text())
    joined = [{"role": "user", "content": "Be brief.\n\nHi"}]
    assert json.loads(ServerBackend(catalog.find(f"{copy}@http://x/v1")).render([TOLD])[0]) == joined
    assert json.loads(ServerBackend(catalog.find("elsewhere@http://x/v1")).render([TOLD])[0]) == TOLD


def test_a_restart_continues_with_the_batches_it_finds(asked, tmp_path):
    how = {"samples": 2, "temperature": 1.0, "max_new_tokens": 8, "batch_size": 1, "folder": tmp_path}
    first = answer(asked, PROMPTS, **how)
    stored = sorted(tmp_path.iterdir())
    assert len(stored) == 5 and all(path.suffix == ".parquet" for path in stored)
    kept = {path: path.stat().st_mtime_ns for path in stored[::2]}
    for path in stored[1::2]:
        path.unlink()
    assert answer(asked, PROMPTS, **how) == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sorted(tmp_path.iterdir()) == stored


def test_replies_of_a_file_that_was_cut_are_asked_for_again(asked, tmp_path):
    told = {"samples": 2, "temperature": 0.8, "max_new_tokens": 4, "folder": tmp_path}
    whole = answer(asked, PROMPTS, **told)
    (stored,) = tmp_path.iterdir()
    content = stored.read_bytes()
    for end in (0, len(content) // 2, len(content) - 1):
        stored.write_bytes(content[:end])
        assert answer(asked, PROMPTS, **told) == whole


def test_stored_batches_serve_no_other_question(asked, tmp_path):
    how = {"max_new_tokens": 8, "folder": tmp_path}
    answer(asked, PROMPTS, **how)
    others = [[{"role": "user", "content": text.upper()}] for text in TEXTS]
    assert answer(asked, others, **how) == answer(asked, others, max_new_tokens=8)
    assert all(
        reply.completion_tokens <= 2 for (reply,) in answer(asked, PROMPTS, **how | {"max_new_tokens": 2})
    )


def test_progress_reaches_the_number_of_prompts(asked):
    seen = []
    answer(asked, PROMPTS, max_new_tokens=1, batch_size=2, report=lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def take_the_way_of_a_gpu(monkeypatch) -> None:
    """On a CPU, in a cache of a few pages: else it would take most of the memory."""
    small = partial(local.decode_continuously, num_blocks=16, max_batch_tokens=256)
    monkeypatch.setattr(local, "on_gpu", lambda model: True)
    monkeypatch.setattr(local, "decode_continuously", small)


def test_continuous_batching_gives_the_greedy_replies_of_padded_batches(monkeypatch):
    asked = models.load("lib/gym/student")
    attention = asked.model.config._attn_implementation
    padded = answer(asked, PROMPTS, max_new_tokens=10)
    take_the_way_of_a_gpu(monkeypatch)
    assert answer(asked, PROMPTS, max_new_tokens=10) == padded
    assert {reply.finish_reason for (reply,) in padded} == {"stop", "length"}
    assert asked.model.config._attn_implementation == attention


def test_one_of_one_token_is_the_greedy_reply_here_and_in_continuous_batching(asked, monkeypatch):
    greedy = answer(asked, PROMPTS, max_new_tokens=6)
    how = {"temperature": 1.0, "top_k": 1, "max_new_tokens": 6}
    assert answer(asked, PROMPTS, **how) == greedy
    take_the_way_of_a_gpu(monkeypatch)
    assert answer(asked, PROMPTS, **how) == greedy


def test_a_prompt_without_room_in_the_context_is_not_asked_and_says_so(asked):
    long = [{"role": "user", "content": "x" * 1100}]
    made = answer(asked, [PROMPTS[0], long], samples=2, temperature=1.0, max_new_tokens=4, skip_long=True)
    assert [len(replies) for replies in made] == [2, 2]
    assert [reply.finish_reason for reply in made[1]] == ["no room"] * 2 and made[1][0].text == ""
    assert made[:1] == answer(asked, [PROMPTS[0]], samples=2, temperature=1.0, max_new_tokens=4)


def test_continuous_batching_samples_and_repeats_with_the_seed(asked, monkeypatch):
    take_the_way_of_a_gpu(monkeypatch)
    how = {"samples": 4, "temperature": 1.0, "max_new_tokens": 8}
    first, again, other = (answer(asked, PROMPTS, seed=seed, **how) for seed in (1, 1, 2))
    assert [len(replies) for replies in first] == [4] * 5
    assert all(len({reply.text for reply in replies}) > 1 for replies in first)
    assert first == again != other


def test_a_prompt_that_continuous_batching_can_t_hold_is_an_error(asked, monkeypatch):
    take_the_way_of_a_gpu(monkeypatch)
    with pytest.raises(RuntimeError, match="continuous batching failed"):
        answer(asked, [[{"role": "user", "content": "long " * 2000}]], max_new_tokens=2)


def test_nobody_asked_is_nothing_answered(asked):
    assert answer(asked, []) == []


# Rows


def test_only_rows_without_a_response_are_answered(asked):
    rows = records.build([{"instruction": "one", "student_response": "kept"}, {"instruction": "two"}])
    answered, counts = models.respond(rows, asked, SamplingParams(max_tokens=4))
    (expected,) = answer(asked, [[{"role": "user", "content": "two"}]], max_new_tokens=4)
    assert answered["student_response"][:] == ["kept", expected[0].text]
    assert counts == {"responses": 1, "cut": 1, "unanswered": 0, "tokens": 4}


def test_several_samples_are_kept_beside_what_the_row_already_knew(asked):
    rows = records.build([{"instruction": "one", "meta": '{"family": "x"}'}, {"instruction": "two"}])
    answered, counts = models.respond(rows, asked, SamplingParams(n=3, temperature=1.0, max_tokens=4))
    first, second = map(json.loads, answered["meta"])
    assert first["family"] == "x" and len(first["samples"]) == len(second["samples"]) == 3
    assert answered["student_response"][0] == first["samples"][0]
    assert counts["responses"] == 6


def test_a_prompt_holds_the_turns_then_the_instruction_with_its_input():
    turns = [{"role": "system", "content": "Be brief."}]
    row = records.build([{"instruction": "Sum", "input": "1 2", "turns": turns}, {"instruction": "Hi"}])
    assert records.messages(row[0]) == turns + [{"role": "user", "content": "Sum\n\n1 2"}]
    assert records.messages(row[1]) == [{"role": "user", "content": "Hi"}]


# Loading


def test_a_folder_without_weights_is_refused_by_name(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(UserError, match=f"{copy} has no .*safetensors"):
        models.load(copy)


def test_pickled_weights_are_refused(copy):
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are refused"):
        models.load(copy)


def test_a_student_without_a_chat_template_is_refused(copy):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=f"{copy} has no chat template"):
        models.load(copy)


@pytest.mark.parametrize("name", ["/nowhere", "/nowhere/at/all", "outputs/demo/nowhere", "./nowhere"])
def test_a_folder_that_does_not_exist_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match=f"{name} does not exist"):
        models.load(name)


def test_a_folder_that_cannot_be_loaded_is_one_sentence(copy):
    (copy / "config.json").write_text("{}")
    with pytest.raises(UserError, match=f"{copy} cannot be loaded"):
        models.load(copy)
    (copy / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(UserError, match=f"{copy} cannot be loaded"):
        models.load(copy)


# The tokenizer


@pytest.mark.parametrize(
    "text", ["plain", "tab\tnew\n\nline  two spaces ", "naïve – 7 €", "👩‍🔬 漢字 🇫🇷", "\x00\x7f\u200b", ""]
)
def test_any_text_is_written_in_bytes_and_read_back(text):
    tokenizer = byte_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text.encode())
    assert tokenizer.decode(ids) == text


def test_every_byte_has_a_token_and_every_marker_one_more():
    tokenizer = byte_tokenizer()
    assert len(tokenizer) == 256 + 6
    every = "".join(map(chr, range(0x250))) + "\U0010ffff"
    assert tokenizer.decode(tokenizer(every, add_special_tokens=False)["input_ids"]) == every


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Bye."},
]


def test_the_chat_template_marks_what_the_assistant_says():
    tokenizer = byte_tokenizer()
    marked = tokenizer.apply_chat_template(
        CONVERSATION, return_dict=True, tokenize=True, return_assistant_tokens_mask=True
    )
    said = [i for i, m in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(said) == "Yes?<|end|>Bye.<|end|>"


def test_pre_training_writes_conversations_as_the_chat_template_does():
    written = byte_tokenizer().apply_chat_template(CONVERSATION, tokenize=False)
    assert chat(CONVERSATION[:-1], "Bye.") == written
