"""Combined strategies: uncertainty and diversity together, and transfer learning."""

from typing import TYPE_CHECKING

from fastal.base.lazy import import_on_first_use

if TYPE_CHECKING:
    from fastal.combine.atlas import atlas
    from fastal.combine.transfer import transfer_representative, transfer_uncertainty
    from fastal.combine.transfer_picks import TransferPicks

__all__ = ["TransferPicks", "atlas", "transfer_representative", "transfer_uncertainty"]

import_on_first_use(
    __name__,
    {
        "fastal.combine.atlas": ["atlas"],
        "fastal.combine.transfer": ["transfer_representative", "transfer_uncertainty"],
        "fastal.combine.transfer_picks": ["TransferPicks"],
    },
)
