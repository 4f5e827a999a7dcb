"""Look into a ledger, or probe a model: python -m lib.models stats|export|check LEDGER, probe NAME"""

import argparse
import json
import os
import sys

from lib.errors import UserError
from lib.models.ledger import Ledger


def main(words: list[str] | None = None) -> int:
    """Run the command; return 0, or 1 for a ledger or a model that cannot be read or asked."""
    parser = argparse.ArgumentParser(prog="python -m lib.models", description=__doc__)
    parser.add_argument(
        "what",
        choices=["stats", "export", "check", "probe"],
        help="totals, all calls as JSON lines, or integrity; probe: what a model takes, and its entry",
    )
    parser.add_argument("name", metavar="LEDGER|NAME", help="a ledger's file; a model's name, or name@url")
    given = parser.parse_args(words)
    try:
        if given.what == "probe":
            from lib.models.probe import probe  # the SDK takes seconds that a ledger can do without

            print(probe(given.name))
            return 0
        ledger = Ledger(given.name, read_only=True)
        return {"stats": stats, "export": export, "check": check}[given.what](ledger)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # `| head` has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def stats(ledger: Ledger) -> int:
    """Calls, tokens and money by model, purpose and run."""
    line = "{:<28} {:<10} {:<20} {:>9} {:>13} {:>13} {:>11}"
    print(line.format("model", "purpose", "run", "calls", "prompt", "completion", "USD"))
    for *names, calls, prompt, completion, usd in ledger.totals():
        money = "unknown" if usd is None else f"{usd:,.2f}"
        print(line.format(*names, f"{calls:,}", f"{prompt:,}", f"{completion:,}", money))
    if waiting := ledger.under_way():
        print(f"{waiting:,} calls are in batches under way: the command that ordered them collects them")
    return 0


def export(ledger: Ledger) -> int:
    """One JSON object a call, in the order they were made."""
    for call in ledger.rows():
        line = call._asdict() | {"request": json.loads(call.request), "response": json.loads(call.response)}
        print(json.dumps(line, ensure_ascii=False))
    return 0


def check(ledger: Ledger) -> int:
    """Whether the file is whole and every call fits its key."""
    faults = list(ledger.faults())
    print("\n".join(faults) or "whole: every call fits its key")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
