-- Where an executor works, and what was found in workspaces when somebody looked: no fact of the history, as with
-- trackers, and replaced by the next look.
alter table es.principal add column workspace text;

create table es.workspace (
    path    text primary key,
    project text not null,
    digest  text not null,
    state   text not null check (state in ('in_step', 'drift', 'conflict', 'failed')),
    problem text not null default '',
    lacking text[] not null default '{}',
    at      timestamptz not null default now()
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.workspace to %I', app);
end $$;
