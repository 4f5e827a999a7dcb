"""The oracle behind an OpenAI-compatible endpoint: it answers, judges, classifies, expands and refines rows."""

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from datasets import Dataset

from lib import judge, paths, records
from lib.oracle import replies
from lib.oracle.chat import Endpoint, Reply, Request

ATTEMPTS = 2  # a reply that can't be read is asked for once more


@dataclass
class LLMOracle:
    """The embedded oracle's questions, asked of a real model; `judge` may be another endpoint.

    `labels` are the taxonomy's tasks. `failed` counts what got no reply at all, by purpose.
    """

    endpoint: Endpoint
    judge: Endpoint | None = None
    labels: tuple[str, ...] = ()
    temperature: float = 0.0
    max_tokens: int = 1024
    judge_max_tokens: int = 512
    report: Callable[[int, int], None] | None = None
    known: set[str] = field(default_factory=set)
    failed: Counter = field(default_factory=Counter)
    drawn: int = 0  # expansions so far, so that asking once more is another call

    def __post_init__(self):
        self.judge = self.judge or self.endpoint

    def account(self) -> dict[str, float]:
        """What the oracle was asked, as metrics; `failed` got no reply, `cached` were answered by the ledger."""
        each = {id(e): e for e in (self.endpoint, self.judge)}.values()
        total = {name: sum(getattr(e, name) for e in each) for name in ("made", "cached", "failed", "usd")}
        return {"oracle.calls": total.pop("made")} | {
            f"oracle.{name}": value for name, value in total.items()
        }

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where a row lacks one; it stays null where the call failed or the reply is empty."""
        told = rows["oracle_response"][:]
        missing = [i for i, text in enumerate(told) if text is None]
        for i, reply in zip(
            missing, self._ask("answer", [records.messages(rows[i]) for i in missing]), strict=True
        ):
            told[i] = reply.text or None
        return records.update(rows, oracle_response=told)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task of each row that lacks one; null where the oracle names none of the labels, or several."""
        tasks, prompt = rows["task"][:], _template("classify")
        for attempt in range(1, ATTEMPTS + 1):
            missing = [i for i, task in enumerate(tasks) if task is None]
            asked = [prompt(labels=_listed(self.labels), instruction=_asked(rows[i])) for i in missing]
            for i, reply in zip(missing, self._ask("classify", asked, attempt), strict=True):
                tasks[i] = replies.label(reply.text or "", self.labels)
        return records.update(rows, task=tasks)

    def score(self, rows: Dataset) -> Dataset:
        """Judge oracle_response against student_response in both orders, where a row has no verdicts yet."""
        verdicts, prompt = [list(given) for given in rows["verdicts"]], _template("judge")
        open_ = [(i, order) for i, given in enumerate(verdicts) if not given for order in judge.ORDERS]
        for attempt in range(1, ATTEMPTS + 1):
            made = self._ask(
                "judge", [prompt(**_pair(rows[i], order)) for i, order in open_], attempt, self.judge
            )
            for (i, order), reply in zip(open_, made, strict=True):
                told = {"reply": reply.text or "", "finish": reply.finish}
                verdicts[i].append({"order": order, "attempt": attempt} | told)
            unread = zip(open_, made, strict=True)
            open_ = [pair for pair, reply in unread if judge.read_scores(reply.text or "") is None]
        return judge.apply(records.update(rows, verdicts=verdicts))

    def know(self, rows: Dataset) -> None:
        """Remember these instructions: expansion repeats none of them."""
        self.known |= {_asked(row) for row in rows.select_columns(["instruction", "input", "turns"])}

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """A new instruction and its response for each row where the reply is of use; plus the drops by cause."""
        self.drawn += 1
        prompt, parts = _template("expand"), ("task", "instruction", "input")
        asked = [prompt(**{part: row[part] for part in parts}) for row in rows]
        made = self._ask("expand", asked, self.drawn, temperature=1.0)
        children, drops = [], Counter()
        for parent, reply in zip(rows, made, strict=True):
            child, why = self._child(parent, reply)
            drops.update([why] if why else [])
            children += [child] if child else []
        return self._checked(records.build(children), drops)

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
        return child | {"hard": parent["hard"], "meta": json.dumps({"parent_task": parent["task"]})}, ""

    def _checked(self, children: Dataset, drops: Counter) -> tuple[Dataset, Counter]:
        """Children of their parent's task that the oracle can answer."""
        children = self.answer(self.classify(children))
        wanted = [json.loads(meta)["parent_task"] for meta in children["meta"]]
        of_use = []
        for i, (task, parent, told) in enumerate(
            zip(children["task"], wanted, children["oracle_response"], strict=True)
        ):
            why = (
                "another task"
                if task != parent
                else "no response"
                if not told
                else "refusal" * replies.is_refusal(told)
            )
            drops.update([why] if why else [])
            of_use += [] if why else [i]
        return children.select(of_use), drops

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """The rewritten response of each row in the style of its task; None where there is none of use."""
        refined: list[str | None] = [None] * len(rows)
        styled = [
            (i, styles[task]) for i, task in enumerate(rows["task"]) if styles.get(task, "none") != "none"
        ]
        prompts = {style: _template(f"refine_{style}") for _, style in styled}
        asked = [
            prompts[style](conversation=_asked(rows[i]), response=rows[i]["oracle_response"])
            for i, style in styled
        ]
        for (i, _), reply in zip(styled, self._ask("refine", asked), strict=True):
            text = (reply.text or "").strip()
            useless = not text or replies.is_refusal(text) or replies.same(text, rows[i]["oracle_response"])
            refined[i] = None if useless else text
        return refined

    def without_samples(self, meta: str) -> str:
        return meta

    def _ask(
        self,
        purpose: str,
        prompts: list[list[dict]],
        attempt: int = 1,
        of: Endpoint | None = None,
        temperature: float | None = None,
    ) -> list[Reply]:
        limit = self.judge_max_tokens if purpose == "judge" else self.max_tokens
        heat = self.temperature if temperature is None else temperature
        sampling = {"temperature": heat, "max_tokens": limit}
        made = (of or self.endpoint).chat(
            [Request(prompt, purpose, attempt, sampling) for prompt in prompts], self.report
        )
        self.failed[purpose] += sum(reply.text is None for reply in made)
        return made


def _template(name: str) -> Callable[..., list[dict]]:
    """A prompt file, read once: called with its parts it gives the messages to send."""
    text = (paths.ROOT / "params/prompts" / f"{name}.md").read_text(encoding="utf-8").strip()

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
    shown = [row["oracle_response"] or "", row["student_response"] or ""]
    first, second = shown if order == judge.ORDERS[0] else shown[::-1]
    return {"conversation": _asked(row), "first": first, "second": second}
