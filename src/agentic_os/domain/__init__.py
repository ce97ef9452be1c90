"""The decider: values in, values out; standard library only."""
