"""Draw the report of a run, or compare several runs: python -m lib.report RUN [RUN …]

The run `interactive` is what notebooks opened by hand wrote.
"""

import argparse
import sys
from pathlib import Path

from lib import paths
from lib.errors import UserError, for_user
from lib.report import compare, pages, tables
from lib.runner import folders


def main(words: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m lib.report", description=__doc__.split(":")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's name, or its folder")
    try:
        runs = [_folder(name) for name in parser.parse_args(words).runs]
        print(paths.short(compare.write(runs) if len(runs) > 1 else pages.draw(runs[0])))
    except (UserError, OSError) as error:
        print(for_user(error), file=sys.stderr)
        return 1
    return 0


def _folder(name: str) -> Path:
    """Return the folder of a run, by its name in outputs or by its path."""
    for folder in (folders.outputs() / name, Path(name).resolve()):
        if (folder / "summary.json").is_file() or tables.is_by_hand(folder):
            return folder
    runs = sorted(path.parent.name for path in folders.outputs().glob("*/summary.json"))
    raise UserError(f"run={name}: there is no such run. Name one of these: {', '.join(runs) or 'none yet'}.")


if __name__ == "__main__":
    sys.exit(main())
