"""The oracle behind an OpenAI-compatible endpoint: it answers, judges, classifies, expands and refines rows."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat

from datasets import Dataset

from lib import prompts, records, show
from lib.corpus import duplicates
from lib.corpus.novelty import NoveltyFilter
from lib.errors import UserError
from lib.models import completions
from lib.models.chat import Endpoint, Reply, Request
from lib.oracle import estimate, expected, replies
from lib.tapir import fitness, judge, ratings

ATTEMPTS = 2  # a reply that can't be read is asked for once more
RESPONSES = 2000  # whole responses held at a time: with their log-probabilities they are long


@dataclass
class LLMOracle:
    """The embedded oracle's questions, asked of a real model; `judge` may be another endpoint.

    `labels` are the taxonomy's tasks. `reasoning` is for models that take no temperature and limit their thinking, too.
    `failed` counts what got no reply at all, by purpose; `cut` are responses that the token limit cut, which are not used.
    `report` is told (done, total, purpose).
    """

    endpoint: Endpoint
    judge: Endpoint | None = None
    labels: tuple[str, ...] = ()
    max_tokens: int = 2048
    judge_max_tokens: int = 512
    reasoning: bool = False
    report: Callable[[int, int, str], None] = lambda done, total, purpose: None
    known: NoveltyFilter = field(default_factory=NoveltyFilter)
    expanded: Counter = field(default_factory=Counter)  # by parent: asking once more is another call
    failed: Counter = field(default_factory=Counter)
    cut: int = 0
    judge_scores: str = "text"  # or expected: by the log-probabilities of the score tokens
    unfit_judge: str = ""  # refuse or warn: what becomes of a judge whose first verdicts are of no use
    warning: str = ""  # about an unfit judge

    def __post_init__(self):
        self.judge = self.judge or self.endpoint

    def account(self) -> dict[str, float | None]:
        """What the stage asked, as metrics: calls it made and their money, whenever it was started; those that the ledger
        answered; those that got no reply."""
        each = self._endpoints()
        both = {f"oracle.{name}": sum(getattr(e, name) for e in each) for name in ("cached", "failed")}
        return self.endpoint.account() | both | {"oracle.cut_responses": self.cut}

    def _endpoints(self) -> Iterable[Endpoint]:
        return {id(endpoint): endpoint for endpoint in (self.endpoint, self.judge)}.values()

    def describe(self) -> str:
        """The account in one sentence."""
        n = {name.partition(".")[2]: value for name, value in self.account().items()}
        lost = [f"{count:,} got no reply ({purpose})" for purpose, count in self.failed.items() if count]
        causes = sum((endpoint.failures for endpoint in self._endpoints()), Counter())
        lost += [f"the most frequent cause ({n:,}): {show.code(cause)}" for cause, n in causes.most_common(1)]
        lost += [f"{self.cut:,} responses were cut at the token limit and are not used"] if self.cut else []
        money = "at an unknown price" if n["usd"] is None else f"USD {n['usd']:,.2f}"
        asked = f"{n['calls']:,} oracle calls made, {n['cached']:,} answered by the ledger, {money}"
        return " ".join(filter(None, ["; ".join([asked, *lost]) + ".", self.warning]))

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """What so many calls by purpose (answer, classify, judge, rate, expand, refine) about such rows will take, as markdown."""
        texts = {name: prompts.text(name) for name in ("classify", "judge", "expand")}
        if self.judge_scores == "expected":
            texts["judge"] = prompts.text("judge_expected")
        texts["rate"] = prompts.text("rate_accuracy")
        texts["refine"] = prompts.text("refine_worked")
        texts["classify"] += prompts.listed(self.labels)
        return estimate.describe(estimate.estimate(self, rows, texts, calls), self.endpoint)

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where a row lacks one; it stays null where there is no reply, an empty or a cut one."""
        told = rows["oracle_response"][:]
        missing = [i for i, text in enumerate(told) if text is None]
        asked = (records.messages(row) for row in _only(rows, missing, *records.PROMPT_COLUMNS))
        for i, reply in zip(missing, self._ask("answer", asked, len(missing)), strict=True):
            told[i] = _whole(reply)
        return records.update(rows, oracle_response=told)

    def classify(self, rows: Dataset) -> Dataset:
        """Add the task of each row that lacks one; null where the oracle names none of the labels, or several."""
        tasks, prompt, labels = rows["task"][:], prompts.template("classify"), prompts.listed(self.labels)
        for attempt in range(1, ATTEMPTS + 1):
            missing = [i for i, task in enumerate(tasks) if task is None]
            asked = (
                prompt(labels=labels, instruction=prompts.conversation(row))
                for row in _only(rows, missing, *records.PROMPT_COLUMNS)
            )
            for i, reply in zip(
                missing, self._ask("classify", asked, len(missing), repeat(attempt)), strict=True
            ):
                tasks[i] = replies.label(reply.text or "", self.labels)
        return records.update(rows, task=tasks)

    def score(self, rows: Dataset) -> Dataset:
        """Judge oracle_response against student_response in both orders, where a row has both and no verdicts yet.

        Where `unfit_judge` is set, the first pairs are judged before all others. Raises UnfitJudge after them for a judge
        whose verdicts cannot be read or do not depend on the responses.
        """
        both = ("oracle_response", "student_response", "verdicts")
        rows_asked = enumerate(records.iter_rows(rows, *both))
        needed = [i for i, row in rows_asked if None not in row.values() and not row["verdicts"]]
        pilot = fitness.PILOT if self.unfit_judge and len(needed) >= fitness.PILOT else 0
        verdicts = rows["verdicts"][:]
        if pilot:
            self._judge(rows, needed[:pilot], verdicts, at_once=True)
            self._check_judge(records.take_rows(records.update(rows, verdicts=verdicts), needed[:pilot]))
        self._judge(rows, needed[pilot:], verdicts)
        return judge.apply(records.update(rows, verdicts=verdicts))

    def _judge(self, rows: Dataset, positions: list[int], verdicts: list, at_once: bool = False) -> None:
        """Add the verdicts on the rows at these positions, an unreadable one and another attempt at it."""
        read = self._expected if self.judge_scores == "expected" else self._stated
        prompt = prompts.template("judge_expected" if self.judge_scores == "expected" else "judge")
        columns = ("oracle_response", "student_response", *records.PROMPT_COLUMNS)
        pending = [(i, order) for i in positions for order in judge.ORDERS]
        for attempt in range(1, ATTEMPTS + 1):
            shown = zip(_only(rows, (i for i, _ in pending), *columns), pending, strict=True)
            messages = (prompt(**_pair(row, order)) for row, (_, order) in shown)
            asked, pending = pending, []
            replies = read(messages, len(asked), attempt, at_once)
            for (i, order), reply in zip(asked, replies, strict=True):
                if reply:
                    verdict = {"order": order, "attempt": attempt, **reply}
                    verdicts[i] = [*verdicts[i], verdict]
                    pending += [] if judge.latest([verdict]) else [(i, order)]

    def _stated(self, messages: Iterable, total: int, attempt: int, at_once: bool) -> list[dict | None]:
        """Ask for verdicts in words; None where a call failed."""
        replies = self._ask("judge", messages, total, repeat(attempt), self.judge, at_once=at_once)
        return [
            None if reply.text is None else {"reply": reply.text, "finish": reply.finish} for reply in replies
        ]

    def _expected(self, messages: Iterable, total: int, attempt: int, at_once: bool) -> list[dict | None]:
        """Ask for two scores and their log-probabilities; None where a call failed."""
        verdicts: list[dict | None] = []
        self.report(0, total, "judge")
        requests = (Request(shown, "judge", attempt, expected.SAMPLING) for shown in messages)
        for part in records.batched(requests, RESPONSES):
            responses = self.judge.responses(part, at_once=at_once)
            self.failed["judge"] += responses.count(None)
            pairs = zip(part, responses, strict=True)
            verdicts += [response and self._expectation(request, response) for request, response in pairs]
            self.report(len(verdicts), total, "judge")
        return verdicts

    def _expectation(self, request: Request, response: dict) -> dict:
        reply = completions.read(response, request.body)
        tokens = (response["choices"][0].get("logprobs") or {}).get("content")
        if not tokens and reply.text:
            raise UserError(
                f"judge_scores=expected: {self.judge.model} at {self.judge.url} gives no log-probabilities. "
                "Set judge_scores=text, or serve the judge with them."
            )
        scores = expected.scores(reply.text, tokens or [])
        return {"reply": reply.text, "finish": reply.finish_reason, "expected": scores and list(scores)}

    def _check_judge(self, rows: Dataset) -> None:
        """Stop, or warn, where the verdicts on the first pairs are of no use."""
        unfit = fitness.check(rows, self.judge.model)
        if unfit and self.unfit_judge == "refuse":
            raise fitness.UnfitJudge(unfit)
        self.warning = unfit

    def rate(self, rows: Dataset, scale: str) -> list[float | None]:
        """The judge's rating of each row and its response on one of `ratings.SCALES`; None where none could be read."""
        rated: list[float | None] = [None] * len(rows)
        prompt = prompts.template(f"rate_{scale}")
        for attempt in range(1, ATTEMPTS + 1):
            missing = [i for i, value in enumerate(rated) if value is None]
            shown = _only(rows, missing, "response", *records.PROMPT_COLUMNS)
            asked = (
                prompt(conversation=prompts.conversation(row), response=row["response"]) for row in shown
            )
            made = self._ask("rate", asked, len(missing), repeat(attempt), self.judge)
            for i, reply in zip(missing, made, strict=True):
                rated[i] = ratings.read(reply.text or "", scale)
        return rated

    def know(self, rows: Dataset, benchmarks: dict[str, list] | None = None) -> None:
        """What expansion may not bring forth: these instructions, anything like them, and the prompts of benchmarks."""
        self.known, self.expanded = NoveltyFilter(benchmarks), Counter()
        self.known.add_rows(rows)

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """A new instruction and its response for each row where the reply is of use; plus the drops by cause."""
        prompt, parents = (
            prompts.template("expand"),
            list(records.iter_rows(rows, "id", "task", "hard", *records.PROMPT_COLUMNS)),
        )
        asked = (
            prompt(
                task=row["task"], instruction=prompts.conversation(row | {"input": ""}), input=row["input"]
            )
            for row in parents
        )
        made = self._ask("expand", asked, len(parents), map(self._once_more, rows["id"]), temperature=1.0)
        children, tasks, drops = [], [], Counter()
        for parent, reply in zip(parents, made, strict=True):
            child, why = self._child(parent, reply)
            drops.update([why] if why else [])
            children += [child] if child else []
            tasks += [parent["task"]] if child else []
        return self._checked(records.build(children), tasks, drops)

    def _once_more(self, parent: str) -> int:
        """How often this parent is expanded, this time included."""
        self.expanded[parent] += 1
        return self.expanded[parent]

    def _child(self, parent: dict, reply: Reply) -> tuple[dict | None, str]:
        """The row of an expansion, or why there is none."""
        if reply.text is None:
            return None, "filtered" if "content_filter" in reply.finish else "no reply"
        if reply.finish == "length":
            return None, "cut"
        if replies.is_refusal(reply.text):
            return None, "refusal"
        if not (read := replies.new_instruction(reply.text)):
            return None, "unreadable"
        child = {"instruction": read[0], "input": read[1], "source": f"expanded:{parent['id']}"}
        if replies.same(prompts.conversation(child), prompts.conversation(parent)):
            return None, "copy of its parent"
        text = duplicates.full_text([], *read)
        if why := self.known.rejection_reason(text):
            return None, why
        self.known.add(text)
        return child | {"hard": parent["hard"]}, ""

    def _checked(self, children: Dataset, wanted: list[str], drops: Counter) -> tuple[Dataset, Counter]:
        """Children of the wanted tasks that the oracle can answer."""
        children = self.answer(self.classify(children))
        found = zip(children["task"], wanted, children["oracle_response"], strict=True)
        why = [_why_not(*one) for one in found]
        drops.update(filter(None, why))
        return children.select([i for i, cause in enumerate(why) if not cause]), drops

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """The rewritten response of each row in the style of its task; None where there is none of use."""
        refined: list[str | None] = [None] * len(rows)
        styled = [i for i, task in enumerate(rows["task"]) if styles.get(task, "none") != "none"]
        told = list(_only(rows, styled, "task", "oracle_response", *records.PROMPT_COLUMNS))
        fill = {style: prompts.template(f"refine_{style}") for style in {styles[row["task"]] for row in told}}
        asked = (
            fill[styles[row["task"]]](conversation=prompts.conversation(row), response=row["oracle_response"])
            for row in told
        )
        for i, row, reply in zip(styled, told, self._ask("refine", asked, len(styled)), strict=True):
            text = _whole(reply)
            useless = not text or replies.is_refusal(text) or replies.same(text, row["oracle_response"])
            refined[i] = None if useless else text
        return refined

    def without_samples(self, meta: str) -> str:
        return meta

    def _ask(
        self,
        purpose: str,
        asked: Iterable[list[dict]],
        total: int,
        attempts: Iterable[int] = repeat(1),
        of: Endpoint | None = None,
        temperature: float = 0.0,
        at_once: bool = False,
    ) -> list[Reply]:
        if not total:
            return []
        of, limit = (
            of or self.endpoint,
            self.judge_max_tokens if purpose in estimate.JUDGED else self.max_tokens,
        )
        sampling = {"temperature": temperature, "max_tokens": limit}
        if self.reasoning and of is self.endpoint:
            sampling = {"max_completion_tokens": limit}
        requests = (Request(prompt, purpose, n, sampling) for prompt, n in zip(asked, attempts, strict=False))
        self.report(0, total, purpose)
        made = of.chat(requests, lambda done: self.report(done, total, purpose), at_once)
        self.failed[purpose] += sum(reply.text is None for reply in made)
        self.cut += sum(reply.finish == "length" for reply in made) if purpose in ("answer", "refine") else 0
        return made


def _why_not(task: str | None, wanted: str, response: str | None) -> str:
    """What speaks against a new row; empty for nothing."""
    if task != wanted:
        return "another task"
    if not response:
        return "no response"
    return "refusal" if replies.is_refusal(response) else ""


def _whole(reply: Reply) -> str | None:
    """A response that ended by itself: one that was cut would teach to stop in the middle."""
    return (reply.text or "").strip() or None if reply.finish == "stop" else None


def _only(rows: Dataset, positions: Iterable[int], *columns: str) -> Iterator[dict]:
    """The rows at these positions, which rise and may repeat, one by one."""
    walked, at = enumerate(records.iter_rows(rows, *columns)), -1
    for i in positions:
        while at < i:
            at, row = next(walked)
        yield row


def _pair(row: dict, order: str) -> dict[str, str]:
    """What the judge is shown, in one order."""
    shown = row["oracle_response"], row["student_response"]
    first, second = shown if order == judge.ORDERS[0] else shown[::-1]
    return {"conversation": prompts.conversation(row), "first": first, "second": second}
