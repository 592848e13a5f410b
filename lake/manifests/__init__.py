"""What each closed day holds, in files that outlive the tables' logs and are chained to each other by hash.

    ROOT/manifests/2026-11-29.json          the newest word on that day
    ROOT/manifests/2026-11-29.json.sig      its signature, where there is a key
    ROOT/manifests/2026-11-29.r1.json       an earlier revision, which the newer one names
    ROOT/heads/manifests.json               the hash of the newest manifest of every day

`form` says what stands in a manifest, `state` what the lake holds now, `compare` whether the one can have become
the other; `make` writes, `chain` follows the links, `check` holds a lake and `delivered` a folder of files against
them.
"""

from lake.manifests.check import check_manifests
from lake.manifests.compare import Findings
from lake.manifests.delivered import check_delivered
from lake.manifests.make import MakeReport, ManifestSettings, make_manifests

__all__ = [
    "Findings",
    "MakeReport",
    "ManifestSettings",
    "check_delivered",
    "check_manifests",
    "make_manifests",
]
