"""The main job end to end, on a stack of its own: told step by step, and nothing of it canned."""
