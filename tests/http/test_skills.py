"""Skills over HTTP: the definition in force is what was applied, drift is on record, and gaps keep work away."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import Database, OpenBackend
from tests.desk import Desk, assert_problem, callback, digest, open_client, token

from agentic_os.application.issue_view import Documents, issue_view
from agentic_os.application.ports import Principal
from agentic_os.domain.skill_lock import LockedSet, LockedSkill, SkillLock, follow_roots, read_lock
from agentic_os.hydration import hydrate, load_definition, lock_text, resolve, survey

POLICY = "rules: []\n"
ROLES = "roles: {developer: {skills: [deploy]}}\nprojects: {payments: {}}\n"


@pytest.fixture
def make_skill(tmp_path: Path) -> Callable[..., Path]:
    """Write a valid skill into the source root `skills`; returns its folder."""

    def make(name: str, text: str = "Do it.") -> Path:
        folder = tmp_path / "skills" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "SKILL.md").write_text(f"---\nname: {name}\ndescription: Does {name}.\n---\n{text}\n")
        return folder

    return make


@pytest.fixture
def bundle(tmp_path: Path, make_skill: Callable[..., Path]) -> Callable[..., dict[str, Any]]:
    """Compose what `agentic-os apply` sends of a skills.yaml over the root `skills`."""

    def compose(*names: str, organisation: str = "", **members: Any) -> dict[str, Any]:
        for name in names:
            if not (tmp_path / "skills" / name).exists():
                make_skill(name)
        text = json.dumps({"source_roots": ["./skills"], "global_defaults": list(names)} | members, indent=1)
        documents = {"policy.yaml": POLICY, "skills.yaml": text}
        if organisation:
            documents["organisation.yaml"] = organisation
        lock = lock_text(text, tmp_path / "skills.yaml").as_json()
        return {"documents": documents, "reason": "We agreed.", "skills": lock}

    return compose


async def apply(desk: Desk, body: dict[str, Any], *, applied: bool = True) -> None:
    """Put a bundle in force."""
    answer = await desk.post("/api/governance", body, as_="ada")
    assert (200, applied) == (answer.status_code, answer.json().get("applied")), answer.text
    await desk.work()


async def try_ack(desk: Desk, task_id: str, found: str, number: int = 1) -> httpx.Response:
    """Acknowledge with these skills."""
    brief = (await desk.show(f"/api/tasks/{task_id}/brief"))["digest"]
    body = {"brief_digest": brief, "skillset_digest": found, "runtime": {"name": "t"}}
    return await desk.send(callback("ack", task_id, number, 1, body), token("coder"))


async def test_what_was_applied_is_in_force_and_not_what_lies_there(
    desk: Desk, bundle: Callable[..., Any], make_skill: Callable[..., Path]
) -> None:
    """An ack must match the bundle's lock at once; a source that is changed afterwards counts when it is applied."""
    await desk.executor(skills="required")
    task_id = await desk.task()
    await apply(desk, bundle("deploy"))
    first = await desk.show("/api/skills/default")
    assert ["deploy"] == [skill["name"] for skill in first["skills"]]
    make_skill("deploy", "Do it otherwise.")
    assert first == await desk.show("/api/skills/default")
    changed = bundle("deploy")
    assert 409 == (await try_ack(desk, task_id, changed["skills"]["others"]["digest"])).status_code
    await apply(desk, changed)
    second = await desk.show("/api/skills/default")
    assert first["digest"] != second["digest"] == changed["skills"]["others"]["digest"]
    assert (first["bundle"], first["definition"]) == (second["bundle"], second["definition"])
    assert 202 == (await try_ack(desk, task_id, second["digest"])).status_code
    await apply(desk, changed, applied=False)


