"""Settings of explainers and scorers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lakeinterp.config.section import Positive, Section, Share

FuzzingKind = Literal["moved", "texts", "neighbours"]
SimulationMode = Literal["json", "logprobs", "token"]
SilentStratum = Literal["random", "same_token", "neighbour", "similar"]
_ALIASES = {"recall": "detection"}
"""Names that scorers had elsewhere."""


class ExplainConfig(Section):
    """Which explainer, and what it shows the model."""

    explainer: str = "pattern"
    """Name in the registry: `pattern`, `none`, `constant`, `loaded`, `borrowed` and `random` need
    no language model; `default`, `contrastive`, `single_token`, `token_list`, `output_centric`,
    `both_views`, `best_of_k` and `iterative` ask one."""
    show_activations: bool = True
    """List the activating tokens with their strengths under each example."""
    chain_of_thought: bool = False
    """Ask for reasoning before the explanation."""
    few_shot: Literal["none", "turns", "system"] = "none"
    """Worked examples of `default`: as earlier `turns` of the conversation, or in the `system`
    message."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited."""
    n_shown: Positive = 40
    """Examples of the explain role shown to the model, strongest first."""
    n_counter: Positive = 10
    """Silent windows that `contrastive` shows beside them, of the explain role too."""
    counter_strata: tuple[SilentStratum, ...] = ("same_token", "neighbour", "similar", "random")
    """Kinds of silent windows that `contrastive` shows, in turns; `sampling.n_explain_same_token`
    and its like draw them, `sampling.n_explain_negatives` the random ones."""
    n_output_tokens: Annotated[int, Field(ge=0)] = 10
    """Tokens that a latent raises and lowers most, shown by `token_list`, `output_centric` and
    `both_views`, of each kind; 0 in a `token_list` shows none and needs no subject model."""
    output_view: Literal["logits", "steering", "both"] = "logits"
    """How these are found: from the decoder row through the unembedding as `logits`; by `steering`
    the subject model, which runs it; or `both`."""
    steering_kl: Annotated[float, Field(gt=0)] = 0.5
    """Divergence of the next token that steering is tuned to, in nats."""
    n_candidates: Positive = 3
    """Explanations among which `best_of_k` chooses."""
    candidate_explainer: str = "default"
    """What writes the candidates of `best_of_k` and the first explanation of `iterative`."""
    vary: Literal["temperature", "windows"] = "temperature"
    """What makes candidates differ: `candidate_temperature`, or which `windows` each is shown."""
    candidate_temperature: Annotated[float, Field(ge=0)] = 1.0
    """Of the explainer of candidates that differ by temperature."""
    n_rounds: Positive = 2
    """Times that `iterative` asks for a better explanation."""
    n_errors: Positive = 5
    """Wrongly judged windows of each kind that `iterative` shows in a round."""
    select_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Share of the explain role's documents on which `best_of_k` and `iterative` choose; the model
    that explains never sees them."""
    n_judged: Annotated[int, Field(ge=2)] = 20
    """Windows on which a candidate is judged by `detection`, half of them activating."""
    source: str | None = None
    """Where `loaded` finds explanations: a CSV, JSON or JSONL file, a folder that delphi wrote, or
    a lake."""
    source_explainer: str | None = None
    """Explainer whose explanations `borrowed`, `random` and, from a lake, `loaded` take; None takes
    the only one there is."""
    constant: Annotated[str, Field(min_length=1)] = "any text"
    """What `constant` says of every latent."""
    seed: int = 0
    """Decides which other explanation `random` takes."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the explainer."""
    prompts: str | None = None
    """Folder whose `explain/*.md` replace the shipped prompts; `lakeinterp prompts` lists them."""
    turn: Annotated[int, Field(ge=0)] = 0
    """How often a language model was asked anew before: each turn has replies and rows of its own.
    `lakeinterp rescore` counts it."""


