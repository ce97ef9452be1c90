"""Children in the decider: whatever is asked for, they get no more than their parent has."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from tests.domain.kit import (
    PLANNED,
    START,
    WITH_CHILDREN,
    ack,
    admit,
    cast,
    create,
    create_children,
    end_child,
    fail,
    fire,
    given,
    heartbeat,
    item,
    offer,
    request_tasks,
    submit_plan,
)

from agentic_os.domain import commands as c
from agentic_os.domain import events as e
from agentic_os.domain.children import MAX_CHILDREN, MAX_DEPTH, commission
from agentic_os.domain.decide import decide
from agentic_os.domain.documents import RISKS, Budget, Usage
from agentic_os.domain.evolution import fold
from agentic_os.domain.family import Child, Parentage, Spending
from agentic_os.domain.policy import Obligations, Reviewers, continued
from agentic_os.domain.rejection import Rejected
from agentic_os.domain.scope import outside
from agentic_os.domain.task import Task
from agentic_os.domain.waiting import waiting_for

PATHS = st.lists(st.sampled_from(["src/**", "src/a.py", "docs", "**", "src/../x", "/etc"]), max_size=3)
TOOLS = st.lists(st.sampled_from(["git", "psql", "pytest"]), max_size=2)
LIMITS = st.none() | st.integers(0, 1000)


@st.composite
def _items(draw: Any) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 4))
    return [
        item(
            f"r{n}",
            paths=draw(PATHS),
            tools=draw(TOOLS),
            mode=draw(st.sampled_from(["direct", "plan_first"])),
            priority=draw(st.sampled_from(["low", "critical"])),
            depends_on=draw(st.lists(st.integers(0, n - 1).map(lambda m: f"r{m}"), max_size=2)) if n else [],
        )
        for n in range(count)
    ]


def parent_of(draw: Any, *, planned: bool) -> Task:
    """Bring a task of any rights to where it may have children."""
    limits = {name: draw(LIMITS) for name in ("cost_microusd", "tokens")}
    limits["wall_seconds"] = draw(st.none() | st.integers(1, 100))  # with none at all nothing begins
    fields = {
        "paths": tuple(draw(PATHS)),
        "tools": tuple(draw(TOOLS)),
        "risk": draw(st.sampled_from(RISKS)),
        "budget": Budget(**limits, attempts=draw(st.none() | st.integers(2, 9))),
    }
    mode = "plan_first" if planned else draw(st.sampled_from(["direct", "plan_first"]))
    spent = Usage(cost_microusd=draw(st.integers(0, 20)), input_tokens=draw(st.integers(0, 20)))
    booked = e.UsageBooked(attempt=1, usage=spent, model=None)
    return given(create(**fields), admit(mode=mode), offer(), ack(), booked).task


def within(child: c.CreateTask, parent: Task) -> None:
    """Hold a child to its parent's rights."""
    assert not parent.paths or (child.paths and not outside(child.paths, parent.paths))
    assert not parent.tools or (child.tools and set(child.tools) <= set(parent.tools))
    assert RISKS.index(child.risk) >= RISKS.index(parent.risk)
    for name in ("cost_microusd", "tokens", "wall_seconds", "attempts"):
        most, asked = getattr(parent.budget, name), getattr(child.budget, name)
        assert most is None or (asked is not None and asked <= most)
    assert parent.depth + 1 == child.parent.depth <= MAX_DEPTH


def children_of(parent: Task, events: list[e.Event]) -> list[c.CreateTask]:
    """Commission what the events say was accepted."""
    return [
        commission(
            parent,
            accepted.item,
            child_id=accepted.child_id,
            at=START,
            planned=accepted.planned,
            depends_on=accepted.depends_on,
            budget=accepted.budget,
            obligations=accepted.obligations,
        )
        for accepted in events
        if isinstance(accepted, e.ChildAccepted)
    ]


