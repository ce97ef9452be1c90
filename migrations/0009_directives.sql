-- A directive has a receipt from the moment that it is read. quiet: no note answers it, since its author got many.
-- es.shown: when a note of ours that something depends on was on the issue.

alter table es.directive
    drop constraint directive_outcome_check,
    add constraint directive_outcome_check check (outcome in ('received', 'done', 'refused')),
    add column quiet boolean not null default false;

create index directive_of_comment on es.directive (control_plane, comment_id) where comment_id is not null;

create table es.shown (
    task_id text not null,
    marker  text not null,
    at      timestamptz not null default now(),
    primary key (task_id, marker)
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.shown to %I', app);
end
$$;
