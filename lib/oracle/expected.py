"""Scores from a judge's token probabilities: expected ones (G-Eval, arXiv 2303.16634), or its preference."""

import math
import re

from lib.errors import UserError
from lib.models.types import Completion, SamplingParams
from lib.tapir.judge import read_scores

SAMPLING = SamplingParams(max_tokens=8, logprobs=20)  # "10 10" is 5 tokens
ONE_TOKEN = SamplingParams(max_tokens=1, logprobs=20)
SIDES = {"1": 1.0, "2": 0.0}  # a preference's tokens: by how much they prefer response 1
MOST = 0.5  # probability of both numbers together, from which on one token is a preference [ours]
SCORES = {str(n): float(n) for n in range(1, 11)}


def scores(reply: Completion, judge: str) -> tuple[float, float] | None:
    """Return the two expected scores of a reply such as "8 7", 1 to 10, as shown.

    None where its text states no two scores, or states them in another form than its first two numbers,
    whole and with no word before them. Raises UserError where `judge` gives no log-probabilities.
    """
    tokens = _tokens(reply, judge)
    stated, numbers = read_scores(reply.text), _numbers(tokens)[:2]
    if stated is None or [float(number) for _, number in numbers] != list(stated) or min(stated) < 1:
        return None
    (start, _), (second, _) = numbers
    before = "".join(token["token"] for token in tokens[:start])
    if re.search(r"\w", before) or tokens[second - 1]["token"].endswith("/"):
        return None
    both = _score(tokens, start), _score(tokens, second)
    return None if None in both else both


def preference(reply: Completion, judge: str) -> tuple[float, float] | None:
    """Return the scores, as shown, of a judge asked for one token, 1 or 2.

    The first is 1 + 9 x p(1) / (p(1) + p(2)). None where both together are less probable than MOST: the judge
    was about to write something else. Raises UserError as `scores` does.
    """
    tokens = _tokens(reply, judge)
    weights = weights_of(tokens[0].get("top_logprobs"), SIDES) if tokens else {}
    first = expectation(weights, SIDES)
    return None if sum(weights.values()) < MOST else (1 + 9 * first, 1 + 9 * (1 - first))


def _tokens(reply: Completion, judge: str) -> list[dict]:
    """Return {"token", "top_logprobs"} in the order written. Raises UserError where `judge` gives none."""
    if reply.text and not any(token.get("top_logprobs") for token in reply.logprobs or ()):
        raise UserError(
            f"judge_scores: {judge} gives no log-probabilities of other tokens (top_logprobs). Set "
            "judge_scores=text, or ask a server that gives them."
        )
    return reply.logprobs or []


def expectation(weights: dict[str, float], values: dict[str, float]) -> float | None:
    """Return the mean of `values` (by token) under these weights; None without any."""
    total = sum(weights.values())
    return sum(values[token] * weight for token, weight in weights.items()) / total if total else None


def weights_of(candidates: list[dict] | None, values: dict[str, float]) -> dict[str, float]:
    """Sum the probabilities of a token's candidates by token that has a value.

    `candidates` are {"token", "logprob"}; spaces and brackets around a token do not count.
    """
    weights: dict[str, float] = {}
    for candidate in candidates or ():
        token = _bare(candidate["token"])
        if token in values and candidate["logprob"] is not None:
            weights[token] = weights.get(token, 0.0) + math.exp(candidate["logprob"])
    return weights


def _bare(token: str) -> str:
    return re.sub(r"[\s*(\[▁Ġ]", "", token)  # ▁ and Ġ are how tokenizers write a space


def _numbers(tokens: list[dict]) -> list[tuple[int, str]]:
    """Return whole numbers with the position of their first token; some are split."""
    numbers: list[tuple[int, str]] = []
    end = 0
    for i, token in enumerate(tokens):
        digits = _bare(token["token"])
        if not (digits.isascii() and digits.isdigit()):
            continue
        if numbers and end == i and digits == token["token"]:
            numbers[-1] = numbers[-1][0], numbers[-1][1] + digits
        else:
            numbers.append((i, digits))
        end = i + 1
    return numbers


def _score(tokens: list[dict], start: int) -> float | None:
    """Return the expectation of the number that begins at a token; None for no scores.

    Where 10 is two tokens, "1" may begin it: the token after a written "1" says how much of its probability
    means 10. A "1" that was not written means either, and is left out.
    """
    weights = weights_of(tokens[start].get("top_logprobs"), SCORES)
    if "1" in weights and "10" not in weights:
        written = weights.pop("1")
        if _bare(tokens[start]["token"])[:1] == "1" and start + 1 < len(tokens):
            ten = weights_of(tokens[start + 1].get("top_logprobs"), {"0": 0.0}).get("0", 0.0)
            weights |= {"1": written * (1 - ten), "10": written * ten}
    return expectation(weights, SCORES)


# by judge_scores: how scores are computed from a reply, and how it is asked for
BY_PROBABILITY = {"expected": (scores, SAMPLING), "preference": (preference, ONE_TOKEN)}
