"""The loss is on the last response alone, whatever the template and the batch."""

import pytest
import tiny
import torch
from datasets import Dataset
from tiny import ROWS
from trl import SFTConfig, SFTTrainer

from lib import encoding, records, student
from lib.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.make(tmp_path_factory.mktemp("students") / "tiny")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return student.load(folder).tokenizer


def learnt(tokenizer, row):
    return tokenizer.decode([label for label in row["labels"] if label != encoding.IGNORED])


# What is in the loss


def test_the_loss_covers_the_response_and_its_end_marker(tokenizer):
    row = encoding.encode(tokenizer, ROWS.select([0]), 64)[0]
    assert tokenizer.decode(row["input_ids"]) == "<|bos|><|user|>Say\n\ncat<|end|><|assistant|>cat<|end|>"
    assert learnt(tokenizer, row) == "cat<|end|>"


def test_earlier_turns_of_the_assistant_are_not_in_the_loss(tokenizer):
    row = encoding.encode(tokenizer, ROWS.select([1]), 64)[0]
    assert "<|assistant|>Yes?<|end|>" in tokenizer.decode(row["input_ids"])
    assert learnt(tokenizer, row) == "I do.<|end|>"


def test_labels_stand_where_their_tokens_stand(tokenizer):
    for row in encoding.encode(tokenizer, ROWS, 64):
        pairs = zip(row["labels"], row["input_ids"], strict=True)
        assert all(label in (encoding.IGNORED, token) for label, token in pairs)


def test_response_tokens_count_the_end_marker(tokenizer):
    assert encoding.response_tokens(encoding.encode(tokenizer, ROWS, 64)) == [4, 6, 5]


def test_what_exceeds_the_length_is_cut_at_the_end(tokenizer):
    whole = encoding.encode(tokenizer, ROWS.select([0]), 64)[0]
    cut = encoding.encode(tokenizer, ROWS.select([0]), len(whole["input_ids"]) - 2)[0]
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
        train_dataset=Dataset.from_dict(columns),
    ).train_dataset
    ours = encoding.encode(tokenizer, ROWS, 64)
    assert ours["input_ids"][:] == prepared["input_ids"][:]
    assert ours["labels"][:] == prepared["labels"][:]


def test_a_row_without_a_response_is_refused_by_id(tokenizer):
    rows = records.build([{"instruction": "x", "response": "y"}, {"instruction": "z"}])
    with pytest.raises(UserError, match=f"1 rows have no response.*{rows['id'][1]}"):
        encoding.encode(tokenizer, rows, 64)


def test_a_prompt_that_leaves_no_room_is_refused_by_id(tokenizer):
    with pytest.raises(UserError, match=f"3 prompts fill max_length=10.*{ROWS['id'][0]}"):
        encoding.encode(tokenizer, ROWS, 10)


# Measuring


def test_the_loss_of_a_row_does_not_depend_on_its_batch(folder):
    asked = student.load(folder)
    encoded = encoding.encode(asked.tokenizer, ROWS, 64)
    together = encoding.response_losses(asked, encoded, batch_size=3)
    alone = [encoding.response_losses(asked, encoded.select([i]))[0] for i in range(3)]
    assert together == pytest.approx(alone, rel=1e-5)
    one = torch.tensor([encoded[0]["input_ids"]])
    with torch.inference_mode():
        said = asked.model(one).logits[0, -5:-1].log_softmax(-1)
    assert together[0] == pytest.approx(-said.gather(1, one[0, -4:, None]).sum().item(), rel=1e-5)
