"""A student of the embedded kind, untrained, and three rows to teach it, for tests that need real ones."""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lib import paths, records
from lib.models.types import SamplingParams

GYM = paths.ROOT / "lib/gym/student"
CHAT_TEMPLATE = (GYM / "chat_template.jinja").read_text()
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
ROWS = records.build(
    [
        {"instruction": "Say", "input": "cat", "response": "cat"},
        {"instruction": "Go on", "turns": TURNS, "response": "I do."},
        {"instruction": "Say", "input": "owls", "response": "owls"},
    ]
)
# 19 rows of different lengths: a last step of 4 is not complete
MANY = records.build(
    {"instruction": "Say", "input": "a" * i, "response": "b" * (i % 5 + 1)} for i in range(1, 20)
)

NAMES = {  # of weights, as transformers and llama.cpp have them
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers": "blk",
    "self_attn.o_proj": "attn_output",
    "self_attn.": "attn_",
    "mlp.": "ffn_",
    "_proj": "",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def byte_tokenizer():
    """The embedded student's tokenizer: one token a byte (256 of them) and six markers."""
    return AutoTokenizer.from_pretrained(GYM)


def ended_elsewhere(folder: Path) -> Path:
    """The embedded student, whose configs name another end token than its template writes (as Qwen2.5's base model's do)."""
    shutil.copytree(GYM, folder)
    for name, value in (("tokenizer_config", "<|system|>"), ("config", 258), ("generation_config", 258)):
        path = folder / f"{name}.json"
        key = "eos_token" if isinstance(value, str) else "eos_token_id"
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    return folder


def make(folder: Path) -> Path:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig.from_pretrained(GYM)).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def gguf(folder: Path) -> Path:
    """A student of that kind as a GGUF file, with one merge, as the format has no empty list."""
    from gguf import GGUFWriter

    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    vocabulary = [*tokenizer.convert_ids_to_tokens(range(len(tokenizer))), "th"]
    model = LlamaForCausalLM(LlamaConfig.from_pretrained(GYM, vocab_size=len(vocabulary)))
    writer, config = GGUFWriter(folder / "tiny.gguf", "llama"), model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
    writer.add_token_merges(["t h"])
    for marker in ("bos", "eos", "pad"):
        getattr(writer, f"add_{marker}_token_id")(getattr(config, f"{marker}_token_id"))
    writer.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        for part, other in NAMES.items():
            name = name.replace(part, other)
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "tiny.gguf"


def answer(backend, prompts, samples=1, temperature=0.0, max_new_tokens=256, top_k=0, seed=0, **options):
    """Generate with a notebook's names of the sampling parameters."""
    params = SamplingParams(samples, temperature, top_k, max_tokens=max_new_tokens, seed=seed)
    return backend.generate(prompts, params, **options)
