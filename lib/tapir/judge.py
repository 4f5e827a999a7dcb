"""Judge: a pair's verdicts read into scores, counted, and examined for how far they can be trusted."""

import json
import re
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from datasets import Dataset

from lib import records
from lib.errors import UserError
from lib.models.completions import split_thoughts

ORDERS = ("oracle_first", "student_first")
# What a verdict may be wrapped in, and is read without. No pattern looks at a sign more than a few times.
SPECIAL = re.compile(r"(?:</s>|<\|\w+\|>)\s*\Z")  # an end token that a server did not strip
FENCE = re.compile(r"^[ \t]*+(?:```|~~~)\w*+[ \t]*+$", re.MULTILINE)
EMPHASIS = {
    mark[-1]: re.compile(rf"(?<![\w{mark}])({mark}+)(?=\S)([^{mark}\n]*[^{mark}\s])\1(?![\w{mark}])")
    for mark in (r"\*", "_", "`")
}
LATEX = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\{([^{}\n]*)\}")
MATH = re.compile(r"\\[()\[\]]|\\q?quad|\\[ ,;!]|\$")
HEADING = re.compile(r"^(?:#{1,6}|>) ", re.MULTILINE)
BOTH = re.compile(r"Assistants? 1(?:'s)?(?:,? and |, ?| ?[&/] ?)(?:Assistant )?2\b(?:'s)?", re.IGNORECASE)

NUMBER = r"([0-9]+(?:\.[0-9]+)?)(?: ?/ ?10(?![0-9])| out of 10)?"
# "9 8.5", "9, 8", "(9,8)"; not "9,8", which may be 9.8
PAIR = rf"(?:[(\[] ?{NUMBER}(?: ?[,;|] ?| ){NUMBER} ?[)\]]|{NUMBER}(?: ?, | ?[;|] ?| and | ){NUMBER})"
LEAD = r"(?:(?:here (?:are|is)|so|thus|therefore|hence|overall|finally|in (?:conclusion|summary)),? )?"
NOUN = r"(?:(?:the|my|final|overall|two) ){0,3}(?:scores?|ratings?|evaluation|verdict)"
HEAD = rf"{LEAD}{NOUN}(?: \(?(?:for |of )?both\)?)?(?:(?: are| would be)(?: as follows)?:?|:) ?"
TAIL = r"(?: for both)?(?:,? respectively)?[. ]*"
# as the prompt asks for it
FIRST = re.compile(rf"[*\"' ]*+(?:{HEAD})?{PAIR}[*\"' ]*+{TAIL}", re.IGNORECASE)
ALONE = re.compile(rf"{NUMBER}\.?")
STATED = re.compile(rf"^{HEAD}{PAIR}{TAIL}$", re.IGNORECASE | re.MULTILINE)  # "Final scores: 9 8.5"
# "the scores are (1, 5) for both", "the scores for both are 1 and 5": not those of a match in the question
SENTENCES = [
    re.compile(
        rf"{noun} (?:(?:are|would be) {PAIR} for both|(?:for|of) both (?:are|would be) {PAIR}(?![\w%]))"
    )
    for noun in ("scores", "ratings")
]
# "The output tuple is (10, 1)"
TUPLE = re.compile(rf"\btuple\b(?:(?!\btuple\b)[^()\n])*+\({NUMBER}, *{NUMBER}\)")
# "Assistant 1: 3/10 - The answer is", "Assistant 1's score: 3", '"assistant_1": 3,';
# not "Assistant 1: 3 errors", "Assistant 1: 3,5"
LABEL = (
    r"(?:assistant|response)[ _]?(?:{})(?:'s)?(?:[ _](?:final |overall )?(?:score|rating))?"
    r"[*\"]*(?: ?[:=|]| [–-]|(?<=score) is|(?<=rating) is)[*\" ]*(?:(?:score|rating)[*\"]*[:=] *)?"
    + NUMBER
    # not "(out of 20)", "(correct)", nor the first of several columns
    + r"(?![*\" ]*(?:\((?:out of (?!10\b)|(?:in)?correct[);,])|\| ?[0-9]))"
    + r"(?=[*\" ]*(?:[(;|}}]|,(?! *[0-9])|[–-] +[A-Za-z]|\.? *(?:and )?assistant|\.?$))"
)
LABELS = [re.compile(LABEL.format(name), re.MULTILINE | re.IGNORECASE) for name in ("1|one|a", "2|two|b")]
OTHERS = re.compile(  # a line above labels that announces other numbers
    r"^[^\n:]{0,40}\b(?:answers|errors|mistakes|number of|count|words)\b[^\n:]{0,40}:\n(?=assistant)",
    re.IGNORECASE | re.MULTILINE,
)
OUT_OF_TEN = [
    re.compile(rf"assistant {side}\b[^\n0-9]{{0,40}}([0-9]+(?:\.[0-9]+)?) ?/ ?10(?![0-9])", re.IGNORECASE)
    for side in "12"
]
LONGEST_PREAMBLE = 200  # characters
# a line before the scores; it must not announce numbers of the question
PREAMBLE = re.compile(
    r"(?!.*\b(?:inputs?|outputs?|samples?|examples?|points?|coordinates?|cases?|array|list|questions?)\b)(?:"
    r"[^0-9]*\b(?:scor(?:e|es|ing)|rat(?:e|ing|ings)|evaluation|verdict|judge?ment|assessment|grades?"
    r"|comparison)\b[^0-9]*"
    r"|(?:sure|ok|okay|certainly|of course|absolutely|alright)?\W*(?:here (?:it is|you go|they are))?\W*)",
    re.IGNORECASE,
)
# names of the two sides in a JSON object, without these words
KEY = re.compile(r"score|rating|assistant|model|response|answer|for|of|[\W_]")
SIDES = {"1": 0, "one": 0, "first": 0, "a": 0, "2": 1, "two": 1, "second": 1, "b": 1}


