"""What the small files of a checkpoint of open_clip may say: architecture, preprocessing, tokenizer. No torch here.

A checkpoint may be a stranger's. So its files are data: a key that names code, a file elsewhere or a place on the web
has no field here, and a file with a key that has no field is refused. Fields have the names, and None the meaning, that
they have in open_clip (CLIPVisionCfg, CLIPTextCfg, PreprocessCfg, HFTokenizer) and transformers (BertConfig); a test
compares them. Bounds are far above any model that is known.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cliper.errors import SourceError
from cliper.files import first_line
from cliper.settings import Settings, Text, fault, faults

CONFIG = "open_clip_config.json"
TEXT_MODEL = "config.json"  # of a text tower of transformers
TOKENIZER, TOKENS = "tokenizer.json", "tokenizer_config.json"  # of a tokenizer of transformers
WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip takes for weights
M = TypeVar("M", bound=Settings)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _as_token(value: Any) -> Any:
    return value.get("content") if isinstance(value, dict) else value


Size = Annotated[int, Field(ge=1, le=16_384)]
Depth = Annotated[int, Field(ge=1, le=1_024)]
TokenId = Annotated[int, Field(ge=0, le=10_000_000)]
Ratio = Annotated[float, Field(gt=0, le=1_024)]
Share = Annotated[float, Field(ge=0, le=1)]
HubName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]  # neither a path nor a URL
TimmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]  # without timm's schemes, such as hf-hub:
Sizes = Annotated[tuple[Size, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=4)]  # or one number
Colours = Annotated[tuple[Share, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=3)]
Spreads = Annotated[tuple[Ratio, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=3)]
Token = Annotated[Text, BeforeValidator(_as_token)]  # a text, or transformers' mapping that has it as content


class Activation(Settings):
    """Arguments of GELU."""

    approximate: Literal["none", "tanh"]


class Norm(Settings):
    """Arguments of LayerNorm."""

    eps: Ratio


class TokenizerOptions(Settings):
    """How open_clip prepares a text for its tokenizer; not what it would pass on, such as trust_remote_code."""

    clean: Literal["canonicalize", "lower", "whitespace"] | None = None
    strip_sep_token: bool | None = None


class Tower(Settings):
    """What both towers' transformers share."""

    width: Size | None = None
    mlp_ratio: Ratio | None = None
    ls_init_value: Ratio | None = None
    final_ln_after_pool: bool | None = None
    output_tokens: bool | None = None
    act_kwargs: Activation | None = None
    norm_kwargs: Norm | None = None
    block_type: Literal["default", "custom"] | None = None
    qk_norm: bool | None = None
    scaled_cosine_attn: bool | None = None
    scale_heads: bool | None = None
    scale_attn_inner: bool | None = None
    scale_attn: bool | None = None
    scale_fc: bool | None = None


class VisionTower(Tower):
    """The image tower: a transformer, a ResNet (four layers), or a model of timm."""

    layers: Sizes | None = None
    head_width: Size | None = None
    patch_size: Size | None = None
    image_size: Sizes | None = None
    patch_dropout: Share | None = None
    attentional_pool: bool | Literal["parallel", "cascade"] | None = None
    attn_pooler_queries: Size | None = None
    attn_pooler_heads: Size | None = None
    no_ln_pre: bool | None = None
    pos_embed_type: Literal["learnable", "sin_cos_2d"] | None = None
    pool_type: Literal["tok", "avg", "none"] | None = None
    timm_model_name: TimmName | None = None
    timm_model_pretrained: bool | None = None  # decides nothing, as hf_model_pretrained
    timm_pool: Literal["", "abs_attn", "avg", "map", "rot_attn", "token"] | None = None
    timm_proj: Literal["", "linear", "mlp", "none"] | None = None
    timm_proj_bias: bool | None = None
    timm_drop: Share | None = None
    timm_drop_path: Share | None = None


class TextTower(Tower):
    """The text tower, with its tokenizer: open_clip's own, or with hf_tokenizer_name the one in the folder."""

    context_length: Size | None = None
    vocab_size: TokenId | None = None
    hf_tokenizer_name: HubName | None = None
    tokenizer_mode: Literal["clips"] | None = None
    tokenizer_kwargs: TokenizerOptions | None = None
    heads: Size | None = None
    layers: Depth | None = None
    embed_cls: bool | None = None
    pad_id: TokenId | None = None
    eos_id: TokenId | None = None
    no_causal_mask: bool | None = None
    pool_type: Literal["argmax", "eos", "first", "last", "none"] | None = None
    proj_bias: bool | None = None
    proj_type: Literal["linear", "none"] | None = None
    hf_model_name: HubName | None = None
    hf_model_pretrained: bool | None = None  # decides nothing: the checkpoint has all weights
    hf_proj_type: Literal["linear", "mlp"] | None = None
    hf_pooler_type: Literal["cls_last_hidden_state_pooler", "cls_pooler", "max_pooler", "mean_pooler"] | None = None


