"""Training repeats with the seed, goes on where it was stopped, and leaves safetensors only."""

import gc
import json

import pytest
import tiny
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import MANY, ROWS
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    Mamba2Config,
    Mamba2ForCausalLM,
)
from trl import SFTTrainer

from lib import models
from lib.errors import UserError
from lib.models import loading
from lib.training import encoding, sft
from lib.training.config import TrainingConfig

QUICK = {"epochs": 8, "learning_rate": 1e-3, "batch_size": 2}


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """(folder, losses) of a student trained on the three rows."""
    out = tmp_path_factory.mktemp("trained")
    return out, train(folder, out)


def train(folder, out, rows=ROWS, seed=0, report=lambda done, total: None, **options):
    tokenizer = loading.load_tokenizer(folder)
    encoded = encoding.encode(tokenizer, rows, 64)
    return sft.train(folder, tokenizer, encoded, out, TrainingConfig(**QUICK | options), seed, report)


def test_the_first_loss_is_that_of_the_responses_alone(folder, tmp_path):
    loaded = models.load(folder)
    encoded = encoding.encode(loaded.tokenizer, ROWS, 64)
    expected = sum(encoding.response_losses(loaded, encoded)) / sum(encoding.response_tokens(encoded))
    losses = sft.train(folder, loaded.tokenizer, encoded, tmp_path, TrainingConfig(epochs=1, batch_size=3))
    assert losses == [{"step": 1, "loss": pytest.approx(expected, rel=1e-4)}]


def test_a_few_steps_lower_the_loss_of_what_is_taught(folder, trained):
    out, losses = trained
    assert [entry["step"] for entry in losses] == list(range(1, 17))  # 8 epochs of 2 steps
    before, after = models.load(folder), models.load(out / "student")
    encoded = encoding.encode(before.tokenizer, ROWS, 64)
    assert sum(encoding.response_losses(after, encoded)) < sum(encoding.response_losses(before, encoded)) / 3


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


def test_a_loss_that_is_no_number_is_an_error_and_saves_nothing(folder, tmp_path):
    with pytest.raises(UserError, match=r"learning_rate=1e\+30: the loss became nan at step \d+"):
        train(folder, tmp_path, learning_rate=1e30)
    assert not (tmp_path / "student").exists()


STEPS = {"rows": MANY, "epochs": 2, "batch_size": 4}


def weights(folder):
    return models.load(folder / "student").model.state_dict()


def apart(first, second) -> float:
    """Largest difference of any weight."""
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    """(folder, losses) of a student trained on many rows in the simplest way."""
    out = tmp_path_factory.mktemp("plain")
    return out, train(folder, out, **STEPS)


@pytest.mark.parametrize(
    "options", [{"device_rows": 2}, {"checkpointing": True}, {"packing": True, "device_rows": 2}]
)
def test_what_saves_memory_or_time_changes_no_weight_by_more_than_rounding(folder, plain, tmp_path, options):
    out, expected = plain
    losses = train(folder, tmp_path, **STEPS | options)
    assert [entry["step"] for entry in losses] == [entry["step"] for entry in expected] == list(range(1, 11))
    assert [entry["loss"] for entry in losses] == pytest.approx([e["loss"] for e in expected], rel=1e-3)
    assert apart(weights(out), weights(tmp_path)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"checkpointing": True}])
def test_compiled_layers_teach_what_others_do(folder, plain, tmp_path, options):
    out, expected = plain
    losses = train(folder, tmp_path, **STEPS, packing=True, compile=True, **options)
    assert [entry["loss"] for entry in losses] == pytest.approx([e["loss"] for e in expected], rel=1e-5)
    assert apart(weights(out), weights(tmp_path)) < 1e-4
    assert weights(out).keys() == weights(tmp_path).keys()


