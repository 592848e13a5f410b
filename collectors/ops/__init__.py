"""What keeps an eye on a running collector: beats for others to read, metrics, and a sign of life to the outside."""

from collectors.ops.operations import Operations
from collectors.ops.settings import HeartbeatSettings, MetricsSettings, OpsSettings

__all__ = ["HeartbeatSettings", "MetricsSettings", "Operations", "OpsSettings"]
