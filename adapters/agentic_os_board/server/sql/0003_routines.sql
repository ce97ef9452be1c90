-- What a run's worktree was made from, where it is, and what it left there.
alter table runs
    add column base_commit text,
    add column worktree text,
    add column left_behind text not null default '';

-- A routine opens an issue of its template, in the name of its owner, whenever its schedule says so.
create table routines (
    id bigint generated always as identity primary key,
    name text not null unique,
    owner uuid not null references accounts,
    schedule text not null,
    zone text not null,
    missed text not null check (missed in ('skip', 'one', 'all')),
    hourly_limit integer not null check (hourly_limit between 1 and 60),
    title text not null,
    body text not null,
    project text not null,
    labels text[] not null,
    priority text not null check (priority in ('', 'low', 'medium', 'high', 'critical')),
    state text not null default 'active' check (state in ('active', 'paused', 'held')),
    reason text not null default '',
    next_due timestamptz,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    check ((state = 'active') = (next_due is not null))
);
create index routines_by_due on routines (next_due) where next_due is not null;

-- One row for each time that came due: nobody, not even a second server, can act on a time twice.
create table routine_times (
    routine bigint not null references routines on delete cascade,
    due timestamptz not null,
    at timestamptz not null,
    outcome text not null check (outcome in ('opened', 'missed', 'held')),
    issue bigint,
    asked_by uuid references accounts,
    detail text not null default '',
    primary key (routine, due)
);
create index routine_times_by_at on routine_times (routine, at desc);
