-- Who served when, what executors were given lately, and the due dates that older releases stored without a deadline.

-- When somebody last noted that it serves: leases that lapsed after that, and before the next start, lapsed unheard.
create table es.served (
    only_row boolean primary key default true check (only_row),
    at       timestamptz not null
) with (fillfactor = 50);

-- The attempts that executors got lately, while policy has a breaker for them; older ones go when a new one comes.
create table es.offer (
    task_id  text not null,
    attempt  integer not null,
    executor text not null,
    at       timestamptz not null,
    primary key (task_id, attempt)
);
create index offer_of on es.offer (executor, at);

insert into es.deadline (task_id, kind, ref, at)
    select t.task_id, 'due', 'task', (t.state::jsonb ->> 'due')::timestamptz from es.task t
    where t.phase not in ('completed', 'rejected', 'cancelled', 'failed') and t.state::jsonb ->> 'due' is not null
    on conflict do nothing;

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.served, es.offer to %I', app);
end $$;
