"""The base of all settings: frozen typed models that report faults as sentences.

A field declares its type, which has bounds, and its unit and meaning: `d: Width = Field(description="of embeddings")`.
The only default is None, for fields that may be left out. All values are in `config.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

T = TypeVar("T")
FAULT = "fault"  # pydantic's type of a fault that is a sentence already
LARGEST = 2**63 - 1  # seed that a generator takes
LONGEST = 100  # characters of a value in a sentence
POWER = re.compile(r"([+-]?\d+)(\.\d*)?[eE]([+-])?(\d+)")  # of ten: a number to people; to YAML 1.1 only as 1.0e-3


def fault(text: str) -> PydanticCustomError:
    """Make the error that a validator raises: a sentence, without the place, which pydantic adds."""
    return PydanticCustomError(FAULT, "{text}", {"text": text})


def _distinct(values: tuple[T, ...]) -> tuple[T, ...]:
    if len(set(values)) < len(values):
        raise fault(f"{list(values)} names one twice; remove it")
    return values


Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]  # becomes a folder's name
# The same, or derived from it by changes of one thing each, as cliper.temperature-0.05; see config/studies.py.
Derived = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*(\.[a-z_]+-[A-Za-z0-9_.-]+)*$")]
Text = Annotated[str, Field(min_length=1)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # in a mirror's folder
Distinct = Annotated[tuple[T, ...], AfterValidator(_distinct), Field(min_length=1)]
Device = Literal["auto", "cpu", "cuda"]
# Numbers: finite, and no larger than what computes with them can take.
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Few = Annotated[int, Field(ge=1, le=1024)]  # threads, layers, ranges, neighbours: each costs memory, used or not
Batch = Annotated[int, Field(ge=1, le=2**20)]  # a batch that is filled up costs its whole size
Width = Annotated[int, Field(ge=1, le=2**16)]  # of vectors
Seed = Annotated[int, Field(ge=0, le=LARGEST)]
Number = Annotated[float, Field(ge=-1e9, le=1e9)]
Seconds = Annotated[float, Field(ge=1e-3, le=1e6)]  # a socket takes no longer timeout than 24 days
Positive = Annotated[float, Field(ge=1e-9, le=1e9)]  # its inverse is finite too, also in float32
NotNegative = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]


class How:
    """Marks a field that changes how a stage works, not what it writes: a new value re-runs no job."""


HOW = How()


class Settings(BaseModel):
    """Base of the settings of one thing. Raises ValidationError with all faults, each a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="wrap")
    @classmethod
    def _say_faults(cls, value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
        try:
            return handler(value)
        except ValidationError as error:
            worded = [_worded(cls, each) for each in error.errors(include_url=False)]
            raise ValidationError.from_exception_data(cls.__name__, worded) from None


class SchemaOf:
    """JSON schema for a field that a function validates: it matches any one of several models.

    models   each with the properties that the mapping has in addition to the model's
    section  its keys are not required: where one is left out, the section's value is used
    """

    def __init__(
        self, *models: tuple[type[Settings], Mapping[str, Any]], section: type[Settings] | None = None
    ) -> None:
        self._models, self._inherited = models, section.model_fields if section else {}

    def __get_pydantic_json_schema__(self, _: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Called by `model_json_schema`."""
        return {"anyOf": [self._schema(handler, model, more) for model, more in self._models]}

    def _schema(self, handler: GetJsonSchemaHandler, model: type[Settings], more: Mapping[str, Any]) -> dict[str, Any]:
        found = handler.resolve_ref_schema(handler(model.__pydantic_core_schema__))
        required = [name for name in (*more, *found.get("required", [])) if name not in self._inherited]
        return found | {"properties": {**more, **found.get("properties", {})}, "required": required}


def faults(error: ValidationError) -> list[tuple[str, str]]:
    """Place and sentence of each fault of a model."""
    parts = ([str(part) for part in each["loc"] if part != "[key]"] for each in error.errors())
    places = [".".join(part if part.isprintable() else repr(part) for part in each) for each in parts]
    return [(place or "config", each["msg"]) for place, each in zip(places, error.errors(), strict=True)]


def plain(value: Any) -> Any:
    """Settings as plain mappings, lists and values, without absent values: for JSON."""
    if isinstance(value, BaseModel):
        return plain({name: getattr(value, name) for name in type(value).model_fields})  # nothing cached
    if hasattr(value, "as_mapping"):
        return plain(value.as_mapping())
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _worded(model: type[BaseModel], error: ErrorDetails) -> InitErrorDetails:
    """Turn a fault of a model's own field into a sentence; a fault inside a nested model is a sentence already."""
    if error["type"] == FAULT:
        return InitErrorDetails(type=fault(error["msg"]), loc=error["loc"], input=error["input"])
    place = error["loc"]
    if error["type"] == "extra_forbidden":  # placed at the section, whose keys are listed
        text = f"unknown key {place[-1]!r}; known: {', '.join(_keys(model))}"
        return InitErrorDetails(type=fault(text), loc=place[:-1], input=error["input"])
    field = model.model_fields.get(str(place[0])) if place else None
    text = _sentence(error, field.description if field else None)
    return InitErrorDetails(type=fault(text), loc=place, input=error["input"])


def shown(value: Any) -> str:
    """A value in a sentence, cut if it is long.

    >>> shown("no"), shown(2 * [10**400])[:9], shown(16**5000)
    ("'no'", '[10000000', 'a number of more than 4,300 digits')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes no longer ones
        return "a number of more than 4,300 digits"
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _bound(limit: float) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _sentence(error: ErrorDetails, meaning: str | None) -> str:
    given, about = error["input"], error.get("ctx", {})
    value = shown(given)
    match error["type"]:
        case "missing":
            return "missing" + (f" ({meaning})" if meaning else "")
        case "literal_error":
            return f"{value} is not known; known: {about['expected'].replace(' or ', ', ').replace(chr(39), '')}"
        case "greater_than":
            return f"{value} must be greater than {_bound(about['gt'])}"
        case "greater_than_equal":
            return f"{value} must be at least {_bound(about['ge'])}"
        case "less_than":
            return f"{value} must be less than {_bound(about['lt'])}"
        case "less_than_equal":
            return f"{value} must be at most {_bound(about['le'])}"
        case "string_pattern_mismatch":
            return f"{value} does not have the form {about['pattern']}" + (f" ({meaning})" if meaning else "")
        case "float_type" if isinstance(given, str) and (power := POWER.fullmatch(given)):
            return f"{value} is a string to YAML; write {power[1]}{power[2] or '.0'}e{power[3] or '+'}{power[4]}"
        case "int_type" | "float_type" if isinstance(given, str):
            return f"{value} is a string; write a {'whole ' * (error['type'] == 'int_type')}number without quotes"
        case "int_type" | "float_type" | "int_from_float":
            return f"{value} is no {'' if error['type'] == 'float_type' else 'whole '}number"
        case "finite_number":
            return f"{value} is no finite number"
        case "tuple_type" if isinstance(given, str | int):
            return f"{value} is no list; write [{value.strip(chr(39))}]"
        case "tuple_type":
            return f"{value} is no list"
        case "string_type":
            return f"{value} is no text; put it in quotes"
        case "bool_type":
            return f"{value} is neither true nor false"
        case "dict_type" | "model_type" | "model_attributes_type" | "mapping_type":
            return f"{value} is no mapping of keys to values"
        case "none_required":
            return "must be left out" + (f" ({meaning})" if meaning else "")
        case "too_short" | "string_too_short":
            return "is empty; give it a value"
    return error["msg"]
