"""The use cases over FastAPI."""
