"""``make torture``: the long form of every test that tries to break a promise, and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

TESTS = ("tests/torture", "tests/contract", "tests/unit/test_record_kill.py")
CHOSEN = "torture or spoiled or bodies_without or record_kill"
TIMEOUT_S = 7200
"""Of one test: what takes seconds in its short form may take many minutes here."""


def main() -> int:
    """Run pytest with the given further arguments, then print what was done."""
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", f"--timeout={TIMEOUT_S}", *TESTS, "-k", CHOSEN]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        code = subprocess.run(
            [*command, *sys.argv[1:]],
            env={**os.environ, "RUNNER_TORTURE": str(ledger)},
            check=False,
        ).returncode
        sums: Counter[str] = Counter()
        for line in ledger.read_text().splitlines() if ledger.exists() else ():
            sums.update(json.loads(line))
    print(f"\n{'what was done':<32}{'times':>12}")
    for what, number in sorted(sums.items()):
        print(f"{what:<32}{number:>12,}")
    lost = "0" if code == 0 else "see the failures above"
    print(f"{'losses':<32}{lost:>12}")
    print(f"{time.monotonic() - started:,.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