async def test_the_skills_of_a_bundle_are_in_its_event(desk: Desk, bundle: Callable[..., Any]) -> None:
    """The event and GET /api/governance hold the digest of the text and the set of each project."""
    wanted = bundle("deploy", "test", project_defaults={"payments": ["test"]})
    await apply(desk, wanted)
    shown = await desk.show("/api/governance")
    assert wanted["skills"] == shown["skills"]
    assert digest(wanted["documents"]["skills.yaml"].encode()) == shown["skills"]["text"]
    (event,) = (await desk.rows("select payload from es.event where type = 'bundle.applied'"))[-1]
    assert wanted["skills"] == json.loads(event)["data"]["skills"]
    await apply(desk, {"documents": {"policy.yaml": POLICY}, "reason": "Without."})
    assert (await desk.show("/api/governance"))["skills"]["text"] is None
    package = resolve(load_definition(None), "default").digest
    assert package == (await desk.show("/api/skills/default"))["digest"]


async def test_another_process_follows_the_skills(
    open_test_backend: OpenBackend, database: Database, bundle: Callable[..., Any]
) -> None:
    """A server beside the one where a bundle is applied expects its skills without a restart, and so does a later."""
    async with open_test_backend() as one, open_test_backend() as other, open_client(one) as client:
        desk = Desk(one, client, database.owner)
        await desk.staff()
        wanted = bundle("deploy")
        await apply(desk, wanted)
        assert read_lock(wanted["skills"]) != other.skills()
        await Desk(other, client, database.owner).worker.look_around()
        assert read_lock(wanted["skills"]) == other.skills()
    async with open_test_backend() as later:
        await later.governing.follow()
        assert read_lock(wanted["skills"]) == later.skills()


async def test_a_bundle_from_before_skills_leaves_those_in_force(
    desk: Desk, bundle: Callable[..., Any]
) -> None:
    """A bundle that was recorded without skills says nothing of them."""
    await apply(desk, bundle("deploy"))
    before = desk.backend.skills()
    await desk.backend.registry.record_bundle("sha256:old", {"rules": []}, "ada")
    await desk.backend.governing.follow()
    assert before == desk.backend.skills()
    assert (await desk.show("/api/governance"))["skills"] is None


async def test_a_bad_definition_refuses_the_whole_bundle(desk: Desk, bundle: Callable[..., Any]) -> None:
    """A fault is told with file and line, a lock that is not of the text too, and nothing is recorded."""
    before = await desk.rows("select count(*) from es.event")
    good = bundle("deploy")

    def text(changed: str) -> dict[str, Any]:
        return {**good, "documents": {**good["documents"], "skills.yaml": changed}}

    lock = good["skills"]
    others = {**lock["others"], "skills": [{**lock["others"]["skills"][0], "digest": "sha256:" + "0" * 64}]}
    cases: list[tuple[dict[str, Any], str]] = [
        (text("source_roots: [./x]\nglobal_defaults: [Bad]\n"), "skills.yaml:2: 'Bad' is no skill name"),
        (
            text("source_roots: [./x]\nglobal_defaults: [deploy]\n"),
            "skills.yaml: the lock is not of this text",
        ),
        (text("a: " + "[" * 5000), "skills.yaml:1: nests too deep"),
        (text("{"), "skills.yaml:1: "),
        ({**good, "skills": None}, "skills.yaml: comes with the lock"),
        ({**good, "skills": {**lock, "others": others}}, "others.digest: is not that of its skills"),
        ({**good, "skills": {**lock, "projects": {}}}, "the lock must have the projects default"),
        ({**good, "skills": {}}, "must be an object with exactly text, others, projects"),
        ({**good, "documents": {"policy.yaml": POLICY}}, "comes with the text of its skills.yaml"),
    ]
    for body, words in cases:
        problem = assert_problem(await desk.post("/api/governance", body, as_="ada"), 422, "schema_invalid")
        assert words in problem["detail"]
    assert before == await desk.rows("select count(*) from es.event")


