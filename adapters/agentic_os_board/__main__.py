"""Lets `python -m agentic_os_board` be `agentic-os-board`."""

import sys

from .cli import main

sys.exit(main())