def test_the_loss_is_that_of_trl_packed_or_padded_whole_or_in_parts(folder, plain, tmp_path, monkeypatch):
    """TRL computes entropy and accuracy beside it."""
    monkeypatch.setattr(sft._Trainer, "compute_loss", SFTTrainer.compute_loss)
    monkeypatch.setattr(sft, "add_fused_lm_head", lambda model: None)
    assert train(folder, tmp_path / "padded", **STEPS) == plain[1]
    packed = train(folder, tmp_path / "packed", **STEPS, packing=True, device_rows=2)
    assert [e["loss"] for e in packed] == pytest.approx([e["loss"] for e in plain[1]], rel=1e-5)


def test_an_adapter_is_merged_into_a_student_like_any_other(folder, tmp_path):
    losses = train(folder, tmp_path, epochs=16, adapter_rank=4, learning_rate=2e-2)
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    before, after = models.load(folder).model.state_dict(), weights(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys() and changed
    assert not any("embed" in name or "norm" in name or "lm_head" in name for name in changed)
    loaded = models.load(tmp_path / "student")
    encoded = encoding.encode(loaded.tokenizer, ROWS, 64)
    mean = sum(encoding.response_losses(loaded, encoded)) / sum(encoding.response_tokens(encoded))
    assert mean < losses[0]["loss"] * 0.6  # what is saved is what was taught


def test_a_quantised_student_teaches_an_adapter_that_is_merged_into_the_whole_weights(folder, tmp_path):
    losses = train(folder, tmp_path, epochs=16, learning_rate=2e-2, adapter_rank=4, quantised=True)
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    before, after = models.load(folder).model.state_dict(), weights(tmp_path)
    assert before.keys() == after.keys() and all(weight.dtype == torch.float32 for weight in after.values())
    same = [name for name in before if torch.equal(before[name], after[name])]
    assert same and all("embed" in name or "norm" in name or "lm_head" in name for name in same)


WRONG = {"batch_size": 0, "warmup": 1.5, "device_rows": 3, "report_to": "nowhere", "launch": "sbatch now"}
WRONG |= {"quantised": True}


@pytest.mark.parametrize("name, value", WRONG.items())
def test_values_that_cannot_work_are_refused_by_name(name, value):
    with pytest.raises(UserError, match=f"^{name}={value}: "):
        TrainingConfig(**{name: value})


@pytest.mark.parametrize("other", [{"launch": "accelerate launch"}, {"quantised": True, "adapter_rank": 2}])
def test_layers_are_compiled_for_one_process_and_whole_weights_alone(other):
    with pytest.raises(UserError, match="^compile=True: not with several processes, nor 4-bit weights"):
        TrainingConfig(compile=True, **other)


@pytest.mark.parametrize(
    "fields, options",
    [
        ({"temperature": 0.9, "top_p": 0.6}, {}),  # of LLaMA 2
        ({"temperature": 0.0, "top_p": 0.9, "length_penalty": 0.5}, {"adapter_rank": 2}),
    ],
)
def test_generation_fields_that_cannot_be_saved_lose_no_round(copy, tmp_path, fields, options):
    path = copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    train(copy, tmp_path, epochs=1, **options)
    GenerationConfig.from_pretrained(tmp_path / "student").validate(strict=True)
    assert models.load(tmp_path / "student")


def test_generation_fields_that_can_be_saved_stay(copy, tmp_path):
    GenerationConfig(do_sample=True, temperature=0.9, top_p=0.6).save_pretrained(copy)
    train(copy, tmp_path, epochs=1)
    saved = GenerationConfig.from_pretrained(tmp_path / "student")
    assert (saved.do_sample, saved.temperature, saved.top_p) == (True, 0.9, 0.6)


def test_rows_that_are_all_cut_are_refused_as_they_would_not_teach_to_stop(folder, tmp_path):
    tokenizer = loading.load_tokenizer(folder)
    encoded = encoding.encode(tokenizer, ROWS.select([0]), 14)
    with pytest.raises(UserError, match="max_length=14: each of 1 rows is cut before its end token"):
        sft.train(folder, tokenizer, encoded, tmp_path, TrainingConfig(**QUICK))


@pytest.mark.parametrize("options", [{}, {"adapter_rank": 2}])
def test_a_trained_student_stops_by_its_own_configs_in_any_program(tmp_path, options):
    start = tiny.ended_elsewhere(tmp_path / "start")
    train(start, tmp_path, rows=MANY, epochs=1, learning_rate=1e-6, **options)
    saved = tmp_path / "student"
    tokenizer, model = AutoTokenizer.from_pretrained(saved), AutoModelForCausalLM.from_pretrained(saved)
    assert tokenizer.eos_token == "<|end|>" and model.generation_config.eos_token_id == [261, 258]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Reverse it. word"}], add_generation_prompt=True, return_tensors="pt"
    )
    generated = model.generate(**prompt, max_new_tokens=200)[0]
    assert len(generated) < 200 and tokenizer.decode(generated).endswith("<|end|>")


