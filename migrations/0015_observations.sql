-- What was heard of an issue, and what was refused, for whoever asks what became of it.
create index inbox_of_issue on es.inbox (control_plane, key, id);
create index inbox_refused on es.inbox (id) where outcome = 'refused';
create index former_issue_of on es.former_issue (task_id);
