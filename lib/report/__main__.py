"""The report of a run, or several runs side by side: python -m lib.report RUN [RUN …] [--to FILE]"""

import argparse
import sys
from pathlib import Path

from lib import paths
from lib.errors import UserError, for_user
from lib.report import compare, pages
from lib.runner import folders


def main(words: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description=__doc__.split(":")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's name, or its folder")
    parser.add_argument(
        "--to", type=Path, help="the comparison's file (default: outputs/RUN-against-RUN.html)"
    )
    given = parser.parse_args(words)
    try:
        runs = [_folder(name) for name in given.runs]
        if len(runs) == 1 and given.to:
            raise UserError("--to is for comparisons: a run's own report lies in its folder")
        print(paths.short(pages.draw(runs[0]) if len(runs) == 1 else compare.write(runs, given.to)))
    except (UserError, OSError) as error:
        print(for_user(error), file=sys.stderr)
        return 1
    return 0


def _folder(name: str) -> Path:
    """A run by its name in the outputs folder, or by the path of its folder."""
    for place in (folders.outputs() / name, Path(name).resolve()):
        if (place / "summary.json").is_file():
            return place
    there = sorted(path.parent.name for path in folders.outputs().glob("*/summary.json"))
    raise UserError(f"no run {name}: the runs there are {', '.join(there) or 'none yet'}")


if __name__ == "__main__":
    sys.exit(main())
