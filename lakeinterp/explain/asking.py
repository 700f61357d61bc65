"""What explainers that put one question to a language model share."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from lakeinterp import prompts
from lakeinterp.chat.types import Message, Request
from lakeinterp.errors import UnparsableReply
from lakeinterp.explain.explainer import Explainer
from lakeinterp.terms import Explained, digest

if TYPE_CHECKING:
    from lakeinterp.chat.ask import Asked
    from lakeinterp.chat.types import Chat
    from lakeinterp.config import ExplainConfig
    from lakeinterp.explain.evidence import Evidence

ASKED = frozenset({"chain_of_thought", "max_tokens", "temperature"})
"""Settings that decide any call."""
PASSAGES = frozenset({"show_activations", "highlight_above", "n_shown"})
"""Settings that decide how activating windows are shown."""
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"explanation": {"type": "string"}},
    "required": ["explanation"],
    "additionalProperties": False,
}


class AskingExplainer(Explainer):
    """Asks for one sentence; subclasses say what is shown.

    The prompts are `explain/NAME_system` and `explain/NAME_user`. The system message is the same
    for all latents, so that requests share the longest prefix.
    """

    needs_chat = True
    fields: ClassVar[frozenset[str]] = frozenset()
    """Settings that matter, beside `ASKED`."""
    version: ClassVar[int] = 2
    """Of what is shown; grows when the same examples and settings lead to another question."""

    def __init__(self, config: ExplainConfig) -> None:
        """Load the prompts, from `config.prompts` where that folder has them."""
        self._config = config
        self._system = self.system()
        self._user = self._prompt(f"{self.name}_user")
        self._before = self.turns()
        self.prompt: str | None = digest(
            [self._system, self._user.text, *(m.content for m in self._before)]
        )
        used = config.model_dump(mode="json", include={*self.fields, *ASKED} - self.idle(config))
        self.settings = digest([self.version, used, self.prompt])

    def idle(self, config: ExplainConfig) -> set[str]:  # noqa: ARG002
        """Return those of `fields` that do not matter as the others stand."""
        return set()

    def system(self) -> str:
        """Return the system message."""
        return self._prompt(f"{self.name}_system").fill(**self.notes())

    def notes(self) -> dict[str, str]:
        """Return the values of the system prompt's slots."""
        reasoning = self.note("reasoning", is_wanted=self._config.chain_of_thought)
        if "show_activations" not in self.fields:
            return {"reasoning_note": reasoning}
        shown = self.note("activations", is_wanted=self._config.show_activations)
        return {"reasoning_note": reasoning, "activations_note": shown}

    def turns(self) -> tuple[Message, ...]:
        """Return turns of the conversation between the system message and the question."""
        return ()

    @abstractmethod
    def question(self, evidence: Evidence) -> str:
        """Return the user message for one latent.

        Raises:
            SkipUnit: what is to be shown is not there.
        """

    def detail(self, evidence: Evidence) -> dict[str, Any] | None:  # noqa: ARG002
        """Return what else the row keeps of a latent."""
        return None

    def note(self, part: str, *, is_wanted: bool) -> str:
        """Return a part of a system prompt with its line break, nothing if it is not wanted."""
        return self._prompt(f"default_{part}").fill() + "\n" if is_wanted else ""

    def request(
        self, evidence: Evidence, *, temperature: float | None = None, repeat: int = 0
    ) -> Request:
        """Return the call for one latent.

        Args:
            evidence: What may be shown.
            temperature: Instead of the settings'.
            repeat: Tells apart replies that are wanted more than once.
        """
        return self.asking(self.question(evidence), temperature=temperature, repeat=repeat)

    def asking(
        self,
        question: str,
        *,
        system: str | None = None,
        temperature: float | None = None,
        repeat: int = 0,
    ) -> Request:
        """Return the call with this question, below another system message if one is given."""
        first = Message(role="system", content=self._system if system is None else system)
        before = self._before if system is None else ()
        return Request(
            route="explainer",
            messages=(first, *before, Message(role="user", content=question)),
            max_tokens=self._config.max_tokens,
            temperature=self._config.temperature if temperature is None else temperature,
            schema=None if self._config.chain_of_thought else SCHEMA,
            repeat=repeat,
        )

    async def explain(self, evidence: Evidence, chat: Chat | None) -> Explained:
        """Explain one latent; a reply without an explanation becomes a status, not a text."""
        assert chat is not None, "explain_unit refuses to start without a chat"
        asked = await put(chat, self.request(evidence))
        return Explained(
            text=asked.value if asked.status == "ok" else None,
            status=asked.status,
            reason=asked.reason,
            detail=self.detail(evidence),
            reply_keys=asked.reply_keys,
        )

    def _prompt(self, stem: str) -> prompts.Prompt:
        return prompts.load(f"explain/{stem}", self._config.prompts)


async def put(chat: Chat, request: Request) -> Asked[str]:
    """Ask for an explanation, and once more if the reply holds none."""
    from lakeinterp.chat.ask import ask

    return await ask(chat, request, one_line)


def one_line(text: str) -> str:
    """Return the explanation in a reply, on one line.

    Raises:
        UnparsableReply: the reply holds none, or an empty one.
    """
    from lakeinterp.chat.parse import parse_field

    explanation = " ".join(parse_field(text, "explanation").split())
    if not explanation:
        raise UnparsableReply("the explanation is empty", text)
    return explanation
