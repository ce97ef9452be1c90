"""Renders what people, agents and the backend write; nothing in it can act, load or style."""

import re
from collections.abc import MutableMapping, Sequence
from functools import cache
from html import escape
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict

_BRIEF_BEGINS, _BRIEF_ENDS = "<!-- agentic-os:brief ", "<!-- agentic-os:end"
_BLOCKS = {"blockquote", "br", "details", "hr", "li", "ol", "p", "pre", "summary", "ul"}
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
_SPANS = {"a", "code", "del", "em", "s", "strong"}
_TABLES = {"table", "tbody", "td", "th", "thead", "tr"}


class _Renderer(RendererHTML):
    """Shows raw HTML as the text it is, images as links, and folds the data of a brief."""

    def html_block(
        self, tokens: Sequence[Token], index: int, _options: OptionsDict, env: MutableMapping[str, Any]
    ) -> str:
        """Drop comments, noticing where the brief begins and ends; show any other tag as text."""
        content = tokens[index].content.strip()
        if content.startswith(_BRIEF_BEGINS):
            env["in_brief"] = True
        elif content.startswith(_BRIEF_ENDS):
            env["in_brief"] = False
        shown = _without_comments(content)
        return f"<p>{escape(shown)}</p>\n" if shown else ""

    def html_inline(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        """Drop comments; show any other tag as text."""
        return escape(_without_comments(tokens[index].content))

    def image(self, tokens: Sequence[Token], index: int, *_: Any) -> str:
        """Link to an image instead of loading it."""
        token = tokens[index]
        source = str(token.attrGet("src") or "")
        return f'<a href="{escape(source)}">{escape(token.content or source)}</a>'

    def fence(
        self,
        tokens: Sequence[Token],
        index: int,
        options: OptionsDict,
        env: MutableMapping[str, Any],
    ) -> str:
        """Fold a brief's canonical JSON, which is there for programs."""
        code = super().fence(tokens, index, options, env)
        if env.get("in_brief") and tokens[index].info.strip() == "json":
            return f"<details><summary>Brief as data</summary>{code}</details>\n"
        return code


def to_html(text: str) -> str:
    """Render markdown to HTML that is safe to place in a page."""
    return _sanitizer().clean(_parser().render(text, {}))


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": True}, renderer_cls=_Renderer)
    return parser.enable(["table", "strikethrough"])


@cache
def _sanitizer() -> nh3.Cleaner:
    return nh3.Cleaner(
        tags=_BLOCKS | _HEADINGS | _SPANS | _TABLES,
        attributes={"a": {"href", "title"}, "ol": {"start"}},
        link_rel="noopener nofollow",
        url_schemes={"http", "https", "mailto"},
    )


def _without_comments(content: str) -> str:
    return re.sub("<!--.*?-->", "", content, flags=re.DOTALL).strip()
