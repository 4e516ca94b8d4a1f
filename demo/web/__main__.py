"""Start the page: see serve.py."""

from __future__ import annotations

from utils import interrupt

if __name__ == "__main__":
    interrupt.exit_at_once()  # if Ctrl-C is pressed during the imports below

from demo.web.serve import main
from utils import cli

if __name__ == "__main__":
    cli.run(main)
