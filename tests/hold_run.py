"""Trains in a run's folder as far as other processes can see: `python -m tests.hold_run FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from utils.training.run_folder import Run

if __name__ == "__main__":
    Run(Path(sys.argv[1])).lock()
    print(1, flush=True)
    time.sleep(99)
