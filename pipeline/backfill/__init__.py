"""Backfill: what the venue still gives of the past, asked for once and brought into the tables."""

from pipeline.backfill.display import backfill_now
from pipeline.backfill.engine import Progress
from pipeline.backfill.plan import DATASETS, Choice, Plan
from pipeline.backfill.run import Job, Report
from pipeline.backfill.settings import BackfillSettings

__all__ = ["DATASETS", "BackfillSettings", "Choice", "Job", "Plan", "Progress", "Report", "backfill_now"]
