-- What the pages show and ask for: priority, parent, words to search by, roles, and who reports to whom.

alter table issues
    add column priority text not null default '' check (priority in ('', 'low', 'medium', 'high', 'critical')),
    add column parent bigint references issues on delete set null,
    add column urgency smallint not null generated always as (
        case priority when 'critical' then 4 when 'high' then 3 when 'medium' then 2 when 'low' then 1 else 0 end
    ) stored,
    -- Signs separate words, so that "settings.py" is found in "src/settings.py". The text is cut, because a tsvector
    -- may hold one megabyte.
    add column words tsvector not null generated always as (
        to_tsvector('simple', translate(title || ' ' || left(body, 100000),
            '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32)))
    ) stored;

create index issues_by_words on issues using gin (words) with (fastupdate = off);
create index issues_by_labels on issues using gin (labels) with (fastupdate = off);
create index issues_by_state on issues (state);
create index issues_by_project on issues (project);
create index issues_by_assignee on issues (assignee) where assignee is not null;
-- The list counts and sorts by these alone, without reading every issue's text on the way.
create index issues_listed on issues (number) include (closed, updated_at, urgency, state, project, priority, assignee);
create index issues_by_parent on issues (parent) where parent is not null;
create index reviews_open on reviews (issue) where outcome is null;

-- A viewer reads, a member works, an admin also looks after accounts and agents. Agents and the backend are members.
alter table accounts
    add column role text not null default 'member' check (role in ('viewer', 'member', 'admin')),
    add column deactivated_at timestamptz,
    add column duty text not null default '',
    add column reports_to uuid references accounts;
update accounts set role = 'admin' where admin;
alter table accounts drop column admin;
alter table accounts add check (kind = 'person' or (password_hash is null and role = 'member' and deactivated_at is null));

-- How the items of the last review were answered, beside the document.
alter table reviews add column answers text not null default '';

create index sessions_by_account on sessions (account);