class Stopped(Exception):
    pass


def stop_at(step):
    def report(done, total):
        if done == step:
            raise Stopped

    return report


LONG = STEPS | {"epochs": 17, "save_steps": 3}  # 85 steps: every second one's loss is logged


@pytest.mark.parametrize("options", [LONG, STEPS | {"adapter_rank": 4, "save_steps": 3}])
def test_a_stopped_round_goes_on_from_its_last_saved_step_to_the_same_losses_and_weights(
    folder, tmp_path, options
):
    whole = train(folder, tmp_path / "whole", **options)
    with pytest.raises(Stopped):
        train(folder, tmp_path / "stopped", **options, report=stop_at(8))  # in the second pass
    seen = []
    again = train(folder, tmp_path / "stopped", **options, report=lambda *at: seen.append(at))
    assert seen[0][0] == 7 and seen[-1][0] == seen[-1][1] and again == whole
    assert apart(weights(tmp_path / "whole"), weights(tmp_path / "stopped")) == 0
    assert not (tmp_path / "stopped/work/trainer").exists()


def test_a_student_that_would_mix_packed_rows_is_refused(folder, tmp_path):
    tokenizer = loading.load_tokenizer(folder)
    sizes = {"hidden_size": 32, "num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}
    config = Mamba2Config(vocab_size=len(tokenizer), num_hidden_layers=2, pad_token_id=0, **sizes)
    Mamba2ForCausalLM(config).save_pretrained(tmp_path / "mamba")
    encoded = encoding.encode(tokenizer, ROWS, 64)
    with pytest.raises(UserError, match="packing=true: in this student, packed rows influence"):
        sft.train(tmp_path / "mamba", tokenizer, encoded, tmp_path, TrainingConfig(**QUICK, packing=True))


def test_a_checkpoint_that_was_cut_short_is_not_gone_on_from(folder, tmp_path):
    with pytest.raises(Stopped):
        train(folder, tmp_path, **STEPS, save_steps=3, report=stop_at(8))
    (tmp_path / "work/trainer/checkpoint-6/trainer_state.json").unlink()
    seen = []
    train(folder, tmp_path, **STEPS, save_steps=3, report=lambda *at: seen.append(at))
    assert seen[0] == (1, 10)


def test_a_trainer_and_its_optimizer_are_gone_when_a_student_is_taught(folder, tmp_path):
    train(folder, tmp_path, epochs=1)
    kinds = torch.optim.Optimizer, SFTTrainer
    assert not [each for each in gc.get_objects() if isinstance(each, kinds)]


def test_tensorboard_is_told_the_losses(folder, tmp_path):
    losses = train(folder, tmp_path, report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "logs")).Reload().Scalars("train/loss")
    assert [(event.step, event.value) for event in events] == [
        (e["step"], pytest.approx(e["loss"])) for e in losses
    ]
