"""Sections of a config: what may be set, with its unit, default and source."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from ladder.section import Name, Section
from ladder.shapes import OLMO2_SHAPES, Architecture, Shape, misfit

Share = Annotated[float, Field(ge=0, lt=1)]
"""At least 0 and below 1."""

Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f]+$")]
"""A text of one line."""


def limit_seconds(limit: str) -> int:
    """Seconds of a time limit as Slurm writes it; ValueError where it is none.

    M, M:S, H:M:S, D-H, D-H:M or D-H:M:S.
    """
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", limit):
        raise ValueError("must be minutes, H:MM:SS, D-HH or D-HH:MM:SS")
    days, dash, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86400 * int(days or 0) + sum(n * unit for n, unit in zip(parts, units, strict=False))


def _checked_limit(given: object) -> str:
    if not isinstance(given, str):
        raise ValueError('must be quoted, such as "1:30:00", which YAML takes for a number')
    if limit_seconds(given) == 0:
        raise ValueError("must be above 0")
    return given


TimeLimit = Annotated[str, BeforeValidator(_checked_limit)]
"""A time limit as Slurm writes it, checked by limit_seconds."""


class Model(Section):
    """Architecture and sizes."""

    architecture: Architecture = "olmo2"
    """Hugging Face architecture. olmo2 has RMSNorm after each block and of queries and keys, RoPE
    and SwiGLU; llama and qwen3 RMSNorm before; gpt_neox LayerNorm, biases and GELU; mamba2 a
    state-space mixer alone; falcon_h1 one beside attention, then SwiGLU, its multipliers all 1."""
    qk_norm: bool | None = None
    """Whether queries and keys are normed; as the architecture has it by default. llama with it is
    Qwen3's architecture, an RMSNorm for each head's, and qwen3 without it Llama's."""
    sequence_length: int = Field(ge=2)
    """Tokens of a training sequence, S."""
    sizes: dict[Name, Shape] = Field(default_factory=dict)
    """Shapes by name, `190M`; rungs are named SIZE-MULTIPLExC. Names of the published ladder's
    sizes need no shape (ladder.shapes.OLMO2_SHAPES)."""
    rope_theta: float = Field(10_000.0, gt=0)
    """Base of the rotary embedding; OLMo-2 has 500000."""
    norm_eps: float = Field(1e-5, gt=0)
    """Epsilon of norms; OLMo-2 has 1e-6."""
    init: Literal["fan_in", "normal"] = "fan_in"
    """fan_in: matrices start at 1/sqrt(fan-in), head and embedding as below; normal: all of them
    normal with init_std, cut at three of it (allenai/OLMo-ladder)."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of init normal."""
    embedding_std: float = Field(1.0, gt=0)
    """Initial standard deviation of the input embedding under fan_in; for tiny models."""
    head_scale: float = Field(0.3, gt=0)
    """Under fan_in the output head starts at this times 1/sqrt(width)."""

    @model_validator(mode="after")
    def _built(self) -> Model:
        if self.qk_norm is False and self.architecture == "olmo2":
            raise ValueError(
                "qk_norm false: no plain Hugging Face architecture is OLMo-2 without it; take "
                "llama, or leave it out"
            )
        if self.qk_norm and self.architecture in ("gpt_neox", "mamba2", "falcon_h1"):
            raise ValueError(
                f"qk_norm true: no plain Hugging Face architecture is {self.architecture} with it; "
                "take olmo2, llama or qwen3, or leave it out"
            )
        for name, shape in self.sizes.items():
            if reason := misfit(shape, self.built_as):
                raise ValueError(f"size {name}: {reason}")
        return self

    @property
    def built_as(self) -> Architecture:
        """The Hugging Face architecture that architecture and qk_norm make together."""
        if self.architecture == "llama" and self.qk_norm:
            return "qwen3"
        if self.architecture == "qwen3" and self.qk_norm is False:
            return "llama"
        return self.architecture

    def shape(self, size: str) -> Shape:
        """The shape of a size."""
        return self.sizes.get(size) or OLMO2_SHAPES[size]


