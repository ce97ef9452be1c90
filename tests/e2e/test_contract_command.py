"""`agentic-os contract`: what an author of an executor runs, with no server anywhere."""

import io
import json
import sys
from pathlib import Path

import pytest
from tests.stack_process import run

from agentic_os.cli import main
from agentic_os.contracts.schema import callback_examples, callback_schema
from agentic_os.contracts.transcript import golden_expectations, golden_transcripts
from agentic_os.http.problems import STATUS

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, capsys: Capture) -> Path:
    """Copy the golden transcripts, as the author would."""
    assert 0 == main(["contract", "transcripts", "--into", str(tmp_path / "golden")])
    capsys.readouterr()
    return tmp_path / "golden"


def test_the_schema_is_printed_as_it_is_published(capsys: Capture) -> None:
    """`contract schema` prints the normative schema, byte for byte."""
    assert 0 == main(["contract", "schema"])
    assert callback_schema().decode() == capsys.readouterr().out


def test_what_is_in_order_exits_with_0(folder: Path, capsys: Capture) -> None:
    """A good transcript is called in order, with the number of its callbacks."""
    assert 0 == main(["contract", "check", str(folder / "direct.jsonl")])
    assert "a transcript of 7 callbacks, in order" in capsys.readouterr().out


def test_faults_exit_with_1_and_say_what_to_do(folder: Path, capsys: Capture) -> None:
    """Each fault is printed with file, line, code and pointer, and with what to do next."""
    file = folder / "bad_stale_seq.jsonl"
    assert 1 == main(["contract", "check", str(file)])
    said = capsys.readouterr().out
    assert f"{file}:3: seq_stale /seq" in said
    assert "next: Continue with seq 4." in said
    assert "faults: 2" in said


def test_faults_are_printed_for_programs(folder: Path, capsys: Capture) -> None:
    """With --json the faults are those of the expectations, each with a message and what to do next."""
    expected = json.loads(golden_expectations())
    for name in golden_transcripts():
        assert (name in expected) == main(["contract", "check", "--json", str(folder / name)])
        report = json.loads(capsys.readouterr().out)
        assert (name not in expected, True) == (report["ok"], report["transcript"])
        assert all(fault.pop("message") and fault.pop("next") for fault in report["faults"])
        assert expected.get(name, []) == report["faults"]


def test_one_callback_comes_by_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The file - is standard input, and one document is checked alone unless it is called a transcript."""
    for arguments, code in (([], 0), (["--transcript"], 1)):
        raw = json.dumps(json.loads(callback_examples()["plan"])).encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert code == main(["contract", "check", "-", *arguments])
        assert "-: " in capsys.readouterr().out


def test_a_file_that_cannot_be_read_exits_with_2(tmp_path: Path, capsys: Capture) -> None:
    """A missing file and a folder are named, and are no faults of a callback."""
    for path in (tmp_path / "missing.json", tmp_path):
        assert 2 == main(["contract", "check", str(path)])
        assert f"{path} cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("code", STATUS)
def test_every_code_is_explained(code: str, capsys: Capture) -> None:
    """A code is explained in words, with its status, whether to send again, and what to do next."""
    assert 0 == main(["contract", "explain", code])
    first, status, retry, after = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{code}: ")
    assert first.endswith(".")
    assert str(STATUS[code]) == status.split()[1]
    assert retry.split()[1].strip(",") in ("yes", "no")
    assert len(after.split()) > 2


def test_an_unknown_code_exits_with_2_and_lists_the_codes(capsys: Capture) -> None:
    """What is no code is refused with the list of those that are."""
    assert 2 == main(["contract", "explain", "sequence"])
    said = capsys.readouterr().err
    assert all(code in said for code in STATUS)


def test_the_transcripts_are_listed_and_copied(folder: Path, capsys: Capture) -> None:
    """The list names each transcript; copying again is harmless, and what somebody changed is not overwritten."""
    assert 0 == main(["contract", "transcripts"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in golden_transcripts())
    assert 0 == main(["contract", "transcripts", "--into", str(folder)])
    (folder / "direct.jsonl").write_text("mine")
    assert 1 == main(["contract", "transcripts", "--into", str(folder)])
    assert "direct.jsonl" in capsys.readouterr().err
    assert "mine" == (folder / "direct.jsonl").read_text()
    assert 2 == main(["contract", "transcripts", "--into", str(folder / "direct.jsonl")])


def test_no_server_and_no_settings_are_needed(folder: Path) -> None:
    """As a process of its own, with an environment that names nothing, the check works."""
    done = run("contract", "check", folder / "bad_no_ack.jsonl")
    assert (1, "") == (done.returncode, done.stderr)
    assert "bad_no_ack.jsonl:1: scope_denied /kind" in done.stdout
