-- The backend hears of agents that are deactivated, which are on no issue; of those that were before, in nobody's name.

alter table activities alter column issue drop not null;
insert into activities (delivery, actor, own, issue, kind, data)
    select gen_random_uuid(), id, false, null, 'agent.deactivated', jsonb_build_object('account', id)
    from accounts where kind = 'agent' and deactivated_at is not null order by deactivated_at, id;
