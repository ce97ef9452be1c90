"""The command line: `agentic-os-paperclip connect`, `doctor` and `serve`."""

import argparse
import asyncio
import contextlib
import json
import secrets
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import httpx

from agentic_os.control_plane import ControlPlaneError

from .board import LISTENER, Board
from .chart import organisation_of
from .doctor import diagnose
from .server import PaperclipServer, ServerFailed, install
from .transport import SWITCH

_BACKEND: Final = "agentic-os"
_LABEL: Final = {"name": "agentic-os", "color": "#0f766e"}
_TIMEOUT_SECONDS: Final = 15.0
_COMPANY: Final = "Agents"


class CommandFailed(Exception):
    """A command cannot do what it was asked; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command: 0 done, 1 refused or failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.act(options))
    except (CommandFailed, ControlPlaneError, ServerFailed, OSError) as error:
        print(f"agentic-os-paperclip: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agentic-os-paperclip", description="Paperclip as a control plane.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    connect = verbs.add_parser("connect", help="make a company on a Paperclip ready, and say how to start")
    connect.add_argument("--url", required=True, help="where Paperclip is, such as http://127.0.0.1:3100")
    connect.add_argument("--key-file", type=Path, help="holds a board key of the company's owner")
    connect.add_argument(
        "--mail", help="instead: the owner's mail address (made, and made owner, on a new server)"
    )
    connect.add_argument("--password-file", type=Path, help="holds the owner's password")
    connect.add_argument(
        "--company", default=_COMPANY, help=f"its name or id; made when missing ({_COMPANY})"
    )
    connect.add_argument("--project", action="append", default=[], help="a project to make (again for more)")
    connect.add_argument(
        "--adopt-project",
        action="append",
        default=[],
        help="a project to make in which each issue becomes a task, such as one for routines (again for more)",
    )
    connect.add_argument("--into", type=Path, required=True, help="folder for the keys and settings (0700)")
    _add_backend(connect)
    connect.set_defaults(act=_connect)
    doctor = verbs.add_parser(
        "doctor", help="look at all that must be in order between the backend and Paperclip"
    )
    doctor.add_argument("--into", type=Path, required=True, help="the folder that connect wrote")
    doctor.add_argument(
        "--governance",
        type=Path,
        help="the backend's folder, to hold its organisation against Paperclip's chart",
    )
    doctor.add_argument("--json", action="store_true")
    doctor.set_defaults(act=_doctor)
    packages = verbs.add_parser("install", help="install Paperclip's packages, for serve and for the tests")
    packages.add_argument("--packages", type=Path, required=True, help="the folder; it takes 1.6 GB")
    packages.set_defaults(act=_install)
    serve = verbs.add_parser("serve", help="run a Paperclip of one's own, from packages, on loopback")
    serve.add_argument("--data", type=Path, required=True, help="folder of its database, settings and log")
    serve.add_argument("--packages", type=Path, help="where it is installed, once (default: DATA/packages)")
    serve.add_argument("--port", type=int, default=3100)
    serve.add_argument(
        "--hook", action="append", default=[], help="an exact origin that agents' hooks are at"
    )
    serve.set_defaults(act=_serve)
    return parser


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", help="the backend's address; agents are then made its executors")
    parser.add_argument(
        "--backend-token-file", type=Path, help="holds an administrator's token of the backend"
    )
    parser.add_argument(
        "--me", help="who you are on the backend, such as admin: your account is linked to that principal"
    )


def _connect(options: argparse.Namespace) -> int:
    folder: Path = options.into
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.closing(_owner(options)) as owner:
        if owner.mode != "authenticated":
            raise CommandFailed(SWITCH)
        company = owner.company(options.company)
        backend = _make_backend_account(owner, company, options.url, folder)
        listener = folder / "listener.key"
        if not listener.exists():
            _keep(listener, owner.listener(company))
        adopted = list(dict.fromkeys([*_adopted(folder), *options.adopt_project]))
        _make_shelves(owner, company, [*options.project, *adopted])
        agents = [a for a in owner.agents(company) if a["name"] != LISTENER]
        for agent in agents:
            owner.wake_for_assignments_only(agent)
        settings = _settings(options.url, company, folder, adopted)
        (folder / "paperclip.env").write_text(_as_shell(settings), encoding="utf-8")
        (folder / "organisation.yaml").write_text(organisation_of(agents), encoding="utf-8")
        people, me = owner.people(company), owner.whoami()
    linked = {backend}
    if options.backend:
        _make_executors(options, agents, folder, me)
        linked |= {me} if options.me else set()
    others = {account: name for account, name in people.items() if account not in linked}
    _tell(folder, agents, others, options)
    return 0


def _owner(options: argparse.Namespace) -> Board:
    """Become the company's owner, by a key or by signing in."""
    if options.key_file:
        return Board(options.url, options.key_file.read_text(encoding="ascii").strip())
    if not options.mail or not options.password_file:
        raise CommandFailed("say who you are on Paperclip: --key-file, or --mail and --password-file")
    owner = Board(options.url)
    password = options.password_file.read_text(encoding="utf-8").strip()
    owner.sign_up(options.mail.partition("@")[0], options.mail, password)
    with contextlib.suppress(ControlPlaneError):  # somebody is its administrator already
        owner.claim()
    return owner


