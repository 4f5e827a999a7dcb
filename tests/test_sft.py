"""Training takes its loss on the last response alone, repeats with the seed, and leaves safetensors only."""

from importlib.resources import files

import pytest
import tiny
import torch
from trl import SFTConfig, SFTTrainer

from lib import paths, records, sft, student
from lib.errors import UserError
from lib.gym.pretrain import CHAT_TEMPLATE, byte_tokenizer
from lib.settings import Settings

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
ROWS = records.build(
    [
        {"instruction": "Say", "input": "cat", "response": "cat"},
        {"instruction": "Go on", "turns": TURNS, "response": "I do."},
        {"instruction": "Say", "input": "owls", "response": "owls"},
    ]
)
QUICK = {"epochs": 8, "learning_rate": 1e-3, "batch_size": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("students") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return student.load(folder).tokenizer


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """(folder, losses) of a student trained on the three rows."""
    out = tmp_path_factory.mktemp("trained")
    return out, train(folder, out)


def train(folder, out, rows=ROWS, seed=0, report=lambda done, total: None, **how):
    asked = student.load(folder)
    encoded = sft.encode(asked.tokenizer, rows, 64)
    return sft.train(asked, encoded, out, Settings(**QUICK | how), seed, report)


def learnt(tokenizer, row):
    return tokenizer.decode([label for label in row["labels"] if label != sft.IGNORED])


# What is in the loss


def test_the_loss_covers_the_response_and_its_end_marker(tokenizer):
    row = sft.encode(tokenizer, ROWS.select([0]), 64)[0]
    assert tokenizer.decode(row["input_ids"]) == "<|bos|><|user|>Say\n\ncat<|end|><|assistant|>cat<|end|>"
    assert learnt(tokenizer, row) == "cat<|end|>"


def test_earlier_turns_of_the_assistant_are_not_in_the_loss(tokenizer):
    row = sft.encode(tokenizer, ROWS.select([1]), 64)[0]
    assert "<|assistant|>Yes?<|end|>" in tokenizer.decode(row["input_ids"])
    assert learnt(tokenizer, row) == "I do.<|end|>"


# What is in the loss behind a prompt, by chat format; the closing marker of one that names none is the tokenizer's own
FORMATS = {
    "embedded": (CHAT_TEMPLATE, "I do.<|end|>"),
    "Llama 2": (paths.local("params/prompts/chat_llama2.jinja").read_text(), " I do. <|end|>"),
    # the line break that ends a turn, too, though a student has stopped before it
    "Qwen 2.5": (files("trl").joinpath("chat_templates/qwen2_5.jinja").read_text(), "I do.<|im_end|>\n"),
}
DIALOGUES = {"one turn": [], "several turns": TURNS, "a system message": [SYSTEM, *TURNS]}


@pytest.mark.parametrize("turns", DIALOGUES.values(), ids=DIALOGUES)
@pytest.mark.parametrize("template, told", FORMATS.values(), ids=FORMATS)
def test_in_every_chat_format_the_loss_is_on_the_last_response_and_its_marker(template, told, turns):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    rows = records.build([{"instruction": "Go on", "turns": turns, "response": "I do."}])
    row = sft.encode(tokenizer, rows, 512)[0]
    prompt = [label for label in row["labels"] if label == sft.IGNORED]
    assert learnt(tokenizer, row) == told
    assert row["labels"] == prompt + row["input_ids"][len(prompt) :]  # all of it at the end
    said = [turn["content"] for turn in [*turns, {"content": "Go on"}]]
    assert all(text in tokenizer.decode(row["input_ids"][: len(prompt)]) for text in said)


def test_llama_2_reads_the_system_message_within_the_first_turn():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = FORMATS["Llama 2"][0]
    rows = records.build([{"instruction": "Go on", "turns": [SYSTEM, *TURNS], "response": "I do."}])
    assert tokenizer.decode(sft.encode(tokenizer, rows, 512)[0]["input_ids"]) == (
        "<|bos|>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yes? <|end|>"
        "<|bos|>[INST] Go on [/INST] I do. <|end|>"
    )


def test_labels_stand_where_their_tokens_stand(tokenizer):
    for row in sft.encode(tokenizer, ROWS, 64):
        pairs = zip(row["labels"], row["input_ids"], strict=True)
        assert all(label in (sft.IGNORED, token) for label, token in pairs)


def test_response_tokens_count_the_end_marker(tokenizer):
    assert sft.response_tokens(sft.encode(tokenizer, ROWS, 64)) == [4, 6, 5]


def test_what_exceeds_the_length_is_cut_at_the_end(tokenizer):
    whole = sft.encode(tokenizer, ROWS.select([0]), 64)[0]
    cut = sft.encode(tokenizer, ROWS.select([0]), len(whole["input_ids"]) - 2)[0]
    assert learnt(tokenizer, cut) == "ca"


def test_encoding_agrees_with_trls_own(folder, tokenizer, tmp_path):
    said = [[{"role": "assistant", "content": row["response"]}] for row in ROWS]
    columns = {"prompt": [records.messages(row) for row in ROWS], "completion": said}
    asked = student.load(folder)
    plain = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none"}
    settings = SFTConfig(output_dir=str(tmp_path), max_length=64, **plain)
    prepared = SFTTrainer(
        model=asked.model,
        processing_class=asked.tokenizer,
        args=settings,
        train_dataset=sft.Dataset.from_dict(columns),
    ).train_dataset
    ours = sft.encode(tokenizer, ROWS, 64)
    assert ours["input_ids"][:] == prepared["input_ids"][:]
    assert ours["labels"][:] == prepared["labels"][:]


def test_a_row_without_a_response_is_refused_by_id(tokenizer):
    rows = records.build([{"instruction": "x", "response": "y"}, {"instruction": "z"}])
    with pytest.raises(UserError, match=f"1 rows have no response.*{rows['id'][1]}"):
        sft.encode(tokenizer, rows, 64)


def test_a_prompt_that_leaves_no_room_is_refused_by_id(tokenizer):
    with pytest.raises(UserError, match=f"3 prompts fill max_length=10.*{ROWS['id'][0]}"):
        sft.encode(tokenizer, ROWS, 10)


# Measuring


def test_the_loss_of_a_row_does_not_depend_on_its_batch(folder):
    asked = student.load(folder)
    encoded = sft.encode(asked.tokenizer, ROWS, 64)
    together = sft.response_losses(asked, encoded, batch_size=3)
    alone = [sft.response_losses(asked, encoded.select([i]))[0] for i in range(3)]
    assert together == pytest.approx(alone, rel=1e-5)
    one = torch.tensor([encoded[0]["input_ids"]])
    with torch.inference_mode():
        said = asked.model(one).logits[0, -5:-1].log_softmax(-1)
    assert together[0] == pytest.approx(-said.gather(1, one[0, -4:, None]).sum().item(), rel=1e-5)


# Training


def test_the_first_loss_is_that_of_the_responses_alone(folder, tmp_path):
    asked = student.load(folder)
    encoded = sft.encode(asked.tokenizer, ROWS, 64)
    expected = sum(sft.response_losses(asked, encoded)) / sum(sft.response_tokens(encoded))
    losses = sft.train(asked, encoded, tmp_path, Settings(epochs=1, batch_size=3))
    assert losses == [{"step": 1, "loss": pytest.approx(expected, rel=1e-4)}]


def test_a_few_steps_lower_the_loss_of_what_is_taught(folder, trained):
    out, losses = trained
    assert [entry["step"] for entry in losses] == list(range(1, 17))  # 8 epochs of 2 steps
    before, after = student.load(folder), student.load(out / "student")
    encoded = sft.encode(before.tokenizer, ROWS, 64)
    assert sum(sft.response_losses(after, encoded)) < sum(sft.response_losses(before, encoded)) / 3


def test_the_same_seed_gives_equal_weights_and_another_seed_others(folder, trained, tmp_path):
    again, other = tmp_path / "again", tmp_path / "other"
    assert train(folder, again) == trained[1]
    train(folder, other, seed=1)
    first, second, third = (
        (out / "student" / "model.safetensors").read_bytes() for out in (trained[0], again, other)
    )
    assert first == second != third


def test_a_student_is_saved_without_a_single_pickle(trained):
    files = [path for path in trained[0].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".safetensors", ".json", ".jinja"}
    assert trained[0] / "student" / "model.safetensors" in files


def test_every_step_is_reported(folder, tmp_path):
    seen = []
    train(folder, tmp_path, epochs=1, report=lambda *done: seen.append(done))
    assert seen == [(1, 2), (2, 2)]


def test_a_loss_that_is_no_number_is_an_error_and_saves_nothing(folder, tmp_path):
    with pytest.raises(UserError, match=r"became nan at step \d+: lower learning_rate \(1e\+30\)"):
        train(folder, tmp_path, learning_rate=1e30)
    assert not (tmp_path / "student").exists()


MANY = records.build(
    {"instruction": "Say", "input": "a" * i, "response": "b" * (i % 5 + 1)} for i in range(1, 20)
)
STEPS = {"rows": MANY, "epochs": 2, "batch_size": 4}


def weights(folder):
    return student.load(folder / "student").model.state_dict()


def apart(one, other) -> float:
    """Largest difference of any weight."""
    return max((one[name] - other[name]).abs().max().item() for name in one)


@pytest.mark.parametrize("how", [{"device_rows": 1}, {"device_rows": 2}, {"checkpointing": True}])
def test_what_saves_memory_changes_no_weight_by_more_than_rounding(folder, tmp_path, how):
    plain = train(folder, tmp_path / "plain", **STEPS)
    saving = train(folder, tmp_path / "saving", **STEPS | how)
    assert [entry["step"] for entry in saving] == [entry["step"] for entry in plain] == list(range(1, 11))
    assert [entry["loss"] for entry in saving] == pytest.approx([entry["loss"] for entry in plain], rel=1e-3)
    assert apart(weights(tmp_path / "plain"), weights(tmp_path / "saving")) < 1e-4


def test_an_adapter_is_merged_into_a_student_like_any_other(folder, tmp_path):
    losses = train(folder, tmp_path, epochs=16, adapter_rank=4, learning_rate=2e-2)
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    before, after = student.load(folder).model.state_dict(), weights(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed
    assert not any("embed" in name or "norm" in name or "lm_head" in name for name in changed)
    again = student.load(folder)
    sft.train(
        again,
        sft.encode(again.tokenizer, ROWS, 64),
        tmp_path / "again",
        Settings(**QUICK, adapter_rank=4),
    )
    assert (
        apart(weights(tmp_path / "again"), again.model.state_dict()) == 0
    )  # what is saved is what was taught


def test_noise_on_the_embeddings_changes_the_training_and_stays_out_of_the_student(folder, tmp_path, trained):
    losses = train(folder, tmp_path, neftune=5.0)
    assert [entry["loss"] for entry in losses] != [entry["loss"] for entry in trained[1]]
    asked = student.load(tmp_path / "student")
    encoded = sft.encode(asked.tokenizer, ROWS, 64)
    assert sft.response_losses(asked, encoded) == sft.response_losses(asked, encoded)


@pytest.mark.parametrize(
    "how, said",
    [
        ({"epochs": 0}, "epochs is 0: it must be above 0"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001: it must be above 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"warmup": 1.5}, "warmup is 1.5: it is a share of the steps"),
        ({"device_rows": 3}, r"device_rows is 3: it must divide batch_size \(32\)"),
        ({"adapter_rank": -1}, "adapter_rank is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(how, said):
    with pytest.raises(UserError, match=said):
        Settings(**how)


# The order of rows


def test_batches_hold_rows_of_like_length_in_random_order_and_every_row_once():
    lengths = [(7 * i) % 100 for i in range(1003)]
    sampler = sft._Batches(lengths, batch_size=4, seed=0)
    first, second = list(sampler), list(sampler)
    assert sorted(first) == sorted(second) == list(range(1003)) and first != second
    batches = [[lengths[i] for i in first[start : start + 4]] for start in range(0, 1000, 4)]
    assert sum(max(batch) - min(batch) for batch in batches) / len(batches) < 5  # 60 for batches by chance
    means = [sum(batch) for batch in batches]
    falls = sum(a > b for a, b in zip(means, means[1:], strict=False)) / len(means)
    assert 0.4 < falls < 0.6  # neither up nor down
    assert list(sft._Batches(lengths, 4, seed=0)) == first
