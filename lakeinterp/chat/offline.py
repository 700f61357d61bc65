"""The chat that asks nobody: every reply comes from the lake.

A miss is an error, or, while replies are read again, a row that is left as it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from lakeinterp.chat.targets import model_of
from lakeinterp.errors import Deferred, NotFound

if TYPE_CHECKING:
    from lakeinterp.chat.types import Request, RouteName
    from lakeinterp.config import ChatConfig


class NoStoredReply(NotFound):
    """Nothing is stored under a request's key and nobody may be asked."""

    def __init__(self, key: str, route: RouteName, model: str) -> None:
        super().__init__(
            "stored reply",
            key,
            hint=f"chat.offline is set and the lake holds no answer of {model} to this request of "
            f"the {route}: the settings or the prompts differ from those of the run that asked, "
            "or it failed then. Without --offline the model is asked",
        )


class LeftAsItIs(Deferred):
    """Nothing is stored under a request's key, so its row cannot be read again."""


class OfflineChat:
    """Stands where the models would be asked; needs no key and no network.

    Args:
        config: Tells under which model's name replies are kept.
    """

    def __init__(self, config: ChatConfig) -> None:
        self._config = config

    def model(self, route: RouteName) -> str:
        """Return the model that the route's replies are kept under.

        Raises:
            ConfigError: the route has no deployment.
        """
        return model_of(self._config, route)

    async def __call__(self, request: Request) -> NoReturn:
        """Refuse.

        Raises:
            NoStoredReply: if `offline` is set; it names the key.
            LeftAsItIs: if only `reread` is.
        """
        model = self.model(request.route)
        if not self._config.offline:
            raise LeftAsItIs(f"no reply of {model} is stored to be read again")
        raise NoStoredReply(request.key(model), request.route, model)
