"""One of two processes that share a model: the first has the weights, the other none. Run by test_launch."""

import os
import sys
from types import SimpleNamespace

import torch
from accelerate import PartialState
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from peft import LoraConfig, get_peft_model

from lib.models import loading

folder, lora_r, out = sys.argv[1:]
os.environ["ACCELERATE_USE_FSDP"] = "true"
processes = PartialState(cpu=True)
first = processes.is_main_process
model = loading.load_model(folder, full_precision=True, device="cpu", empty=not first)
assert {weight.device.type for weight in model.parameters()} == {"cpu" if first else "meta"}
if int(lora_r):
    model = get_peft_model(model, LoraConfig(r=int(lora_r), target_modules="all-linear"))
# accelerate's own Accelerator shards on devices only, the function that it calls also here
plugin = FullyShardedDataParallelPlugin(
    fsdp_version=2, cpu_ram_efficient_loading=True, auto_wrap_policy="transformer_based_wrap"
)
accelerator = SimpleNamespace(
    state=SimpleNamespace(fsdp_plugin=plugin),
    mixed_precision="no",
    is_main_process=first,
    device=torch.device("cpu"),
    torch_device_mesh=None,
)
model = fsdp2_prepare_model(accelerator, model)
torch.save(model(torch.tensor([[1, 2, 3]])).logits.detach(), f"{out}/{processes.process_index}.pt")
