-- The event store: append-only streams with a hash chain each, and what an append writes with them.
-- Runs as the owner. The application's role is named by the setting agentic_os.app_role.

create schema es;

-- The cursor's first part: a logical restore must raise it, since transaction ids start anew there.
create table es.epoch (
    only_row boolean primary key default true check (only_row),
    epoch    integer not null
);
insert into es.epoch (epoch) values (1);

create table es.stream (
    stream_id text primary key,
    kind      text not null,
    version   integer not null,
    head      bytea not null
) with (fillfactor = 50);

create table es.event (
    stream_id    text not null,
    version      integer not null,
    position     bigint generated always as identity,
    txid         xid8 not null default pg_current_xact_id(),
    event_id     uuid not null,
    type         text not null,
    payload      text not null,
    payload_hash bytea not null,
    hash         bytea not null,
    primary key (stream_id, version)
) with (toast_tuple_target = 8160);
create unique index event_order on es.event (txid, position);

create table es.receipt (
    principal   text not null,
    route       text not null,
    key         text not null,
    fingerprint bytea not null,
    answer      text not null,
    at          timestamptz not null default now(),
    primary key (principal, route, key)
);

create table es.checkpoint (
    id        bigint generated always as identity primary key,
    streams   bigint not null,
    events    bigint not null,
    root      bytea not null,
    signature bytea not null,
    at        timestamptz not null default now()
);

create table es.consumer (
    name       text primary key,
    epoch      integer not null,
    txid       xid8 not null,
    position   bigint not null,
    updated_at timestamptz not null default now()
);

create function es.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception 'table %.% is append-only: % refused', tg_table_schema, tg_table_name, tg_op
        using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete on es.event for each statement execute function es.refuse_change();
create trigger append_only_t before truncate on es.event for each statement execute function es.refuse_change();
create trigger append_only before update or delete on es.receipt for each statement execute function es.refuse_change();
create trigger append_only_t before truncate on es.receipt for each statement execute function es.refuse_change();
create trigger append_only before update or delete on es.checkpoint for each statement execute function es.refuse_change();
create trigger append_only_t before truncate on es.checkpoint for each statement execute function es.refuse_change();
create trigger never_shrinks before delete on es.stream for each statement execute function es.refuse_change();
create trigger never_shrinks_t before truncate on es.stream for each statement execute function es.refuse_change();

-- Work tables: read models and marks. All but the ones named in docs/architecture.md can be rebuilt from events.

create table es.task (
    task_id      text primary key,
    version      integer not null,
    fold_version integer not null,
    phase        text not null,
    project      text not null,
    title        text not null,
    executor     text,
    priority     text not null,
    state        text not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null
) with (fillfactor = 50, toast_tuple_target = 8160);  -- a state of a few kilobytes is not worth compressing
create index task_by_creation on es.task (created_at, task_id);

create index task_by_executor on es.task (executor) where executor is not null;

create table es.stale (
    task_id       text primary key,
    generation    bigint not null default 1,
    since         timestamptz not null default clock_timestamp(),
    claimed_by    text,
    claimed_until timestamptz,
    failures      integer not null default 0,
    not_before    timestamptz,
    problem       text
) with (fillfactor = 50);
create index stale_order on es.stale (since);

create table es.deadline (
    task_id text not null,
    kind    text not null,
    ref     text not null,
    at      timestamptz not null,
    primary key (task_id, kind, ref)
);
create index deadline_order on es.deadline (at, task_id);

create table es.account (
    name     text primary key,
    spent    bigint not null default 0,
    reserved bigint not null default 0,
    "limit"  bigint
) with (fillfactor = 50);

create table es.artifact (
    task_id      text not null,
    name         text not null,
    version      integer not null,
    digest       text not null,
    size         bigint not null,
    media_type   text not null,
    attempt      integer not null,
    criterion_id text,
    step_id      text,
    primary key (task_id, name, version)
);
create index artifact_by_digest on es.artifact (digest);

