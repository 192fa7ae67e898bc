"""Beyond one machine: shards of a pool are read elsewhere, and their states are merged exactly."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.distributed.ray_engine import Ray

__all__ = ["Ray"]

import_on_first_use(__name__, {"fastal.distributed.ray_engine": ["Ray"]})
