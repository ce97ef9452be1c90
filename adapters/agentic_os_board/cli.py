"""The command line: `agentic-os-board serve`, and the administration of accounts, agents and routines."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import httpx

from .cli_routines import add_routine_verbs, show_routine
from .client import error_from
from .command_failed import CommandFailed

_CREDENTIAL = "AGENTIC_OS_CREDENTIAL_FILE"
_TIMEOUT_SECONDS = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 refused or failed, 2 wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Whatever follows "--" is the agent's command, with options of its own.
    command = given[given.index("--") + 1 :] if "--" in given else []
    options = _parser().parse_args(given[: given.index("--")] if "--" in given else given)
    if options.verb == "serve":
        from .server.serve import main as serve  # noqa: PLC0415 - the other verbs need no server's libraries

        return serve(sys.stdin.buffer)
    try:
        with _connect(options) as board:
            answer = options.act(board, options, command)
    except CommandFailed as error:
        print(f"agentic-os-board: {error}", file=sys.stderr)
        return 1
    _show(answer, as_json=options.json)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentic-os-board", description="The built-in issue tracker.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("serve", help="run the server; its configuration is one JSON line on standard input")

    agent = verbs.add_parser("agent", help="agents and how they are woken")
    agent_verbs = agent.add_subparsers(dest="agent_verb", required=True)
    add = agent_verbs.add_parser("add", help="add an agent: agent add NAME --workspace DIR -- COMMAND...")
    _add_agent_options(add)
    listing = agent_verbs.add_parser("list", help="list the agents and their last runs")
    _add_connection_options(listing, _list_agents)

    account = verbs.add_parser("account", help="accounts of people")
    account_verbs = account.add_subparsers(dest="account_verb", required=True)
    person = account_verbs.add_parser("add", help="add a person")
    person.add_argument("name")
    person.add_argument("--password-file", type=Path, required=True, help="holds the new account's password")
    person.add_argument("--admin", action="store_true", help="may add accounts and agents, and delete issues")
    _add_connection_options(person, _add_person)
    token = account_verbs.add_parser("token", help="issue a lasting API token for an account")
    token.add_argument("name")
    token.add_argument(
        "--for", dest="purpose", default="command line", help="what the token is for, in words"
    )
    _add_connection_options(token, _issue_token)
    add_routine_verbs(verbs, _add_connection_options)
    return parser


def _add_agent_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("--workspace", type=Path, help="the folder that the command runs in")
    parser.add_argument(
        "--worktree", action="store_true", help="give each attempt a git worktree of the workspace"
    )
    parser.add_argument(
        "--keep-worktree", action="store_true", help="keep it also when all in it was committed"
    )
    parser.add_argument(
        "--exclusive", action="store_true", help="run alone in the workspace, for one that attempts share"
    )
    parser.add_argument("--credential-file", type=Path, help=f"handed to the command as {_CREDENTIAL}")
    parser.add_argument("--secret-file", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="pass a variable on, or set it; no secrets",
    )
    parser.add_argument("--time-limit", type=int, default=3600, metavar="SECONDS")
    parser.add_argument("--hook", metavar="URL", help="wake by a signed POST instead of a command")
    parser.add_argument("--hook-secret-file", type=Path)
    parser.add_argument("--allow-loopback", action="store_true", help="the hook is on this machine")
    parser.add_argument(
        "--allow-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="a private network in which the hook may be, such as 10.1.0.0/16; may be repeated",
    )
    _add_connection_options(parser, _add_agent)


def _add_connection_options(parser: argparse.ArgumentParser, act: object) -> None:
    parser.add_argument(
        "--url", default="http://127.0.0.1:8701", help="where the board is (default: %(default)s)"
    )
    parser.add_argument("--token-file", type=Path, help="a file with an administrator's token")
    parser.add_argument(
        "--operator", help="sign in with this name instead, and with --operator-password-file"
    )
    parser.add_argument("--operator-password-file", type=Path)
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.set_defaults(act=act)


class _Board:
    """The board's API, for an administrator."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Any:
        """Make a request. Raises CommandFailed."""
        try:
            answer = self._client.request(method, path, json=document)
        except httpx.HTTPError as error:
            where = self._client.base_url
            raise CommandFailed(f"no board answers at {where}: {error}; is it running? (--url)") from None
        if not answer.is_success:
            raise CommandFailed(str(error_from(answer)))
        return answer.json() if answer.content else None

    def present(self, token: str) -> None:
        """Use this token from now on."""
        self._client.headers["authorization"] = f"Bearer {token}"


