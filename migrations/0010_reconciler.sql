-- Several workers at one inbox: an issue's observations are one worker's at a time, and known by field and time.
alter table es.inbox
    add column key text,
    add column field text,
    add column at timestamptz,
    add column confirmed boolean not null default true,  -- whether the feed, which has the order, brought it too
    add column claimed_by text,
    add column claimed_until timestamptz;
update es.inbox set key = observation -> 'seen' ->> 'key', field = observation -> 'seen' ->> 'field',
    at = (observation -> 'seen' ->> 'at')::timestamptz;
create index inbox_claims on es.inbox (control_plane, key) where done_at is null;
create index inbox_unconfirmed on es.inbox (control_plane) where done_at is null and not confirmed;
create index inbox_fields on es.inbox (control_plane, key, field, at) where field is not null;

-- A task that fails again and again is tried rarely, and shown until it succeeds or somebody redrives it.
alter table es.stale add column poisoned_at timestamptz;

-- How it stands with a tracker, as the workers saw it last.
create table es.tracker (
    control_plane text primary key,
    reached_at    timestamptz,
    failed_at     timestamptz,
    problem       text,
    paused_until  timestamptz,
    webhook_at    timestamptz,
    read_at       timestamptz
) with (fillfactor = 50);

-- Issues that are gone: what people wrote there, and is heard of later, is still said of the task.
create table es.former_issue (
    control_plane text not null,
    key           text not null,
    task_id       text not null,
    primary key (control_plane, key)
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.tracker, es.former_issue to %I', app);
end $$;
