"""Read a judge's replies: the scores of a pair, the rating of a row; count them."""

import json
import re
from collections.abc import Iterable

from datasets import Dataset

from lib import prompts, records
from lib.errors import UserError
from lib.models.types import json_format
from lib.text import split_thoughts

ORDERS = ("oracle_first", "student_first")
# of a judge that can be asked for JSON
JSON_SCORES = json_format(assistant_1="number", assistant_2="number", reasons="string")

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
FIRST = re.compile(rf"^[*\"' ]*+(?:{HEAD})?{PAIR}[*\"' ]*+{TAIL}$", re.IGNORECASE | re.MULTILINE)
TWO_LINES = re.compile(rf"\A{NUMBER}\.?\n{NUMBER}\.?(?:\n(?!{NUMBER}\.?$)|\Z)", re.MULTILINE)
STATED = [
    # "Final scores: 9 8.5"
    re.compile(rf"^{HEAD}{PAIR}{TAIL}$", re.IGNORECASE | re.MULTILINE),
    # "the scores are (1, 5) for both", "the scores for both are 1 and 5": not those of a match asked about
    re.compile(rf"(?:scores|ratings) (?:are|would be) {PAIR} for both"),
    re.compile(rf"(?:scores|ratings) (?:for|of) both (?:are|would be) {PAIR}(?![\w%])"),
]
TUPLE = re.compile(rf"\btuple\b(?:(?!\btuple\b)[^()\n])*+\({NUMBER}, *{NUMBER}\)")  # "The tuple is (10, 1)"
# "Assistant 1: 3/10 - A", "Assistant 1's score: 3", '"assistant_1": 3,'; not "Assistant 1: 3 errors", "3,5"
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
# a line of at most 200 characters above the scores, which announces no numbers of the question
PREAMBLE = re.compile(
    r"(?=.{0,200}\Z)"
    r"(?!.*\b(?:inputs?|outputs?|samples?|examples?|points?|coordinates?|cases?|array|list|questions?)\b)"
    r"(?:[^0-9]*\b(?:scor(?:e|es|ing)|rat(?:e|ing|ings)|evaluation|verdict|judge?ment|assessment|grades?"
    r"|comparison)\b[^0-9]*"
    r"|(?:sure|ok|okay|certainly|of course|absolutely|alright)?\W*(?:here (?:it is|you go|they are))?\W*)",
    re.IGNORECASE,
)
# a key of a JSON object names a side by what is left without these words
WORDS = re.compile(r"score|rating|assistant|model|response|answer|for|of|[\W_]")
SIDES = {"1": 0, "one": 0, "first": 0, "a": 0, "2": 1, "two": 1, "second": 1, "b": 1}

SCALES = {
    "accuracy": (0.0, 5.0),  # of the response (AlpaGasus)
    "complexity": (1.0, 6.0),  # of the instruction (Deita)
    "quality": (1.0, 6.0),  # of the response (Deita)
}
# what comes behind does not continue the number ("4-5", "4,5")
RATING = re.compile(
    r"[* ]*+(?:(?:[a-z]++ )?(?:score|rating))?[ :*]*+([0-9]+(?:\.[0-9]+)?)"
    r"(?: ?\(?(?:/|out of) ?([0-9]+)\)?)?[ .*]*"
    r"(?:;.*|\((?! *(?:(?:out )?of +[0-9]|/)).*|[-–,](?! *[0-9]).*)?",
    re.IGNORECASE,
)
MAX_UNREAD = 0.05  # share of verdicts or ratings: with more, what is left is chosen by what could be read
# verdicts without scores: how the tally names them, and what to do where most are of that kind
CAUSES = {
    "unread": ("unread", "Most state no scores: read some of the replies and ask another judge"),
    "cut": ("cut at the token limit", "Give it an entry in params/models.yaml, extra: {max_tokens: …}"),
    "missing": (
        "missing because there was no response to judge, or no reply",
        "Raise oracle_max_tokens if responses were cut, start the same command again if calls failed",
    ),
}