class Unread(UserError, ValueError):
    """Too many verdicts hold no scores."""


def read_scores(verdict: str) -> tuple[float, float] | None:
    """The two scores of a pair's verdict, in the order shown, 0 to 10; None when it does not state them.

    The prompt asks for a first line with two numbers. Judges that work the question out first give the scores
    later, as a line "Assistant 1: 3/10" for each, as "Scores: 1, 3" or as "the tuple is (1, 3)"; others write
    two lines, or JSON. Other numbers are never scores. Two statements that differ are no statement, but labels
    below a first line as asked for may be about single criteria. 0 is outside the scale asked for, 1 to 10, but
    GPT-4 gives it to empty responses.

    >>> read_scores("9 8.5\\nBoth assistants ...")
    (9.0, 8.5)
    >>> read_scores("On a scale of 1 to 10, I rate both highly.")
    """
    text = _plain(split_thoughts(verdict)[1])
    lines = BOTH.sub("both", text).split("\n")
    stated = {_pair(match) for form in (STATED, *SENTENCES) for match in form.finditer("\n".join(lines))}
    if FIRST.fullmatch(lines[0]):
        stated |= {*map(_pair, filter(None, map(FIRST.fullmatch, lines)))}
    else:
        stated |= {*TUPLE.findall(text), *labelled(text), *_below(lines), *_object(text)}
    scores = {(float(one), float(two)) for one, two in stated}
    return scores.pop() if len(scores) == 1 and max(max(scores)) <= 10 else None


def _plain(verdict: str) -> str:
    """A verdict without what formats it: fences, emphasis, LaTeX, headings, kinds of spaces, empty lines."""
    text = FENCE.sub("", SPECIAL.sub("", verdict))
    for mark, pattern in EMPHASIS.items():
        text = pattern.sub(r"\2", text) if mark in text else text
    text = MATH.sub(" ", LATEX.sub(r"\1", LATEX.sub(r"\1", text)))
    lines = filter(None, (" ".join(line.split()) for line in text.splitlines()))
    return HEADING.sub("", "\n".join(lines))


def _pair(match: re.Match) -> tuple[str, str]:
    one, two = filter(None, match.groups())
    return one, two


def _announces(line: str) -> bool:
    """Whether a line leads to scores below it."""
    return len(line) <= LONGEST_PREAMBLE and PREAMBLE.fullmatch(line) is not None


def _below(lines: list[str]) -> set[tuple[str, str]]:
    """The scores in two lines of their own, or below one line that announces them."""
    if _announces(lines[0]):
        lines = lines[1:]
        if lines and (whole := FIRST.fullmatch(lines[0])):
            return {_pair(whole)}
    numbers = [match[1] if (match := ALONE.fullmatch(line)) else None for line in lines[:3]]
    return (
        {tuple(numbers[:2])} if len(numbers) - numbers.count(None) == 2 and None not in numbers[:2] else set()
    )


