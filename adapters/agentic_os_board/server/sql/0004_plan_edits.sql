-- A plan as the text that people may edit, beside the document that they read; empty where they may not.
alter table reviews add column editable text not null default '';
