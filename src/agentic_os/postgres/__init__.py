"""The storage ports over PostgreSQL; the only place with SQL."""
