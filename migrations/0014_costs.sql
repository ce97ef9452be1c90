-- What trackers were told of spending: as with issues, nobody else knows it. The amounts of a report that is on its way
-- count as told; nobody knows yet whether it came, and so it is repeated as it is.
create table es.cost (
    control_plane text not null,
    task_id       text not null,
    executor      text not null,
    cost_microusd numeric not null default 0,
    input_tokens  numeric not null default 0,
    output_tokens numeric not null default 0,
    report        jsonb,
    problem       text,
    refused_at    timestamptz,
    primary key (control_plane, task_id, executor)
) with (fillfactor = 70);
create index cost_refused on es.cost (control_plane, refused_at) where problem is not null;

-- What was told of an executor on all issues together, and when it was last: no two reports of it are of one instant.
create table es.cost_account (
    control_plane text not null,
    executor      text not null,
    cost_microusd numeric not null,
    at            timestamptz not null,
    primary key (control_plane, executor)
) with (fillfactor = 50);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.cost, es.cost_account to %I', app);
end $$;
