"""Load a student: its model and its tokenizer, from a folder, a GGUF file or the hub."""

from pathlib import Path

import torch
from accelerate import init_empty_weights
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GgufConfig
from transformers.utils import logging

from lib.errors import UserError
from lib.models import chat_template as templates
from lib.models import weights

logging.disable_progress_bar()  # a stage has one display of its own


def load_model(
    student: str | Path,
    full_precision: bool = False,
    quantised: bool = False,
    device: str = "",
    empty: bool = False,
) -> torch.nn.Module:
    """Load the model alone: on the GPU in bfloat16, else in float32; `device` names another one.

    `full_precision` keeps float32 on a GPU, too: weights that are trained need it, as small steps round away.
    `quantised` weights take 4 bits each (NF4), to train an adapter above them. `empty` is the model without
    its weights, for a process that is sent its share.
    """
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and not full_precision else torch.float32
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    with weights.loading("student", student) as path:
        folder, file = weights.source(path)
        if empty:
            config = AutoConfig.from_pretrained(folder, **file, **weights.OWN_CODE)
            with init_empty_weights(include_buffers=False):
                return AutoModelForCausalLM.from_config(config, dtype=dtype, **weights.OWN_CODE)
        # left packed, the weights of a GGUF file can be neither trained nor saved
        unpack = GgufConfig(dequantize=True) if file else None
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            quantization_config=bits if quantised else unpack,
            **file,
            **weights.OWN_CODE,
        )
    if not quantised:  # which lies where it was quantised
        model.to(device or ("cuda" if on_gpu else "cpu"))
    return model.eval()


def load_tokenizer(student: str | Path, chat_template: str = ""):
    """The tokenizer alone, with a chat template and a token to pad with."""
    with weights.loading("student", student) as path:
        folder, file = weights.source(path)
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **file, **weights.OWN_CODE)
    if chat_template:
        tokenizer.chat_template = weights.template(chat_template)
    if not tokenizer.chat_template:
        raise UserError(
            f"the student {student} has no chat template, as base models often don't: name one with "
            "chat_template (such as params/prompts/chat_llama2.jinja)"
        )
    end = tokenizer.convert_ids_to_tokens(templates.end(tokenizer).id)  # refuses a template that fails
    tokenizer.add_tokens([end], special_tokens=True)  # no text of a reply, whatever the tokenizer calls it
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or end
    return tokenizer