def pair(row: dict, a: str, b: str, order: str) -> dict[str, str]:
    """Return the parts of the judge's prompt about columns `a` and `b` in one order."""
    first, second = (row[a], row[b]) if order == ORDERS[0] else (row[b], row[a])
    return {"conversation": prompts.conversation(row), "first": first, "second": second}


def read_scores(verdict: str) -> tuple[float, float] | None:
    """Return the two scores of a verdict in the order shown, 0 to 10; None for none.

    The prompt asks for a first line with two numbers. Judges that work the question out first state the
    scores later: "Assistant 1: 3/10" in a line for each, "Scores: 1, 3", "the tuple is (1, 3)"; others write
    two lines, or JSON. Other numbers are never scores. Two statements that differ are none, but labels below
    a first line as asked for may be about single criteria. 0 is what GPT-4 gives to empty responses.

    >>> read_scores("9 8.5\\nBoth assistants ...")
    (9.0, 8.5)
    >>> read_scores("On a scale of 1 to 10, I rate both highly.")
    """
    text = _plain(split_thoughts(verdict)[1])
    both = BOTH.sub("both", text)
    first, _, rest = both.partition("\n")
    body = rest if PREAMBLE.fullmatch(first) else both
    as_asked = FIRST.match(body)
    forms = [*STATED, FIRST if as_asked else TWO_LINES]
    stated = {tuple(filter(None, match.groups())) for form in forms for match in form.finditer(body)}
    if not as_asked:
        stated |= {*TUPLE.findall(text), *_labelled(text), *_object(body)}
    scores = {(float(a), float(b)) for a, b in stated}
    return scores.pop() if len(scores) == 1 and max(max(scores)) <= 10 else None


def _plain(verdict: str) -> str:
    """Strip fences, emphasis, LaTeX, headings, empty lines and repeated spaces."""
    text = FENCE.sub("", SPECIAL.sub("", verdict))
    for mark, pattern in EMPHASIS.items():
        text = pattern.sub(r"\2", text) if mark in text else text
    text = MATH.sub(" ", LATEX.sub(r"\1", LATEX.sub(r"\1", text)))
    lines = filter(None, (" ".join(line.split()) for line in text.splitlines()))
    return HEADING.sub("", "\n".join(lines))


def _object(text: str) -> set[tuple[str, str]]:
    """Return the scores in the JSON object that a text begins with."""
    try:
        stated = json.JSONDecoder().raw_decode(text)[0] if text.startswith(("{", "[{")) else {}
    except (ValueError, RecursionError):  # not JSON, or nested too deep
        return set()
    if isinstance(stated, dict):
        stated = stated.get("scores", stated.get("ratings", stated))
    if isinstance(stated, list):  # of two numbers, or of two objects that name their sides
        stated = {_side(item, n): item for n, item in zip("12", stated, strict=False) if len(stated) == 2}
    sides = [set(), set()]
    for key, value in stated.items() if isinstance(stated, dict) else ():
        value = value.get("score", value.get("rating")) if isinstance(value, dict) else value
        side, number = SIDES.get(WORDS.sub("", key.lower())), re.fullmatch(NUMBER, str(value))
        if side is not None:
            sides[side].add(number and number[1])
    first, second = sides
    return {(a, b) for a in first for b in second} if None not in first | second else set()


def _side(item: object, position: str) -> str:
    """Return the side that a list's item names; its position where it names none."""
    if not isinstance(item, dict):
        return position
    return str(next((item[key] for key in ("assistant", "name", "model", "id") if key in item), ""))


def _labelled(text: str) -> set[tuple[float, float]]:
    """Return the scores in labels, such as "Assistant 1: 3/10"."""
    out_of_ten = [{*map(float, pattern.findall(text))} for pattern in OUT_OF_TEN]
    if OTHERS.search(text) or any(len(scores) > 1 for scores in out_of_ten):
        return set()  # several scores of one side: which of them counts is not stated
    first, second = (sorted({*map(float, pattern.findall(text))}) for pattern in LABELS)
    # two of a side contradict each other, as all would
    return {(a, b) for a in first[:2] for b in second[:2]}


