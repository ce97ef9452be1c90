-- Appending with plain parameters. A part of an append is one stream: its events and all that is written with them.
-- In one transaction PL/pgSQL prepares each expression once, so that what an append costs is the number of its
-- expressions and statements: none is here that the commonest append, one event of one task, could do without.

drop function es.append(jsonb);
drop function es.put_stream(jsonb, bytea);
drop function es.put_task(jsonb);

-- The events of one stream, chained, and what goes with them, all parts but the first six may be null:
--   _state ...       the row of its task               _stale   whether to mark that task
--   _due_...         a deadline of it that comes or moves
--   _principal ...   the receipt                       _credential   the hash of what must still be valid
--   _attempt ...     a conflict when progress of that attempt and generation is at or after this seq
--   _more            {movements: [{account, spent, reserved, limit}], deadlines: {put: [{task_id, kind, ref, at}],
--                    drop: [{task_id, kind, ref}]}, rows: {artifact, quarantine, progress: [...]},
--                    adopted: [id of what was kept aside and no longer is],
--                    stale: [task id], clears: [what, on which waiting tasks may go on, see es.waiting]}
--   _following       whether es.append_all calls, which has taken the locks
-- The outcome is one of
--   appended   everything was written
--   replayed   the receipt was there, with this fingerprint: answer is the stored one, nothing was written
--   mismatch   the receipt was there with another fingerprint
--   conflict   the stream is not at its expected version
--   credential the credential, or its principal, was revoked meanwhile
-- and an account that would go over its limit aborts all with SQLSTATE AO402 and the account's name.
create function es.append(
    _stream text, _kind text, _expected integer, _event_ids uuid[], _types text[], _payloads text[],
    _fold_version integer, _phase text, _project text, _title text, _executor text, _priority text, _state text,
    _created_at timestamptz, _updated_at timestamptz, _stale boolean,
    _due_kind text, _due_ref text, _due_at timestamptz,
    _principal text, _route text, _key text, _fingerprint bytea, _answer text,
    _credential bytea, _attempt integer, _generation integer, _seq bigint, _more jsonb,
    _following boolean default false,
    out outcome text, out answer text)
language plpgsql security definer set search_path = es, pg_temp as $$
declare
    version integer;
    head    bytea;
    stored  bytea;
    seen    bigint;
    name    bytea;
    digest  bytea;
begin
    if not _following then
        if pg_current_xact_id_if_assigned() is not null then
            raise exception 'append must be the first write of its transaction' using errcode = 'AO500';
        end if;
        -- It waits, and answers nothing; asked in an expression, since a query would need the executor.
        if pg_advisory_xact_lock(hashtextextended(_stream, 0)) is null then
            return;
        end if;
    end if;

    select r.fingerprint, r.answer, s.version, s.head, p.seq into stored, answer, version, head, seen
        from (select) one
        left join es.receipt r on r.principal = _principal and r.route = _route and r.key = _key
        left join es.stream s on s.stream_id = _stream
        left join es.progress p on p.task_id = _stream and p.attempt = _attempt and p.generation = _generation;
    if stored is not null then
        outcome := case when stored = _fingerprint then 'replayed' else 'mismatch' end;
        return;
    end if;
    if _credential is not null then
        if not es.in_force(_credential) then
            outcome := 'credential';
            return;
        end if;
    end if;
    if coalesce(version, 0) <> _expected or seen >= _seq then
        outcome := 'conflict';
        return;
    end if;

    if _more is not null then
        perform es.move_accounts(_more -> 'movements');
    end if;
    version := _expected;
    name := convert_to(_stream, 'UTF8');
    for n in 1 .. cardinality(_payloads) loop
        version := version + 1;
        digest := sha256(convert_to(_payloads[n], 'UTF8'));
        -- As es.chain, with the lengths that never vary written out.
        insert into es.event (stream_id, version, event_id, type, payload, payload_hash, hash)
            values (_stream, version, _event_ids[n], _types[n], _payloads[n], digest,
                sha256(coalesce('\x00000020' || head, '\x00000000') || int4send(octet_length(name)) || name
                    || '\x00000004' || int4send(version) || '\x00000020' || digest))
            returning hash into head;
    end loop;
    if version > _expected then
        insert into es.stream as s (stream_id, kind, version, head) values (_stream, _kind, version, head)
            on conflict (stream_id) do update set version = excluded.version, head = excluded.head;
    end if;
    if _state is not null then
        insert into es.task as t (task_id, version, fold_version, phase, project, title, executor, priority, state,
                created_at, updated_at)
            values (_stream, version, _fold_version, _phase, _project, _title, _executor, _priority, _state,
                _created_at, _updated_at)
            on conflict (task_id) do update set version = excluded.version, fold_version = excluded.fold_version,
                phase = excluded.phase, project = excluded.project, title = excluded.title,
                executor = excluded.executor, priority = excluded.priority, state = excluded.state,
                created_at = excluded.created_at, updated_at = excluded.updated_at;
    end if;
    if _due_kind is not null then
        insert into es.deadline (task_id, kind, ref, at) values (_stream, _due_kind, _due_ref, _due_at)
            on conflict (task_id, kind, ref) do update set at = excluded.at;
    end if;
    if _more is not null then
        perform es.put_more(_more, _stream, _stale);
    elsif _stale then
        insert into es.stale as s (task_id) values (_stream)
            on conflict (task_id) do update set generation = s.generation + 1, not_before = null;
    end if;
    if _key is not null then
        insert into es.receipt (principal, route, key, fingerprint, answer)
            values (_principal, _route, _key, _fingerprint, _answer);
    end if;
    outcome := 'appended';