class ScoreConfig(Section):
    """Which scorers, and what they compare with."""

    scorers: tuple[str, ...] = ("pattern",)
    """Names in the registry: `pattern` needs no language model; `detection`, `fuzzing`, `intruder`
    and `simulation` do. `recall` is another name of `detection`. `embedding`, `example_embedding`
    and `surprisal` run a model on this machine; `sensitivity` and `intervention` run the captured
    model and ask a language model too."""
    items_per_prompt: Positive = 5
    """Items a judge sees in one call."""
    n_borrowed: Annotated[int, Field(ge=0)] = 4
    """Explanations of other latents judged on the same items: the null."""
    null_share: Share = 1.0
    """Share of the latents that get a null, a choice by `sampling.seed`."""
    repeat_share: Share = 0.05
    """Share of the latents whose items a language model judges a second time, in other calls: does
    the judge agree with itself."""
    adaptive_width: Share = 0.0
    """Stop judging a latent's items when the 95 % interval of balanced accuracy is narrower than
    this; intervals then allow for it, and are wider. 0 judges all."""
    max_failed: Share = 0.02
    """A score of which more than this share of the items failed is marked `many_failed`."""
    headline: str = "balanced_accuracy"
    """The metric that reports sort by."""
    highlight_above: Share = 0.3
    """Tokens above this share of the example's peak are delimited in fuzzing and intruder."""
    label_alternatives: Annotated[int, Field(ge=0, le=20)] = 5
    """Likeliest tokens asked for at each token of a reply, from which a label gets its probability;
    0 asks for none. Routes that give none are asked without."""
    fuzzing: FuzzingKind = "moved"
    """Wrong highlights of `fuzzing`: `moved` to other tokens of the same text; on `texts` in which
    the latent is silent; where `neighbours` fire and the latent does not. The last two are also
    scorers by name, `fuzzing_texts` and `fuzzing_neighbours`."""
    intruder: Literal["silent", "quantile"] = "silent"
    """What stands among the activating texts of one quantile: a text in which the latent is silent,
    or one of another quantile."""
    intruder_texts: Annotated[int, Field(ge=3)] = 5
    """Texts of one question of `intruder`; chance is one over it."""
    simulation: SimulationMode = "json"
    """How `simulation` predicts the tokens of a window: all at once as `json`; all at once from the
    `logprobs` of a prompt, which vLLM gives, json where there are none; one call a `token`."""
    n_simulated: Positive = 20
    """Windows simulated with each explanation, half of them activating, half random."""
    embedding_model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Folder or hub id of the `sentence-transformers` model of `embedding` and
    `example_embedding`."""
    embedding_revision: str | None = None
    """Revision of a hub model."""
    surprisal_model: str = ""
    """Folder or hub id of the causal language model of `surprisal`, run on this machine; empty
    takes the captured one."""
    surprisal_revision: str | None = None
    """Revision of a hub model."""
    n_written: Positive = 20
    """Texts that are written from each explanation for `sensitivity`."""
    written_per_call: Positive = 4
    """Texts of `sensitivity` asked for in one call; those of one reply are not independent, so that
    few calls give a wide interval."""
    fires_above: Share = 0.0
    """A latent counts as firing on a written text above this share of its largest activation."""
    n_interventions: Positive = 10
    """Other latents that the effect of one is told from in `intervention`."""
    intervention_kl: Annotated[float, Field(gt=0)] = 0.5
    """Divergence of the next token, in nats, that directions are added as strongly as it takes for;
    mean over texts that the model wrote itself."""
    n_raised: Positive = 10
    """Tokens shown of each direction."""
    max_tokens: Positive = 500
    """Longest reply."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """Of the judge."""
    prompts: str | None = None
    """Folder whose `score/*.md` replace the shipped prompts."""
    turn: Annotated[int, Field(ge=0)] = 0
    """How often the same items were judged anew before: each turn has replies and rows of its own.
    `lakeinterp rescore` counts it."""

    @model_validator(mode="before")
    @classmethod
    def _names_in_rows(cls, values: Any) -> Any:
        """Write scorers as their rows do, each once."""
        if not isinstance(values, dict) or not isinstance(values.get("scorers"), list | tuple):
            return values
        kind = values.get("fuzzing", "moved")
        names = _ALIASES | ({} if kind == "moved" else {"fuzzing": f"fuzzing_{kind}"})
        return values | {
            "scorers": tuple(dict.fromkeys(names.get(n, n) for n in values["scorers"]))
        }