class Ladder(Section):
    """Which rungs are trained."""

    sizes: tuple[Name, ...] = Field(min_length=1)
    """Names of the sizes to train."""
    multiples: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = ()
    """Tokens as multiples of Chinchilla-optimal, 1xC = tokens_per_param x N."""
    tokens: tuple[Annotated[int, Field(ge=1, le=10**18)], ...] = ()
    """Or tokens, the same for every size: a grid, for laws of N at fixed D and of D at fixed N.
    Rungs are then named SIZE-TOKENSt, `3K-10Mt`."""
    tokens_per_param: float = Field(20, ge=1e-3, le=1e6)
    """Tokens per parameter at 1xC (arXiv 2412.04403, section 2)."""

    @model_validator(mode="after")
    def _tokens_told(self) -> Ladder:
        if bool(self.multiples) == bool(self.tokens):
            raise ValueError("give either multiples or tokens, at least one of them")
        return self


class TargetModel(Section):
    """A model to be predicted; trained too, last, if `train` is set."""

    size: Name
    """One of the model's sizes."""
    multiple: float | None = Field(None, gt=0, le=1e6)
    """Tokens as a multiple of Chinchilla-optimal; or name and tokens are given."""
    name: Name | None = None
    """Name of the run, `7B-4T`; SIZE-MULTIPLExC by default."""
    tokens: int | None = Field(None, gt=0)
    """Tokens, where they are no multiple."""
    batch_sequences: int | None = Field(None, ge=1)
    """Batch in sequences, where the recipe's rule does not hold."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate, where the recipe's rule does not hold."""
    warmup_steps: int | None = Field(None, ge=0)
    """Steps of warm-up, where the recipe's rule does not hold."""
    train: bool = False
    """Whether `ladder run` trains it, after the rungs, so that the audit has an actual."""

    @model_validator(mode="after")
    def _has_tokens(self) -> TargetModel:
        if (self.multiple is None) == (self.tokens is None):
            raise ValueError("give either multiple or tokens")
        if self.tokens is not None and self.name is None:
            raise ValueError("tokens needs a name, such as 7B-4T")
        return self


