"""The grammar of directives: which lines of a comment are commands, and what each says."""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.domain.kit import IN_PLAN_REVIEW, PHASES, cast
from tests.domain.kit import given as history

from agentic_os.domain.directive import VERBS, Directive, line_of, parse
from agentic_os.domain.reviews import approval_line
from agentic_os.domain.task import Submission

APPROVE = "/approve v2@deadbeef"
BEFORE = st.lists(
    st.sampled_from(["Thanks!", "", "- a", "> said", "*", "`x`", "  indented", "/usr/bin/env"]), max_size=4
)


def verbs(comment: str) -> list[str]:
    """List the verbs of a comment's directives."""
    return [directive.verb for directive in parse(comment)]


def only(comment: str) -> Directive:
    """Parse a comment that holds one directive."""
    (directive,) = parse(comment)
    return directive


def target(comment: str) -> tuple[str | None, int | None, str | None]:
    """Give what the only directive of a comment names."""
    directive = only(comment)
    return directive.subject, directive.version, directive.digest


# What is a directive


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_is_read_with_and_without_the_prefix(verb: str):
    """A command may be written short, or with the name of the system before it."""
    for line in (f"/{verb}", f"/{verb} ", f"/aos {verb}", f"/aos /{verb}", f"/aos\t{verb}\t"):
        assert [verb] == verbs(line)


@pytest.mark.parametrize(
    "line",
    [
        "/usr/bin/python -m x",
        "/approve/v2",
        "/approve-all",
        "/approve, please",
        "/approve.",
        "/approve2",
        "/approve_v2",
        "/Approve",
        "/APPROVE v2@deadbeef",
        "/",
        "//approve",
        "/ approve",
        "/aos/approve",
        "approve",
        "\\/approve",
        "please /approve",
        "/\u0430pprove v2@deadbeef",
        "\u200b/approve",
        "\u00a0/approve",
        "\ufeff/approve",
        "/approve\u00a0v2@deadbeef",
        "/etc/passwd is readable",
        "/24",
    ],
)
def test_what_only_looks_like_a_command_is_none(line: str):
    """Paths, other letters, and anything but a bare word after the slash at column 0 are text."""
    assert [] == parse(line)


def test_a_word_that_is_no_verb_is_still_seen():
    """A mistyped command is found, so that its author can be told."""
    assert "aprove" == only("/aprove v2@deadbeef").verb


@pytest.mark.parametrize("indent", [" ", "   ", "    ", "\t", "- ", "> ", ">", "* ", "1. ", "# ", "| "])
def test_only_what_begins_at_column_0_is_a_directive(indent: str):
    """A command that is indented, listed, quoted or in a heading is text."""
    assert [] == parse(f"Hello\n\n{indent}{APPROVE}\n")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_lines_end_as_they_do_anywhere(newline: str):
    """Comments from any system are split into the same lines."""
    comment = newline.join(["Thanks!", "", APPROVE, "```", "/cancel", "```", "bye"])
    assert [("approve", "plan", 2, "deadbeef")] == [
        (d.verb, d.subject, d.version, d.digest) for d in parse(comment)
    ]


# What is none, because it is quoted, code or hidden


@pytest.mark.parametrize(
    "comment",
    [
        f"```\n{APPROVE}\n```",
        f"```\n{APPROVE}",
        f"```\n```x\n{APPROVE}\n```",
        f"````\n```\n{APPROVE}\n````",
        f"~~~\n```\n{APPROVE}\n~~~",
        f"~~~ sh `x`\n{APPROVE}\n~~~",
        f"   ```\n{APPROVE}\n   ```",
        f"```\n    ```\n{APPROVE}\n```",
        f"```\n``` no end\n{APPROVE}\n```",
        f"- a\n  ```\nb\n```\n{APPROVE}\n```",
        f"<!--\n{APPROVE}\n-->",
        f"<!-- {APPROVE}",
        f"<!--\n{APPROVE}",
        f"text <!-- more\n{APPROVE}\n-->",
        f"<!-- a --> <!--\n{APPROVE}\n-->",
        f"see `<!--`\n```\n-->\n{APPROVE}\n```",
        f"<!--\n```\n-->\n```\n{APPROVE}\n```",
        f"<!--\n```\n-->\nsee `<!--`\n```\n-->\n{APPROVE}\n```",
        f"<!-->\n```\n-->\n{APPROVE}\n```",
        f"<div>\n```\n\n```\n{APPROVE}\n```",
        f"<pre>\n{APPROVE}\n</pre>",
        f"<PRE class=x>\n\n{APPROVE}\n\n</PRE>",
        f"<script>\n{APPROVE}\n</script>",
        f"<?php\n{APPROVE}\n?>",
        f"> {APPROVE}",
        f">{APPROVE}",
        f">> {APPROVE}",
        f"\t{APPROVE}",
    ],
)
def test_a_quoted_fenced_or_hidden_approval_never_approves(comment: str):
    """What a reader sees as a quote or as code, or does not see at all, is nobody's command."""
    assert [] == parse(comment)


