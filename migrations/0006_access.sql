-- Which attempt sent which bytes, and the sources that attest evidence over a channel of their own.

create table es.upload (
    task_id text not null,
    attempt integer not null,
    digest  text not null,
    at      timestamptz not null default now(),
    primary key (task_id, digest, attempt)
);

-- A source's secret is computed from the server key, its name and its generation: nothing secret is here.
create table es.source (
    name       text primary key references es.principal,
    project    text,
    generation integer not null default 1
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.upload, es.source to %I', app);
end $$;
