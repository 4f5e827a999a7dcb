"""The student answers the same however its prompts are batched, and a restart goes on where it was."""

import json
from importlib.resources import files

import pytest
import tiny
import torch
from tiny import answer, byte_tokenizer

from lib import models, records
from lib.errors import UserError
from lib.models import catalog, decoding, loading, local
from lib.models.server import ServerBackend
from lib.models.types import SamplingParams
from tools.pretrain import chat

TEXTS = [
    "hi",
    "a somewhat longer question?",
    "three",
    "count to ten, and then back to one again, please",
    "x",
]
PROMPTS = [[{"role": "user", "content": text}] for text in TEXTS]


@pytest.fixture(scope="module")
def student(folder):
    return models.load(folder)


# Answering


def test_replies_are_the_same_in_the_order_of_the_prompts_however_they_are_batched(student):
    together = answer(student, PROMPTS, max_new_tokens=12, batch_size=8)
    alone = [answer(student, [prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    backward = answer(student, PROMPTS[::-1], max_new_tokens=12, batch_size=2)
    assert together == alone == backward[::-1]


def test_samples_differ_from_each_other_and_repeat_with_the_seed(student):
    options = {"samples": 4, "temperature": 1.0, "max_new_tokens": 8, "batch_size": 2}
    first, again, other = (answer(student, PROMPTS, seed=seed, **options) for seed in (1, 1, 2))
    assert [len(replies) for replies in first] == [4] * 5
    assert all(len({reply.text for reply in replies}) > 1 for replies in first)
    assert first == again != other


def read(ids: list[int], tokenizer, prompt: str = ""):
    """The completion of a student that generated these tokens."""
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    return local.read(tokenizer, ids, [end], prompt, 0)


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
    "reply, prompt, special, text, reasoning",
    [
        ("<think>hm</think>\n\nfour", "", (), "four", "hm"),
        ("hm</think>four", "What is 2 + 2?<think>\n", (), "four", "hm"),
        ("[THINK]hm[/THINK]four", "", ("[THINK]", "[/THINK]"), "four", "hm"),
        ("write </think>", "How do I close it?", (), "write </think>", ""),
        ("hm, so", "What is 2 + 2?<think>", (), "", "hm, so"),
    ],
)
def test_what_a_student_thinks_is_kept_apart_from_its_text(reply, prompt, special, text, reasoning):
    completion = drawn(reply, prompt, special)
    assert (completion.text, completion.reasoning, completion.finish_reason) == (text, reasoning, "stop")
    assert completion.thoughts_alone == (not text)


def test_a_reply_ends_where_the_chat_template_ends_it_whatever_the_tokenizers_eos_is(tmp_path):
    student = models.load(tiny.ended_elsewhere(tmp_path / "student"))
    replies = answer(student, PROMPTS, max_new_tokens=64)
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
BRIEF = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


def test_a_system_message_reaches_a_student_whose_template_has_none(copy, tmp_path):
    (tmp_path / "gemma.jinja").write_text(GEMMA.read_text())
    student = models.load(copy, chat_template=str(tmp_path / "gemma.jinja"))
    assert "<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>" in student.render([BRIEF])[0]
    assert student.adaptation([BRIEF, *PROMPTS]).startswith("1 conversations")
    assert len(answer(student, [BRIEF, *PROMPTS], max_new_tokens=1)) == 6


def test_a_server_is_sent_turns_that_the_template_in_the_students_folder_takes(copy):
    (copy / "chat_template.jinja").write_text(GEMMA.read_text())
    joined = [{"role": "user", "content": "Be brief.\n\nHi"}]
    assert json.loads(ServerBackend(catalog.find(f"{copy}@http://x/v1")).render([BRIEF])[0]) == joined
    assert json.loads(ServerBackend(catalog.find("elsewhere@http://x/v1")).render([BRIEF])[0]) == BRIEF


def test_a_restart_continues_with_the_batches_it_finds(student, tmp_path):
    options = {"samples": 2, "temperature": 1.0, "max_new_tokens": 8, "batch_size": 1, "folder": tmp_path}
    first = answer(student, PROMPTS, **options)
    stored = sorted(tmp_path.iterdir())
    assert len(stored) == 5 and all(path.suffix == ".json" for path in stored)
    kept = {path: path.stat().st_mtime_ns for path in stored[::2]}
    for path in stored[1::2]:
        path.unlink()
    assert answer(student, PROMPTS, **options) == first
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert sorted(tmp_path.iterdir()) == stored


def test_one_row_before_all_others_has_the_response_that_it_has_among_them(student, tmp_path):
    rows = records.build({"instruction": text} for text in TEXTS)
    rows = records.update(rows, student_response=[None, "said before", None, None, None])
    options = {"params": SamplingParams(n=2, temperature=1.0, max_tokens=8, seed=3), "batch_size": 2}
    alone, counts = models.respond(rows, student, only=4, folder=tmp_path, **options)
    assert alone["id"] == [rows["id"][4]] and counts["responses"] == 2
    assert len(list(tmp_path.iterdir())) == 1  # its batch, which the others' start with
    together, _ = models.respond(rows, student, folder=tmp_path, **options)
    assert alone[0] == together[4] and alone[0] == models.respond(rows, student, **options)[0][4]
    recorded, counts = models.respond(rows, student, only=1, **options)
    assert recorded[0]["student_response"] == "said before" and counts["responses"] == 0


def test_replies_of_a_file_that_was_cut_are_asked_for_again(student, tmp_path):
    options = {"samples": 2, "temperature": 0.8, "max_new_tokens": 4, "folder": tmp_path}
    whole = answer(student, PROMPTS, **options)
    (stored,) = tmp_path.iterdir()
    content = stored.read_bytes()
    for end in (0, len(content) // 2, len(content) - 1):
        stored.write_bytes(content[:end])
        assert answer(student, PROMPTS, **options) == whole


def test_stored_batches_serve_no_other_question(student, tmp_path):
    options = {"max_new_tokens": 8, "folder": tmp_path}
    answer(student, PROMPTS, **options)
    others = [[{"role": "user", "content": text.upper()}] for text in TEXTS]
    assert answer(student, others, **options) == answer(student, others, max_new_tokens=8)
    assert all(
        reply.completion_tokens <= 2
        for (reply,) in answer(student, PROMPTS, **options | {"max_new_tokens": 2})
    )


def test_progress_reaches_the_number_of_prompts(student):
    seen = []
    answer(student, PROMPTS, max_new_tokens=1, batch_size=2, report=lambda *done: seen.append(done))
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_a_batch_that_exceeds_a_gpus_memory_is_completed_by_halves(student, monkeypatch):
    whole, decode = answer(student, PROMPTS, max_new_tokens=6), decoding.decode

    def decode_two(model, ids, *parts):
        if len(ids) > 2:
            raise torch.OutOfMemoryError
        return decode(model, ids, *parts)

    monkeypatch.setattr(decoding, "decode", decode_two)
    assert answer(student, PROMPTS, max_new_tokens=6) == whole


def test_slots_answer_as_padded_batches_do_and_leave_nothing_behind(student, monkeypatch):
    padded = answer(student, PROMPTS, max_new_tokens=6)
    monkeypatch.setattr(student, "in_slots", True)  # as on a GPU
    assert answer(student, PROMPTS, max_new_tokens=6, batch_size=3) == padded and student.slots is None


def test_slots_that_exceed_a_gpus_memory_are_halved_with_their_batch(student, monkeypatch):
    padded, decode, tried = answer(student, PROMPTS, max_new_tokens=6), decoding.Slots.decode, []
    monkeypatch.setattr(student, "in_slots", True)
    monkeypatch.setattr(student, "most_slots", 4)

    def decode_two(slots, *parts):
        tried.append((slots.rows, len(parts[0])))
        if slots.rows > 1:
            raise torch.OutOfMemoryError
        return decode(slots, *parts)

    monkeypatch.setattr(decoding.Slots, "decode", decode_two)
    assert answer(student, PROMPTS, max_new_tokens=6) == padded
    assert tried == [(4, 5), (2, 2), (1, 1), (1, 1), (1, 3)]


def test_a_prompt_without_room_in_the_context_is_not_asked_and_says_so(student):
    long = [{"role": "user", "content": "x" * 1100}]
    replies = answer(
        student, [PROMPTS[0], long], samples=2, temperature=1.0, max_new_tokens=4, skip_long=True
    )
    assert [len(row) for row in replies] == [2, 2]
    assert [reply.finish_reason for reply in replies[1]] == ["no room"] * 2 and replies[1][0].text == ""
    assert replies[:1] == answer(student, [PROMPTS[0]], samples=2, temperature=1.0, max_new_tokens=4)


# Rows


def test_only_rows_without_a_response_are_answered(student):
    rows = records.build([{"instruction": "one", "student_response": "kept"}, {"instruction": "two"}])
    answered, counts = models.respond(rows, student, SamplingParams(max_tokens=4))
    (expected,) = answer(student, [[{"role": "user", "content": "two"}]], max_new_tokens=4)
    assert answered["student_response"][:] == ["kept", expected[0].text]
    assert counts == {"responses": 1, "cut": 1, "unanswered": 0, "tokens": 4}


def test_several_samples_are_kept_beside_what_the_row_already_knew(student):
    rows = records.build([{"instruction": "one", "meta": '{"family": "x"}'}, {"instruction": "two"}])
    answered, counts = models.respond(rows, student, SamplingParams(n=3, temperature=1.0, max_tokens=4))
    first, second = map(json.loads, answered["meta"])
    assert first["family"] == "x" and len(first["samples"]) == len(second["samples"]) == 3
    assert answered["student_response"][0] == first["samples"][0]
    assert counts["responses"] == 6


# Loading


def test_a_student_without_a_chat_template_is_refused(copy):
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=f"{copy} has no chat template"):
        models.load(copy)


@pytest.mark.parametrize("name", ["/nowhere", "outputs/demo/nowhere", "./nowhere"])
def test_a_folder_that_does_not_exist_is_not_looked_for_on_the_hub(name):
    with pytest.raises(UserError, match=f"{name} does not exist"):
        models.load(name)


def test_pre_training_writes_conversations_as_the_chat_template_does():
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Bye")]
    prompt = [{"role": role, "content": content} for role, content in turns]
    conversation = [*prompt, {"role": "assistant", "content": "Bye."}]
    assert chat(prompt, "Bye.") == byte_tokenizer().apply_chat_template(conversation, tokenize=False)
