"""A scripted model on loopback, which answers as the services of four vendors do, so that real clients obey a script.

The script is a function of what the client's tools returned since its prompt. It can only know what the client really
ran: a task's id that it writes into a plan was read by the client.
"""

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Shell:
    """Run a command with the client's shell."""

    command: str


@dataclass(frozen=True)
class Write:
    """Write a file with the client's editor."""

    path: str
    content: str


@dataclass(frozen=True)
class Call:
    """Call a tool that this client alone has."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Say:
    """End the turn with words."""

    text: str


@dataclass(frozen=True)
class Turn:
    """What a model sees. prompt: the last words of the user; results: what the tools returned since, in order."""

    prompt: str
    results: tuple[str, ...]

    @property
    def last(self) -> str:
        """What the newest call returned; nothing before the first."""
        return self.results[-1] if self.results else ""


Act = Shell | Write | Call | Say
Script = Callable[[Turn], Act]
Document = dict[str, Any]

_SHELLS: dict[str, Callable[[str], Document]] = {
    "Bash": lambda command: {"command": command, "description": "Run it"},
    "bash": lambda command: {"command": command, "description": "Run it"},
    "run_shell_command": lambda command: {
        "command": command,
        "description": "Run it",
        "is_background": False,
    },
    "exec_command": lambda command: {"cmd": command, "yield_time_ms": 20_000},
    "shell_command": lambda command: {"command": command},
    "shell": lambda command: {"command": ["bash", "-lc", command]},
}
_EDITORS: dict[str, Callable[[str, str], Document]] = {
    "Write": lambda path, content: {"file_path": path, "content": content},
    "write": lambda path, content: {"filePath": path, "content": content},
    "write_file": lambda path, content: {"file_path": path, "content": content},
}


_FOLDER = re.compile(
    r"(?:[Ww]orking in the|[Ww]ork(?:ing|space)) [Dd]irector(?:y|ies)[^/<]{0,40}(/[^\s\"\\\\<`]+)"
)


def _text_of(content: Any) -> str:
    """Join the text of what a vendor calls content: words, or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


@dataclass(frozen=True)
class Request:
    """What a client asked. tools: the names that it offers; text: all that it sent."""

    path: str
    tools: tuple[str, ...]
    turn: Turn
    text: str


class Wire(Protocol):
    """One vendor's service: reads its requests, writes its streams."""

    def turn(self, asked: Document) -> Turn:
        """Read the last prompt, and what the tools returned since."""

    def tools(self, asked: Document) -> tuple[str, ...]:
        """Read the names of the tools on offer."""

    def answer(self, act: Say | Document, number: int) -> Iterator[tuple[str | None, Any]]:
        """Stream words, or a call of a tool {name, arguments}: names of events with their data."""

    def whole(self, text: str) -> Document:
        """Answer a side call that is not streamed."""