def affordable(task: Task) -> None:
    """Hold what is spent and reserved to the budget, however many children share it."""
    committed, own = task.committed, task.spent
    for limit, gone, spent in (
        (task.budget.cost_microusd, committed.cost_microusd, own.cost_microusd),
        (task.budget.tokens, committed.tokens, own.input_tokens + own.output_tokens),
    ):
        assert limit is None or gone <= max(limit, spent)


@drawn(data=st.data(), requests=st.lists(_items(), min_size=1, max_size=3))
def test_no_request_gives_a_child_more_than_its_parent_has(data: st.DataObject, requests: list[Any]):
    """However tasks are asked for, no child has paths, tools, budget, mode or risk beyond its parent's."""
    task = parent_of(data.draw, planned=False)
    for number, items in enumerate(requests):
        denied = tuple(i["ref"] for i in items if data.draw(st.sampled_from([False, False, True])))
        command = request_tasks(*items, denied=denied, seq=number + 2)
        command = replace(
            command, proposals=tuple(replace(p, child_id=f"{p.child_id}-{number}") for p in command.proposals)
        )
        try:
            events = decide(command, task)
        except Rejected:
            continue
        for child in children_of(task, events):
            within(child, task)
            assert child.mode == "plan_first" or task.mode == "direct"
        task = fold(events, task)
        affordable(task)


@drawn(data=st.data(), items=_items())
def test_no_plan_gives_a_child_more_than_its_parent_has(data: st.DataObject, items: list[Any]):
    """The children of a plan keep within their parent's rights too, even if the plan was let in unchecked."""
    task = parent_of(data.draw, planned=True)
    *before, submitted = decide(submit_plan(), task)
    task = fold([*before, replace(submitted, plan={"tasks": items})], task)
    task = fold(decide(cast(), task), task)
    denied = tuple(i["ref"] for i in items if data.draw(st.sampled_from([False, False, True])))
    events = decide(create_children(*items, denied=denied), task)
    for child in children_of(task, events):
        within(child, task)
    task = fold(events, task)
    affordable(task)
    assert 0 == task.undecided
    accepted = {child.id for child in task.children}
    for event in events:
        assert not isinstance(event, e.ChildAccepted) or accepted.issuperset(event.depends_on)


# Rights


def at_work(**fields: Any) -> Any:
    """Have an executor at work on a task."""
    return given(create(**fields), admit(), offer(), ack())


def test_surplus_rights_are_pointed_at():
    """Each path and tool beyond the parent's is named by its place in the request."""
    asked = request_tasks(item(paths=["src/a"]), item("two", paths=["src/b", "etc"], tools=["git", "psql"]))
    refused = at_work(paths=("src/**",), tools=("git",)).when(asked).refused("scope_denied")
    assert ("/body/tasks/1/paths/1", "/body/tasks/1/tools/1") == refused.pointers


def test_a_plan_with_surplus_rights_is_refused_when_it_is_submitted():
    """The executor hears of it while it can still mend the plan."""
    planning = given(create(paths=("src/**",)), admit(mode="plan_first"), offer(), ack())
    refused = planning.when(submit_plan(tasks=[item(paths=["etc"])])).refused("scope_denied")
    assert ("/body/tasks/0/paths/0",) == refused.pointers


def test_a_parent_without_limits_passes_on_what_is_asked_for():
    """Where the parent names no paths or tools, a child may name any; where the child does not, it has the parent's."""
    free, bound = at_work().task, at_work(paths=("src/**",), tools=("git",)).task
    asked = {"child_id": "c", "at": START, "planned": False}
    assert ("etc",) == commission(free, item(paths=["etc"]), **asked).paths
    inherited = commission(bound, item(paths=[]), **asked)
    assert (bound.paths, bound.tools) == (inherited.paths, inherited.tools)