class Muon(Section):
    """Muon's own settings (torch.optim.Muon), for the matrices of the blocks."""

    learning_rate_scale: float = Field(1.0, gt=0)
    """Muon's learning rate as a multiple of the recipe's."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Momentum (Keller Jordan's Muon)."""
    ns_steps: int = Field(5, ge=1)
    """Newton-Schulz iterations."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw"
    """How the rate follows a matrix's shape; match_rms_adamw lets AdamW's rates be used
    (arXiv 2502.16982)."""


class Multipliers(Section):
    """Learnable multipliers of weights, r_i W_ij c_j or s W (arXiv 2601.04890); they start at 1.

    The optimizer keeps W beside the model, which takes one more copy of the multiplied weights.
    """

    kind: Literal["none", "scalar", "row", "column", "both"] = "none"
    """scalar: one number a matrix; row: one for each output; column: one for each input; both: row
    and column."""
    placement: Literal["all", "non_redundant"] = "all"
    """all: every linear layer of the blocks and the input embedding, never the output head, whose
    row multipliers hurt (appendix C); non_redundant: only what no neighbour could take over
    (ladder.placement.NON_REDUNDANT). A kind takes of it what is its own; scalar the matrices that
    have any."""
    embedding: bool = True
    """Whether the input embedding has them, row and column; one that is tied to the head cannot."""
    learning_rate_scale: float = Field(1.0, gt=0)
    """Their learning rate as a multiple of the recipe's, whatever the parametrisation: 1 helps one
    architecture and hurts no other beyond noise (benchmarks/multipliers_rate)."""
    weight_decay: float = Field(0.002, ge=0)
    """Their decay, towards 0; it holds still what symmetries leave free (the paper's value). Their
    gradients do not count in the norm that is clipped, as in the paper, and are scaled by the same
    factor as all others, so that a step keeps its direction; the paper leaves that open."""


class Recipe(Section):
    """How a rung is trained."""

    batch_rule: Literal["tokens", "params"] = "tokens"
    """tokens: ladder.recipe.batch_sequences; params: ladder.recipe.batch_sequences_by_params."""
    batch_sequences: int | None = Field(None, ge=1)
    """Batch in sequences of every run, in the place of the rule's."""
    batch_divisor: float = Field(60, ge=1e-3, le=1e9)
    """tokens: batch in sequences = sqrt(tokens) / this; params: it is a multiple of this."""
    learning_rate_rule: Literal["width", "params"] = "width"
    """width: ladder.recipe.learning_rate; params: ladder.recipe.learning_rate_by_params."""
    learning_rate_base: float = Field(0.2, gt=0, le=1e9)
    """width: peak = this / sqrt(width); params: peak at 108M parameters and 2048 tokens."""
    parametrisation: Literal["standard", "mup"] = "standard"
    """mup: learning rate and weight decay hold for every width, since each parameter's initial
    weights, rate and decay follow its shape (ladder.mup; arXiv 2203.03466). The learning rate is
    that of the rule at mup_base, whatever the size."""
    mup_base: Name | None = None
    """Under mup the size that others are compared with; the narrowest of ladder.sizes by
    default. Heads of all sizes must be as wide as its own."""
    warmup_rule: Literal["share", "params"] = "share"
    """share: of the steps; params: as many tokens as parameters."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises linearly from 0."""
    schedule: Literal["linear", "cosine", "wsd"] = "linear"
    """How the learning rate falls after warm-up. wsd: warm-up, stable, decay, in which one trunk a
    size gives every multiple (arXiv 2405.18392)."""
    decay: float = Field(0.1, gt=0, lt=1)
    """wsd: share of a rung's steps in which the rate falls (allenai/OLMo-ladder, t_decay)."""
    final_learning_rate: float = Field(0.0, ge=0, le=1)
    """Learning rate at the end, as a share of the peak."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices of the blocks, AdamW for embedding, head and vectors."""
    muon: Muon = Muon()
    betas: tuple[Share, Share] = (0.9, 0.95)
    """AdamW's betas (arXiv 2412.04403, code)."""
    eps: float = Field(1e-8, gt=0)
    """AdamW's epsilon."""
    weight_decay: float = Field(0.1, ge=0)
    """Decay of the weights, on matrices except embeddings."""
    decay_vectors: bool = False
    """Whether norms and biases decay too, as in the published ladder."""
    gradient_clip: float = Field(1.0, gt=0)
    """Largest l2 norm of the gradient."""
    multipliers: Multipliers = Multipliers()
    z_loss: float = Field(0.0, ge=0)
    """Weight of the squared log of the softmax's denominator in the loss; OLMo-2 has 1e-5."""
    train_norms: bool = True
    """Whether the gains of norms are trained; false leaves them at 1, as in the width experiment of
    arXiv 2601.04890."""


class Execution(Section):
    """How the arithmetic is done and shared out."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16, weights and optimizer in fp32. Scores are made in fp32,
    but under fsdp in bf16 too, for ranks gather the weights so."""
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Under torchrun: ddp replicates the model on every rank, fsdp shards it (FSDP2)."""
    micro_batch: int | None = Field(None, ge=1)
    """Sequences of one pass of a rank; gradients add up to the global batch. All by default."""
    activation_checkpointing: bool = False
    """Compute a block's activations again in the backward pass rather than keep them."""
    peak_flops: float | None = Field(None, gt=0)
    """Arithmetic that the hardware could do, FLOPs a second of one device, for MFU; known of some
    GPUs."""
    compile: bool = False
    """Compile the blocks with torch.compile: faster on a GPU, slow to start."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flash_attention_3"] = "sdpa"
    """Who computes attention in training: sdpa is PyTorch's, eager the definition spelt out. Flash
    attention needs a GPU, bf16 and its own package; scoring takes sdpa instead, in fp32."""
    skip_non_finite: int = Field(0, ge=0)
    """Steps of a run that may be left out because their loss or gradient is not finite; at the next
    one the run stops, its state before it saved."""

    @model_validator(mode="after")
    def _attention_possible(self) -> Execution:
        if self.attention.startswith("flash"):
            if self.precision != "bf16":
                raise ValueError(f"attention {self.attention} needs precision bf16")
            if self.device == "cpu":
                raise ValueError(f"attention {self.attention} needs a GPU, device auto or cuda")
        return self


class Checkpoints(Section):
    """When a run is saved, and what stays on the disk."""

    every: int = Field(200, ge=1)
    """Steps between checkpoints; one more is saved wherever the run is scored."""
    keep: int = Field(2, ge=1)
    """Newest checkpoints that stay; where one turns out damaged, the run goes on from the one
    before. With 1, which takes half the disk, it then starts anew."""
    keep_at: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Shares of the run after which a checkpoint is saved that stays."""
    background: bool = True
    """Write to the disk while training goes on; memory holds one more copy of what is written."""


class Evaluation(Section):
    """When a rung is scored while it trains."""

    at: tuple[float, ...] = Field(min_length=1)
    """Shares of the run after which it is scored; the end is added."""

    @model_validator(mode="after")
    def _shares(self) -> Evaluation:
        if not all(0 < share <= 1 for share in self.at):
            raise ValueError("at must hold shares of the run, above 0 and at most 1")
        return self


class Predict(Section):
    """How the ladder's prediction is made."""

    method: str = "default"
    """Name of a method in predict.methods."""


class Resources(Section):
    """What a rung's job asks of Slurm."""

    nodes: int | None = Field(None, ge=1)
    """Nodes of a job; 1 by default."""
    gpus: int | None = Field(None, ge=0)
    """GPUs of each node, a process for each; 0 by default: one process a node."""
    cpus: int | None = Field(None, ge=1)
    """CPU cores of each process; Slurm's default where it is not given."""
    memory: Annotated[str, Field(pattern=r"^\d+[KMGT]?$")] | None = None
    """Memory of a node, `64G`; megabytes without a unit; Slurm's default where not given."""
    time: TimeLimit | None = None
    """Longest run of a job before it is stopped, saved and queued again: minutes, H:MM:SS,
    D-HH or D-HH:MM:SS, quoted; the partition's default where it is not given."""


class Cluster(Resources):
    """How rungs become Slurm jobs (`ladder train CONFIG --engine slurm`); changes no result."""

    partition: Line | None = None
    """Partition; the cluster's default where it is not given."""
    account: Line | None = None
    """Account that is charged; the user's default where it is not given."""
    qos: Line | None = None
    """Quality of service; the account's default where it is not given."""
    constraint: Line | None = None
    """Features that nodes must have, such as `h100&ib`."""
    signal_seconds: int = Field(300, ge=1, le=65535)
    """Seconds before the time limit at which a job saves and queues itself again: longer than
    scoring and saving the largest model take."""
    extra: tuple[Annotated[str, Field(pattern=r"^--?[A-Za-z][^\x00-\x1f]*$")], ...] = ()
    """More options of sbatch, put on #SBATCH lines as they are, such as `--mail-type=FAIL`."""
    setup: tuple[str, ...] = ()
    """Shell lines that run first, as they are, such as `module load cuda`."""
    python: Line | None = None
    """The Python that jobs run; the one that submits them by default."""
    sizes: dict[Name, Resources] = Field(default_factory=dict)
    """What rungs of a size ask for instead, such as `1B: {nodes: 2, gpus: 8}`."""

    @model_validator(mode="after")
    def _time_to_save(self) -> Cluster:
        for limit in (self.time, *(size.time for size in self.sizes.values())):
            if limit is not None and limit_seconds(limit) <= self.signal_seconds:
                raise ValueError(
                    f"time {limit} is no longer than signal_seconds {self.signal_seconds}"
                )
        return self

    def resources(self, size: str) -> Resources:
        """What a rung of that size asks for."""
        asked = self.model_dump(include=set(Resources.model_fields))
        own = self.sizes.get(size, Resources()).model_dump(exclude_none=True)
        return Resources(**{**asked, **own})


class WandB(Section):
    """A run of Weights & Biases for every rung; needs the extra `wandb`."""

    project: str = Field(min_length=1)
    """Project that the runs belong to."""
    entity: str | None = None
    """User or team; the account's default where it is not given."""
    mode: Literal["online", "offline"] = "online"
    """offline: keep everything in the rung's folder wandb/, for `wandb sync` to send."""
    group: str | None = None
    """Group of the runs; the experiment's name by default."""


class Tracking(Section):
    """Where metrics go besides metrics.jsonl, which is always written; changes no result."""

    wandb: WandB | None = None
    """Weights & Biases; not used by default."""
