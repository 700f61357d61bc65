"""Training of the demo's assets; see `__main__`."""
