"""Proof and judgement: what the lake holds, and whether it holds it whole."""
