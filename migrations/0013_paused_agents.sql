-- Accounts of trackers that are paused there, as the tracker last told: also of those that are nobody's yet, since one
-- may be linked later. What it means for an executor is an event in its stream.
create table es.paused_agent (
    control_plane text not null,
    account       text not null,
    author        text not null default '',
    detail        text not null default '',
    at            timestamptz not null,
    primary key (control_plane, account)
);

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    execute format('grant select, insert, update, delete on es.paused_agent to %I', app);
end $$;
