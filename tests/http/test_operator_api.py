"""The operators' side: who may do what, what is refused, and how lists are paged."""

from typing import Any

import pytest
from tests.desk import PEOPLE, Desk, assert_problem, bearer, token

NOWHERE = "0199f0aa-3c1e-7b52-9f0e-5d1f6f0a7c11"
TASK = {"title": "T", "goal": "G"}
EXECUTOR = {"name": "new", "role": "developer"}
PERSON = {"name": "paul", "role": "viewer"}
ACCOUNT = {"control_plane": "board", "account": "a1"}

ROUTES: list[tuple[str, str, Any, set[str]]] = [
    ("GET", "/api/tasks", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/events", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}?at=1", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/versions/1..2", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/why", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/attempts", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/reviews", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/brief", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/tasks/{task}/artifacts", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/executors", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/decisions", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/decisions/{decision}", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/decisions/{decision}/explanation", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/governance/shadow", None, {"ada", "olga", "rita", "vera"}),
    ("POST", "/api/policy/simulations", {"policy": {"name": "p", "text": ""}}, {"ada", "olga"}),
    ("GET", "/api/observations", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/quarantine", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/governance", None, {"ada", "olga", "rita", "vera"}),
    ("GET", "/api/governance/bundles/{bundle}", None, {"ada", "olga", "rita", "vera"}),
    ("POST", "/api/audit/verify", {}, {"ada", "olga", "rita", "vera"}),
    ("POST", "/api/tasks/{task}/directives", {"text": "/status"}, {"ada", "olga", "rita"}),
    ("POST", "/api/tasks", TASK, {"ada", "olga"}),
    ("POST", "/api/executors", EXECUTOR, {"ada"}),
    ("POST", "/api/tokens", PERSON, {"ada"}),
    ("PUT", "/api/principals/olga/accounts", ACCOUNT, {"ada"}),
    ("POST", "/api/projections/rebuild", {}, {"ada"}),
    ("POST", "/api/sources", {"name": "ci"}, {"ada"}),
    ("GET", "/api/sources", None, {"ada"}),
    ("POST", "/api/sources/ci-ada/rotate", {}, {"ada"}),
    ("DELETE", "/api/sources/ci-ada", None, {"ada"}),
    ("GET", "/api/tokens", None, {"ada"}),
    ("POST", "/api/tokens/paul-ada/rotate", {}, {"ada"}),
    ("DELETE", "/api/tokens/paul-ada", None, {"ada"}),
    ("POST", "/api/executors/new-ada/rotate", {}, {"ada"}),
    ("DELETE", "/api/executors/new-ada", None, {"ada"}),
]


async def test_each_route_opens_to_its_roles_only(desk: Desk, subtests: pytest.Subtests) -> None:
    """Nobody without a credential gets in, no executor and no attempt token, and of the people only those named."""
    await desk.executor()
    await desk.executor("idle")
    task_id = await desk.task(assignee="coder")
    attempt_token = await desk.ack(task_id)
    bundle = "sha256:b"
    await desk.backend.registry.record_bundle(bundle, {"rules": []}, "ada")
    (*_, decided) = (await desk.show("/api/decisions", params={"task": task_id}))["items"]
    await desk.backend.registry.record_bundle(decided["bundle"], {"defaults": {}, "rules": []}, "ada")
    for method, path, body, allowed in ROUTES:
        with subtests.test(f"{method} {path}"):
            url = path.format(task=task_id, bundle=bundle, decision=decided["id"])
            before = await desk.stored()
            for credential, status, code in (
                (None, 401, "credential_invalid"),
                ("garbage", 401, "credential_invalid"),
                (attempt_token, 403, "scope_denied"),
                (token("idle"), 403, "scope_denied"),
                *((token(name), 403, "scope_denied") for name in PEOPLE.keys() - allowed),
            ):
                headers = bearer(credential) if credential else {}
                answer = await desk.client.request(method, url, json=body, headers=headers)
                assert_problem(answer, status, code)
            assert before == await desk.stored()
            for name in allowed:
                named = {**body, "name": f"{body['name']}-{name}"} if body and "name" in body else body
                answer = await desk.client.request(method, url, json=named, headers=bearer(token(name)))
                assert answer.is_success, answer.text


async def test_an_unknown_task_is_not_found(desk: Desk) -> None:
    """Reading or steering a task that does not exist is 404 with a code, also for ids that no task can have."""
    for path in ("/api/tasks/{}", "/api/tasks/{}/events", "/api/tasks/{}/brief", "/api/tasks/{}/artifacts"):
        for task_id in (NOWHERE, "%00", "\u00fc"):
            assert_problem(await desk.get(path.format(task_id)), 404, "unknown_task")
    steered = await desk.post(f"/api/tasks/{NOWHERE}/directives", {"text": "/status"}, "ada")
    assert_problem(steered, 404, "unknown_task")


async def test_unknown_routes_and_methods_are_problems_too(desk: Desk) -> None:
    """The framework's own refusals have the same form as ours, and 405 names the methods that there are."""
    assert_problem(await desk.client.get("/api/nothing"), 404, "not_found")
    assert_problem(await desk.client.get("/api/tasks/"), 404, "not_found")
    answer = await desk.client.delete("/api/executions/callback")
    assert_problem(answer, 405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]


QUERIES = [
    ("/api/tasks?limit=0", "/limit"),
    ("/api/tasks?limit=501", "/limit"),
    ("/api/tasks?limit=many", "/limit"),
    ("/api/tasks?cursor=garbage", "/cursor"),
    ("/api/tasks?cursor=eA==", "/cursor"),
    ("/api/tasks?cursor=\u00fc", "/cursor"),
    ("/api/tasks?cursor=MjAyNi0xMy0wMSB4", "/cursor"),
    ("/api/tasks?text=" + "x" * 201, "/text"),
    ("/api/quarantine?limit=-1", "/limit"),
    ("/api/tasks/{}/events?after=-1", "/after"),
    ("/api/tasks/{}/events?after=9999999999", "/after"),
]


async def test_bad_query_parameters_are_named(desk: Desk, subtests: pytest.Subtests) -> None:
    """A query that cannot be read is refused with the parameter's name."""
    for path, pointer in QUERIES:
        with subtests.test(path):
            assert_problem(await desk.get(path.format(NOWHERE)), 422, "schema_invalid", pointer)


async def test_tasks_are_listed_newest_first_in_pages(desk: Desk) -> None:
    """Pages join without gap or repeat, filters hold, and text is searched as written."""
    made = [
        (await desk.post("/api/tasks", TASK | {"title": f"T{n} 100%"}, "olga")).json()["id"] for n in range(5)
    ]
    found: list[str] = []
    cursor = None
    while True:
        page = await desk.show("/api/tasks", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        found += [t["id"] for t in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert made[::-1] == found
    for query, expected in (
        ({"text": "t3"}, 1),
        ({"text": "%"}, 5),
        ({"text": "_"}, 0),
        ({"text": "\0"}, 0),
        ({"phase": "ready"}, 5),
        ({"phase": "completed"}, 0),
        ({"project": "other"}, 0),
        ({"executor": "coder"}, 0),
    ):
        assert expected == len((await desk.show("/api/tasks", params=query))["items"]), query


FAULTY: list[tuple[dict[str, Any], str]] = [
    ({"title": ""}, "/title"),
    ({"title": "a\nb"}, "/title"),
    ({"title": None}, "/title"),
    ({"surplus": 1}, "/surplus"),
    ({"mode": "autonomous"}, "/mode"),
    ({"risk": "none"}, "/risk"),
    ({"acceptance": [{"id": "a", "text": "t"}, {"id": "a", "text": "u"}]}, "/acceptance"),
    ({"acceptance": [{"id": "a b", "text": "t"}]}, "/acceptance/0/id"),
    ({"acceptance": [{"id": "a", "text": "t", "rank": "certain"}]}, "/acceptance/0/rank"),
    ({"assignee": "nobody"}, "/assignee"),
    ({"assignee": "ada"}, "/assignee"),
    ({"depends_on": [NOWHERE]}, "/depends_on/0"),
    ({"budget": {"attempts": False}}, "/budget/attempts"),
    ({"budget": {"tokens": -1}}, "/budget/tokens"),
    ({"budget": {"tokens": 2**53}}, "/budget/tokens"),
    ({"due": "2026-11-20T12:00:00"}, "/due"),
    ({"due": "soon"}, "/due"),
    ({"goal": "a\0b"}, "/goal"),
    ({"goal": "x" * 200_001}, "/goal"),
]


async def test_a_faulty_task_is_refused(desk: Desk, subtests: pytest.Subtests) -> None:
    """Each fault of a request for a task is named by its pointer, and nothing is created."""
    for change, pointer in FAULTY:
        with subtests.test(pointer):
            answer = await desk.post("/api/tasks", TASK | change, "olga")
            assert_problem(answer, 422, "schema_invalid", pointer)
    assert [] == (await desk.show("/api/tasks"))["items"]


async def test_malformed_bodies_are_refused_everywhere(desk: Desk) -> None:
    """Every route that takes a body refuses what is no JSON, duplicate keys, and too much."""
    for path in ("/api/tasks", "/api/executors", "/api/tokens"):
        for body, status, code in (
            (b"{", 400, "malformed"),
            (b"\xff", 400, "malformed"),
            (b'{"name": "a", "name": "b"}', 422, "schema_invalid"),
            (b"[]", 422, "schema_invalid"),
            (b'"' + b"x" * 1_048_576 + b'"', 413, "too_large"),
        ):
            answer = await desk.client.post(path, content=body, headers=bearer(token("ada")))
            assert_problem(answer, status, code)


async def test_a_name_is_given_once(desk: Desk) -> None:
    """A second executor or person of one name is refused, whichever came first."""
    assert_problem(
        await desk.post("/api/tokens", PERSON | {"name": "olga"}, "ada"), 409, "name_taken", "/name"
    )
    assert_problem(
        await desk.post("/api/executors", EXECUTOR | {"name": "olga"}, "ada"), 409, "name_taken", "/name"
    )
    unknown = await desk.post("/api/executors", EXECUTOR | {"owner": "nobody"}, "ada")
    assert_problem(unknown, 422, "schema_invalid", "/owner")
    for name in ("Upper", "a b", "", "a/b", "-a"):
        assert_problem(
            await desk.post("/api/executors", EXECUTOR | {"name": name}, "ada"),
            422,
            "schema_invalid",
            "/name",
        )


async def test_an_expired_token_is_refused(desk: Desk) -> None:
    """A token that was given for a time says so when the time is over."""
    made = (await desk.post("/api/tokens", PERSON | {"expires_in_days": 1}, "ada")).json()
    await desk.execute("update es.credential set expires_at = now() where principal = 'paul'")
    assert_problem(await desk.client.get("/api/tasks", headers=bearer(made["token"])), 401, "token_expired")


async def test_an_approval_names_what_is_under_review(desk: Desk) -> None:
    """An old version, another digest and a bare approval are refused, each with the line to paste, which then works."""
    task_id = await desk.planned()
    await desk.direct(task_id, "/revise v1 again", as_="rita")
    items = (await desk.show(f"/api/tasks/{task_id}/brief"))["brief"]["review_items"]
    answers = [{"item_id": i["id"], "how": "done"} for i in items]
    first = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"][7:15]
    attempt_token = await desk.ack(task_id)
    await desk.submit("plan", task_id, attempt_token, attempt=2, summary="Other.", responds_to=answers)
    before = await desk.events(task_id)
    right = f"/approve v2@{(await desk.show(f'/api/tasks/{task_id}'))['plan']['digest'][7:15]}"
    for text, rule in (
        (f"/approve v1@{first}", "digest_mismatch"),
        (f"/approve v2@{first}", "digest_mismatch"),
        ("/approve v1", "digest_mismatch"),
        ("/approve", "confirmation_required"),
    ):
        receipt = await desk.direct(task_id, text, as_="rita")
        assert ("refused", rule, right) == (receipt["outcome"], receipt["rule"], receipt["paste"]), text
    assert before == await desk.events(task_id)
    assert "done" == (await desk.direct(task_id, right, as_="rita"))["outcome"]


REFUSED = [
    ("olga", "/approve v1@{digest}", "not_permitted"),
    ("rita", "/cancel", "not_permitted"),
    ("ada", "/adapt it", "unknown_directive"),
    ("ada", "/adopt it because", "wrong_phase"),
    ("ada", "/answer q1 yes", "wrong_phase"),
    ("ada", "/approve r1@{digest}", "wrong_target"),
    ("ada", "/revise v1@{digest}", "items_required"),
    ("ada", "/reassign @nobody", "unknown_executor"),
    ("ada", "/retry", "wrong_phase"),
    ("ada", "/reject v1\n/cancel", "one_directive"),
]


async def test_a_refused_directive_is_receipted(desk: Desk, subtests: pytest.Subtests) -> None:
    """Whoever may steer gets a receipt that names the rule which refused, and the task stays as it was."""
    task_id = await desk.planned()
    digest = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"][7:15]
    before = await desk.events(task_id)
    for name, text, rule in REFUSED:
        with subtests.test(text):
            receipt = await desk.direct(task_id, text.format(digest=digest), as_=name)
            assert ("refused", rule) == (receipt["outcome"], receipt["rule"])
            assert receipt["message"]
            assert before == await desk.events(task_id)


CHAT = ["Looks good to me.", "> /cancel", "```\n/cancel\n```", " /cancel", "<!--\n/cancel\n-->"]


async def test_a_text_without_a_directive_is_refused(desk: Desk) -> None:
    """Where a text holds no directive at column 0, outside quotes, code and HTML comments, nothing is carried out."""
    task_id = await desk.task()
    for text in CHAT:
        answer = await desk.post(f"/api/tasks/{task_id}/directives", {"text": text}, "ada")
        assert_problem(answer, 422, "schema_invalid", "/text")
    assert "ready" == await desk.phase(task_id)


async def test_help_lists_what_this_person_may_do_now(desk: Desk) -> None:
    """A reviewer is shown the exact line of the approval, an operator what operators may, and neither the other's."""
    task_id = await desk.planned()
    digest = (await desk.show(f"/api/tasks/{task_id}"))["plan"]["digest"][7:15]
    reviewer = (await desk.direct(task_id, "/help", as_="rita"))["message"]
    operator = (await desk.direct(task_id, "/help", as_="olga"))["message"]
    assert f"`/approve v1@{digest}`" in reviewer
    assert "/cancel" not in reviewer
    assert "/cancel" in operator
    assert "/approve" not in operator


async def test_rebuilding_changes_no_answer(desk: Desk) -> None:
    """After the read models were replaced by what the events say, every list and task reads as before."""
    await desk.executor()
    done = await desk.task()
    await desk.submit("result", done, await desk.ack(done))
    waiting = await desk.task(mode="plan_first")
    paths = [
        "/api/tasks",
        f"/api/tasks/{done}/artifacts",
        f"/api/tasks/{waiting}",
        f"/api/tasks/{done}/events",
    ]
    before = [await desk.show(path) for path in paths]
    assert {"tasks": 2} == (await desk.post("/api/projections/rebuild", {}, "ada")).json()
    assert before == [await desk.show(path) for path in paths]


async def test_a_changed_event_breaks_the_audit(desk: Desk) -> None:
    """The audit names the stream and the version of an event that somebody changed in the database."""
    task_id = await desk.task()
    await desk.execute("alter table es.event disable trigger all")
    await desk.execute(
        "update es.event set payload = replace(payload, 'constant', 'variable') where stream_id = %s and version = 1",
        task_id,
    )
    report = (await desk.post("/api/audit/verify", {}, "vera")).json()
    assert "broken" == report["audit"]
    assert f"{task_id} version 1" in report["problem"]


async def test_a_task_without_an_attempt_has_no_brief(desk: Desk) -> None:
    """A task without an attempt has no brief yet, and says so."""
    task_id = await desk.task()
    assert_problem(await desk.get(f"/api/tasks/{task_id}/brief"), 404, "not_found")
