"""`agentic-os policy`: what may be asked of a policy."""

import argparse

from agentic_os.cli import simulate


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register `policy` and its verbs."""
    policy = commands.add_parser("policy", help="try a policy", description=__doc__)
    verbs = policy.add_subparsers(metavar="VERB", required=True, title="verbs")
    simulate.add_verb(verbs)
