"""Start-up: `audit-kit --help` and friends against the bare imports they stand on, medians of one run.

python -m bench.startup
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

_ROUNDS = 7
_KIT = str(Path(sys.executable).with_name("audit-kit"))
_COMMANDS = {
    'python -c "import click"': [sys.executable, "-c", "import click"],
    "audit-kit --help": [_KIT, "--help"],
    "audit-kit check --help": [_KIT, "check", "--help"],
    'python -c "import duckdb"': [sys.executable, "-c", "import duckdb"],
    "audit-kit checks list": [_KIT, "checks", "list"],
}
_LIMIT_SECONDS = 0.3  # stated for --help


def seconds(command: list[str]) -> float:
    """Median wall time of a few runs, after one that warms the caches."""
    times = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    measured = {name: seconds(command) for name, command in _COMMANDS.items()}
    base = measured['python -c "import click"']
    print(f"{'command':30} {'seconds':>8} {'× import click':>15}")
    for name, taken in measured.items():
        print(f"{name:30} {taken:8.3f} {taken / base:15.2f}")
    print(f"limit for --help: {_LIMIT_SECONDS} s, reached {measured['audit-kit --help']:.3f} s")


if __name__ == "__main__":
    main()
