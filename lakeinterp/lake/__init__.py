"""The lake room: the contract every other room writes to and reads from."""

from lakeinterp.lake.bench import Bench
from lakeinterp.lake.opening import kept, open_lake
from lakeinterp.lake.store import Written
from lakeinterp.lake.tables import Lake, literal, where
from lakeinterp.lake.vocabulary import Vocabulary

__all__ = ["Bench", "Lake", "Vocabulary", "Written", "kept", "literal", "open_lake", "where"]