def read_rating(reply: str, scale: str) -> float | None:
    """Return the rating in a reply's first line on one of SCALES; None for none.

    >>> read_rating("Score: 4.5/5 - it is right but for a name.", "accuracy")
    4.5
    >>> read_rating("I rate it between 4 and 5.", "accuracy")
    """
    low, high = SCALES[scale]
    stated = RATING.fullmatch(reply.strip().partition("\n")[0].strip())
    if not stated or float(stated[2] or high) != high:
        return None
    return float(stated[1]) if low <= float(stated[1]) <= high else None


def latest(verdicts: Iterable[dict]) -> dict[str, tuple[float, float]]:
    """Return (oracle, student) scores by order, from the latest readable attempt."""
    by_order = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict["attempt"] or 0):
        by_probability = verdict.get("expected")  # an empty list where these gave none
        scores = read_scores(verdict["reply"] or "") if by_probability is None else by_probability
        if scores:
            by_order[verdict["order"]] = tuple(scores if verdict["order"] == ORDERS[0] else scores[::-1])
    return by_order


def mean_scores(verdicts: Iterable[dict]) -> tuple[float, float] | tuple[None, None]:
    """Return (oracle_score, student_score), means of both orders; None unless read."""
    by_order = latest(verdicts)
    if not by_order.keys() >= set(ORDERS):
        return None, None
    (oracle_a, student_a), (oracle_b, student_b) = (by_order[order] for order in ORDERS)
    return (oracle_a + oracle_b) / 2, (student_a + student_b) / 2


def apply(rows: Dataset) -> Dataset:
    """Add both scores from the verdicts; a row without verdicts keeps its scores."""
    scores = [
        mean_scores(row["verdicts"]) if row["verdicts"] else (row["oracle_score"], row["student_score"])
        for row in records.iter_rows(rows, "verdicts", "oracle_score", "student_score")
    ]
    oracle, student = zip(*scores, strict=True) if scores else ((), ())
    return records.update(rows, oracle_score=oracle, student_score=student)


def tally(rows: Dataset) -> dict[str, int]:
    """Count verdicts, one per order and row, as read, unread, cut, missing and total.

    cut: unread, and its last attempt ended at the token limit. missing: no response to judge, or no reply.
    """
    counts = {"read": 0, "unread": 0, "cut": 0, "missing": 0, "total": 0}
    for row in records.iter_rows(rows, "verdicts"):
        scores = latest(row["verdicts"])
        finish = {verdict["order"]: verdict["finish"] for verdict in row["verdicts"]}  # of the last attempt
        for order in ORDERS:
            lost = "missing" if order not in finish else "cut" if finish[order] == "length" else "unread"
            counts["read" if order in scores else lost] += 1
            counts["total"] += 1
    return counts


def describe(tally: dict[str, int]) -> str:
    """Return the tally as "998 of 1,000 verdicts read (2 unread)"."""
    lost = ", ".join(f"{tally[name]:,} {words}" for name, (words, _) in CAUSES.items() if tally[name])
    return f"{tally['read']:,} of {tally['total']:,} verdicts read" + (f" ({lost})" if lost else "")


def check(tally: dict[str, int], unfit_judge: str = "refuse", remedies: dict[str, str] | None = None) -> None:
    """Raise UserError above MAX_UNREAD unless `unfit_judge` is warn; `remedies` by cause: of a benchmark."""
    share = (tally["total"] - tally["read"]) / max(tally["total"], 1)
    if share > MAX_UNREAD and unfit_judge != "warn":
        remedies = {cause: remedy for cause, (_, remedy) in CAUSES.items()} | (remedies or {})
        remedy = remedies[max(CAUSES, key=tally.__getitem__)]
        raise UserError(
            f"{share:.1%} of the verdicts could not be read ({describe(tally)}), more than {MAX_UNREAD:.0%}. "
            f"{remedy}; unfit_judge=warn goes on without them."
        )