class Decoder(TextTower):
    """CoCa's third tower; it is loaded, but embeds nothing."""

    dim_head: Size | None = None
    n_queries: Size | None = None
    attn_pooler_heads: Size | None = None


class Model(Settings):
    """What a model is built of."""

    embed_dim: Size = Field(description="width of the embeddings")
    vision_cfg: VisionTower = Field(description="the image tower")
    text_cfg: TextTower = Field(description="the text tower")
    multimodal_cfg: Decoder | None = None
    quick_gelu: bool | None = None
    custom_text: bool | None = None
    init_logit_scale: float | None = None
    init_logit_bias: float | None = None
    nonscalar_logit_scale: bool | None = None

    @model_validator(mode="after")
    def _give_vectors(self) -> Self:
        if self.multimodal_cfg is None and (self.vision_cfg.output_tokens or self.text_cfg.output_tokens):
            raise fault("output_tokens is for models with a multimodal_cfg; remove it")
        return self


class Preprocessing(Settings):
    """How a picture becomes pixels."""

    size: Sizes | None = None
    mode: Literal["RGB"] | None = None
    mean: Colours | None = None
    std: Spreads | None = None
    interpolation: Literal["bicubic", "bilinear", "random"] | None = None
    resize_mode: Literal["longest", "shortest", "squash"] | None = None
    fill_color: Annotated[int, Field(ge=0, le=255)] | None = None


class CheckpointConfig(Settings):
    """open_clip_config.json."""

    model_cfg: Model = Field(description="what the model is built of")
    preprocess_cfg: Preprocessing | None = None


class TextModel(Settings):
    """config.json: a text tower of transformers, as BERT is built."""

    model_type: Literal["bert", "roberta", "xlm-roberta"]
    vocab_size: TokenId | None = None
    hidden_size: Size | None = None
    num_hidden_layers: Depth | None = None
    num_attention_heads: Size | None = None
    intermediate_size: Size | None = None
    max_position_embeddings: Size | None = None
    type_vocab_size: Size | None = None
    hidden_act: Literal["gelu", "gelu_new", "relu", "silu"] | None = None
    position_embedding_type: Literal["absolute"] | None = None
    initializer_range: Ratio | None = None
    layer_norm_eps: Ratio | None = None
    hidden_dropout_prob: Share | None = None
    attention_probs_dropout_prob: Share | None = None
    classifier_dropout: Share | None = None
    pad_token_id: TokenId | None = None
    bos_token_id: TokenId | None = None
    eos_token_id: TokenId | None = None
    is_decoder: Literal[False] | None = None
    add_cross_attention: Literal[False] | None = None
    tie_word_embeddings: bool | None = None
    dtype: Literal["float32"] | None = None
    torch_dtype: Literal["float32"] | None = None
    use_cache: bool | None = None
    gradient_checkpointing: bool | None = None
    output_past: bool | None = None
    architectures: Annotated[tuple[str, ...], Field(strict=False)] | None = None
    transformers_version: str | None = None
    name_or_path: str | None = Field(None, alias="_name_or_path")


class Tokens(Settings):
    """tokenizer_config.json: the marks. All else is in tokenizer.json, so other keys are left unread, but not code."""

    model_config = ConfigDict(extra="ignore")

    auto_map: None = Field(None, description="it names code, which is not run")
    pad_token: Token = Field(description="what fills a text up to the context")
    unk_token: Token | None = None
    sep_token: Token | None = None
    cls_token: Token | None = None
    bos_token: Token | None = None
    eos_token: Token | None = None
    padding_side: Literal["left", "right"] | None = None
    truncation_side: Literal["left", "right"] | None = None


def read(path: Path, form: type[M]) -> M:
    """Read one of these files. Raises SourceError, with all faults, if it is missing or says something else."""
    try:
        return form.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise SourceError(f"{path} is missing; put it there, or name another encoder") from None
    except ValidationError as error:
        said = "; ".join(f"{place}: {text}" for place, text in faults(error))
        raise SourceError(f"{path} cannot be used: {said}") from None


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder, from data alone: AutoTokenizer would take a class, even code, from a name there.

    Raises SourceError if it is missing or broken.
    """
    from transformers import PreTrainedTokenizerFast

    make: Any = PreTrainedTokenizerFast  # without types
    marks = read(folder / TOKENS, Tokens).model_dump(exclude_none=True)
    if not (folder / TOKENIZER).is_file():
        raise SourceError(f"{folder} has no {TOKENIZER}; transformers writes one by tokenizer.save_pretrained")
    try:
        return make(tokenizer_file=str(folder / TOKENIZER), **marks)
    except Exception as error:  # the tokenizers library has no class of its own
        raise SourceError(f"{folder / TOKENIZER} is no tokenizer of transformers ({first_line(error)})") from error
