"""Measure what the design promises, each beside its limit in the same run; a ratio travels, an absolute does not."""
