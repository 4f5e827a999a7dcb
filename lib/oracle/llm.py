"""The oracle behind an OpenAI-compatible endpoint: it answers, judges, classifies, expands and refines rows."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from datasets import Dataset

from lib import judge, paths, records
from lib.oracle import estimate, replies
from lib.oracle.chat import Endpoint, Reply, Request

SAID = ("instruction", "input", "turns")
ATTEMPTS = 2  # a reply that can't be read is asked for once more


@dataclass
class LLMOracle:
    """The embedded oracle's questions, asked of a real model; `judge` may be another endpoint.

    `labels` are the taxonomy's tasks. `failed` counts what got no reply at all, by purpose; `cut` are responses that the
    token limit cut, which are not used.
    """

    endpoint: Endpoint
    judge: Endpoint | None = None
    labels: tuple[str, ...] = ()
    max_tokens: int = 2048
    judge_max_tokens: int = 512
    report: Callable[[int, int], None] = lambda done, total: None
    known: set[str] = field(default_factory=set)
    failed: Counter = field(default_factory=Counter)
    cut: int = 0
    drawn: int = 0  # expansions so far, so that asking once more is another call

    def __post_init__(self):
        self.judge = self.judge or self.endpoint

    def account(self) -> dict[str, float]:
        """What the oracle was asked, as metrics; `failed` got no reply, `cached` were answered by the ledger."""
        each = {id(e): e for e in (self.endpoint, self.judge)}.values()
        total = {name: sum(getattr(e, name) for e in each) for name in ("made", "cached", "failed", "usd")}
        named = {"oracle.calls": total.pop("made"), "oracle.cut_responses": self.cut}
        return named | {f"oracle.{name}": value for name, value in total.items()}

    def describe(self) -> str:
        """The account in one sentence."""
        n = {name.partition(".")[2]: value for name, value in self.account().items()}
        lost = [f"{count:,} got no reply ({purpose})" for purpose, count in self.failed.items() if count]
        lost += [f"{self.cut:,} responses were cut at the token limit and are not used"] if self.cut else []
        asked = (
            f"{n['calls']:,} oracle calls made, {n['cached']:,} answered by the ledger, US$ {n['usd']:,.2f}"
        )
        return "; ".join([asked, *lost]) + "."

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """What so many calls by purpose (answer, classify, judge, expand, refine) about such rows will take, as markdown."""
        prompts = {name: _text(name) for name in ("classify", "judge", "expand")} | {
            "refine": _text("refine_worked")
        }
        prompts["classify"] += _listed(self.labels)
        return estimate.describe(estimate.estimate(self, rows, prompts, calls), self.endpoint)

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where a row lacks one; it stays null where there is no reply, an empty or a cut one."""
        told = rows["oracle_response"][:]
        missing = [i for i, text in enumerate(told) if text is None]
        asked = (records.messages(row) for row in _only(rows, missing, *SAID))
        for i, reply in zip(missing, self._ask("answer", asked, len(missing)), strict=True):
            told[i] = _whole(reply)
        return records.update(rows, oracle_response=told)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task of each row that lacks one; null where the oracle names none of the labels, or several."""
        tasks, prompt, labels = rows["task"][:], _template("classify"), _listed(self.labels)
        for attempt in range(1, ATTEMPTS + 1):
            missing = [i for i, task in enumerate(tasks) if task is None]
            asked = (prompt(labels=labels, instruction=_asked(row)) for row in _only(rows, missing, *SAID))
            for i, reply in zip(missing, self._ask("classify", asked, len(missing), attempt), strict=True):
                tasks[i] = replies.label(reply.text or "", self.labels)
        return records.update(rows, task=tasks)

    def score(self, rows: Dataset) -> Dataset:
        """Judge oracle_response against student_response in both orders, where a row has both and no verdicts yet."""
        verdicts, prompt, both = (
            rows["verdicts"][:],
            _template("judge"),
            ("oracle_response", "student_response"),
        )
        answered = (None not in row.values() for row in records.walk(rows, *both))
        needed = [i for i, has_both in enumerate(answered) if has_both and not verdicts[i]]
        open_ = [(i, order) for i in needed for order in judge.ORDERS]
        for attempt in range(1, ATTEMPTS + 1):
            shown = zip(_only(rows, (i for i, _ in open_), *both, *SAID), open_, strict=True)
            asked = (prompt(**_pair(row, order)) for row, (_, order) in shown)
            made = self._ask("judge", asked, len(open_), attempt, self.judge)
            for (i, order), reply in zip(open_, made, strict=True):
                told = {"order": order, "attempt": attempt, "reply": reply.text or "", "finish": reply.finish}
                verdicts[i] = [*verdicts[i], told]
            unread = (judge.read_scores(reply.text or "") is None for reply in made)
            open_ = [pair for pair, again in zip(open_, unread, strict=True) if again]
        return judge.apply(records.update(rows, verdicts=verdicts))

    def know(self, rows: Dataset) -> None:
        """Remember these instructions: expansion repeats none of them."""
        self.known |= {_asked(row) for row in records.walk(rows, *SAID)}

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """A new instruction and its response for each row where the reply is of use; plus the drops by cause."""
        self.drawn += 1
        prompt, parents = _template("expand"), list(records.walk(rows, "id", "task", "hard", *SAID))
        asked = (prompt(**{part: row[part] for part in ("task", "instruction", "input")}) for row in parents)
        made = self._ask("expand", asked, len(parents), self.drawn, temperature=1.0)
        children, tasks, drops = [], [], Counter()
        for parent, reply in zip(parents, made, strict=True):
            child, why = self._child(parent, reply)
            drops.update([why] if why else [])
            children += [child] if child else []
            tasks += [parent["task"]] if child else []
        return self._checked(records.build(children), tasks, drops)

    def _child(self, parent: dict, reply: Reply) -> tuple[dict | None, str]:
        """The row of an expansion, or why there is none."""
        if reply.text is None:
            return None, "no reply"
        if replies.is_refusal(reply.text):
            return None, "refusal"
        if not (read := replies.new_instruction(reply.text)):
            return None, "unreadable"
        child = {"instruction": read[0], "input": read[1], "source": f"expanded:{parent['id']}"}
        if replies.same(_asked(child), _asked(parent)):
            return None, "copy of its parent"
        if _asked(child) in self.known:
            return None, "duplicate"
        self.known.add(_asked(child))
        return child | {"hard": parent["hard"]}, ""

    def _checked(self, children: Dataset, wanted: list[str], drops: Counter) -> tuple[Dataset, Counter]:
        """Children of the wanted tasks that the oracle can answer."""
        children = self.answer(self.classify(children))
        found = zip(children["task"], wanted, children["oracle_response"], strict=True)
        why = [
            "another task"
            if task != parent
            else "no response"
            if not told
            else "refusal" * replies.is_refusal(told)
            for task, parent, told in found
        ]
        drops.update(filter(None, why))
        return children.select([i for i, cause in enumerate(why) if not cause]), drops

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """The rewritten response of each row in the style of its task; None where there is none of use."""
        refined: list[str | None] = [None] * len(rows)
        styled = [i for i, task in enumerate(rows["task"]) if styles.get(task, "none") != "none"]
        told = list(_only(rows, styled, "task", "oracle_response", *SAID))
        prompts = {style: _template(f"refine_{style}") for style in {styles[row["task"]] for row in told}}
        asked = (
            prompts[styles[row["task"]]](conversation=_asked(row), response=row["oracle_response"])
            for row in told
        )
        for i, row, reply in zip(styled, told, self._ask("refine", asked, len(styled)), strict=True):
            text = (_whole(reply) or "").strip()
            useless = not text or replies.is_refusal(text) or replies.same(text, row["oracle_response"])
            refined[i] = None if useless else text
        return refined

    def without_samples(self, meta: str) -> str:
        return meta

    def _ask(
        self,
        purpose: str,
        prompts: Iterable[list[dict]],
        total: int,
        attempt: int = 1,
        of: Endpoint | None = None,
        temperature: float = 0.0,
    ) -> list[Reply]:
        limit = self.judge_max_tokens if purpose == "judge" else self.max_tokens
        sampling = {"temperature": temperature, "max_tokens": limit}
        requests = (Request(prompt, purpose, attempt, sampling) for prompt in prompts)
        made = (of or self.endpoint).chat(requests, lambda done, _: self.report(done, total))
        self.failed[purpose] += sum(reply.text is None for reply in made)
        self.cut += sum(reply.finish == "length" for reply in made) if purpose in ("answer", "refine") else 0
        return made


def _whole(reply: Reply) -> str | None:
    """A response that ended by itself; one that the token limit cut would teach to stop in the middle."""
    return None if reply.finish == "length" else reply.text or None


def _only(rows: Dataset, positions: Iterable[int], *columns: str) -> Iterator[dict]:
    """The rows at these positions, which rise and may repeat, one by one."""
    walked, at = enumerate(records.walk(rows, *columns)), -1
    for i in positions:
        while at < i:
            at, row = next(walked)
        yield row


def _text(name: str) -> str:
    return (paths.ROOT / "params/prompts" / f"{name}.md").read_text(encoding="utf-8").strip()


def _template(name: str) -> Callable[..., list[dict]]:
    """A prompt file, read once: called with its parts it gives the messages to send."""
    text = _text(name)

    def fill(**parts: str) -> list[dict]:  # in one pass: what is filled in may hold braces of its own
        return [{"role": "user", "content": re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], text)}]

    return fill


def _listed(labels: tuple[str, ...]) -> str:
    return "\n".join(f"- {label}" for label in labels)


def _asked(row: dict) -> str:
    """All that was said to the student: one text, or the turns with their roles."""
    turns = records.messages({"turns": []} | row)
    return (
        turns[0]["content"] if len(turns) == 1 else "\n\n".join(f"{t['role']}: {t['content']}" for t in turns)
    )


def _pair(row: dict, order: str) -> dict[str, str]:
    """What the judge is shown, in one order."""
    shown = row["oracle_response"], row["student_response"]
    first, second = shown if order == judge.ORDERS[0] else shown[::-1]
    return {"conversation": _asked(row), "first": first, "second": second}
