"""Caches of delphi: `latents/<hookpoint>/<first>_<last>.safetensors` beside a `config.json`."""
