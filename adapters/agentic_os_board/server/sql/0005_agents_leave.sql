-- Agents can be deactivated, too; only the backend's account cannot.

alter table accounts drop constraint accounts_check;
alter table accounts add constraint accounts_by_kind check (
    kind = 'person'
    or (password_hash is null and role = 'member' and (kind = 'agent' or deactivated_at is null))
);
