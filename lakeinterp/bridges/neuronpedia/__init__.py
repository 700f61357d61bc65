"""Neuronpedia: whole sources as its importer reads them, and bodies of its upload call."""