create table es.quarantine (
    id         text primary key,
    task_id    text not null,
    attempt    integer not null,
    kind       text not null,
    reason     text not null,
    at         timestamptz not null
);
create index quarantine_order on es.quarantine (at, id);

create function es.chain(previous bytea, stream text, version integer, payload_hash bytea) returns bytea
language sql immutable parallel safe return
    sha256(int4send(octet_length(previous)) || previous
        || int4send(octet_length(convert_to(stream, 'UTF8'))) || convert_to(stream, 'UTF8')
        || int4send(4) || int4send(version)
        || int4send(octet_length(payload_hash)) || payload_hash);

-- One call, one transaction. The batch, all parts but the streams optional:
--   streams    [{id, kind, expected, events: [{id, type, payload}], task}], task being a row of es.task
--   stale      [task id], to be marked          clears     [what], on which waiting tasks may go on, see es.waiting
--   deadlines  {put: [{task_id, kind, ref, at}], drop: [{task_id, kind, ref}]}
--   seq_guard  {task_id, attempt, generation, seq}: a conflict when progress of that attempt is at or after it
--   movements  [{account, spent, reserved, limit}]
--   receipt    {principal, route, key, fingerprint (hex), answer}
--   credential hex of the hash that must still be valid
--   rows       {artifact: [...], quarantine: [...], progress: [...]}
-- The outcome is one of
--   appended   everything was written
--   replayed   the receipt was there, with this fingerprint: answer is the stored one, nothing was written
--   mismatch   the receipt was there with another fingerprint
--   conflict   a stream is not at its expected version
--   credential the credential, or its principal, was revoked meanwhile
-- and an account that would go over its limit aborts all with SQLSTATE AO402 and the account's name.
create function es.append(batch jsonb, out outcome text, out answer text)
language plpgsql security definer set search_path = es, pg_temp as $$
declare
    streams jsonb := batch -> 'streams';
    receipt jsonb := batch -> 'receipt';
    stale   text[] := '{}';
    stream  jsonb;
    heads   bytea[];
    stored  bytea;
    head    bytea;
    version integer;
    n       integer;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'append must be the first write of its transaction' using errcode = 'AO500';
    end if;
    if jsonb_array_length(streams) = 1 then
        perform pg_advisory_xact_lock(hashtextextended(streams -> 0 ->> 'id', 0));
    else
        perform pg_advisory_xact_lock(hashtextextended(s ->> 'id', 0))
            from jsonb_array_elements(streams) s order by s ->> 'id';
    end if;

    if receipt is not null then
        select r.fingerprint, r.answer into stored, answer from es.receipt r
            where r.principal = receipt ->> 'principal' and r.route = receipt ->> 'route'
                and r.key = receipt ->> 'key';
        if found then
            outcome := case when stored = decode(receipt ->> 'fingerprint', 'hex')
                then 'replayed' else 'mismatch' end;
            return;
        end if;
    end if;
    if batch ? 'credential' then
        perform 1 from es.credential c join es.principal p on p.id = c.principal
            where c.hash = decode(batch ->> 'credential', 'hex') and c.revoked_at is null and p.revoked_at is null
                and (c.expires_at is null or c.expires_at > now());
        if not found then
            outcome := 'credential';
            return;
        end if;
    end if;
    if batch ? 'seq_guard' then
        stream := batch -> 'seq_guard';
        perform 1 from es.progress p where p.task_id = stream ->> 'task_id'
            and p.attempt = (stream ->> 'attempt')::integer and p.generation = (stream ->> 'generation')::integer
            and p.seq >= (stream ->> 'seq')::bigint;
        if found then
            outcome := 'conflict';
            return;
        end if;
    end if;
    for n in 0 .. jsonb_array_length(streams) - 1 loop
        stream := streams -> n;
        select s.version, s.head into version, head from es.stream s where s.stream_id = stream ->> 'id';
        if coalesce(version, 0) <> (stream ->> 'expected')::integer then
            outcome := 'conflict';
            return;
        end if;
        heads[n] := coalesce(head, ''::bytea);
    end loop;

    if batch ? 'movements' then
        perform es.move_accounts(batch -> 'movements');
    end if;
    for n in 0 .. jsonb_array_length(streams) - 1 loop
        perform es.put_stream(streams -> n, heads[n]);
    end loop;
    if batch ? 'rows' then
        perform es.put_rows(batch -> 'rows');
    end if;
    if batch ? 'deadlines' then
        perform es.put_deadlines(batch -> 'deadlines');
    end if;
    if batch ? 'stale' then
        stale := array(select jsonb_array_elements_text(batch -> 'stale'));
    end if;
    if batch ? 'clears' then
        stale := stale || array(select w.task_id from es.waiting w where batch -> 'clears' ? w.what);
    end if;
    -- In one order everywhere, so that two appends with the same tasks never wait for each other.
    if cardinality(stale) > 1 then
        stale := array(select distinct t from unnest(stale) t order by t);
    end if;
    for n in 1 .. cardinality(stale) loop
        insert into es.stale as s (task_id) values (stale[n])
            on conflict (task_id) do update set generation = s.generation + 1, not_before = null;
    end loop;
    if receipt is not null then
        insert into es.receipt (principal, route, key, fingerprint, answer)
            values (receipt ->> 'principal', receipt ->> 'route', receipt ->> 'key',
                decode(receipt ->> 'fingerprint', 'hex'), receipt ->> 'answer');
    end if;
    outcome := 'appended';
