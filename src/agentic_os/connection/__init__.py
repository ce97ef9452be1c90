"""Connecting the agents' clients: what each is like, what is merged into a workspace, and how it is launched."""
