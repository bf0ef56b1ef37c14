"""The section `model` of a recipe, and the stages that can train what it names.

It is D2C-SR's configuration, or a network of the table of systems.
"""

from collections.abc import Callable, Container
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from d2csr.core.config import PRESETS, ModelConfig, find_config_errors
from d2csr.core.errors import D2csrError
from d2csr.core.yaml_config import describe_unknown_key
from d2csr.models.networks.base import check_sizes, unknown_name
from d2csr.models.systems import SystemModel, find_system

StageKind = Literal[
    "divergence", "convergence", "joint", "together", "network", "adversarial", "likelihood"
]
CONVERGENCE_STAGES: tuple[StageKind, ...] = ("convergence", "together")  # need that network
_D2CSR_STAGES: tuple[StageKind, ...] = ("divergence", "convergence", "joint", "together")
DEFAULT_PRESET = "paper"
_LISTED_KEYS = 20  # unknown ones of a section


def section(
    settings: type[Any], *, find_errors: Callable[[dict[str, Any]], dict[str, str]] | None = None
) -> WrapValidator:
    """Return the validation of a section that is a dataclass; errors carry the key they are at.

    Pydantic builds the dataclass, but ignores unknown keys, and would let a D2csrError through.

    Args:
        settings: the dataclass.
        find_errors: more errors of its values, by key, than the types of its fields tell.
    """
    known = [field.name for field in fields(settings)]

    def validate(values: Any, build: Callable[[Any], Any]) -> Any:
        if not isinstance(values, dict):
            return build(values)
        given = {key: value for key, value in values.items() if key in known}
        unknown = [key for key in values if key not in known][:_LISTED_KEYS]
        problems = {key: describe_unknown_key(str(key), known) for key in unknown}
        problems |= find_errors(given) if find_errors else {}
        errors = [_error_at(key, problem) for key, problem in problems.items()]
        try:
            section = build(given)
        except ValidationError as error:
            errors += _other_errors(error, set(problems))
        except D2csrError as error:
            errors = errors or [_error_at(None, f"{error.problem}. {error.remedy}")]
        else:
            if not errors:
                return section
        raise ValidationError.from_exception_data(settings.__name__, errors)

    return WrapValidator(validate)


def _error_at(key: str | None, problem: str) -> InitErrorDetails:
    kind = PydanticCustomError("setting", "{problem}", {"problem": problem})
    return InitErrorDetails(type=kind, loc=() if key is None else (key,), input=None)


def _other_errors(error: ValidationError, known: Container[int | str]) -> list[InitErrorDetails]:
    """Return the errors at other keys than those known to be wrong."""
    return [
        InitErrorDetails(
            type=each["type"], loc=each["loc"], input=each["input"], ctx=each.get("ctx", {})
        )
        for each in error.errors()
        if each["loc"][0] not in known
    ]


def _apply_preset(values: Any) -> Any:
    """Return a network's settings: those of its preset, replaced by those given."""
    if not isinstance(values, dict):
        return values
    given = {key: value for key, value in values.items() if value is not None}
    name = given.pop("preset", DEFAULT_PRESET)
    if name not in PRESETS:
        problem = f"no preset is named {name!r}; choose one of {', '.join(PRESETS)}"
        raise ValidationError.from_exception_data("model", [_error_at("preset", problem)])
    return {**PRESETS[name], **given}


_D2CSR = "d2csr"  # the system whose networks have settings of their own
_D2CSR_SECTION: TypeAdapter[ModelConfig] = TypeAdapter(
    Annotated[
        ModelConfig,
        section(ModelConfig, find_errors=find_config_errors),
        BeforeValidator(_apply_preset),
    ]
)


def _to_model(values: Any) -> ModelConfig | SystemModel:
    """Return the network of a recipe's section `model`."""
    if isinstance(values, SystemModel):
        return values
    if isinstance(values, dict) and "system" in values:
        if values["system"] not in (None, _D2CSR):
            return _to_system(values)
        values = {key: value for key, value in values.items() if key != "system"}
    return _D2CSR_SECTION.validate_python(values)


def _to_system(values: dict[str, Any]) -> SystemModel:
    """Return a network of the table of systems; errors carry the key they are at."""
    given = {key: value for key, value in values.items() if value is not None}
    name, size = given.pop("system"), given.pop("size", "small")
    problems: dict[str, str] = {}
    try:
        spec = find_system(str(name))
        network = spec.network
        if network is None:
            raise D2csrError("system", f"{name} isn't trained", "Name a network.")
    except D2csrError as error:
        problem = _error_at("system", f"{error.problem}. {error.remedy}")
        raise ValidationError.from_exception_data("model", [problem]) from error
    if size not in spec.sizes:
        problems["size"] = unknown_name(str(size), tuple(spec.sizes), kind="size", where="").problem
    if "scale" not in given:
        problems["scale"] = f"is needed: one of {', '.join(map(str, network.scales))}"
    for key, value in given.items():
        try:
            check_sizes(network, {key: value}, where=name)
        except D2csrError as error:
            problems[str(key)] = f"{error.problem}. {error.remedy}"
    if problems:
        errors = [_error_at(key, problem) for key, problem in problems.items()]
        raise ValidationError.from_exception_data("model", errors)
    return SystemModel(name, given.pop("scale"), size, given)


ModelSection = Annotated[
    ModelConfig | SystemModel,
    PlainValidator(_to_model),
    PlainSerializer(lambda model: model.to_dict()),
]


def stage_kinds(model: ModelConfig | SystemModel) -> tuple[StageKind, ...]:
    """Return the kinds of stages that can train a network."""
    if isinstance(model, SystemModel):
        return ("network", "likelihood" if model.system == "srflow" else "adversarial")
    if model.has_convergence:
        return _D2CSR_STAGES
    return tuple(kind for kind in _D2CSR_STAGES if kind not in CONVERGENCE_STAGES)
