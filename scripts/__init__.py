"""Scripts that make what the package ships; run as `python -m scripts.NAME`."""
