"""One set of storage options for two clients: the one that commits and the one that reads files.

Delta's client and fsspec's name the same things differently. Options are written as Delta's
client names them (`AWS_ENDPOINT_URL`, `aws_endpoint_url` and `endpoint_url` are one), and so are
the usual environment variables, which count where no option is given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakeinterp.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class _Scheme:
    prefix: str
    """Of the names of environment variables and options; may be left out of an option."""
    names: dict[str, str]
    """Option without its prefix to fsspec's argument."""
    package: str
    extra: str = ""


_S3 = _Scheme(
    "aws_",
    {
        "access_key_id": "key",
        "secret_access_key": "secret",
        "session_token": "token",
        "token": "token",
        "endpoint": "endpoint_url",
        "endpoint_url": "endpoint_url",
        "endpoint_url_s3": "endpoint_url",
        "region": "region",
        "default_region": "region",
        "allow_http": "",
        "skip_signature": "anon",
        "virtual_hosted_style_request": "virtual",
    },
    "s3fs",
    "s3",
)
_GOOGLE = _Scheme(
    "google_",
    {"service_account": "token", "service_account_path": "token"},
    "gcsfs",
)
_AZURE = _Scheme(
    "azure_storage_",
    {
        "account_name": "account_name",
        "account_key": "account_key",
        "access_key": "account_key",
        "sas_token": "sas_token",
        "client_id": "client_id",
        "client_secret": "client_secret",
        "tenant_id": "tenant_id",
    },
    "adlfs",
)
_SCHEMES = {
    "s3": _S3,
    "s3a": _S3,
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
}


def delta_options(root: str, given: Mapping[str, str]) -> dict[str, str]:
    """Return the options for Delta's client: those given, over those of the environment.

    An `http://` endpoint is taken as the wish to speak without encryption.
    """
    scheme = _scheme(root)
    options = {f"{scheme.prefix}{k}": v for k, v in _from_environment(scheme).items()}
    for name, value in given.items():
        short = name.lower().removeprefix(scheme.prefix)
        known = short in scheme.names
        options[f"{scheme.prefix}{short}" if known else name] = value
    if scheme is _S3:
        _one_name(options, "aws_endpoint_url", ("aws_endpoint", "aws_endpoint_url_s3"))
        _one_name(options, "aws_region", ("aws_default_region",))
        if options.get("aws_endpoint_url", "").startswith("http://"):
            options.setdefault("aws_allow_http", "true")
    return options


def fsspec_options(root: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the same options for fsspec's file system; listings are never kept.

    Raises:
        ConfigError: the address has a scheme that lakeinterp does not know.
    """
    scheme = _scheme(root)
    found: dict[str, Any] = {}
    for name, value in delta_options(root, given).items():
        short = name.lower().removeprefix(scheme.prefix)
        if argument := scheme.names.get(short):
            found[argument] = value
    # Delta's client writes files that this one did not see: a kept listing would hide them.
    return (_s3fs(found) if scheme is _S3 else found) | {"use_listings_cache": False}


def file_system(root: str, given: Mapping[str, str]) -> tuple[Any, str]:
    """Return the fsspec file system of an address, and the address without its scheme.

    Raises:
        ConfigError: the address has a scheme that lakeinterp does not know.
        MissingExtra: the package that speaks with this kind of store is not installed.
    """
    import fsspec

    scheme = _scheme(root)
    try:
        fs, base = fsspec.url_to_fs(root, **fsspec_options(root, given))
    except ImportError as exc:
        if scheme.extra:
            raise MissingExtra(root, scheme.extra, scheme.package) from exc
        raise ConfigError(f"lake: {root}: pip install {scheme.package}") from exc
    return fs, str(base)


def _scheme(root: str) -> _Scheme:
    name = root.partition("://")[0]
    if name not in _SCHEMES:
        raise ConfigError(f"lake: {root}: {name}:// is none of {', '.join(sorted(_SCHEMES))}")
    return _SCHEMES[name]


def _from_environment(scheme: _Scheme) -> dict[str, str]:
    found = {name: os.environ.get(f"{scheme.prefix}{name}".upper(), "") for name in scheme.names}
    return {name: value for name, value in found.items() if value}


def _one_name(options: dict[str, str], name: str, others: tuple[str, ...]) -> None:
    """Keep the first of several names of one thing, under the first name."""
    values = [options.pop(n) for n in (name, *others) if n in options]
    if values:
        options[name] = values[0]


def _s3fs(found: dict[str, Any]) -> dict[str, Any]:
    region, virtual = found.pop("region", None), found.pop("virtual", "false")
    if "anon" in found:
        found["anon"] = found["anon"].lower() == "true"
    if region:
        found["client_kwargs"] = {"region_name": region}
    style = "virtual" if virtual.lower() == "true" else "path"
    if "endpoint_url" in found:
        found["config_kwargs"] = {"s3": {"addressing_style": style}}
    # Parquet readers ask for what they need; reading ahead would fetch whole files.
    return found | {"default_cache_type": "none", "default_fill_cache": False}
