"""Prefect flows: one a step and one for all. They name units, retries and order, nothing else.

`python -m flows.pipeline --help` runs one here; in an installed package the same files are
`lakeinterp.flows`.
"""
