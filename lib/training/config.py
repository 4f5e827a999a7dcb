"""How a student is trained: light to import, so that a run can check it before torch is needed."""

import math
import os
import shlex
import shutil
import sys
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path

from lib import files, paths
from lib.errors import UserError, one_line

REPORTERS = ("tensorboard", "trackio", "wandb")
HARDWARE = ("device_rows", "checkpointing", "packing", "compile", "save_steps", "report_to", "launch")


@dataclass(frozen=True)
class TrainingConfig:
    """How a student is trained. Raises UserError for values that cannot work."""

    epochs: float = 3.0
    learning_rate: float = 2e-5  # peak of a cosine schedule
    warmup: float = 0.03  # share of the steps in which the rate rises
    batch_size: int = 32  # rows per step
    device_rows: int = 0  # rows of a step that are on the device at a time; 0 for all of them
    checkpointing: bool = False  # recompute activations: less memory, about a third more time
    adapter_rank: int = 0  # of a LoRA adapter on all linear layers, merged at the end; 0 to train all weights
    quantised: bool = False  # QLoRA: the weights below the adapter in 4 bits (NF4) during training
    packing: bool = False  # rows of a step side by side without padding: for GPUs
    compile: bool = False  # fuse the kernels of each layer, after some minutes: for a GPU, and long trainings
    save_steps: int = 0  # steps between checkpoints, from which a restart goes on; 0 for none
    report_to: str = "none"  # tensorboard, trackio, wandb
    launch: str = ""  # trains in other processes, such as "accelerate launch --num_processes 8"

    @classmethod
    def from_parameters(cls, parameters: dict) -> "TrainingConfig":
        """Take the fields from a notebook's parameters, and those of HARDWARE from its profile."""
        settings = profile(parameters["hardware"]) if "hardware" in parameters else {}
        settings |= {field.name: parameters[field.name] for field in fields(cls) if field.name in parameters}
        if settings.get("device_rows") and "batch_size" in settings:  # a profile fits any batch
            settings["device_rows"] = math.gcd(settings["device_rows"], settings["batch_size"])
        return cls(**settings)

    def __post_init__(self):
        for name in ("epochs", "learning_rate", "batch_size"):
            self._require(name, getattr(self, name) > 0, "it is too low. Set it above 0.")
        self._require("warmup", 0 <= self.warmup <= 1, "it is a share of the steps. Set it from 0 to 1.")
        divides = not self.device_rows or self.batch_size % self.device_rows == 0
        self._require("device_rows", divides, f"it must divide batch_size={self.batch_size}. Change one.")
        trainable = self.adapter_rank or not self.quantised
        self._require("quantised", trainable, "4-bit weights need an adapter. Set adapter_rank, such as 16.")
        alone = not (self.compile and (self.launch or self.quantised))
        self._require("compile", alone, "not with several processes, nor 4-bit weights. Set it to false.")
        installed = self.report_to == "none" or self.report_to in REPORTERS and find_spec(self.report_to)
        names = " or ".join(REPORTERS)
        self._require("report_to", installed, f"it is not installed. Run pip install {names}.")
        self.command()

    def _require(self, name: str, holds: object, reason: str) -> None:
        if not holds:
            raise UserError(f"{name}={getattr(self, name)}: {reason}")

    def command(self) -> list[str]:
        """Split `launch` into words, the first as the path of a program beside this Python or on PATH."""
        if not self.launch:
            return []
        try:
            program, *words = shlex.split(self.launch)
        except ValueError as error:  # an open quote, or spaces alone
            self._require("launch", False, f"it is no command ({one_line(error)}). Correct it.")
        folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        path = shutil.which(program, path=folders)
        self._require("launch", path, f"there is no program {program}. Install it, or give its path.")
        return [path, *words]


def profiles() -> dict[str, Path]:
    """List the files of params/hardware by their names."""
    return {file.stem: file for file in sorted((paths.ROOT / "params/hardware").glob("*.yaml"))}


def profile(hardware: str) -> dict:
    """Read params/hardware/<hardware>.yaml, or a YAML file: settings of HARDWARE, which change no result.

    Raises UserError for a profile that is not there, and for other settings or types.
    """
    path = profiles().get(hardware) or paths.local(hardware)
    if not path.is_file():
        names = ", ".join(profiles())
        raise UserError(f"hardware={hardware}: there is no such profile. Name {names}, or a YAML file.")
    settings = files.load_yaml(path.read_text(encoding="utf-8"), str(path))
    kinds = {field.name: type(field.default) for field in fields(TrainingConfig) if field.name in HARDWARE}
    if not isinstance(settings, dict) or any(type(v) is not kinds.get(k) for k, v in settings.items()):
        allowed = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        raise UserError(f"hardware={hardware}: it holds {settings!r:.200}. It may set {allowed}.")
    return settings
