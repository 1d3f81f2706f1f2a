"""The Taskiq engine: runs are carried by any Taskiq broker, and executed by Taskiq's workers."""

from mageflow.engines.taskiq.engine import TaskiqEngine

__all__ = ["TaskiqEngine"]
