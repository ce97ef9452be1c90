"""The wire contract at the edges: JSON read strictly, canonical form, callbacks, marked text."""
