-- What stands on an account follows from events alone. Its limit does not: it is the executor's, or policy's, and is
-- said with each movement that may not pass it, so that no row repeats what may have changed since.

alter table es.account drop column "limit";

-- A movement with a limit is refused when it leaves more than that spent and reserved, and when it takes nothing
-- and nothing is left: who cannot say what they need may still not begin on an account that is used up.
create or replace function es.move_accounts(movements jsonb) returns void language plpgsql as $$
declare
    moved record;
    used  bigint;
begin
    for moved in select * from jsonb_to_recordset(movements) as m
            (account text, spent bigint, reserved bigint, "limit" bigint) order by account loop
        insert into es.account as a (name, spent, reserved)
            values (moved.account, moved.spent, greatest(moved.reserved, 0))
            on conflict (name) do update set spent = a.spent + moved.spent,
                reserved = greatest(a.reserved + moved.reserved, 0)
            returning a.spent + a.reserved into used;
        if moved.spent + moved.reserved > 0 and used > moved."limit"
                or moved.spent = 0 and moved.reserved = 0 and used >= moved."limit" then
            raise exception '%', moved.account using errcode = 'AO402';
        end if;
    end loop;
end $$;
