"""What the suite costs, beside what is usual, as one table: `make bench`; `PYTHONPATH=tests python -m bench oracle answers` measures some.

Each word is a module here whose `measure` gives the lines of the table, in a process of its own. Ends with 1 where a bound is missed.
"""

import sys
import time

from bench import apart, lines

ALL = ("oracle", "ledger", "answers", "training", "runner", "rows")
APART = ("gpu",)  # measured where it is named


def main(words: list[str]) -> int:
    if unknown := set(words) - {*ALL, *APART}:
        print(
            f"no bench is called {', '.join(sorted(unknown))}: there are {', '.join(ALL + APART)}",
            file=sys.stderr,
        )
        return 2
    machine, measured_lines = lines.machine(), []
    for word in words or ALL:
        started = time.perf_counter()
        measured_lines += apart.measured(word)
        print(f"{word}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"{machine}\n\n{lines.table(measured_lines)}")
    return int(any(line["holds"] is not None and not line["holds"] for line in measured_lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
