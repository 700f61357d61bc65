"""Every setting, declared once: for TOML files, `--set key=value` and Prefect's parameter form.

Precedence: default < file < `--set`. Secrets are no settings: they are read from the
environment where they are used (`Deployment.api_key_env` names the variable).
"""

from __future__ import annotations

from lakeinterp.config.capture import CaptureConfig
from lakeinterp.config.chat import ChatConfig, Deployment, RouteConfig, VllmConfig
from lakeinterp.config.corpus import CorpusConfig
from lakeinterp.config.judging import ExplainConfig, ScoreConfig
from lakeinterp.config.load import load, read_text, validate
from lakeinterp.config.outputs import FlowsConfig, ReportConfig, ServeConfig
from lakeinterp.config.rescoring import RescoreConfig
from lakeinterp.config.sampling import SamplingConfig
from lakeinterp.config.section import Section
from lakeinterp.config.tree import Config

__all__ = [
    "CaptureConfig",
    "ChatConfig",
    "Config",
    "CorpusConfig",
    "Deployment",
    "ExplainConfig",
    "FlowsConfig",
    "ReportConfig",
    "RescoreConfig",
    "RouteConfig",
    "SamplingConfig",
    "ScoreConfig",
    "Section",
    "ServeConfig",
    "VllmConfig",
    "load",
    "read_text",
    "validate",
]
