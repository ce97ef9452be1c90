-- What breakers of rates counted lately, and observations that wait for one of them.

-- Adopted issues, tasks that an executor asked for, runs of routines; older ones go when a new one comes.
create table es.counted (
    breaker text not null,
    ref     text not null,
    at      timestamptz not null,
    primary key (breaker, ref)
);
create index counted_at on es.counted (breaker, at);

-- Until when an observation is held back, its outcome being 'held' meanwhile.
alter table es.inbox add column not_before timestamptz;

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.counted to %I', app);
end $$;