def _make_backend_account(owner: Board, company: str, url: str, folder: Path) -> str:
    """Make the account by which the backend acts, so that nothing it writes passes for a person's; return its id."""
    token = folder / "backend.key"
    if token.exists():
        with contextlib.closing(Board(url, token.read_text(encoding="ascii").strip())) as backend:
            account = backend.whoami()
            owner.grant(company, account)
        return account
    login = folder / "backend.login"
    if not login.exists():
        _keep(login, f"agentic-os-{secrets.token_hex(4)}@localhost.localdomain {secrets.token_urlsafe(24)}")
    mail, password = login.read_text(encoding="ascii").split()
    with contextlib.closing(Board(url)) as backend:
        account = backend.sign_up(_BACKEND, mail, password)
        owner.invite(company, backend)
        owner.grant(company, account)
        _keep(token, backend.key(_BACKEND))
    return account


def _make_shelves(owner: Board, company: str, projects: Sequence[str]) -> None:
    """Make the label by which issues are adopted, and the projects that are asked for."""
    labels = {label["name"] for label in owner.ask("GET", f"/companies/{company}/labels")}
    if _LABEL["name"] not in labels:
        owner.ask("POST", f"/companies/{company}/labels", _LABEL)
    known = {project["name"] for project in owner.ask("GET", f"/companies/{company}/projects")}
    for name in projects:
        if name not in known:
            owner.ask("POST", f"/companies/{company}/projects", {"name": name})


def _adopted(folder: Path) -> list[str]:
    """Read which projects were adopted when the same company was connected before."""
    if not (folder / "paperclip.env").exists():
        return []
    return list(json.loads(_read_settings(folder).get("AGENTIC_OS_ADOPT_PROJECTS", "[]")))


def _settings(url: str, company: str, folder: Path, adopted: Sequence[str]) -> Mapping[str, str]:
    options = {"company": company, "nudge_key_file": str(folder.absolute() / "listener.key")}
    return {
        "AGENTIC_OS_CONTROL_PLANE": "paperclip",
        "AGENTIC_OS_CONTROL_PLANE_URL": url,
        "AGENTIC_OS_CONTROL_PLANE_TOKEN_FILE": str(folder.absolute() / "backend.key"),
        "AGENTIC_OS_CONTROL_PLANE_OPTIONS": json.dumps(options),
        "AGENTIC_OS_ADOPT_PROJECTS": json.dumps(list(adopted)),
    }


def _as_shell(settings: Mapping[str, str]) -> str:
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())


