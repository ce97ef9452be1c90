-- The decisions of policy among all events: read in their order when a policy is simulated, and one by its id.

create index decision_order on es.event (txid, position) where type in (
    'task.allowed', 'task.denied', 'dispatch.allowed', 'dispatch.denied', 'child.accepted', 'child.refused',
    'policy.decided', 'parent.declared', 'policy.differed');

create index decision_by_id on es.event (event_id) where type in (
    'task.allowed', 'task.denied', 'dispatch.allowed', 'dispatch.denied', 'child.accepted', 'child.refused',
    'policy.decided');
