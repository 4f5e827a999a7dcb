"""Build a corpus as uneven and terse as Alpaca, and evaluation sets with credit."""

import json
from random import Random

import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.gym import families, operations
from lib.gym.families import FAMILIES, WORLD, Exercise, obeys

CORPUS_MIX: dict[str, float] = WORLD["corpus_mix"]  # share of each family
LEVEL_SHARES = {1: 0.6, 2: 0.4}  # of a family's rows
ANSWER = "Answer: "  # begins the last line of a response


def corpus_shares(chains: tuple[str, ...] = ()) -> dict[tuple[str, int], float]:
    """Return the corpus's share of each (family, level), or of each chain."""
    if chains:
        return {(chain, 1): 1 / len(chains) for chain in chains}
    return {(name, n): CORPUS_MIX[name] * share for name in CORPUS_MIX for n, share in LEVEL_SHARES.items()}


def row(instance: Exercise, instruction: str, response: str | None, kind: str = "") -> dict:
    """Build a row whose `meta` holds what the exact oracle knows of its instance."""
    meta = {name: value for name, value in vars(instance).items() if name != "slots"} | {"kind": kind}
    texts = {"instruction": instruction, "response": response, "corpus_response": response}
    source = {"source": "gym", "licence": "Apache-2.0", "response_from": "corpus" if response else None}
    return texts | source | {"meta": records.AS_JSON(meta)}


def corpus(
    n: int, seed: int, noise: float = 0.1, leave_out: tuple[str, ...] = (), chains: tuple[str, ...] = ()
) -> Dataset:
    """Draw about `n` rows with terse responses, a share `noise` of them wrong.

    The order is random. With `chains` the rows are about these chains of operations, else about the
    families of CORPUS_MIX.
    """
    if unknown := set(leave_out) - set(CORPUS_MIX):
        raise UserError(f"leave_out={sorted(unknown)}: no such family. Choose from {', '.join(CORPUS_MIX)}.")
    for chain in chains:
        operations.check_chain(chain)
    rng, seen, rows = Random(f"corpus {seed}"), set(), []
    for (family, level), share in corpus_shares(chains).items():
        if family in leave_out:
            continue
        for instance in families.distinct(family, level, rng, "train", round(n * share), seen):
            wrong = rng.random() < noise
            answer = wrong_answer(family, level, instance.answer, rng) if wrong else instance.answer
            rows.append(row(instance, families.phrase(instance, rng), terse(family, answer)))
    rng.shuffle(rows)
    return records.build(rows)


def wrong_answer(family: str, level: int, answer: str, rng: Random) -> str:
    """Draw the answer of another instance of the cell that differs from `answer`."""
    answers = (instance.answer for instance in families.draw(family, level, rng))
    return next(other for other in answers if other != answer)


