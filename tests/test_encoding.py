"""The loss is on the last response alone, whatever the template and the batch."""

import pytest
import torch
from datasets import Dataset
from tiny import ROWS, TURNS, byte_tokenizer
from tokenizers import Tokenizer, normalizers
from tokenizers import models as kinds
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from lib import models, paths, records
from lib.errors import UserError
from lib.training import encoding

SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def tokenizer(folder):
    return models.load(folder).tokenizer


def learnt(tokenizer, row):
    return tokenizer.decode([label for label in row["labels"] if label != encoding.IGNORED])


# What is in the loss


def test_the_loss_covers_the_response_and_its_end_marker(tokenizer):
    encoded = encoding.encode(tokenizer, ROWS, 64)
    whole = "<|bos|><|user|>Say\n\ncat<|end|><|assistant|>cat<|end|>"
    assert (
        tokenizer.decode(encoded[0]["input_ids"]) == whole and learnt(tokenizer, encoded[0]) == "cat<|end|>"
    )
    assert encoding.response_tokens(encoded) == [4, 6, 5]


def test_earlier_turns_of_the_assistant_are_not_in_the_loss(tokenizer):
    row = encoding.encode(tokenizer, ROWS.select([1]), 64)[0]
    assert "<|assistant|>Yes?<|end|>" in tokenizer.decode(row["input_ids"])
    assert learnt(tokenizer, row) == "I do.<|end|>"


def test_llama_2_reads_the_system_message_within_the_first_turn():
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = paths.local("params/prompts/chat_llama2.jinja").read_text()
    rows = records.build([{"instruction": "Go on", "turns": [SYSTEM, *TURNS], "response": "I do."}])
    assert tokenizer.decode(encoding.encode(tokenizer, rows, 512)[0]["input_ids"]) == (
        "<|bos|>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Yes? <|end|>"
        "<|bos|>[INST] Go on [/INST] I do. <|end|>"
    )


def test_a_response_has_the_tokens_that_it_has_behind_its_prompt():
    """LLaMA 2's tokenizer puts a mark before every text: a response by itself would begin with one that no student says."""
    words = Tokenizer(kinds.BPE({"▁": 0, "a": 1, "b": 2, "▁a": 3}, [("▁", "a")], byte_fallback=False))
    words.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    rows = records.build([{"instruction": "b", "response": "ab"}])
    given, alone = encoding.with_and_without(tokenizer, rows, 64)
    assert given[0] == {"input_ids": [0, 2, 1, 2, 4], "labels": [-100, -100, -100, 2, 4]}
    assert alone[0] == {"input_ids": [1, 2, 4], "labels": [-100, 2, 4]}
    assert encoding.encode(tokenizer, rows, 64)[0]["labels"] == [-100, -100, 1, 2, 4]


def test_a_response_is_taken_by_itself_where_a_token_would_reach_into_it_from_the_prompt():
    words = Tokenizer(kinds.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    row = encoding.encode(tokenizer, records.build([{"instruction": "a", "response": "b"}]), 64)[0]
    assert row["input_ids"] == [0, 1, 3] and row["labels"] == [-100, 1, 3]


def test_what_exceeds_the_length_is_cut_at_the_end(tokenizer):
    whole = encoding.encode(tokenizer, ROWS.select([0]), 64)[0]
    cut = encoding.encode(tokenizer, ROWS.select([0]), len(whole["input_ids"]) - 2)[0]
    assert learnt(tokenizer, cut) == "ca"


def test_encoding_agrees_with_trls_own(folder, tokenizer, tmp_path):
    responses = [[{"role": "assistant", "content": row["response"]}] for row in ROWS]
    columns = {"prompt": [records.messages(row) for row in ROWS], "completion": responses}
    loaded = models.load(folder)
    plain = {"use_cpu": True, "bf16": False, "activation_checkpointing": False, "report_to": "none"}
    settings = SFTConfig(output_dir=str(tmp_path), max_length=64, **plain)
    parts = {
        "processing_class": loaded.tokenizer,
        "args": settings,
        "train_dataset": Dataset.from_dict(columns),
    }
    prepared = SFTTrainer(model=loaded.model, **parts).train_dataset
    encoded = encoding.encode(tokenizer, ROWS, 64)
    assert encoded["input_ids"][:] == prepared["input_ids"][:]
    assert encoded["labels"][:] == prepared["labels"][:]


def test_a_row_without_a_response_or_without_room_for_one_is_refused_by_id(tokenizer):
    rows = records.build([{"instruction": "x", "response": "y"}, {"instruction": "z"}])
    with pytest.raises(UserError, match=f"row={rows['id'][1]}: 1 rows have no response"):
        encoding.encode(tokenizer, rows, 64)
    with pytest.raises(UserError, match=f"max_length=10: 3 prompts.*{ROWS['id'][0]}"):
        encoding.encode(tokenizer, ROWS, 10)


# Measuring


def test_losses_are_measured_in_batches_whose_logits_fit_in_memory(folder, monkeypatch):
    loaded = models.load(folder)
    encoded = encoding.encode(loaded.tokenizer, ROWS, 64)
    whole, lengths = encoding.response_losses(loaded, encoded), sorted(map(len, encoded["input_ids"]))
    shapes = []
    loaded.model.register_forward_pre_hook(
        lambda model, args, given: shapes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    monkeypatch.setattr(encoding, "MOST_LOGITS", 2 * lengths[-1] * len(loaded.tokenizer))
    assert encoding.response_losses(loaded, encoded) == pytest.approx(whole, rel=1e-5)
    assert shapes == [(2, lengths[1]), (1, lengths[2])]
    monkeypatch.setattr(encoding, "MOST_LOGITS", 1)  # a row that is too large alone is measured all the same
    assert encoding.response_losses(loaded, encoded) == pytest.approx(whole, rel=1e-5)


def test_the_loss_of_a_row_does_not_depend_on_its_batch(folder):
    loaded = models.load(folder)
    encoded = encoding.encode(loaded.tokenizer, ROWS, 64)
    together = encoding.response_losses(loaded, encoded, batch_size=3)
    alone = [encoding.response_losses(loaded, encoded.select([i]))[0] for i in range(3)]
    assert together == pytest.approx(alone, rel=1e-5)
    ids = torch.tensor([encoded[0]["input_ids"]])
    with torch.inference_mode():
        log_probabilities = loaded.model(ids).logits[0, -5:-1].log_softmax(-1)
    by_hand = -log_probabilities.gather(1, ids[0, -4:, None]).sum().item()
    assert together[0] == pytest.approx(by_hand, rel=1e-5)
