"""Beyond one machine: shards of a pool are read elsewhere, and their states are merged exactly."""

from fastal.distributed.ray_engine import Ray

__all__ = ["Ray"]