end $$;

-- The events of one stream, chained on `head`, then its new head and the row of its task.
create function es.put_stream(stream jsonb, head bytea) returns void language plpgsql as $$
declare
    id      text := stream ->> 'id';
    version integer := (stream ->> 'expected')::integer;
    events  jsonb := stream -> 'events';
    event   jsonb;
    digest  bytea;
    n       integer;
begin
    for n in 0 .. jsonb_array_length(events) - 1 loop
        event := events -> n;
        version := version + 1;
        digest := sha256(convert_to(event ->> 'payload', 'UTF8'));
        head := es.chain(head, id, version, digest);
        insert into es.event (stream_id, version, event_id, type, payload, payload_hash, hash)
            values (id, version, (event ->> 'id')::uuid, event ->> 'type', event ->> 'payload', digest, head);
    end loop;
    if jsonb_array_length(events) > 0 then
        insert into es.stream as s (stream_id, kind, version, head)
            values (id, stream ->> 'kind', version, head)
            on conflict (stream_id) do update set version = excluded.version, head = excluded.head;
    end if;
    if stream ? 'task' then
        perform es.put_task(stream -> 'task');
    end if;
end $$;

create function es.move_accounts(movements jsonb) returns void language plpgsql as $$
declare
    moved record;
begin
    for moved in select * from jsonb_to_recordset(movements) as m
            (account text, spent bigint, reserved bigint, "limit" bigint) order by account loop
        insert into es.account as a (name, spent, reserved, "limit")
            values (moved.account, moved.spent, greatest(moved.reserved, 0), moved."limit")
            on conflict (name) do update set spent = a.spent + moved.spent,
                reserved = greatest(a.reserved + moved.reserved, 0),
                "limit" = case when moved.spent + moved.reserved > 0 then moved."limit" else a."limit" end;
        perform 1 from es.account a where a.name = moved.account and a."limit" is not null
            and a.spent + a.reserved > a."limit" and moved.spent + moved.reserved > 0;
        if found then
            raise exception '%', moved.account using errcode = 'AO402';
        end if;
    end loop;
end $$;

create function es.put_task(r jsonb) returns void language plpgsql as $$
begin
    insert into es.task as t (task_id, version, fold_version, phase, project, title, executor, priority, state,
            created_at, updated_at)
        values (r ->> 'task_id', (r ->> 'version')::integer, (r ->> 'fold_version')::integer, r ->> 'phase',
            r ->> 'project', r ->> 'title', r ->> 'executor', r ->> 'priority', r ->> 'state',
            (r ->> 'created_at')::timestamptz, (r ->> 'updated_at')::timestamptz)
        on conflict (task_id) do update set version = excluded.version, fold_version = excluded.fold_version,
            phase = excluded.phase, project = excluded.project, title = excluded.title, executor = excluded.executor,
            priority = excluded.priority, state = excluded.state, created_at = excluded.created_at,
            updated_at = excluded.updated_at;
