"""`lake verify`: the proof that the lake holds what it says, all of it and once. See docs/proof.md."""

from quality.verify.report import TableProof, VerifyReport
from quality.verify.run import find_lake, verify

__all__ = ["TableProof", "VerifyReport", "find_lake", "verify"]
