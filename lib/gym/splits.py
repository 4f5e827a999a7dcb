"""What is held out: an instance's payload decides, whatever the wording, the level or the seed."""

import hashlib

from lib.errors import UserError


def digest(family: str, payload: str) -> int:
    return int(hashlib.sha256(f"{family}\n{payload}".encode()).hexdigest(), 16)


def split_of(family: str, payload: str) -> str:
    """`train`, or for one instance in ten `dev` (to choose settings) or `test` (to report)."""
    number = digest(family, payload)
    if number % 10:
        return "train"
    return "dev" if number // 10 % 2 else "test"


def check(split: str) -> None:
    """Raises UserError for what is no split to evaluate on."""
    if split not in ("dev", "test"):
        raise UserError(f"split is {split!r}: it must be dev, to choose settings, or test, to report")