async def test_drift_is_on_record_once_for_each_set_of_skills(desk: Desk) -> None:
    """A refused ack leaves an event with both digests, said once, and task, log and note say what to run."""
    await desk.executor(skills="required")
    task_id = await desk.task()
    expected = (await desk.show("/api/skills/default"))["digest"]
    other, third = "sha256:" + "5" * 64, "sha256:" + "6" * 64
    for found in (other, other, third, other):
        assert_problem(await try_ack(desk, task_id, found), 409, "skill_drift", "/body/skillset_digest")
    events = (await desk.show(f"/api/tasks/{task_id}/events"))["items"]
    drifts = [event for event in events if event["type"] == "skills.drifted"]
    assert [other, third] == [event["data"]["found"] for event in drifts]
    told = {"attempt": 1, "executor": "coder", "expected": expected, "found": other}
    assert told == drifts[0]["data"]
    what = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"]
    assert third[:19] in what
    assert expected[:19] in what
    assert "agentic-os skills hydrate --project default" in what
    assert what == (await desk.show(f"/api/tasks/{task_id}/why"))["waiting_for"]["what"]
    task = (await desk.backend.log.load(task_id)).task
    assert task is not None
    assert what in issue_view(task, Documents(), "http://desk").status
    assert 202 == (await try_ack(desk, task_id, expected)).status_code
    assert "a result" == (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"]


async def test_drifts_of_one_attempt_are_bounded(desk: Desk) -> None:
    """An executor that sends ever other digests fills no history."""
    await desk.executor(skills="required")
    task_id = await desk.task()
    for number in range(12):
        assert 409 == (await try_ack(desk, task_id, f"sha256:{number:064x}")).status_code
    assert 8 == (await desk.events(task_id)).count("skills.drifted")


async def test_a_skill_that_a_role_requires_keeps_dispatch_away(
    desk: Desk, bundle: Callable[..., Any]
) -> None:
    """Where the project has not the skill nothing is offered, why and doctor say it, and an apply frees the task."""
    await apply(desk, bundle("test", organisation=ROLES))
    await desk.executor()
    task_id = await desk.task(project="payments")
    assert "ready" == await desk.phase(task_id)
    what = (await desk.show(f"/api/tasks/{task_id}/why"))["waiting_for"]["what"]
    said = "the role developer of coder requires the skill deploy"
    assert said in what
    assert "agentic-os apply" in what
    checks = {check["name"]: check for check in (await desk.show("/api/doctor"))["checks"]}
    assert ("fault", "developer: deploy") == (
        checks["skills"]["status"],
        checks["skills"]["detail"].partition("(")[2].rstrip(")"),
    )
    assert said in checks["dispatch"]["detail"]
    await apply(desk, bundle("deploy", organisation=ROLES))
    assert "dispatched" == await desk.phase(task_id)
    checks = {check["name"]: check["status"] for check in (await desk.show("/api/doctor"))["checks"]}
    assert ("ok", "ok") == (checks["skills"], checks["dispatch"])


async def test_only_the_executor_without_the_skill_is_passed_over(
    desk: Desk, bundle: Callable[..., Any]
) -> None:
    """Another executor, whose roles require nothing, gets the task."""
    await apply(desk, bundle("test", organisation=ROLES))
    await desk.executor("coder")
    await desk.executor("writer", role="author")
    task_id = await desk.task()
    assert "writer" == (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["executor"]


async def test_a_failed_workspace_keeps_only_its_executor_away(desk: Desk) -> None:
    """What is reported of a workspace stops whoever works there until it is reported in step; all lists say why."""
    await desk.executor("coder", workspace="/w/coder")
    await report(desk, "/w/coder", "failed", problem="The disk is full.")
    task_id = await desk.task()
    assert "ready" == await desk.phase(task_id)
    what = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"]
    assert "agentic-os skills hydrate --project default --workspace /w/coder --report" in what
    (listed,) = (await desk.show("/api/executors"))["items"]
    assert ("/w/coder", "failed", "The disk is full.") == tuple(
        listed["workspace"][name] for name in ("path", "state", "problem")
    )
    (shown,) = (await desk.show("/api/skills/default"))["workspaces"]
    assert ("failed", "The disk is full.", ["coder"]) == (
        shown["state"],
        shown["problem"],
        shown["executors"],
    )
    (check,) = [c for c in (await desk.show("/api/doctor"))["checks"] if c["name"] == "workspaces"]
    assert "fault" == check["status"]
    assert "The disk is full." in check["detail"]
    await desk.executor("other", workspace="/w/other")
    await desk.work()
    assert "other" == (await desk.show(f"/api/tasks/{task_id}"))["attempt"]["executor"]
    await desk.execute("update es.principal set revoked_at = now() where name = 'other'")
    second = await desk.task()
    assert "ready" == await desk.phase(second)
    await report(desk, "/w/coder", "in_step")
    await desk.work()
    assert "coder" == (await desk.show(f"/api/tasks/{second}"))["attempt"]["executor"]


async def report(desk: Desk, path: str, state: str, **more: Any) -> None:
    """Tell of a workspace, held against what is in force now."""
    found = (await desk.show("/api/skills/default"))["digest"]
    body = {"path": path, "digest": found, "state": state} | more
    answer = await desk.post("/api/skills/default/workspaces", body, as_="ada")
    assert 200 == answer.status_code, answer.text


@pytest.mark.parametrize(
    ("skills", "lacking", "phase"),
    [
        ("required", [], "ready"),
        ("not-required", ["test"], "dispatched"),
        ("not-required", ["deploy"], "ready"),
    ],
)
async def test_who_needs_no_digest_needs_what_its_role_requires(
    desk: Desk, bundle: Callable[..., Any], skills: str, lacking: list[str], phase: str
) -> None:
    """Drift keeps away who must acknowledge with the digest, and who lacks a skill that its role requires."""
    await apply(desk, bundle("deploy", "test", organisation=ROLES))
    await desk.executor(skills=skills, workspace="/w")
    await report(desk, "/w", "drift", problem="a file differs", lacking=lacking)
    task_id = await desk.task()
    assert phase == await desk.phase(task_id)
    if phase == "ready" and lacking:
        what = (await desk.show(f"/api/tasks/{task_id}"))["waiting_for"]["what"]
        assert "requires the skill deploy, which its workspace /w lacks" in what


async def test_a_report_against_other_skills_says_nothing_of_those_in_force(
    desk: Desk, bundle: Callable[..., Any]
) -> None:
    """After an apply a workspace is unknown until it is looked at again; the ack decides meanwhile."""
    await desk.executor(skills="required", workspace="/w")
    await report(desk, "/w", "drift", problem="a file differs")
    task_id = await desk.task()
    assert "ready" == await desk.phase(task_id)
    await apply(desk, bundle("deploy"))
    (shown,) = (await desk.show("/api/skills/default"))["workspaces"]
    assert "unknown" == shown["state"]
    assert "dispatched" == await desk.phase(task_id)


async def test_a_survey_tells_of_a_source_that_was_tampered_with(
    tmp_path: Path, bundle: Callable[..., Any], make_skill: Callable[..., Path]
) -> None:
    """A workspace in step with a folder that is not what was applied drifts, and the skill is named."""
    body = bundle("deploy", "test")
    (tmp_path / "skills.yaml").write_text(body["documents"]["skills.yaml"])
    in_force = read_lock(body["skills"]).of("default")
    workspace = tmp_path / "w"
    workspace.mkdir()
    assert (
        "drift"
        == survey(workspace, resolve(load_definition(tmp_path / "skills.yaml"), "default"), in_force).state
    )
    hydrate(workspace, resolve(load_definition(tmp_path / "skills.yaml"), "default"))
    assert (
        "in_step"
        == survey(workspace, resolve(load_definition(tmp_path / "skills.yaml"), "default"), in_force).state
    )
    make_skill("deploy", "Do evil.")
    changed = resolve(load_definition(tmp_path / "skills.yaml"), "default")
    hydrate(workspace, changed)
    found = survey(workspace, changed, in_force)
    assert ("drift", ("deploy",)) == (found.state, found.lacking)
    assert "the skill deploy is not the one in force" in found.problem


async def test_who_may_ask_and_report(desk: Desk) -> None:
    """Only administrators report; an executor sees its own workspace; an unknown project is told as such."""
    await desk.executor("coder", workspace="/w/coder")
    await desk.executor("other", workspace="/w/other")
    for path in ("/w/coder", "/w/other"):
        await report(desk, path, "in_step")
    mine = (await desk.show("/api/skills/default", as_="other"))["workspaces"]
    assert ["/w/other"] == [shown["path"] for shown in mine]
    body = {"path": "/w", "digest": "sha256:" + "0" * 64, "state": "in_step"}
    refused = await desk.post("/api/skills/default/workspaces", body, as_="olga")
    assert_problem(refused, 403, "scope_denied")
    unknown = assert_problem(await desk.get("/api/skills/nowhere"), 404, "not_found")
    assert "default" in unknown["next"]
    assert_problem(await desk.post("/api/skills/nowhere/workspaces", body, as_="ada"), 404, "not_found")
    relative = await desk.post("/api/skills/default/workspaces", body | {"path": "w"}, as_="ada")
    assert_problem(relative, 422, "schema_invalid", "/path")
    await desk.task(project="nowhere")
    assert (await desk.show("/api/skills/nowhere"))["digest"]


async def test_an_executor_knows_its_workspace(desk: Desk) -> None:
    """The folder is in the event and the listing; one that is no absolute path is refused."""
    body = {"name": "smith", "role": "developer", "workspace": "/w/smith"}
    assert 201 == (await desk.post("/api/executors", body, as_="ada")).status_code
    (listed,) = (await desk.show("/api/executors"))["items"]
    assert {"path": "/w/smith", "state": "unknown"}.items() <= listed["workspace"].items()
    (event,) = (await desk.rows("select payload from es.event where stream_id = 'principal:smith'"))[0]
    assert "/w/smith" == json.loads(event)["data"]["workspace"]
    wrong = await desk.post("/api/executors", body | {"name": "b", "workspace": "w"}, as_="ada")
    assert_problem(wrong, 422, "schema_invalid", "/workspace")


async def test_a_reviewer_without_the_skill_waits_and_people_may_vote(
    open_test_backend: OpenBackend, database: Database, bundle: Callable[..., Any]
) -> None:
    """An executor that lacks what its role requires is not asked for a review either."""
    async with open_test_backend() as backend, open_client(backend) as client:
        desk = Desk(backend, client, database.owner)
        await desk.staff()
        body = bundle("test", organisation="roles: {qa: {skills: [deploy]}}\n")
        body["documents"]["policy.yaml"] = (
            "rules:\n  - {id: qa, on: task.received, require: {mode: plan_first, "
            "reviewers: {role: qa, quorum: 1, by: anyone}}}\n"
        )
        await apply(desk, body)
        await desk.register(
            Principal(
                id="quinn", name="quinn", kind="executor", roles=("qa",), owner="olga", skills="not-required"
            )
        )
        task_id = await desk.planned()
        shown = await desk.show(f"/api/tasks/{task_id}")
        assert ("plan_review", 1) == (shown["phase"], shown["attempt"]["number"])
        assert "the role qa of quinn requires the skill deploy" in shown["waiting_for"]["what"]
        await desk.approve(task_id)
        assert "dispatched" == await desk.phase(task_id)


async def test_another_package_is_a_recorded_change(desk: Desk, bundle: Callable[..., Any]) -> None:
    """The same policy with other skills is another event; the same skills again are none."""
    await apply(desk, {"documents": {"policy.yaml": POLICY}, "reason": "Without."})
    before = await desk.show("/api/governance")
    newer = read_lock(bundle("deploy")["skills"])
    assert await desk.backend.governing.renew_skills(newer, "ada", "upgraded")
    assert not await desk.backend.governing.renew_skills(newer, "ada", "upgraded")
    after = await desk.show("/api/governance")
    assert (before["bundle"], newer.as_json(), "upgraded") == (
        after["bundle"],
        after["skills"],
        after["reason"],
    )
    assert newer == desk.backend.skills()


def test_only_the_packages_skills_follow_their_folder() -> None:
    """Of a lock that is kept, the skills of the named roots are those that are there now."""

    def lock(*skills: tuple[str, str, str]) -> SkillLock:
        locked = tuple(LockedSkill(name=n, root=r, digest="sha256:" + d * 64) for n, r, d in skills)
        return SkillLock(text=None, others=LockedSet(skills=locked), projects={"p": LockedSet(skills=locked)})

    held = lock(("ack", "package", "1"), ("deploy", "./skills", "1"))
    found = lock(("ack", "package", "2"), ("deploy", "./skills", "2"))
    wanted = lock(("ack", "package", "2"), ("deploy", "./skills", "1"))
    assert wanted == follow_roots(held, found, frozenset({"package"}))
    assert held == read_lock(held.as_json())
