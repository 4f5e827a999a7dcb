"""Load a student, its model and its tokenizer, from a folder, a GGUF file or the hub.

Pickles are refused, and none of a model's code is run. Light to import: a run looks for its models before it
needs torch. `python -m lib.models.loading GGUF FOLDER` unpacks a GGUF file into an ordinary folder.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from safetensors import SafetensorError

from lib import files, paths
from lib.errors import UserError, named, one_line
from lib.models import catalog
from lib.models import chat_template as templates

OWN_CODE = {"trust_remote_code": False}  # left out, transformers asks at the terminal
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?|\w[\w.-]*(/[\w.-]+){2,}\.gguf")


def load_model(
    student: str | Path,
    full_precision: bool = False,
    quantised: bool = False,
    device: str = "",
    empty: bool = False,
):
    """Load the model alone: on the GPU in bfloat16, else in float32; `device` names another one.

    `full_precision` keeps float32 on a GPU, too: weights that are trained need it, as small steps round away.
    `quantised` weights take 4 bits each (NF4), to train an adapter above them. `empty` is the model without
    its weights, for a process that is sent its share.
    """
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()  # a stage has one display of its own
    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu and not full_precision else torch.float32
    if empty:
        with init_empty_weights(include_buffers=False):
            return AutoModelForCausalLM.from_config(load_config(student), dtype=dtype, **OWN_CODE)
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    with located("student", student) as location:
        arguments = source(location)
        # left packed, the weights of a GGUF file can be neither trained nor saved
        unpacked = GgufConfig(dequantize=True) if "gguf_file" in arguments else None
        bits = nf4 if quantised else unpacked
        model = AutoModelForCausalLM.from_pretrained(
            **arguments, dtype=dtype, use_safetensors=True, quantization_config=bits
        )
    if not quantised:  # which lies where it was quantised
        model.to(device or ("cuda" if on_gpu else "cpu"))
    return model.eval()


def load_config(student: str | Path):
    """Load the configuration of the model alone."""
    from transformers import AutoConfig

    with located("student", student) as location:
        return AutoConfig.from_pretrained(**source(location))


def load_tokenizer(student: str | Path, chat_template: str = ""):
    """Load the tokenizer alone, with a chat template and a token to pad with.

    The template is that of the file, else of the student's entry in params/models.yaml, else its own.
    """
    from transformers import AutoTokenizer

    with located("student", student) as location:
        tokenizer = AutoTokenizer.from_pretrained(**source(location), padding_side="left")
    if file := chat_template or catalog.chat_template(student):
        tokenizer.chat_template = template(file)
    if not tokenizer.chat_template:
        raise UserError(
            f"the student {student} has no chat template, as base models often do not. Add an entry to "
            f"{catalog.LIST}: `{student}: {{chat_template: params/prompts/chat_llama2.jinja}}`."
        )
    end = tokenizer.convert_ids_to_tokens(templates.end(tokenizer).id)  # refuses a template that fails
    tokenizer.add_tokens([end], special_tokens=True)  # no text of a reply, whatever the tokenizer calls it
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or end
    return tokenizer


def template(path: str) -> str:
    """Read the file of a chat template."""
    try:
        return paths.local(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the chat template {path} cannot be read ({one_line(error)}). Name a file in UTF-8."
        ) from None


def unpack(gguf: str | Path, folder: Path) -> None:
    """Save a GGUF student as safetensors in bfloat16, with its tokenizer, unless the folder exists."""
    import torch

    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.part")  # a folder that exists is whole
    load_model(gguf).to(torch.bfloat16).save_pretrained(partial)
    load_tokenizer(gguf).save_pretrained(partial)
    partial.rename(folder)


# Where a model is


@contextmanager
def located(kind: str, name: str | Path) -> Iterator[str]:
    """Yield where `name` is loaded from; an error inside becomes one UserError that names the model."""
    try:
        yield locate(kind, name)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"the {kind} {name} cannot be loaded, from disk or from the hub: {reason}") from None


def source(location: str) -> dict:
    """Return a location as arguments of `from_pretrained`; a GGUF file is one in a folder or repository."""
    if not location.endswith(".gguf"):
        return {"pretrained_model_name_or_path": location, **OWN_CODE}
    parts = location.split("/")
    end = -1 if os.path.isabs(location) else 2  # on the hub: owner/name
    folder, file = "/".join(parts[:end]), "/".join(parts[end:])
    return {"pretrained_model_name_or_path": folder, "gguf_file": file, **OWN_CODE}


def locate(kind: str, name: str | Path) -> str:
    """Find a model: the absolute path of a folder or GGUF file, or a hub name as it is.

    A folder's one GGUF file stands for the folder. A GGUF file on the hub is written owner/name/file.gguf.
    Raises UserError for a folder that does not exist or holds no weights, or several GGUF files.
    """
    name = catalog.split(name)[0]  # where a server answers for the student, it is trained from there
    path = paths.local(str(name))
    if os.path.exists(path):
        location = str(_weights(kind, name, path).absolute())
    elif HUB_NAME.fullmatch(str(name)):
        location = str(name)
    else:
        raise UserError(f"the {kind} folder {name} does not exist. Correct the path, or name a hub model.")
    if location.endswith(".gguf") and not find_spec("gguf"):
        raise UserError(
            f"{kind}={location}: a GGUF file needs the package gguf. Run pip install -e '.[real]'."
        )
    return location


def _weights(kind: str, name: str | Path, path: Path) -> Path:
    """Return a folder of safetensors as it is, else the one GGUF file in it."""
    if list(path.glob("*.safetensors")):
        for index in path.glob("*.safetensors.index.json"):  # one of pickles beside it is not read
            _check_index(index, f"{kind}={name}")
        return path
    gguf = [path] if path.suffix == ".gguf" else sorted(path.glob("*.gguf"))
    if len(gguf) > 1:
        listed = named([file.name for file in gguf])
        raise UserError(f"{kind}={name}: it holds {len(gguf)} GGUF files ({listed}). Name one of them.")
    if not gguf:
        raise UserError(
            f"the {kind} folder {name} has no *.safetensors weights (pickled weights are refused), and no "
            "GGUF file. Convert its weights to safetensors."
        )
    return gguf[0]


def _check_index(index: Path, where: str) -> None:
    """Refuse an index that names other files than safetensors beside it: transformers would load them."""
    weight_map = (files.read_json(index) or {}).get("weight_map", {})
    if strange := {file for file in weight_map.values() if not re.fullmatch(r"[\w.-]+\.safetensors", file)}:
        raise UserError(
            f"{where}: {index.name} names {named(strange)}, and only safetensors beside it are loaded. "
            "Correct it."
        )


if __name__ == "__main__":
    unpack(sys.argv[1], Path(sys.argv[2]))
