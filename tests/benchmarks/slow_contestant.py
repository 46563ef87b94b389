"""`counting_contestant` with a nap in each update."""

from __future__ import annotations

import time

from tests.benchmarks.counting_contestant import main

if __name__ == "__main__":
    main(lambda: time.sleep(0.05))
