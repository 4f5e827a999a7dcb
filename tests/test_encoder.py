"""An encoder learns the tasks from few labels and names the rest; DeBERTa's files load."""

import shutil
from collections import Counter

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2Model,
    PreTrainedTokenizerFast,
)

from lib.errors import UserError
from lib.gym import world
from lib.gym.oracle import ExactOracle
from lib.tapir import classifier, encoder

# random weights need more than a pre-trained encoder
FROM_SCRATCH = {"num_train_epochs": 10, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def rows():
    return world.corpus(600, seed=0)


@pytest.fixture(scope="module")
def tasks(rows):
    return ExactOracle().classify(rows)["task"][:]


@pytest.fixture(scope="module")
def bert(rows, tmp_path_factory):
    """A BERT of one layer with random weights and a vocabulary of the corpus's words."""
    folder = tmp_path_factory.mktemp("bert")
    words = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = trainers.WordLevelTrainer(special_tokens=["[PAD]", "[UNK]", "[CLS]"], min_frequency=2)
    words.train_from_iterator(rows["instruction"], special)
    words.post_processor = TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    named = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"}
    PreTrainedTokenizerFast(tokenizer_object=words, **named).save_pretrained(folder)
    size = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    config = BertConfig(vocab_size=words.get_vocab_size(), initializer_range=0.1, **size)
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def labelled(rows, bert):
    oracle, steps = ExactOracle(), []
    settings = {"report": lambda done, total: steps.append((done, total)), **FROM_SCRATCH}
    return *classifier.label(rows, oracle, 200, encoder=str(bert), **settings), oracle.calls, steps


def share(rows, tasks):
    return sum(task == expected for task, expected in zip(rows["task"], tasks, strict=True)) / len(tasks)


def test_an_encoder_names_the_tasks_of_the_embedded_world_from_a_few_labels(labelled, tasks):
    named, _, calls, _ = labelled
    largest = Counter(tasks).most_common(1)[0][1] / len(tasks)
    assert calls == 200 and largest < 0.45 and share(named, tasks) > 0.85


def test_its_agreement_is_that_of_a_fifth_it_was_not_fitted_on(labelled, rows, tasks):
    _, predicted, _, steps = labelled
    assert len(predicted) == 40 and set(predicted["task"]) == set(tasks)
    assert (predicted["task"] == predicted["predicted"]).mean() > 0.75
    assert steps[-1] == (100, 100)  # 10 passes of 160 rows, 16 at a time


@pytest.fixture
def deberta(tmp_path):
    """A tiny one with what the hub has of DeBERTa-v3: half-precision weights, no head, and `spm.model` as its whole tokenizer."""
    special = {"pad": "[PAD]", "bos": "[CLS]", "eos": "[SEP]", "unk": "[UNK]"}
    pieces = {f"{name}_id": i for i, name in enumerate(special)}
    pieces |= {f"{name}_piece": text for name, text in special.items()}
    sentences = iter([f"add {i} and {j}, or sort them" for i in range(30) for j in range(30)])
    size = {"vocab_size": 50, "hard_vocab_limit": False, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_prefix=str(tmp_path / "spm"), **size, **pieces
    )
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    relative = {"relative_attention": True, "position_buckets": 16, "share_att_key": True}
    relative |= {"pos_att_type": "p2c|c2p", "norm_rel_ebd": "layer_norm", "position_biased_input": False}
    config = DebertaV2Config(vocab_size=100, type_vocab_size=0, **size, **relative)
    torch.manual_seed(0)
    DebertaV2Model(config).half().save_pretrained(tmp_path)
    return tmp_path


def test_deberta_v3_is_read_from_its_sentencepiece_model_and_taught_in_full_precision(deberta):
    assert not (deberta / "tokenizer.json").exists()
    texts = [f"{task} {i} and {i + 1}" for i in range(12) for task in ("add", "sort")]
    predict = encoder.fit(deberta, texts, ["Math", "Order"] * 12, num_train_epochs=20, learning_rate=5e-3)
    assert predict(["add 40 and 41", "sort 40 and 41"]) == ["Math", "Order"]


def test_pickled_weights_are_refused(bert, tmp_path):
    folder = shutil.copytree(bert, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="has no .*safetensors weights .pickled weights are refused"):
        encoder.fit(folder, ["a", "b"], ["Math", "Order"])