@pytest.mark.parametrize(
    "comment",
    [
        f"> said\n\n{APPROVE}",
        f"> ```\n> code\n> ```\n\n{APPROVE}",
        f"```\ncode\n```\n{APPROVE}",
        f"``` sh\ncode\n`````\n{APPROVE}",
        f"- run\n  ```\n  code\n  ```\n\n{APPROVE}",
        f"1. run\n\n    ```\n    code\n    ```\n\n{APPROVE}",
        f"```inline``` and so on\n{APPROVE}",
        f"<!-- hint -->\n{APPROVE}",
        f"<!--\nhint with ``` in it\n```\n-->\n{APPROVE}",
        f"<details>\n<summary>log</summary>\n\n```\nlog\n```\n\n</details>\n\n{APPROVE}",
        f"<pre>log</pre>\n{APPROVE}",
        f"<pre>\nlog\n</pre>\n\n{APPROVE}",
        f"{APPROVE} <!-- as agreed -->",
        f"{APPROVE}\n\n```\nunclosed",
        f"{APPROVE}\n<!-- unclosed",
    ],
)
def test_a_directive_beside_quotes_code_and_comments_counts(comment: str):
    """What comes before and after does not swallow a command that everybody can see."""
    assert ("plan", 2, "deadbeef") == target(comment)


@given(before=BEFORE, inside=BEFORE, after=BEFORE, fence=st.sampled_from(["```", "~~~~", "``` sh"]))
def test_no_fence_lets_an_approval_out(before: list[str], inside: list[str], after: list[str], fence: str):
    """Whatever stands around it, an approval in a fence of its own is none."""
    comment = "\n".join([*before, fence, *inside, APPROVE, *inside, fence.removesuffix(" sh"), *after])
    assert "approve" not in verbs(comment)


@given(before=BEFORE, inside=BEFORE, after=BEFORE)
def test_no_comment_lets_an_approval_out(before: list[str], inside: list[str], after: list[str]):
    """Whatever stands around it, an approval in an HTML comment is none."""
    assert "approve" not in verbs("\n".join([*before, "<!--", *inside, APPROVE, *inside, "-->", *after]))


@given(before=BEFORE, quote=st.sampled_from(["> ", ">", ">>> ", "    ", "\t"]))
def test_no_quote_lets_an_approval_out(before: list[str], quote: str):
    """Quoted or indented, an approval is none."""
    assert "approve" not in verbs("\n".join([*before, f"{quote}{APPROVE}"]))


@given(
    st.text()
    | st.text(alphabet="`~<>!-/ \t\r\naprovev12@df.*0:", max_size=60)
    | st.lists(
        st.sampled_from(["/approve", " v1", "@", "deadbeef", "\n", "```", "<!--", "-->", "- ", "\r", "\x0b"])
    ).map("".join)
)
@example("/approve \x00")
@example("\u2028/approve\u2029")
def test_no_comment_makes_the_grammar_fail(comment: str):
    """Any text is read: each directive holds what was written, with a target that is whole or not there."""
    for directive in parse(comment):
        assert directive.line.startswith("/")
        assert directive.verb.islower()
        assert (directive.subject is None) == (directive.version is None)
        assert all(item.strip() for item in directive.items)