def _object(text: str) -> set[tuple[str, str]]:
    """The scores in a JSON object at the beginning, or below one line that announces it."""
    first, _, rest = text.partition("\n")
    text = rest if _announces(first) else text
    try:
        found = json.JSONDecoder().raw_decode(text)[0] if text.startswith(("{", "[{")) else {}
    except (ValueError, RecursionError):  # no JSON, or nested too deep
        return set()
    named = [name for name in ("scores", "ratings") if isinstance(found, dict) and name in found]
    found = found[named[0]] if named else found
    if isinstance(found, list):
        names = [_name(item) if isinstance(item, dict) else n for n, item in zip("12", found, strict=False)]
        found = dict(zip(names, found, strict=True)) if len(found) == 2 else {}
    sides = [set(), set()]
    for key, value in found.items() if isinstance(found, dict) else ():
        value = value.get("score", value.get("rating")) if isinstance(value, dict) else value
        side, number = SIDES.get(KEY.sub("", key.lower())), re.fullmatch(NUMBER, str(value))
        if side is not None:
            sides[side].add(number and number[1])
    one, two = sides
    return {(a, b) for a in one for b in two} if None not in one | two else set()


def _name(item: dict) -> str:
    """The side that an object of a list is about; empty where it does not say."""
    return str(next((item[key] for key in ("assistant", "name", "model", "id") if key in item), ""))


def labelled(verdict: str) -> set[tuple[float, float]]:
    """The scores in labels, such as "Assistant 1: 3/10"; none below a line that announces other numbers."""
    if OTHERS.search(verdict):
        return set()
    given = [{*map(float, out_of_ten.findall(verdict))} for out_of_ten in OUT_OF_TEN]
    if any(len(scores) > 1 for scores in given):
        return set()  # several scores of one side: which of them is its score is not stated
    one, two = (sorted(set(map(float, label.findall(verdict)))) for label in LABELS)
    # two of a kind contradict each other, as all of them would
    return {(a, b) for a in one[:2] for b in two[:2]}


def latest(verdicts: Iterable[dict]) -> dict[str, tuple[float, float]]:
    """(oracle, student) scores by order, from the latest attempt that can be read."""
    found = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict["attempt"] or 0):
        scores = verdict.get("expected") or read_scores(verdict["reply"] or "")
        if scores:
            found[verdict["order"]] = tuple(scores if verdict["order"] == "oracle_first" else scores[::-1])
    return found


def mean_scores(verdicts: Iterable[dict]) -> tuple[float, float] | tuple[None, None]:
    """(oracle_score, student_score), each the mean of both orders; (None, None) unless both orders were read."""
    found = latest(verdicts)
    if not all(order in found for order in ORDERS):
        return None, None
    (oracle_a, student_a), (oracle_b, student_b) = (found[order] for order in ORDERS)
    return (oracle_a + oracle_b) / 2, (student_a + student_b) / 2


def apply(rows: Dataset) -> Dataset:
    """Rows with oracle_score and student_score from their verdicts; a row without verdicts keeps what it has."""
    scores = [
        mean_scores(row["verdicts"]) if row["verdicts"] else (row["oracle_score"], row["student_score"])
        for row in records.iter_rows(rows, "verdicts", "oracle_score", "student_score")
    ]
    return records.update(
        rows, oracle_score=[oracle for oracle, _ in scores], student_score=[student for _, student in scores]
    )


# Counting


def tally(rows: Dataset) -> dict[str, int]:
    """How many verdicts were read, unread, cut and missing, and their total; a verdict is one order of one row.

    cut: unread, and its last attempt ended at the token limit. missing: an order that was not judged, for want of a response
    or of a reply. Each verdict is counted once, attempts together.
    """
    counts = {"read": 0, "unread": 0, "cut": 0, "missing": 0, "total": 0}
    for row in records.iter_rows(rows, "verdicts", "student_score"):
        verdicts = row["verdicts"]
        found = latest(verdicts)
        if not verdicts and row["student_score"] is not None:
            continue  # recorded scores without their verdicts
        last = {verdict["order"]: verdict for verdict in sorted(verdicts, key=lambda v: v["attempt"] or 0)}
        for order in ORDERS:
            told = last.get(order)
            outcome = "cut" if told and told["finish"] == "length" else "unread" if told else "missing"
            counts["read" if order in found else outcome] += 1
            counts["total"] += 1
    return counts


def describe(tally: dict[str, int]) -> str:
    """ "998 of 1,000 verdicts read (1 unread, 1 cut at the token limit)"."""
    lost = [f"{tally['unread']:,} unread"] * bool(tally["unread"])
    lost += [f"{tally['cut']:,} cut at the token limit"] * bool(tally["cut"])
    lost += [f"{tally['missing']:,} missing because there was no response to judge, or no reply"] * bool(
        tally["missing"]
    )
    return f"{tally['read']:,} of {tally['total']:,} verdicts read" + (
        f" ({', '.join(lost)})" if lost else ""
    )


