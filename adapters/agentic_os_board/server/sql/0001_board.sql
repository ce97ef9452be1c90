create table accounts (
    id uuid primary key,
    kind text not null check (kind in ('person', 'agent', 'system')),
    name text not null unique check (name ~ '^[a-z0-9][a-z0-9._-]{0,63}$'),
    password_hash text,
    admin boolean not null default false,
    created_at timestamptz not null default clock_timestamp(),
    check (kind = 'person' or (password_hash is null and not admin))
);

-- Secrets are kept as SHA-256 only: they are random, so that a slow hash would add nothing.
create table sessions (
    hash bytea primary key,
    account uuid not null references accounts,
    csrf text not null,
    expires_at timestamptz not null
);

create table issues (
    number bigint generated always as identity primary key,
    task_id text unique,
    title text not null,
    body text not null,
    project text not null,
    state text not null default '',
    labels text[] not null default '{}',
    closed text check (closed in ('completed', 'not_planned')),
    assignee uuid references accounts,
    assigned_attempt integer not null default 0,
    created_by uuid not null references accounts,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
);
create index issues_by_change on issues (updated_at desc, number desc);

create table comments (
    id bigint generated always as identity primary key,
    issue bigint not null references issues on delete cascade,
    author uuid not null references accounts,
    body text not null,
    marker text,
    created_at timestamptz not null default clock_timestamp(),
    edited_at timestamptz,
    deleted_at timestamptz,
    unique (issue, marker)
);

create table reactions (
    comment bigint not null references comments on delete cascade,
    account uuid not null references accounts,
    reaction text not null check (reaction in ('seen', 'done', 'refused')),
    primary key (comment, account)
);

create table reviews (
    issue bigint not null references issues on delete cascade,
    digest text not null,
    subject text not null check (subject in ('plan', 'result')),
    version integer not null,
    document text not null,
    directives json not null, -- not jsonb, which would lose the order of the buttons
    opened_at timestamptz not null default clock_timestamp(),
    outcome text check (outcome in ('approved', 'revised', 'rejected', 'withdrawn')),
    primary key (issue, digest)
);

create table agents (
    account uuid primary key references accounts,
    wake jsonb not null
);

-- A run outlives its issue: (task, attempt) must never run again, also when somebody deletes the issue.
create table runs (
    id uuid primary key,
    issue bigint not null,
    task_id text not null,
    attempt integer not null,
    agent uuid not null references agents,
    state text not null check (state in ('queued', 'running', 'ended', 'lost', 'killed')),
    stop_reason text,
    pid integer,
    process_start text,
    created_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    exit_code integer,
    detail text not null default '',
    unique (task_id, attempt)
);
create index runs_unfinished on runs (created_at) where state in ('queued', 'running');
create index runs_by_issue on runs (issue);
create index runs_by_agent on runs (agent, created_at desc);

create table tokens (
    id uuid primary key,
    account uuid not null references accounts,
    name text not null,
    hash bytea not null unique,
    run uuid references runs,
    created_at timestamptz not null default clock_timestamp(),
    expires_at timestamptz
);

-- Every writer holds one advisory lock from its first statement to its commit, so that ids are drawn in the
-- order in which they become visible: whoever reads "after id n" misses nothing.
create table activities (
    id bigint generated always as identity primary key,
    delivery uuid not null unique,
    at timestamptz not null default clock_timestamp(),
    actor uuid not null references accounts,
    own boolean not null,
    issue bigint not null,
    kind text not null,
    data jsonb not null
);
create index activities_by_issue on activities (issue, id);

-- The queue of webhooks is a position in the activities, with the tries of the one being delivered.
create table webhook_queue (
    only_row boolean primary key default true check (only_row),
    position bigint not null default 0,
    tries integer not null default 0
);
insert into webhook_queue default values;