@pytest.mark.parametrize(
    "comment",
    [
        "/" * 50_000,
        "`" * 50_000,
        "<!--" * 20_000,
        "> " * 30_000,
        " " * 50_000 + "```",
        "- " * 30_000,
        "/approve " * 9_000,
        "/note " + "x" * 2_000_000,
        "> ```\n" * 30_000,
        "<div>\n" * 30_000 + "```\n" * 30_000,
        "- ```\n" * 30_000,
        "/revise\n" + "- item <!--\n" * 30_000,
    ],
)
def test_no_comment_takes_long(comment: str):
    """A comment of the greatest length is read; the time limit of every test is the judge."""
    assert len(parse(comment)) <= 1


# What it names


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("v2@deadbeef", ("plan", 2, "deadbeef")),
        ("r12@deadbeef", ("result", 12, "deadbeef")),
        ("v2@sha256:deadbeef", ("plan", 2, "deadbeef")),
        ("v2@" + "ab" * 32, ("plan", 2, "ab" * 32)),
        ("v2", ("plan", 2, None)),
        ("v2@deadbeef.", ("plan", 2, "deadbeef")),
        ("v2@deadbeef, thanks", ("plan", 2, "deadbeef")),
        ("v2@deadbeef: good", ("plan", 2, "deadbeef")),
        ("v2@deadbeef!", ("plan", 2, "deadbeef")),
        ("", (None, None, None)),
        ("<!-- v2@deadbeef -->", (None, None, None)),
    ],
)
def test_a_target_names_subject_version_and_digest(
    words: str, expected: tuple[str | None, int | None, str | None]
):
    """The letter says whether a plan or a result is meant; punctuation behind the target is not part of it."""
    assert expected == target(f"/approve {words}")


@pytest.mark.parametrize(
    "words",
    [
        "v2@deadbee",
        "v2@DEADBEEF",
        "v2@deadbeefg",
        "v2@" + "a" * 65,
        "v0@deadbeef",
        "v02@deadbeef",
        "v2@deadbeef)",
        "v2@",
        "V2@deadbeef",
        "p2@deadbeef",
        "@deadbeef",
        "2",
        "plan v2@deadbeef",
        "sha256:deadbeef",
        "v2\u00a0@deadbeef",
        "v\u0662@deadbeef",
        "LGTM",
        "everything",
    ],
)
@pytest.mark.parametrize("verb", ["approve", "accept"])
def test_an_approval_of_something_unreadable_is_not_one_of_whatever_is_there(verb: str, words: str):
    """Whoever names something, but not a target as it must be written, has not approved what they did not name."""
    directive = only(f"/{verb} {words}")
    assert directive.version is None
    assert directive.digest is not None
    vote = replace(cast(), version=directive.version, digest=directive.digest)
    history(*IN_PLAN_REVIEW).when(vote).refused("digest_mismatch")


@pytest.mark.parametrize("phase", ["plan_review", "result_review"])
def test_the_line_that_approves_is_read_as_what_it_approves(phase: str):
    """The line that people are told to paste names the very version and digest under review."""
    task = history(*PHASES[phase]).task
    subject = phase.removesuffix("_review")
    submission: Submission = task.plan if subject == "plan" else task.result
    line = approval_line(subject, submission)
    assert (subject, submission.version, submission.digest.removeprefix("sha256:")[:8]) == target(line)
    assert {"plan": "approve", "result": "accept"}[subject] == only(line).verb


@given(version=st.integers(1, 999_999), digest=st.text("0123456789abcdef", min_size=64, max_size=64))
def test_every_approval_line_is_read_again(version: int, digest: str):
    """Whatever the version and digest, the line that approves them parses back to them."""
    task = history(*PHASES["plan_review"]).task
    submission = replace(task.plan, version=version, digest=f"sha256:{digest}")
    assert ("plan", version, digest[:8]) == target(approval_line("plan", submission))
    assert ("result", version, digest[:8]) == target(approval_line("result", submission))


