"""Plain lines of a comment, held against a whole CommonMark parser."""

from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agentic_os.domain.markdown import plain_lines

MARK = "/approve v{}@12345678"
FRAGMENTS = [
    *(
        "```",
        "````",
        "~~~",
        "``` py",
        "  ```",
        "   ~~~",
        "    ```",
        "``` a ``` b",
        "- ```",
        "  - ~~~",
        "1. ```",
    ),
    *(
        "> ```",
        "> quoted",
        "> - ```",
        "- item",
        "1. item",
        "  in item",
        "    deep",
        "\t```",
        "text",
        "",
        "",
        "*",
    ),
    *(
        "<!--",
        "-->",
        "<!-- a -->",
        "see `<!--`",
        "  <!--",
        "--> <!--",
        "<!-->",
        "text -->",
        "> <!--",
        "- <!--",
    ),
    *(
        "<div>",
        "</div>",
        "<pre>",
        "</pre>",
        "  <pre>",
        "<pre>x</pre>",
        "<script>",
        "<?php",
        "<!DOCTYPE",
        "<b>",
    ),
]
LINES = st.lists(st.sampled_from(FRAGMENTS) | st.just(MARK), max_size=14)


def written(lines: list[str]) -> str:
    """Write a text whose directives are numbered, so that each is found again."""
    return "\n".join(line.format(number) for number, line in enumerate(lines))


def shown(text: str) -> str:
    """Give what CommonMark shows of a text outside blocks of code; what is below a quote may belong to it."""
    tokens = [token for token in MarkdownIt("commonmark").parse(text) if not conceals(token)]
    inline = [child for token in tokens if token.type == "inline" for child in token.children or ()]
    parts = [child.content for child in inline if child.type in ("text", "code_inline")]
    return " ".join(parts + [token.content for token in tokens if token.type == "html_block"])


def conceals(token: Token) -> bool:
    """Tell whether a block of HTML hides what is in it, or shows it as code."""
    return token.type == "html_block" and token.content.lstrip().lower().startswith(
        ("<!", "<?", "<pre", "<script", "<style", "<textarea")
    )


@given(LINES)
@settings(max_examples=1000, deadline=None)
@example(["- a", "  ```", "text", "```", MARK, "```"])
def test_a_line_that_is_plain_is_shown_as_text(lines: list[str]):
    """Whatever counts as plain is text at the top level in CommonMark too: never code, a quote or a comment."""
    text = written(lines)
    plain = {line for line, is_plain in plain_lines(text) if is_plain and line.startswith("/")}
    assert [] == [line for line in plain if line not in shown(text)]
