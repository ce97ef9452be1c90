-- Of the tasks that wait for the same hand the more urgent go first. rank: 0 for the most urgent.
alter table es.waiting add column rank smallint not null default 2;
create index waiting_by_rank on es.waiting (what, rank);