def evaluation_set(split: str, per_cell: int, trained_only: bool = False) -> Dataset:
    """Draw held-out instances of `split`, "dev" (to choose settings) or "test", for every student alike.

    `meta.kind` names the set of a row: "trained" cells, "unseen_level", "unseen_family",
    "unseen_phrasing", and "forgetting" (what pre-training taught: named operations on a word). With
    `trained_only` the rows are those of the first set.
    """
    if split not in ("dev", "test"):
        raise UserError(f"split={split}: no such split. Use dev to choose settings, or test to report.")
    trained, unseen, half = families.cells(), families.cells(trained=False), max(1, per_cell // 2)
    sets = [("trained", trained, per_cell)]
    if not trained_only:
        sets += [
            ("unseen_level", [cell for cell in unseen if FAMILIES[cell[0]].trained], half),
            ("unseen_family", [cell for cell in unseen if not FAMILIES[cell[0]].trained], per_cell),
            ("unseen_phrasing", trained, half),
        ]
    rng, rows, seen = Random(f"evaluation {split}"), [], set()
    for kind, cells, n in sets:
        instances = [x for cell in cells for x in families.distinct(*cell, rng, split, n, seen)]
        rows += [row(x, families.phrase(x, rng, kind == "unseen_phrasing"), None, kind) for x in instances]
    rows += [] if trained_only else [_operation(split, rng) for _ in range(4 * per_cell)]
    return records.build(rows)


def pick_example(judged: Dataset, family: str) -> int:
    """Return the position of a hard row that the oracle gets right: lowest level, then shortest instruction.

    Raises UserError where the family has none.
    """
    fitting = []
    for i, each in enumerate(records.iter_rows(judged, "meta", "hard", "instruction", "oracle_response")):
        about = json.loads(each["meta"])
        if about["family"] == family and each["hard"] and credit(about, each["oracle_response"]):
            fitting.append((about["level"], len(each["instruction"]), i))
    if not fitting:
        raise UserError(f"family={family}: no hard row of this kind. Raise corpus_rows, or lower threshold.")
    return min(fitting)[-1]


def unseen_siblings(row: dict, split: str, per_cell: int, trained: Dataset) -> Dataset:
    """Draw held-out instances of a row's family and level.

    Raises ValueError where a row of `trained` has the same instance.
    """
    about, held_out = json.loads(row["meta"]), evaluation_set(split, per_cell, trained_only=True)
    facts = [json.loads(meta) for meta in held_out["meta"]]
    cell = (about["family"], about["level"])
    places = [i for i, fact in enumerate(facts) if (fact["family"], fact["level"]) == cell]
    payloads = {json.loads(meta)["payload"] for meta in trained["meta"]}
    if repeated := payloads & {facts[i]["payload"] for i in places}:
        raise ValueError(f"held-out instances among the trained rows: {sorted(repeated)}")
    return held_out.select(places)


def _operation(split: str, rng: Random) -> dict:
    """Draw a pre-trained pair of operations on a word of the split, as pre-training asks it."""
    names = rng.choice(operations.TRAINED_PAIRS)
    text, output = next(operations.pairs_of_split(" ".join(names), rng, split))
    system = {"role": "system", "content": operations.describe(names)}
    instance = Exercise("operations", 1, f"{' '.join(names)} {text}", {}, output)
    return row(instance, text, None, "forgetting") | {"turns": [system]}


def _is_operation(family: str) -> bool:
    """Check whether a response is a changed word alone, without an answer line."""
    return family == "operations" or operations.is_chain(family)


def terse(family: str, answer: str) -> str:
    """Write the shortest response that gives an answer."""
    return answer if _is_operation(family) else ANSWER + answer


def extract(response: str) -> str | None:
    """Return what follows "Answer:" in a response's last such line, or None."""
    lines = [line.strip() for line in response.splitlines() if line.strip().lower().startswith("answer:")]
    return lines[-1][len("answer:") :].strip() if lines else None


def credit(about: dict, response: str) -> float:
    """Score a response as 1.0 (right) or 0.0; `about` is its row's meta.

    An answer is right if it equals the instance's after normalising, or meets its format constraints.
    """
    family, answer = about["family"], extract(response)
    if answer is None and _is_operation(family):
        answer = response
    if answer is None:
        return 0.0
    if family == "format_constraints":
        return float(obeys(about["payload"], answer))
    return float(_normalised(answer, family) == _normalised(about["answer"], family))


def _normalised(text: str, family: str) -> str:
    text = " ".join(text.split()).removesuffix(".")
    if _is_operation(family):  # the letter case is part of the task
        return text
    text = ", ".join(part.strip() for part in text.casefold().split(","))
    is_decimal = "." in text and text.replace(".", "").lstrip("-").isdigit()
    return text.rstrip("0").rstrip(".") if is_decimal else text


def graded(rows: Dataset, replies: list) -> pd.DataFrame:
    """Tabulate the replies (Completions) to an evaluation set, with the credit of each."""
    abouts, texts = list(map(json.loads, rows["meta"])), [reply.text for reply in replies]
    return pd.DataFrame(abouts)[["kind", "family", "level", "answer"]].assign(
        id=rows["id"][:],
        instruction=rows["instruction"][:],
        response=texts,
        cut=[reply.truncated for reply in replies],
        unanswered=[reply.thoughts_alone for reply in replies],
        answered=[extract(text) is not None for text in texts],
        credit=list(map(credit, abouts, texts)),
    )


def score_table(replies: pd.DataFrame) -> pd.DataFrame:
    """Bring credits into the long form of lib.evaluation.statistics.

    `replies` has kind, family, level, id and credit. "gym.accuracy" weighs all trained cells alike,
    "gym.corpus_mix" as the corpus does; "gym.unseen_level" and the others weigh their cells alike.
    """
    cells = list(zip(replies["family"], replies["level"], strict=True))
    table = pd.DataFrame({"id": replies["id"], "score": replies["credit"]})
    table["stratum"] = [f"{family} {level}" for family, level in cells]
    kinds, shares = replies["kind"].replace("trained", "accuracy"), corpus_shares()
    alike = table.assign(metric="gym." + kinds, weight=1.0)
    mixed = table.assign(metric="gym.corpus_mix", weight=[shares.get(cell, 0.0) for cell in cells])
    return pd.concat([alike, mixed[replies["kind"] == "trained"]], ignore_index=True)
