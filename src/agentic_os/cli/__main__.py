"""`python -m agentic_os.cli` is `agentic-os`."""

import sys

from agentic_os.cli import main

sys.exit(main())
