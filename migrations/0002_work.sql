-- Who may act, what waits, and what is known of trackers. None of this can be derived from events alone.

create table es.principal (
    id         text primary key,
    name       text not null unique,
    kind       text not null check (kind in ('person', 'executor', 'system')),
    roles      text[] not null default '{}',
    owner      text,
    skills     text not null default 'required' check (skills in ('required', 'not-required')),
    capacity   integer,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);

create table es.credential (
    hash         bytea primary key,
    principal    text not null references es.principal,
    created_at   timestamptz not null default now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
create index credential_of on es.credential (principal);

create table es.external_account (
    control_plane text not null,
    account       text not null,
    principal     text not null references es.principal,
    primary key (control_plane, account)
);
create index external_account_of on es.external_account (principal, control_plane);

-- A ready task waits here for "task:ID", "executor" or "capacity:EXECUTOR"; clearing it marks the task stale.
create table es.waiting (
    task_id text not null,
    what    text not null,
    since   timestamptz not null default now(),
    primary key (task_id, what)
);
create index waiting_for on es.waiting (what);

-- The latest progress of an attempt between two events of it.
create table es.progress (
    task_id    text primary key,
    attempt    integer not null,
    generation integer not null,
    seq        bigint not null,
    message    text not null,
    at         timestamptz not null
) with (fillfactor = 50);

create table es.issue (
    task_id       text primary key,
    control_plane text not null,
    key           text not null,
    url           text not null,
    created_at    timestamptz not null default now(),
    unique (control_plane, key)
);

create table es.inbox (
    id            bigint generated always as identity primary key,
    control_plane text not null,
    delivery      text not null,
    comment_id    text,
    body_digest   text,
    observation   jsonb not null,
    received_at   timestamptz not null default now(),
    done_at       timestamptz,
    outcome       text,
    reason        text,
    unique (control_plane, delivery)
);
create unique index inbox_comment on es.inbox (control_plane, comment_id, body_digest)
    where comment_id is not null;
create index inbox_open on es.inbox (id) where done_at is null;

create table es.feed (
    control_plane text primary key,
    cursor        text not null,
    updated_at    timestamptz not null default now()
);

create table es.directive (
    id            text primary key,
    task_id       text not null,
    control_plane text,
    comment_id    text,
    principal     text,
    verb          text not null,
    text          text not null,
    outcome       text not null check (outcome in ('done', 'refused')),
    rule          text,
    message       text not null,
    paste         text,
    at            timestamptz not null default now()
);
create index directive_of on es.directive (task_id, at desc);

-- 401s: bounded, newest kept.
create table es.security_log (
    id     bigint generated always as identity primary key,
    at     timestamptz not null default now(),
    route  text not null,
    code   text not null,
    detail text not null
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
    work text;
begin
    execute format('grant usage on schema es to %I', app);
    execute format('grant select on all tables in schema es to %I', app);
    foreach work in array array['task', 'stale', 'deadline', 'account', 'consumer', 'artifact', 'quarantine',
            'principal', 'credential', 'external_account', 'waiting', 'progress', 'issue', 'inbox', 'feed',
            'directive', 'security_log'] loop
        execute format('grant insert, update, delete on es.%I to %I', work, app);
    end loop;
    revoke execute on all functions in schema es from public;
    execute format('grant execute on all functions in schema es to %I', app);
end $$;