end $$;

create function es.put_deadlines(moved jsonb) returns void language plpgsql as $$
declare
    rows jsonb := moved -> 'drop';
    r    jsonb;
    n    integer;
begin
    for n in 0 .. jsonb_array_length(rows) - 1 loop
        r := rows -> n;
        delete from es.deadline d
            where d.task_id = r ->> 'task_id' and d.kind = r ->> 'kind' and d.ref = r ->> 'ref';
    end loop;
    rows := moved -> 'put';
    for n in 0 .. jsonb_array_length(rows) - 1 loop
        r := rows -> n;
        insert into es.deadline (task_id, kind, ref, at)
            values (r ->> 'task_id', r ->> 'kind', r ->> 'ref', (r ->> 'at')::timestamptz)
            on conflict (task_id, kind, ref) do update set at = excluded.at;
    end loop;
end $$;

create function es.put_rows(rows jsonb) returns void language plpgsql as $$
begin
    insert into es.artifact
        select task_id, name, version, digest, size, media_type, attempt, criterion_id, step_id
        from jsonb_populate_recordset(null::es.artifact, coalesce(rows->'artifact', '[]'))
        on conflict do nothing;
    insert into es.quarantine
        select id, task_id, attempt, kind, reason, at
        from jsonb_populate_recordset(null::es.quarantine, coalesce(rows->'quarantine', '[]'))
        on conflict do nothing;
    insert into es.progress as p (task_id, attempt, generation, seq, message, at)
        select task_id, attempt, generation, seq, message, at
        from jsonb_populate_recordset(null::es.progress, coalesce(rows->'progress', '[]'))
        on conflict (task_id) do update set attempt = excluded.attempt,
            generation = excluded.generation, seq = excluded.seq,
            message = excluded.message, at = excluded.at;
end $$;

-- Names the first broken link of a stream after the other, from `after` on; empty when all is well.
create function es.first_broken(after text, streams integer, out stream_id text, out version integer, out reason text,
    out checked bigint, out last text) language sql stable parallel safe set search_path = es, pg_temp as $$
    with page as (
        select s.stream_id, s.version, s.head from es.stream s
        where s.stream_id > after order by s.stream_id limit streams
    ), links as (
        select e.stream_id, e.version, e.event_id, e.type, e.payload, e.payload_hash, e.hash,
            lag(e.hash, 1, ''::bytea) over w as previous,
            lag(e.version, 1, 0) over w as before,
            lead(e.version) over w is null as is_last, s.version as stream_version, s.head
        from page s join es.event e on e.stream_id = s.stream_id
        window w as (partition by e.stream_id order by e.version)
    ), judged as (
        select l.stream_id, l.version, case
            when l.version <> l.before + 1 then 'event ' || (l.before + 1) || ' is missing'
            when l.payload_hash <> sha256(convert_to(l.payload, 'UTF8')) then 'the payload was changed'
            when l.hash <> es.chain(l.previous, l.stream_id, l.version, l.payload_hash) then 'the chain is broken'
            when (l.payload::json ->> 'event_id') is distinct from l.event_id::text then
                'the event id column was changed'
            when (l.payload::json ->> 'type') is distinct from l.type then 'the type column was changed'
            when l.is_last and (l.version <> l.stream_version or l.hash <> l.head) then
                'the stream head does not match its last event'
        end as reason
        from links l
        union all
        select s.stream_id, 0, 'the stream has a head but no events' from page s
        where not exists (select from es.event e where e.stream_id = s.stream_id)
    )
    select b.stream_id, b.version, b.reason, (select count(*) from links), (select max(s.stream_id) from page s)
    from (select 1) one left join lateral (
        select * from judged j where j.reason is not null order by j.stream_id, j.version limit 1) b on true
$$;