def test_depth_and_number_are_bounded():
    """The sixth level and the hundred and first child are refused."""
    deep = Parentage(id="t-0", ref="r", depth=MAX_DEPTH, obligations=Obligations())
    assert "/body/tasks" in at_work(parent=deep).when(request_tasks(item())).refused("scope_denied").pointers
    task = at_work().task
    child = Child(id="c", ref="r", title="T", waited=False, reserved=Budget())
    full = replace(task, children=tuple(replace(child, id=str(n)) for n in range(MAX_CHILDREN - 1)))
    assert 2 == len(decide(request_tasks(item()), full))
    with pytest.raises(Rejected, match="at most 100 children"):
        decide(request_tasks(item(), item("two")), full)


def test_what_is_asked_for_during_the_work_is_no_way_around_the_gate():
    """A plan_first task that requests tasks makes plan_first ones; a plan that people approved may make direct ones."""
    planning = given(*PLANNED, offer(), ack()).task
    assert "plan_first" == children_of(planning, decide(request_tasks(item()), planning))[0].mode
    approved = given(*WITH_CHILDREN).task
    assert "direct" == children_of(approved, decide(create_children(item()), approved))[0].mode
    stricter = item(mode="plan_first")
    assert "plan_first" == children_of(approved, decide(create_children(stricter), approved))[0].mode


def test_a_plan_that_nobody_approved_makes_no_looser_children():
    """Where a plan went through by default, its children keep the parent's mode."""
    waits = (create(), admit(mode="plan_first", deadline_seconds=60, on_timeout="proceed"), offer(), ack())
    passed = given(*waits, submit_plan(tasks=[item()]), fire("review", "plan:1", 100)).task
    assert (passed.undecided, passed.authorisation.approvers) == (1, ())
    assert "plan_first" == children_of(passed, decide(create_children(item()), passed))[0].mode


def test_obligations_of_the_proposal_hold_from_the_admission_on():
    """What policy asked for when a task was proposed is joined with what it asks for when it is received."""
    asked = Obligations(
        mode="plan_first", reviewers=Reviewers(quorum=2), deadline_seconds=60, on_timeout="proceed"
    )
    parent = Parentage(id="t-0", ref="r", depth=1, obligations=asked)
    task = given(create(parent=parent), admit(evidence={"tests": "observed"})).task
    held = task.obligations
    assert ("plan_first", 2, 60, {"tests": "observed"}) == (
        held.mode,
        held.reviewers.quorum,
        held.deadline_seconds,
        held.evidence,
    )
    assert "plan_first" == task.mode
    assert "proceed" == held.on_timeout
    assert "block" == continued(asked, replace(asked, on_timeout="block")).on_timeout


# Budgets


def test_a_child_gets_a_share_and_gives_back_what_it_did_not_spend():
    """Three equal parts for two children and the parent; what a child leaves over is the parent's again."""
    working = at_work(budget=Budget(tokens=100, cost_microusd=30)).and_then(
        heartbeat(usage=Usage(output_tokens=10)), request_tasks(item(), item("two"), seq=3)
    )
    assert [(10, 30), (10, 30)] == [
        (child.reserved.cost_microusd, child.reserved.tokens) for child in working.task.children
    ]
    assert Spending(cost_microusd=20, tokens=70) == working.task.committed
    ended = working.and_then(end_child(tokens=5), end_child("two", "failed", cost_microusd=12))
    assert Spending(cost_microusd=12, tokens=15) == ended.task.committed


def test_what_children_hold_is_not_there_to_be_spent():
    """A parent that spends what it has given away is over its budget."""
    working = at_work(budget=Budget(tokens=100)).and_then(request_tasks(item()))
    spent = working.and_then(heartbeat(seq=3, usage=Usage(input_tokens=51)))
    spent.when(heartbeat(seq=4)).refused("budget_exceeded")
    spent.and_then(end_child(tokens=10)).and_then(heartbeat(seq=4))