# what to do where most of the verdicts that could not be read are of a kind
WAYS_OUT = {
    "cut": "Most of them met the token limit, perhaps while the judge was thinking. Raise judge_max_tokens, "
    "or ask a judge that thinks less",
    "missing": "Most of them were not given. Raise oracle_max_tokens if responses were cut; if calls failed, "
    "start the same command again",
    "unread": "Most of them state no scores. Read some of the replies, and ask another judge",
}


def check(tally: dict[str, int], max_unread: float = 0.05) -> None:
    """Raises Unread when more than this share of the verdicts, cut and missing ones included, could not be read."""
    share = (tally["total"] - tally["read"]) / max(tally["total"], 1)
    way_out = WAYS_OUT[max(WAYS_OUT, key=lambda kind: tally[kind])]
    if share > max_unread:
        raise Unread(
            f"{share:.1%} of the verdicts could not be read, more than max_unread ({max_unread:.1%}): "
            f"{describe(tally)}. {way_out}; or raise max_unread to go on without them"
        )


# Trust: what the two orders say about the judge


_gaps: WeakKeyDictionary = WeakKeyDictionary()  # by_order of rows: six questions below ask for the same


def _latest(rows: Dataset) -> list[dict[str, tuple[float, float]]]:
    return [latest(row["verdicts"]) for row in records.iter_rows(rows, "verdicts")]


def by_order(rows: Dataset) -> pd.DataFrame:
    """The gap oracle - student in each order (columns oracle_first, student_first), where both were read.

    Index: the row's position.
    """
    if rows in _gaps:
        return _gaps[rows]
    found = _latest(rows)
    both = {i: scores for i, scores in enumerate(found) if all(order in scores for order in ORDERS)}
    gaps = [[scores[order][0] - scores[order][1] for order in ORDERS] for scores in both.values()]
    _gaps[rows] = pd.DataFrame(gaps, index=list(both), columns=list(ORDERS), dtype=float)
    return _gaps[rows]


def averages(rows: Dataset) -> dict[str, tuple[float, float]]:
    """Mean (oracle, student) score by the order shown, over the verdicts read."""
    found = _latest(rows)
    scores = {order: [one[order] for one in found if order in one] for order in ORDERS}
    return {
        order: tuple(sum(side) / len(side) for side in zip(*all, strict=True))
        for order, all in scores.items()
    }


def recorded_averages(rows: Dataset) -> list[float]:
    """The four averages that a recording of pairs (Cherry LLM's `Meta_Info`) states; empty for other rows."""
    about = json.loads(rows[0]["meta"] or "{}").get("Meta_Info", {}) if len(rows) else {}
    return [
        score
        for name in ("average_scores", "average_scores_reverse")
        for score in json.loads(about.get(name, "[]"))
    ]


def order_agreement(rows: Dataset) -> float:
    """Share of pairs, 0 to 1, whose two orders name the same winner; a tie is an outcome of its own."""
    signs = np.sign(by_order(rows))
    return float((signs["oracle_first"] == signs["student_first"]).mean())


def position_edge(rows: Dataset) -> float:
    """Mean score advantage, in points, of whichever response is shown first."""
    gaps = by_order(rows)
    return float((gaps["oracle_first"] - gaps["student_first"]).mean() / 2)


def length_correlation(rows: Dataset, reference: str = "oracle_response") -> float:
    """Spearman correlation, -1 to 1, of oracle - student in score (mean of both orders) and in characters.

    `reference` is the column with the response that the student's was judged against.
    """
    gaps = by_order(rows).mean(axis=1)
    lengths = [
        len(row[reference] or "") - len(row["student_response"] or "")
        for row in records.iter_rows(rows, reference, "student_response")
    ]
    return float(gaps.rank().corr(pd.Series(lengths, dtype=float).loc[gaps.index].rank()))


def hard_set_overlap(rows: Dataset, threshold: float = 2.0) -> float:
    """Jaccard overlap, 0 to 1, of the pairs with a gap >= threshold in one order and in the other; nan if none."""
    hard = by_order(rows) >= threshold
    either = hard.any(axis=1).sum()
    return float(hard.all(axis=1).sum() / either) if either else float("nan")


def noise(rows: Dataset) -> dict[str, float]:
    """What the two orders show of the judge's noise: the embedded judge's `judge_noise`.

    spread: sd, in points, of one score in one order around the mean of many, were the noise of the four scores of
    a pair independent (the gaps of the two orders differ by sd 2 x spread). edge: see position_edge. unread: share.
    """
    gaps, counts = by_order(rows), tally(rows)
    spread = float((gaps["oracle_first"] - gaps["student_first"]).std() / 2)
    unread = (counts["unread"] + counts["cut"]) / max(counts["total"], 1)
    return {"spread": spread, "edge": position_edge(rows), "unread": unread}
