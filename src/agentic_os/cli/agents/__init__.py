"""The commands that connect agents, take them back, and have them work on an attempt."""
