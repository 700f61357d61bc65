"""The subject room: the captured model and its coders, opened again for explainers and scorers."""