def test_nothing_left_is_nothing_to_share():
    """Where a share would be nothing, a request is refused, and the tasks of a plan are."""
    at_work(budget=Budget(tokens=1)).when(request_tasks(item())).refused("budget_exceeded")
    history = (
        create(budget=Budget(tokens=1)),
        *PLANNED[1:],
        offer(),
        ack(),
        submit_plan(tasks=[item()]),
        cast(),
    )
    events = decide(create_children(item()), given(*history).task)
    assert [("budget_exceeded",)] == [x.rules for x in events if isinstance(x, e.ChildRefused)]


# Refusals


def test_what_depends_on_a_refused_task_is_refused_too():
    """At whatever remove, and said by a rule of its own; what depends on nothing refused is created."""
    items = [item("a"), item("b", depends_on=["a"]), item("c", depends_on=["b"]), item("d")]
    events = decide(request_tasks(*items, denied=("a",)), at_work().task)[1:]
    assert [("a", ("rule",)), ("b", ("depends_on_refused",)), ("c", ("depends_on_refused",))] == [
        (x.ref, x.rules) for x in events if isinstance(x, e.ChildRefused)
    ]
    assert ["d"] == [x.ref for x in events if isinstance(x, e.ChildAccepted)]


def test_siblings_depend_on_each_other_by_their_ids():
    """A ref of the request becomes the id of the task that it names."""
    events = decide(request_tasks(item("a"), item("b", depends_on=["a"])), at_work().task)
    assert ("c-a",) == events[2].depends_on


# Waiting


def test_execution_waits_for_the_plans_children():
    """No execute attempt is opened before each task of the plan is decided and ended; and the wait has an owner."""
    approved = given(*WITH_CHILDREN)
    assert "creation of the tasks" in waiting_for(approved.task).what
    approved.when(offer(2)).refused("wrong_phase")
    waits = approved.and_then(create_children(item()))
    assert "one (c-one)" in waiting_for(waits.task).what
    waits.when(offer(2)).refused("wrong_phase")
    waits.and_then(end_child(), offer(2))


def test_children_of_a_request_hold_nothing_up():
    """The parent goes on, and may end before them; their end is noted all the same."""
    working = at_work().and_then(
        request_tasks(item()), fail("transient", seq=3), fire("retry", "1", 60), offer(2)
    )
    over = working.and_then(c.Cancel(by="rita", reason=""))
    noted = over.and_then(end_child())
    assert ("cancelled", "completed") == (noted.task.phase, noted.task.children[0].state)


def test_a_person_may_go_on_without_a_child_that_failed():
    """A retry by a person waits no longer for what ended badly, but for what is open still."""
    approved = given(*PLANNED, offer(), ack(), submit_plan(tasks=[item(), item("two")]), cast())
    spoiled = approved.and_then(create_children(item(), item("two")), end_child("one", "failed"))
    assert ["one"] == [child.ref for child in spoiled.task.children if child.spoiled]
    asked = spoiled.and_then(c.RequireInput(reason="one failed"), c.Retry(by="rita", reason=""))
    assert [] == [child for child in asked.task.children if child.spoiled]
    asked.when(offer(2)).refused("wrong_phase")
    asked.and_then(end_child("two"), offer(2))


def test_the_tasks_of_another_plan_are_not_created():
    """A command that was made for an earlier version of the plan does nothing."""
    given(*WITH_CHILDREN).when(create_children(item(), plan=2)).nothing()


def test_an_unfit_handoff_is_refused_with_its_places():
    """What the role's schema does not allow is refused as an output is."""
    record = request_tasks(item())
    handoff = c.Record(
        **{
            name: getattr(record, name)
            for name in ("executor", "attempt", "seq", "callback_id", "at", "generation")
        },
        kind="handoff",
        body={},
        faults=(("/body/payload/branch", "/body/payload/branch: it is missing"),),
    )
    assert ("/body/payload/branch",) == at_work().when(handoff).refused("output_invalid").pointers
