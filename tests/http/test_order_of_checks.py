"""Where a callback has two faults, the earlier check of the contract answers: (a) to (f) of its order."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tests.desk import Desk, assert_problem, callback, token


@dataclass
class Scene:
    """An executor's first attempt, with one accepted heartbeat; and its first attempt of another task."""

    desk: Desk
    credential: str
    task_id: str
    attempt_token: str
    other_token: str
    accepted: dict[str, Any]

    def next(self, **changes: Any) -> dict[str, Any]:
        """Compose a fresh callback, with changes to the envelope."""
        return callback("heartbeat", self.task_id, 1, 3, {}) | changes

    def reused(self, **changes: Any) -> dict[str, Any]:
        """Change the callback that was accepted, under its own id."""
        return self.accepted | changes

    async def end(self) -> None:
        """Take the right to write away."""
        await self.desk.direct(self.task_id, "/cancel")

    async def rotate(self) -> None:
        """Acknowledge again, as an executor does whose process died."""
        await self.desk.ack(self.task_id, self.credential)

    async def revoke(self) -> None:
        """Give the executor another credential."""
        name = self.credential.removeprefix(token(""))
        await self.desk.backend.registry.replace_credentials(name, hashlib.sha256(name.encode()).digest())


async def set_scene(desk: Desk, executor: str) -> Scene:
    """Have an executor of this name at work on two tasks."""
    credential = await desk.executor(executor)
    tasks = [await desk.task(assignee=executor) for _ in range(2)]
    tokens = [await desk.ack(task_id, credential) for task_id in tasks]
    accepted = callback("heartbeat", tasks[0], 1, 2, {})
    assert 202 == (await desk.send(accepted, tokens[0])).status_code
    return Scene(desk, credential, tasks[0], *tokens, accepted)


Given = tuple[Any, str]
Play = Callable[[Scene], Awaitable[Given]]


async def _unknown_and_malformed(_: Scene) -> Given:
    return b"{", "garbage"


async def _unknown_and_faulty(s: Scene) -> Given:
    return s.next(seq=False), "garbage"


async def _unknown_and_reused(s: Scene) -> Given:
    return s.reused(seq=9), "garbage"


async def _scope_and_faulty(s: Scene) -> Given:
    return s.next(seq=False, body={"surplus": 1}), s.other_token


async def _kind_and_faulty(s: Scene) -> Given:
    return s.next(seq=False), s.credential


async def _ack_by_token_and_faulty(s: Scene) -> Given:
    return s.next(kind="ack"), s.attempt_token


async def _scope_and_replay(s: Scene) -> Given:
    return s.reused(), s.other_token


async def _scope_and_reused(s: Scene) -> Given:
    return s.reused(seq=9), s.other_token


async def _scope_and_ended(s: Scene) -> Given:
    await s.end()
    return s.next(), s.other_token


async def _reused_and_faulty(s: Scene) -> Given:
    return s.reused(seq=False, body={"surplus": 1}), s.attempt_token


async def _reused_and_ended(s: Scene) -> Given:
    await s.end()
    return s.reused(seq=9), s.attempt_token


async def _reused_and_stale(s: Scene) -> Given:
    return s.reused(seq=1), s.attempt_token


async def _reused_and_rotated(s: Scene) -> Given:
    await s.rotate()
    return s.reused(seq=9), s.attempt_token


async def _faulty_and_ended(s: Scene) -> Given:
    await s.end()
    result = callback("result", s.task_id, 1, 3)
    return result | {"body": result["body"] | {"outcome": "done"}}, s.attempt_token


async def _faulty_and_stale(s: Scene) -> Given:
    return s.next(seq=1, body={"surplus": 1}), s.attempt_token


async def _ended_and_stale(s: Scene) -> Given:
    await s.end()
    return s.next(seq=1), s.attempt_token


async def _ended_and_wrong_kind(s: Scene) -> Given:
    await s.end()
    return callback("plan", s.task_id, 1, 1), s.attempt_token


async def _rotated_and_stale(s: Scene) -> Given:
    await s.rotate()
    return s.next(seq=1), s.attempt_token


async def _revoked_and_wrong_kind(s: Scene) -> Given:
    await s.revoke()
    return s.next(), s.credential


async def _revoked_and_unknown_task(s: Scene) -> Given:
    await s.revoke()
    return callback("decline", "nowhere", 1, 1), s.credential


ORDER: list[tuple[Play, int, str]] = [
    (_unknown_and_malformed, 401, "credential_invalid"),
    (_unknown_and_faulty, 401, "credential_invalid"),
    (_unknown_and_reused, 401, "credential_invalid"),
    (_scope_and_faulty, 403, "scope_denied"),
    (_kind_and_faulty, 403, "scope_denied"),
    (_ack_by_token_and_faulty, 403, "scope_denied"),
    (_scope_and_replay, 403, "scope_denied"),
    (_scope_and_reused, 403, "scope_denied"),
    (_scope_and_ended, 403, "scope_denied"),
    (_reused_and_faulty, 422, "idempotency_mismatch"),
    (_reused_and_ended, 422, "idempotency_mismatch"),
    (_reused_and_stale, 422, "idempotency_mismatch"),
    (_reused_and_rotated, 422, "idempotency_mismatch"),
    (_faulty_and_ended, 422, "schema_invalid"),
    (_faulty_and_stale, 422, "schema_invalid"),
    (_ended_and_stale, 409, "attempt_superseded"),
    (_ended_and_wrong_kind, 409, "attempt_superseded"),
    (_rotated_and_stale, 401, "token_expired"),
    (_revoked_and_wrong_kind, 403, "scope_denied"),
    (_revoked_and_unknown_task, 401, "token_expired"),
]


async def test_the_earlier_check_answers(desk: Desk, subtests: pytest.Subtests) -> None:
    """Of two faults the one that the contract checks first is answered, and no event follows from either."""
    for number, (play, status, code) in enumerate(ORDER):
        with subtests.test(play.__name__):
            scene = await set_scene(desk, f"coder-{number}")
            document, credential = await play(scene)
            events = await desk.events(scene.task_id)
            assert_problem(await desk.send(document, credential), status, code)
            kept = (await desk.events(scene.task_id))[len(events) :]
            assert kept == (["callback.quarantined"] if play is _ended_and_wrong_kind else [])


@pytest.mark.parametrize("change", [Scene.end, Scene.rotate, Scene.revoke])
async def test_a_replay_is_answered_before_the_token_is_judged(
    desk: Desk, change: Callable[[Scene], Awaitable[None]]
) -> None:
    """What was accepted once gets its stored answer again, even after the token ended or was replaced."""
    scene = await set_scene(desk, "coder")
    first = await desk.send(scene.accepted, scene.attempt_token)
    await change(scene)
    before = await desk.stored()
    again = await desk.send(scene.accepted, scene.attempt_token)
    assert (202, "true", first.json()) == (
        again.status_code,
        again.headers["idempotent-replayed"],
        again.json(),
    )
    assert before == await desk.stored()
