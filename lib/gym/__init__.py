"""The embedded world: exact tasks, an exact oracle, a student of 1.3 M parameters."""

import hashlib

EMBEDDED = "gym:"  # prefix of a task of the embedded world: "gym:first_two repeat"


def split_of(family: str, payload: str) -> str:
    """Assign an instance to `train`, `dev` (to choose settings) or `test` (to report).

    One instance in ten is held out, whatever its wording or level and whatever the seed.
    """
    number = int(hashlib.sha256(f"{family}\n{payload}".encode()).hexdigest(), 16)
    if number % 10:
        return "train"
    return "dev" if number // 10 % 2 else "test"