@given(
    verb=st.sampled_from(sorted(VERBS)),
    subject=st.sampled_from(["plan", "result"]),
    version=st.integers(1, 999_999),
    digest=st.text("0123456789abcdef", min_size=8, max_size=64),
    prefix=st.sampled_from(["", "sha256:"]),
    before=BEFORE,
)
def test_a_line_that_is_written_is_read_as_the_same_directive(  # noqa: PLR0917 - drawn by hypothesis
    verb: str, subject: str, version: int, digest: str, prefix: str, before: list[str]
):
    """Whatever a line names, and whatever text stands before it, it parses back to exactly that."""
    line = line_of(verb, subject, version, prefix + digest)
    directive = parse("\n".join([*before, line]))[-1]
    assert (
        Directive(verb=verb, text="", line=line, subject=subject, version=version, digest=digest) == directive
    )


PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "/approve v1@deadbeef",
                "/revise",
                "/note x",
                "/aos hold",
                "/cancel",
                "- a",
                "1. b",
                "> q",
                ">",
            ),
            *("```", "~~~", "<!--", "-->", "<pre>", "</pre>", "    code", "", " ", "text", "\u2028/cancel"),
            *(
                "/approve\u00a0v1",
                "\u202e/approve",
                "\ufeff/approve",
                "/approve v1@deadbeef\x0b/cancel",
                "<?",
            ),
        ]
    )
    | st.text(max_size=12),
    max_size=14,
)


@given(PIECES)
@settings(max_examples=400)
def test_what_was_written_is_read_again_as_it_was(lines: list[str]):
    """The line that a receipt keeps begins with the same command on the same thing."""
    for directive in parse("\n".join(lines)):
        again = parse(directive.line)[0]
        assert (directive.verb, directive.subject, directive.version, directive.digest) == (
            again.verb,
            again.subject,
            again.version,
            again.digest,
        )


@given(PIECES)
@settings(max_examples=400)
def test_the_ends_of_lines_do_not_matter(lines: list[str]):
    """A comment of a system that ends its lines otherwise holds the same directives."""
    lines = [line.replace("\r", "").replace("\n", "") for line in lines]
    seen = [(d.verb, d.subject, d.version, d.digest, d.items) for d in parse("\n".join(lines))]
    for newline in ("\r\n", "\r"):
        assert seen == [(d.verb, d.subject, d.version, d.digest, d.items) for d in parse(newline.join(lines))]


@given(lines=PIECES, quote=st.sampled_from(["> ", ">", ">> "]))
def test_a_quoted_comment_says_nothing(lines: list[str], quote: str):
    """Whoever answers a comment by quoting it gives none of its commands."""
    quoted = [quote + part for line in lines for part in re.split(r"\r\n|\n|\r", line)]
    assert [] == parse("\n".join(quoted))


# What it says


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" - one\n- two", ("one", "two")),
        ("\n- one\n* two\n+ three", ("one", "two", "three")),
        ("\n1. one\n2) two\n30. three", ("one", "two", "three")),
        ("\n\n- one\n  goes on\n- two", ("one goes on", "two")),
        (" v2@deadbeef - one", ("one",)),
        (" v2@deadbeef Fix the names.", ("Fix the names.",)),
        (" Fix the names.\nAnd the tests.", ("Fix the names.\nAnd the tests.",)),
        ("\n- one\n> - quoted\n- two", ("one", "two")),
        ("\n- one <!-- hint -->\n<!--\n- hidden\n-->\n- two", ("one", "two")),
        ("\n- \n-\n- one", ("one",)),
        ("", ()),
        (" v2@deadbeef", ()),
        ("\n\n \n", ()),
    ],
)
def test_a_revision_lists_its_items(text: str, expected: tuple[str, ...]):
    """Each bullet or number is an item; without any the whole text is one, and nothing is none."""
    assert expected == only(f"/revise{text}").items


def test_a_directive_ends_where_the_next_begins():
    """Each command has the text behind it, and its own line as it was written."""
    first, second = parse("Hello\n/revise v1@deadbeef\n- one\n\n/cancel no need\nbye")
    assert ("- one", "/revise v1@deadbeef\n- one") == (first.text, first.line)
    assert ("no need\nbye", "/cancel no need\nbye") == (second.text, second.line)


def test_code_below_a_revision_belongs_to_it():
    """A fenced example is part of what the reviewer says, and no command in it counts."""
    directive = only("/revise v1@deadbeef\n- use this:\n```\n/cancel\n```")
    assert ("use this: ``` /cancel ```",) == directive.items
