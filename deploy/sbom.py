"""Print what a release is tested with, the packages of requirements.lock, as a CycloneDX bill of materials in JSON.

python deploy/sbom.py > raysplit.cdx.json

Names and versions are those of the lock. Licenses, and what needs what, come from the packages that are installed here;
of others the entry has no license and needs nothing. Equal input gives equal bytes: there is no time in it.
"""

from __future__ import annotations

import json
import re
import sys
import uuid
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import raysplit

LOCK = Path(__file__).parents[1] / "requirements.lock"
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;]+)", re.MULTILINE)


def pins(text: str) -> dict[str, list[str]]:
    """Return the versions by name; a package has several where the lock names one for each version of Python."""
    found: dict[str, list[str]] = {}
    for pin in _PIN.finditer(text):
        found.setdefault(canonicalize_name(pin["name"]), []).append(pin["version"])
    return found


def purl(name: str, version: str) -> str:
    """Return the package's address in the form that all tools know."""
    return f"pkg:pypi/{name}@{version}"


def license_of(name: str, version: str) -> str:
    """Return the license that an installed package names; empty where it is another version, or none is named."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return ""
    if found["Version"] != version:
        return ""
    said = found.get("License-Expression") or found.get("License") or ""
    short = said.strip().partition("\n")[0]
    classifiers = [line for line in found.get_all("Classifier", []) if line.startswith("License ::")]
    return short if 0 < len(short) <= 80 else ", ".join(line.rpartition(" :: ")[2] for line in classifiers)


def needed(name: str, extras: tuple[str, ...] = ("",)) -> Iterator[str]:
    """Yield what an installed package needs on this machine."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            yield canonicalize_name(requirement.name)


def component(name: str, version: str) -> dict[str, Any]:
    """Return the entry of a package."""
    address = purl(name, version)
    entry = {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}
    found = license_of(name, version)
    return {**entry, "licenses": [{"license": {"name": found}}]} if found else entry


def bill(lock: str, version: str = raysplit.__version__) -> dict[str, Any]:
    """Return the whole document."""
    pinned = pins(lock)
    addresses = {name: [purl(name, version) for version in versions] for name, versions in pinned.items()}
    own = purl("raysplit", version)
    refs = {own: "raysplit", **{address: name for name, found in addresses.items() for address in found}}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + lock)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": "raysplit",
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [component(name, version) for name in sorted(pinned) for version in pinned[name]],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted({at for other in needed(name) for at in addresses.get(other, [])})}
            for ref, name in refs.items()
        ],
    }


if __name__ == "__main__":
    json.dump(bill(LOCK.read_text(encoding="utf-8")), sys.stdout, indent=1)
    sys.stdout.write("\n")