def _make_executors(
    options: argparse.Namespace, agents: Sequence[Mapping[str, Any]], folder: Path, me: str
) -> None:
    """Register each agent as an executor of the backend, and link its account; whoever is known stays as they are."""
    if not options.backend_token_file:
        raise CommandFailed("--backend needs --backend-token-file, with an administrator's token")
    token = options.backend_token_file.read_text(encoding="utf-8").strip()
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(
        base_url=options.backend, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=False
    ) as backend:
        known = {each["name"] for each in _answer(backend.get("/api/executors"))["items"]}
        for agent in agents:
            name = str(agent["name"])
            if name not in known:
                document = {"name": name, "role": agent["role"], "skills": "required"}
                repeat = {"idempotency-key": f"paperclip:{agent['id']}"}
                made = _answer(backend.post("/api/executors", json=document, headers=repeat))
                _keep(folder / f"{agent['urlKey']}.credential", made["credential"])
            _link(backend, name, agent["id"])
        if options.me:
            _link(backend, options.me, me)


def _link(backend: httpx.Client, principal: str, account: str) -> None:
    link = {"control_plane": "paperclip", "account": account}
    _answer(backend.put(f"/api/principals/{principal}/accounts", json=link))


def _answer(answer: httpx.Response) -> Any:
    if not answer.is_success:
        raise CommandFailed(f"the backend refuses {answer.request.url.path}: {answer.text[:300]}")
    return answer.json()


def _keep(file: Path, secret: str) -> None:
    """Write a secret for its owner's eyes."""
    file.touch(mode=0o600)
    file.write_text(secret, encoding="ascii")


def _tell(
    folder: Path,
    agents: Sequence[Mapping[str, Any]],
    others: Mapping[str, str],
    options: argparse.Namespace,
) -> None:
    print(f"Paperclip is ready. Keys and settings are in {folder}.")
    if options.backend:
        named = ", ".join(sorted(str(agent["name"]) for agent in agents))
        print(f"Executors: {named or 'none, there are no agents'}")
    else:
        print("\nStart the backend with it:\n")
        print(f"  . {folder / 'paperclip.env'}\n  agentic-os up --control-plane paperclip\n")
        print("Then make its agents executors, and say who you are:\n")
        print("  agentic-os-paperclip connect, as before, and --backend http://127.0.0.1:8700")
        print("    --backend-token-file ~/.agentic-os/admin.token --me admin")
    if others:
        print("\nWhat other people write counts once you say who they are:\n")
        for account, name in sorted(others.items(), key=lambda each: each[1]):
            print(f"  agentic-os account link NAME paperclip {account}  # {name}")


def _doctor(options: argparse.Namespace) -> int:
    settings = _read_settings(options.into)
    chosen = json.loads(settings["AGENTIC_OS_CONTROL_PLANE_OPTIONS"])
    heard = chosen.get("nudge_key_file", "")
    organisation = options.governance / "organisation.yaml" if options.governance else None
    checks = asyncio.run(
        diagnose(
            settings["AGENTIC_OS_CONTROL_PLANE_URL"],
            _secret(settings["AGENTIC_OS_CONTROL_PLANE_TOKEN_FILE"]),
            chosen["company"],
            _secret(heard) if heard else "",
            organisation.read_text(encoding="utf-8") if organisation else None,
        )
    )
    if options.json:
        print(json.dumps([{"name": c.name, "ok": c.ok, "detail": c.detail, "next": c.next} for c in checks]))
    else:
        for check in checks:
            print(f"{'ok   ' if check.ok else 'FAULT'}  {check.name}: {check.detail}")
            if check.next:
                print(f"       next: {check.next}")
    return 0 if all(check.ok for check in checks) else 1


def _read_settings(folder: Path) -> Mapping[str, str]:
    try:
        lines = (folder / "paperclip.env").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CommandFailed(f"{folder} is no folder that connect wrote: {error.strerror}") from None
    named = [line.removeprefix("export ").partition("=") for line in lines]
    return {name: "".join(shlex.split(value)) for name, _, value in named}


def _secret(file: str) -> str:
    return Path(file).read_text(encoding="ascii").strip()


def _install(options: argparse.Namespace) -> int:
    install(options.packages, _say)
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _serve(options: argparse.Namespace) -> int:
    packages = install(options.packages or options.data / "packages", _say)
    signal.signal(signal.SIGTERM, _interrupt)
    with (
        contextlib.suppress(KeyboardInterrupt),
        PaperclipServer(packages, options.data.absolute(), options.port, hooks=options.hook) as server,
    ):
        print(json.dumps({"url": server.url, "pid": server.pid}), flush=True)
        signal.pause()
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
