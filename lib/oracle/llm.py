"""A strong model answers, judges, labels, rates, expands and refines rows."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

from datasets import Dataset

from lib import prompts, records, show
from lib.corpus.novelty import NoveltyFilter
from lib.errors import UserError
from lib.models.backend import Backend
from lib.models.types import Completion, SamplingParams
from lib.oracle import estimate, expected, replies
from lib.tapir import fitness, judge

ATTEMPTS = 2  # a reply that cannot be read is requested once more
CHUNK = 2000  # verdicts held at a time: with their log-probabilities they are long
# by judge_scores
JUDGE_PROMPTS = {"text": "judge", "expected": "judge_expected", "preference": "judge_preference"}
# prompts that the tokens of a call are estimated by
TYPICAL = {"classify": "classify", "expand": "expand", "rate": "rate_accuracy", "refine": "refine_worked"}
COLUMNS = ("task", "response", "oracle_response", *records.PROMPT_COLUMNS)  # that prompts are filled with


@dataclass
class LLMOracle:
    """Ask a strong model, wherever it is; `judge` may be another one.

    `labels` are the taxonomy's tasks. `failed` counts calls without a reply by purpose, `cut` responses that
    the token limit cut. `report` gets (done, total, purpose).
    """

    backend: Backend
    judge: Backend | None = None
    labels: tuple[str, ...] = ()
    max_tokens: int = 2048
    judge_max_tokens: int = 512  # of a verdict or rating; extra: {max_tokens: …} of its entry wins
    report: Callable[[int, int, str], None] = lambda done, total, purpose: None
    novelty: NoveltyFilter = field(default_factory=NoveltyFilter)  # what expansion may not repeat
    expanded: Counter = field(default_factory=Counter)  # by parent: another expansion is another call
    dropped: dict[str, dict] = field(default_factory=dict)  # by cause the first new row that was dropped
    failed: Counter = field(default_factory=Counter)
    cut: int = 0
    judge_scores: str = "text"  # one of JUDGE_PROMPTS
    unfit_judge: str = ""  # refuse or warn where the first verdicts do not depend on the responses
    warning: str = ""  # about an unfit judge

    def __post_init__(self):
        self.judge = self.judge or self.backend

    def account(self) -> dict[str, float | None]:
        """Count calls, their money, replies from the ledger and calls without a reply."""
        accounts = [each.account() for each in self._backends()]
        counts = {name: sum(each[name] for each in accounts) for name in ("oracle.cached", "oracle.failed")}
        return accounts[0] | counts | {"oracle.cut_responses": self.cut}

    def _backends(self) -> list[Backend]:
        """List the models that are asked, one with a ledger first: it counts the calls of both."""
        both = [self.backend] if self.judge is self.backend else [self.backend, self.judge]
        return sorted(both, key=lambda backend: backend.ledger is None)

    def describe(self) -> str:
        """Return the account as one sentence."""
        account = {name.partition(".")[2]: value for name, value in self.account().items()}
        money = "at an unknown price" if account["usd"] is None else f"USD {account['usd']:,.2f}"
        calls, cached = account["calls"], account["cached"]
        parts = [f"{calls:,} oracle calls made, {cached:,} answered by the ledger, {money}"]
        parts += [f"{count:,} got no reply ({purpose})" for purpose, count in self.failed.items() if count]
        causes = sum((each.failures for each in self._backends()), Counter())
        parts += [
            f"the most frequent cause ({n:,}): {show.code(cause)}" for cause, n in causes.most_common(1)
        ]
        if self.cut:
            limit = f"oracle_max_tokens={self.max_tokens}"
            parts.append(f"{self.cut:,} responses were cut at {limit} and are not used: raise it")
        return f"{'; '.join(parts)}. {self.warning}".strip()

    def estimate(self, rows: Dataset, **calls: int) -> str:
        """Estimate so many calls by purpose (answer, judge, rate, …), as markdown."""
        texts = {purpose: prompts.text(name) for purpose, name in TYPICAL.items()}
        texts["judge"] = prompts.text(JUDGE_PROMPTS[self.judge_scores])
        texts["classify"] += prompts.listed(self.labels)
        first = self._backends()[0]
        return estimate.describe(estimate.estimate(self, rows, texts, calls), first) if first.ledger else ""

    def answer(self, rows: Dataset) -> Dataset:
        """Add oracle_response where it is null; no, empty or cut replies leave it null."""
        responses = self._fill("answer", rows["oracle_response"][:], rows, records.messages)
        return records.update(rows, oracle_response=responses)

    def classify(self, rows: Dataset) -> Dataset:
        """Add each missing task; null where the reply names no label, or several."""
        chat = partial(prompts.fill, prompts.template("classify"), labels=prompts.listed(self.labels))
        read = partial(replies.label, labels=self.labels)
        return records.update(rows, task=self._fill("classify", rows["task"][:], rows, chat, read))

    def rate(self, rows: Dataset, scale: str) -> list[float | None]:
        """Rate each row's response on one of `judge.SCALES`; None where it is unread."""
        chat = partial(prompts.fill, prompts.template(f"rate_{scale}"))
        return self._fill("rate", [None] * len(rows), rows, chat, partial(judge.read_rating, scale=scale))

    def refine(self, rows: Dataset, styles: dict[str, str]) -> list[str | None]:
        """Rewrite responses in their tasks' styles; None for no style, refusals, copies."""
        styles = {task: style for task, style in styles.items() if style != "none"}
        templates = {task: prompts.template(f"refine_{style}") for task, style in styles.items()}
        texts: list[str | None] = [None if task in templates else "" for task in rows["task"]]

        def chat(row: dict) -> list[dict]:
            return prompts.fill(templates[row["task"]], row, "oracle_response")

        self._fill("refine", texts, rows, chat)
        for i, first in enumerate(rows["oracle_response"]):
            if not texts[i] or replies.is_refusal(texts[i]) or replies.same(texts[i], first):
                texts[i] = None
        return texts

    def _fill(
        self, purpose: str, values: list, rows: Dataset, chat: Callable, read: Callable | None = None
    ) -> list:
        """Replace each None in `values` by what `read` finds in its reply; without it by the whole reply."""
        for attempt in range(1, ATTEMPTS + 1 if read else 2):
            missing = [i for i, value in enumerate(values) if value is None]
            chats = map(chat, records.iter_rows(rows.select(missing), *COLUMNS))
            answers = self._ask(purpose, chats, len(missing), repeat(attempt))
            for i, reply in zip(missing, answers, strict=True):
                values[i] = read(reply.text) if read else reply.whole_text
        return values

    def score(self, rows: Dataset, reference: str = "oracle_response") -> Dataset:
        """Compare column `reference` with student_response where verdicts are missing.

        Where `unfit_judge` is set, the first pairs are judged before all others. Raises UserError after them
        for a judge whose verdicts cannot be read or do not depend on the responses.
        """
        columns, verdicts = (reference, "student_response"), rows["verdicts"][:]
        pairs = enumerate(records.iter_rows(rows, *columns))
        needed = [i for i, pair in pairs if None not in pair.values() and not verdicts[i]]
        pilot = fitness.PILOT if self.unfit_judge and len(needed) >= fitness.PILOT else 0
        for part in filter(None, (needed[:pilot], needed[pilot:])):
            is_pilot = part == needed[:pilot]
            fresh = self.compare(rows.select(part), *columns, at_once=is_pilot)
            for i, row_verdicts in zip(part, fresh, strict=True):
                verdicts[i] = row_verdicts
            if is_pilot:
                judged = records.update(rows.select(part), verdicts=fresh)
                self.warning = fitness.check(judged, self.judge.name)
                if self.warning and self.unfit_judge == "refuse":
                    raise UserError(self.warning)
        return judge.apply(records.update(rows, verdicts=verdicts))

    def compare(self, rows: Dataset, a: str, b: str, at_once: bool = False) -> list[list[dict]]:
        """Judge columns `a` and `b` in both orders; no verdicts where either is null.

        The order oracle_first shows `a` first. A verdict that cannot be read is requested once more.
        """
        prompt, verdicts = prompts.template(JUDGE_PROMPTS[self.judge_scores]), [[] for _ in range(len(rows))]
        complete = [i for i, row in enumerate(records.iter_rows(rows, a, b)) if None not in row.values()]
        pending = [(i, order) for i in complete for order in judge.ORDERS]
        for attempt in range(1, ATTEMPTS + 1):
            shown = records.iter_rows(rows.select([i for i, _ in pending]), a, b, *records.PROMPT_COLUMNS)
            orders = (order for _, order in pending)
            chats = (prompt(**judge.pair(row, a, b, order)) for row, order in zip(shown, orders, strict=True))
            answers = self._verdicts(chats, len(pending), attempt, at_once)
            unread = []
            for (i, order), answer in zip(pending, answers, strict=True):
                if answer:
                    verdicts[i].append({"order": order, "attempt": attempt, **answer})
                    unread += [] if judge.latest(verdicts[i][-1:]) else [(i, order)]
            pending = unread
        return verdicts

    def _verdicts(self, chats: Iterable, total: int, attempt: int, at_once: bool) -> list[dict | None]:
        """Ask for verdicts, in words or with log-probabilities; None for a failed call."""
        by_probability, verdicts = expected.BY_PROBABILITY.get(self.judge_scores), []
        for part in records.batched(chats, CHUNK) if by_probability else [chats]:
            for reply in self._ask("judge", part, total, repeat(attempt), at_once, len(verdicts)):
                verdict = {"reply": reply.text, "finish": reply.finish_reason}
                if by_probability and not reply.failed:
                    verdict["expected"] = by_probability[0](reply, self.judge.name) or []
                verdicts.append(None if reply.failed else verdict)
        return verdicts

    def know(self, rows: Dataset, benchmarks: dict[str, list] | None = None) -> None:
        """Let expansion repeat none of these instructions and no prompt of a benchmark."""
        self.novelty, self.expanded, self.dropped = NoveltyFilter(benchmarks), Counter(), {}
        self.novelty.add_rows(rows)

    def expand(self, rows: Dataset) -> tuple[Dataset, Counter]:
        """Expand each parent to a new, answered row; count the dropped ones by cause."""
        prompt, attempts = prompts.template("expand"), []
        parents = rows.select_columns(["id", "task", "hard", *records.PROMPT_COLUMNS])
        for parent in rows["id"]:
            self.expanded[parent] += 1
            attempts.append(self.expanded[parent])
        answers = self._ask("expand", map(partial(prompts.expansion, prompt), parents), len(rows), attempts)
        children, tasks, drops = [], [], Counter()
        for parent, reply in zip(parents, answers, strict=True):
            child = replies.child(parent, reply, self.novelty)
            if isinstance(child, str):
                drops[child] += 1
                self.dropped.setdefault(child, {"instruction": reply.text})
            else:
                children.append(child)
                tasks.append(parent["task"])
        answered = self.answer(self.classify(records.build(children)))
        causes = list(map(replies.reason_to_drop, answered["task"], tasks, answered["oracle_response"]))
        for cause, instruction in zip(causes, answered["instruction"], strict=True):
            if cause:
                drops[cause] += 1
                self.dropped.setdefault(cause, {"instruction": instruction})
        return answered.select([i for i, cause in enumerate(causes) if not cause]), drops

    def _ask(
        self,
        purpose: str,
        chats: Iterable,
        total: int,
        attempts: Iterable[int],
        at_once: bool = False,
        before: int = 0,
    ) -> list[Completion]:
        """Ask the model that the purpose belongs to, and count what failed or was cut.

        `before` of the `total` chats were asked earlier.
        """
        if not total:
            return []
        backend = self.judge if purpose in estimate.JUDGED else self.backend
        self.report(before, total, purpose)
        answers = backend.generate(
            chats,
            self._params(purpose, backend),
            lambda done, _: self.report(before + done, total, purpose),
            purpose=purpose,
            attempts=attempts,
            at_once=at_once,
        )
        replies = [reply for (reply,) in answers]
        self.failed[purpose] += sum(reply.failed for reply in replies)
        if purpose in ("answer", "refine"):
            self.cut += sum(reply.finish_reason == "length" for reply in replies)
        return replies

    def _params(self, purpose: str, backend: Backend) -> SamplingParams:
        if purpose == "judge" and self.judge_scores in expected.BY_PROBABILITY:
            return expected.BY_PROBABILITY[self.judge_scores][1]
        is_json = purpose == "judge" and backend.ledger is not None and backend.model.json
        return SamplingParams(
            temperature=1.0 if purpose == "expand" else 0.0,
            max_tokens=self.judge_max_tokens if purpose in estimate.JUDGED else self.max_tokens,
            seed=max(self.expanded.values(), default=0),  # another expansion is another draw
            extra_args={"response_format": judge.JSON_SCORES} if is_json else {},
        )
