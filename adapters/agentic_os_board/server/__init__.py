"""The board's server: issues, accounts, agents' runs, pages and an HTTP API over PostgreSQL."""