end $$;

create function es.in_force(credential bytea) returns boolean language sql stable return exists (
    select from es.credential c join es.principal p on p.id = c.principal
    where c.hash = credential and c.revoked_at is null and p.revoked_at is null
        and (c.expires_at is null or c.expires_at > now()));

create function es.put_more(more jsonb, stream text, stale boolean) returns void language plpgsql as $$
declare
    marked text[] := case when stale then array[stream] else '{}' end;
begin
    if more ? 'rows' then
        perform es.put_rows(more -> 'rows');
    end if;
    if more ? 'adopted' then
        delete from es.quarantine q where more -> 'adopted' ? q.id;
    end if;
    if more ? 'deadlines' then
        perform es.put_deadlines(more -> 'deadlines');
    end if;
    if more ? 'stale' then
        marked := marked || array(select jsonb_array_elements_text(more -> 'stale'));
    end if;
    if more ? 'clears' then
        marked := marked || array(select w.task_id from es.waiting w where more -> 'clears' ? w.what);
    end if;
    -- In one order everywhere, so that two appends with the same tasks never wait for each other.
    if cardinality(marked) > 1 then
        marked := array(select distinct t from unnest(marked) t order by t);
    end if;
    for n in 1 .. cardinality(marked) loop
        insert into es.stale as s (task_id) values (marked[n])
            on conflict (task_id) do update set generation = s.generation + 1, not_before = null;
    end loop;
end $$;

-- Several parts in one transaction, each an object of es.append's parameters. Together: all or none, where what
-- stops one aborts all with SQLSTATE AO409 and the outcome as its message; a replay is answered by the first part.
-- Else each has an outcome of its own, and only what es.append raises aborts all.
-- The streams of the parts stand beside them, in order, since reading all the parts for them would cost a twentieth.
create function es.append_all(streams json, parts jsonb, together boolean, out outcomes text[], out answers text[])
language plpgsql security definer set search_path = es, pg_temp as $$
declare
    part record;
    done record;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'append must be the first write of its transaction' using errcode = 'AO500';
    end if;
    perform pg_advisory_xact_lock(hashtextextended(s.name, 0)) from json_array_elements_text(streams) s(name);
    for part in select * from jsonb_to_recordset(parts) as p(
        stream text, kind text, expected integer, event_ids uuid[], types text[], payloads text[],
        fold_version integer, phase text, project text, title text, executor text, priority text, state text,
        created_at timestamptz, updated_at timestamptz, stale boolean,
        due_kind text, due_ref text, due_at timestamptz,
        principal text, route text, key text, fingerprint bytea, answer text,
        credential bytea, attempt integer, generation integer, seq bigint, more jsonb) loop
        done := es.append(  -- an assignment, not a query: it needs no executor
            part.stream, part.kind, part.expected, part.event_ids, part.types, part.payloads,
            part.fold_version, part.phase, part.project, part.title, part.executor, part.priority, part.state,
            part.created_at, part.updated_at, part.stale,
            part.due_kind, part.due_ref, part.due_at,
            part.principal, part.route, part.key, part.fingerprint, part.answer,
            part.credential, part.attempt, part.generation, part.seq, part.more, true);
        outcomes := outcomes || done.outcome;
        answers := answers || done.answer;
        if together and done.outcome <> 'appended' then
            exit when cardinality(outcomes) = 1;
            raise exception '%', done.outcome using errcode = 'AO409';
        end if;
    end loop;
end $$;

do $$
declare
    app text := current_setting('agentic_os.app_role');
begin
    revoke execute on all functions in schema es from public;
    execute format('grant execute on all functions in schema es to %I', app);
end $$;
