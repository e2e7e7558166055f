"""Runs benchmarks and prints what each found, as Markdown.

python benchmarks/run.py            # all of them
python benchmarks/run.py serving    # those named
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from pathlib import Path

from common import Skipped, markdown

HERE = Path(__file__).parent
KNOWN = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("run", "common"))


def main(names: list[str]) -> int:
    """Exit status 0, or 2 for a name that is no benchmark; one that cannot run here says so and is no failure."""
    unknown = [name for name in names if name not in KNOWN]
    if unknown:
        print(f"Benchmark {unknown[0]!r} is not known. There are: {', '.join(KNOWN)}.", file=sys.stderr)
        return 2
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores. Times compare only within one run.")
    for name in names or KNOWN:
        print(f"\n## {name}", flush=True)
        try:
            found = importlib.import_module(name).measure()
        except Skipped as reason:
            print(f"\nSKIPPED: {reason}", flush=True)
            continue
        print(f"\n{found.title}\n\n{markdown(found.frame)}\n", flush=True)
        for sentence in found.says:
            print(f"- {sentence}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
