"""How a node listens beside plain HTTP: TLS, a balancer in front, congestion control."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo

from headwater.settings.model import Settings
from headwater.settings.units import ListenAddress, Network


def _based(value: Any, info: ValidationInfo) -> Any:
    """A relative path means one beside the config file, wherever the node runs."""
    folder = (info.context or {}).get("folder")
    return Path(folder) / value if folder is not None and isinstance(value, str | Path) else value


FileBesideConfig = Annotated[Path, BeforeValidator(_based)]


class CertificateFiles(Settings):
    """One certificate with its key, both PEM."""

    certificate: FileBesideConfig = Field(description="Certificate, then its intermediates (PEM), beside the config file.")
    key: FileBesideConfig = Field(description="Private key (PEM).")


class Tls(Settings):
    """A TLS listener beside the plain one."""

    listen: ListenAddress = Field(description="Where the node serves TLS.")
    certificates: list[CertificateFiles] = Field(
        description="Chosen by the name the client asks for, exact before wildcard; the first is for all others. "
        "Changed files are taken up without a restart.",
        min_length=1,
    )
    minimum: Literal["1.2", "1.3"] = Field("1.2", description="Lowest TLS version spoken.")
    client_authority: FileBesideConfig | None = Field(
        None, description="CA (PEM) whose certificates clients must show: mutual TLS, for listeners of other tiers."
    )


class TierTls(Settings):
    """How this node shows itself to its parents where they listen with TLS."""

    authority: FileBesideConfig = Field(description="CA (PEM) of the parents' certificates, which name their nodes (`shield-1`).")
    certificate: FileBesideConfig = Field(description="This node's own certificate (PEM).")
    key: FileBesideConfig = Field(description="Its private key (PEM).")


class ProxyProtocol(Settings):
    """A balancer in front that tells the client's address in a PROXY header (v1 or v2)."""

    model_config = ConfigDict(populate_by_name=True)

    networks: list[Network] = Field(
        alias="from",
        description="The balancers' networks. Their connections must begin with the header, others must not.",
        min_length=1,
    )
