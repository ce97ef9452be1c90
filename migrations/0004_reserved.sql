-- Kept free for a change that is under way elsewhere.
select 1;