def _connect(options: argparse.Namespace) -> _Board:
    board = _Board(httpx.Client(base_url=options.url, timeout=_TIMEOUT_SECONDS, trust_env=False))
    if options.token_file:
        board.present(_read_secret(options.token_file))
    elif options.operator and options.operator_password_file:
        password = _read_secret(options.operator_password_file)
        board.present(
            board.ask("POST", "/api/sign-in", {"name": options.operator, "password": password})["token"]
        )
    else:
        raise CommandFailed("say who you are: --token-file, or --operator with --operator-password-file")
    return board


def _add_agent(board: _Board, options: argparse.Namespace, command: Sequence[str]) -> Any:
    wake = _hook(options) if options.hook else _command(options, command)
    return board.ask("POST", "/api/agents", {"name": options.name, "wake": wake})


def _command(options: argparse.Namespace, command: Sequence[str]) -> dict[str, Any]:
    if not command or not options.workspace:
        raise CommandFailed("an agent needs --workspace DIR and its command after --, or --hook URL")
    secrets = dict(_pair(each) for each in options.secret_file)
    if options.credential_file:
        secrets[_CREDENTIAL] = str(options.credential_file)
    variables = [each.partition("=") for each in options.env]
    return {
        "kind": "command",
        "command": list(command),
        "workspace": str(options.workspace.absolute()),
        "worktree": options.worktree,
        "keep_worktree": options.keep_worktree,
        "exclusive": options.exclusive,
        "environment": {name: value if equals else None for name, equals, value in variables},
        "secret_files": {name: str(Path(path).absolute()) for name, path in secrets.items()},
        "time_limit_seconds": options.time_limit,
    }


def _hook(options: argparse.Namespace) -> dict[str, Any]:
    if not options.hook_secret_file:
        raise CommandFailed("a hook needs --hook-secret-file, with which its requests are signed")
    return {
        "kind": "hook",
        "url": options.hook,
        "secret_file": str(options.hook_secret_file.absolute()),
        "allow_loopback": options.allow_loopback,
        "allow_networks": options.allow_network,
    }


def _list_agents(board: _Board, _: argparse.Namespace, __: Sequence[str]) -> Any:
    return board.ask("GET", "/api/agents")["items"]


def _add_person(board: _Board, options: argparse.Namespace, _: Sequence[str]) -> Any:
    password = _read_secret(options.password_file)
    return board.ask(
        "POST", "/api/accounts", {"name": options.name, "password": password, "admin": options.admin}
    )


def _issue_token(board: _Board, options: argparse.Namespace, _: Sequence[str]) -> Any:
    return board.ask("POST", f"/api/accounts/by-name/{options.name}/tokens", {"name": options.purpose})


def _pair(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals:
        raise CommandFailed(f"--secret-file wants NAME=PATH, not {text!r}")
    return name, path


def _read_secret(file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{file} cannot be read: {error}") from None


def _show(answer: Any, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(answer, indent=2))
    elif isinstance(answer, list):
        for each in answer:
            print(_line(each))
    else:
        print("\n".join(f"{field}: {value}" for field, value in answer.items()))


def _line(listed: Mapping[str, Any]) -> str:
    if "schedule" in listed:
        return show_routine(listed)
    return f"{listed['name']:<24} {listed['wake']['kind']:<8} {_last_run(listed['runs'])}"


def _last_run(runs: Sequence[Mapping[str, Any]]) -> str:
    if not runs:
        return "has not run"
    return f"{runs[0]['state']}: {runs[0]['detail'] or runs[0]['task_id']}"