class Anthropic:
    """Messages."""

    def turn(self, asked: Document) -> Turn:
        """See Wire."""
        prompt, results = "", []
        for message in asked["messages"]:
            parts = message["content"]
            returned = (
                [] if isinstance(parts, str) else [part for part in parts if "tool_result" == part["type"]]
            )
            if "user" == message["role"] and returned:
                results += [_text_of(part.get("content")) for part in returned]
            elif "user" == message["role"]:
                prompt, results = _text_of(parts), []
        return Turn(prompt, tuple(results))

    def tools(self, asked: Document) -> tuple[str, ...]:
        """See Wire."""
        return tuple(tool["name"] for tool in asked.get("tools", ()))

    def answer(self, act: Say | Document, number: int) -> Iterator[tuple[str | None, Any]]:
        """See Wire."""
        yield "message_start", {"type": "message_start", "message": self._message(number, [], None)}
        if isinstance(act, Say):
            block: Document = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": act.text}
        else:
            block = {"type": "tool_use", "id": f"toolu_{number}", "name": act["name"], "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(act["arguments"])}
        yield (
            "content_block_start",
            {"type": "content_block_start", "index": 0, "content_block": block},
        )
        yield "content_block_delta", {"type": "content_block_delta", "index": 0, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": 0}
        reason = "end_turn" if isinstance(act, Say) else "tool_use"
        ended = {"stop_reason": reason, "stop_sequence": None}
        yield "message_delta", {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 7}}
        yield "message_stop", {"type": "message_stop"}

    def whole(self, text: str) -> Document:
        """See Wire."""
        return {"input_tokens": 11} | self._message(0, [{"type": "text", "text": text}], "end_turn")

    @staticmethod
    def _message(number: int, content: list[Document], stop_reason: str | None) -> Document:
        usage = {"input_tokens": 11, "output_tokens": 1}
        return {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "model": "scripted",
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": None,
            "usage": usage,
        }


class Responses:
    """OpenAI's responses."""

    def turn(self, asked: Document) -> Turn:
        """See Wire."""
        prompt, results = "", []
        for item in asked["input"]:
            if str(item.get("type", "")).endswith("call_output"):
                results.append(_text_of(item["output"]))
            elif "user" == item.get("role"):
                prompt, results = _text_of(item["content"]), []
        return Turn(prompt, tuple(results))

    def tools(self, asked: Document) -> tuple[str, ...]:
        """See Wire."""
        return tuple(tool.get("name", tool["type"]) for tool in asked.get("tools", ()))

    def answer(self, act: Say | Document, number: int) -> Iterator[tuple[str | None, Any]]:
        """See Wire."""
        response: Document = {"id": f"resp_{number}", "object": "response", "status": "in_progress"}
        yield "response.created", {"type": "response.created", "response": response}
        if isinstance(act, Say):
            content = [{"type": "output_text", "text": act.text, "annotations": []}]
            item: Document = {"type": "message", "role": "assistant", "content": content}
        else:
            item = {
                "type": "function_call",
                "call_id": f"call_{number}",
                "name": act["name"],
                "arguments": json.dumps(act["arguments"]),
            }
        item |= {"id": f"item_{number}", "status": "completed"}
        yield (
            "response.output_item.done",
            {"type": "response.output_item.done", "output_index": 0, "item": item},
        )
        usage = {
            "input_tokens": 11,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 7,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 18,
        }
        done = response | {"status": "completed", "output": [item], "usage": usage}
        yield "response.completed", {"type": "response.completed", "response": done}

    def whole(self, text: str) -> Document:
        """See Wire."""
        content = [{"type": "output_text", "text": text, "annotations": []}]
        message = {"type": "message", "role": "assistant", "content": content}
        return {"id": "resp_0", "object": "response", "status": "completed", "output": [message]}


class Chat:
    """OpenAI's chat completions."""

    def turn(self, asked: Document) -> Turn:
        """See Wire."""
        prompt, results = "", []
        for message in asked["messages"]:
            if "tool" == message["role"]:
                results.append(_text_of(message["content"]))
            elif "user" == message["role"]:
                prompt, results = _text_of(message["content"]), []
        return Turn(prompt, tuple(results))

    def tools(self, asked: Document) -> tuple[str, ...]:
        """See Wire."""
        return tuple(tool["function"]["name"] for tool in asked.get("tools", ()))

    def answer(self, act: Say | Document, number: int) -> Iterator[tuple[str | None, Any]]:
        """See Wire."""
        if isinstance(act, Say):
            delta: Document = {"role": "assistant", "content": act.text}
        else:
            function = {"name": act["name"], "arguments": json.dumps(act["arguments"])}
            call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
            delta = {"role": "assistant", "content": None, "tool_calls": [call]}
        yield None, self._chunk(number, [{"index": 0, "delta": delta, "finish_reason": None}])
        reason = "stop" if isinstance(act, Say) else "tool_calls"
        yield None, self._chunk(number, [{"index": 0, "delta": {}, "finish_reason": reason}])
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        yield None, self._chunk(number, []) | {"usage": usage}
        yield None, "[DONE]"

    def whole(self, text: str) -> Document:
        """See Wire."""
        message = {"role": "assistant", "content": text}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        return self._chunk(0, choices) | {"object": "chat.completion", "usage": usage}

    @staticmethod
    def _chunk(number: int, choices: list[Document]) -> Document:
        return {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "scripted",
            "choices": choices,
        }


class Gemini:
    """Google's generateContent."""

    def turn(self, asked: Document) -> Turn:
        """See Wire."""
        prompt, results = "", []
        for content in asked["contents"]:
            returned = [
                part["functionResponse"]["response"]
                for part in content["parts"]
                if "functionResponse" in part
            ]
            if returned:
                results += [str(answer.get("output") or answer.get("error")) for answer in returned]
            elif "user" == content.get("role"):
                prompt, results = _text_of(content["parts"]), []
        return Turn(prompt, tuple(results))

    def tools(self, asked: Document) -> tuple[str, ...]:
        """See Wire."""
        return tuple(
            function["name"]
            for tool in asked.get("tools", ())
            for function in tool.get("functionDeclarations", ())
        )

    def answer(self, act: Say | Document, number: int) -> Iterator[tuple[str | None, Any]]:
        """See Wire."""
        if isinstance(act, Say):
            part: Document = {"text": act.text}
        else:
            part = {"functionCall": {"name": act["name"], "args": act["arguments"], "id": f"call_{number}"}}
        yield None, self._candidates(part)

    def whole(self, text: str) -> Document:
        """See Wire."""
        return {"totalTokens": 11} | self._candidates({"text": text})

    @staticmethod
    def _candidates(part: Document) -> Document:
        content = {"role": "model", "parts": [part]}
        usage = {"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18}
        candidates = [{"index": 0, "content": content, "finishReason": "STOP"}]
        return {"candidates": candidates, "usageMetadata": usage, "modelVersion": "scripted"}


def _wire(path: str) -> Wire | None:
    known = {
        "/v1/messages": Anthropic(),
        "/v1/responses": Responses(),
        "/v1/chat/completions": Chat(),
        "enerateContent": Gemini(),
    }
    return next((wire for word, wire in known.items() if word in path), None)


@dataclass
class Model:
    """A running server. script: what it obeys now; requests: what it was asked, with tools; away: it hangs up."""

    url: str
    script: Script = lambda _: Say("There is nothing to do.")
    requests: list[Request] = field(default_factory=list)
    away: bool = False

    def act(self, request: Request) -> Say | Document:
        """Choose the next words or call, by the tools that the client offers."""
        self.requests.append(request)
        act = self.script(request.turn)
        if isinstance(act, Say):
            return act
        if isinstance(act, Call):
            return {"name": act.name, "arguments": act.arguments}
        if isinstance(act, Write):
            for name in request.tools:
                if name in _EDITORS:
                    # Some want the whole path. Each tells its model which folder it works in; in a session that was
                    # taken up again, an earlier one was told before.
                    folders = _FOLDER.findall(request.text)
                    assert folders, f"no client says where it works: {request.text[:2000]}"
                    arguments = _EDITORS[name](str(Path(folders[-1]) / act.path), act.content)
                    return {"name": name, "arguments": arguments}
            act = Shell(f"cat >{act.path} <<'END_OF_FILE'\n{act.content.rstrip()}\nEND_OF_FILE")
        shell = next(name for name in request.tools if name in _SHELLS)
        return {"name": shell, "arguments": _SHELLS[shell](act.command)}


def _handler(model: Model) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._send(b"", "text/plain")

        def do_GET(self) -> None:
            self._send(json.dumps({"object": "list", "data": [], "models": []}).encode(), "application/json")

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if model.away:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            wire = _wire(self.path)
            if wire is None or "count_tokens" in self.path:
                self._send(b'{"input_tokens": 11, "totalTokens": 11}', "application/json")
                return
            asked = json.loads(text)
            tools = wire.tools(asked)
            streamed = asked.get("stream") or "streamGenerateContent" in self.path
            act: Say | Document = Say("Title")
            if set(tools) & set(_SHELLS):
                act = model.act(Request(self.path, tools, wire.turn(asked), text))
            if not streamed:
                assert isinstance(act, Say), "tools are only called in a stream"
                self._send(json.dumps(wire.whole(act.text)).encode(), "application/json")
                return
            events = wire.answer(act, len(model.requests))
            self._send("".join(map(_event, events)).encode(), "text/event-stream")

        def _send(self, content: bytes, media_type: str) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet: the tests look at the requests."""

    return Handler


def _event(named: tuple[str | None, Any]) -> str:
    name, data = named
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


@contextmanager
def running_model(port: int = 0) -> Iterator[Model]:
    """Serve until the end of the context."""
    model = Model("")
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(model))
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
