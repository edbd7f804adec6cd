"""Our own weight files: safetensors with the model's config in the metadata.

One file is one model. Its header holds, under the single key "unclip", a JSON object with the kind of model
(a name in `KINDS`), its config, and as "details" how it was trained, for people to read. Reading is strict: a
missing, extra or mis-shaped tensor is an error that names it.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unclip.config import from_dict, parse_json, to_dict
from unclip.errors import CheckpointError, InputError, shown
from unclip.nn.low_rank import merged
from unclip.runtime import atomic_path

FORMAT = 1
METADATA_KEY = "unclip"  # one key only: safetensors keeps several in no fixed order, so files would differ
NAMED_IN_AN_ERROR = 4
LARGEST_HEADER = 2**25  # bytes
MOST_NAMES = 200_000  # tensors of a file
LONGEST_NAME = 1000  # characters

# Of a config that a file holds. What is built by it must besides be as large as the file's tensors.
LARGEST_NUMBER = 2**24
LARGEST_SIDE = 2**13  # pixels, or cells of a grid
SIDES = ("image_size", "low_size", "high_size", "grid", "side")
PICTURES = "_pictures"  # the end of what training counts
# Numbers and tensors that a model may make on its way beside those that its file holds, masks for example.
SPARE_NUMBERS, SPARE_TENSORS = 2**26, 1000
MOST_NUMBERS, MOST_TENSORS = 2**37, 20_000  # of a model whose file is not read yet

# kind: (module, config class, model class); imported only when a model of the kind is needed
KINDS: dict[str, tuple[str, str, str]] = {
    "clip": ("unclip.models.clip", "CLIPConfig", "CLIP"),
    "clip-text": ("unclip.models.clip", "ClipTextConfig", "ClipText"),
    "diffusion-prior": ("unclip.models.prior", "PriorConfig", "DiffusionPrior"),
    "ar-prior": ("unclip.models.ar_prior", "ArPriorConfig", "ArPrior"),
    "decoder": ("unclip.models.decoder", "DecoderConfig", "Decoder"),
    "layout": ("unclip.models.layout", "LayoutConfig", "Layout"),
    "upsampler": ("unclip.models.upsampler", "UpsamplerConfig", "Upsampler"),
    "vqvae": ("unclip.models.vqvae", "VQVAEConfig", "VQVAE"),
    "vqgan": ("unclip.models.vqgan", "VQGANConfig", "VQGAN"),
    "codec-training": ("unclip.models.codec", "CodecTrainingConfig", "CodecTraining"),
    "dalle1": ("unclip.models.dalle1", "Dalle1Config", "Dalle1"),
    "dalle-mini": ("unclip.models.dalle_mini", "DalleMiniConfig", "DalleMini"),
    "adm": ("unclip.models.adm", "ADMConfig", "ADM"),
    "adm-classifier": ("unclip.models.adm", "ClassifierConfig", "Classifier"),
    "glide": ("unclip.models.glide", "GlideConfig", "Glide"),
    "supervised": ("unclip.models.supervised", "SupervisedConfig", "Supervised"),
    "noised-clip": ("unclip.models.noised_clip", "NoisedCLIPConfig", "NoisedCLIP"),
}


def kind_of(model: nn.Module) -> str:
    """The kind of a model. Raises CheckpointError for a class that is not in `KINDS`."""
    for kind, (module, _, name) in KINDS.items():
        if (type(model).__module__, type(model).__name__) == (module, name):
            return kind
    raise CheckpointError(f"no kind of model is a {type(model).__name__}: known are {', '.join(KINDS)}")


def kind_of_config(config: Any) -> str:
    """The kind of the model that a config describes. Raises CheckpointError for a class not in `KINDS`."""
    for kind, (module, name, _) in KINDS.items():
        if (type(config).__module__, type(config).__name__) == (module, name):
            return kind
    raise CheckpointError(f"no kind of model has a {type(config).__name__}: known are {', '.join(KINDS)}")


def config_from_dict(kind: str, config: Mapping[str, Any], where: str = "config") -> Any:
    """A model's config from its dictionary. Raises CheckpointError for an unknown kind or a wrong config."""
    if kind not in KINDS:
        raise CheckpointError(f"{where}: unknown kind of model {kind!r}: known are {', '.join(KINDS)}")
    module, config_name, _ = KINDS[kind]
    try:
        found = from_dict(getattr(importlib.import_module(module), config_name), config, where)
        _check_numbers(found, where)
    except (InputError, ArithmeticError) as error:
        raise CheckpointError(str(error)) from error
    return found


def _check_numbers(config: Any, where: str) -> None:
    """Refuse sizes that no network has, before lists of that length are made."""
    for field in dataclasses.fields(config):
        value, key = getattr(config, field.name), f"{where}.{field.name}"
        if dataclasses.is_dataclass(value):
            _check_numbers(value, key)
        largest = LARGEST_SIDE if field.name in SIDES else LARGEST_NUMBER
        for number in value if isinstance(value, tuple) else (value,):
            whole = isinstance(number, int) and not field.name.endswith(PICTURES)
            if whole and not 0 <= number <= largest:
                raise InputError(f"{key}: got {number}, a network has 0 to {largest}")


FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# What comes of sizes that do not go together, or are none.
IMPOSSIBLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class _Unfilled(TorchFunctionMode):
    """Leaves the parameters of a new model unfilled: weights from a file are about to replace them.

    Memory that nothing is written to costs nothing. The meta device would say more plainly what is meant,
    but there a product as in `0.02 * torch.randn(n)` first loads PyTorch's compiler, which takes long.
    """

    RANDOM = (torch.randn, torch.rand)
    OF_SIZE = (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand)
    OF_LENGTH = (torch.arange, torch.linspace)
    FILLS = (Tensor.fill_, Tensor.zero_, Tensor.normal_, Tensor.uniform_)

    def __init__(self, numbers: int, tensors: int) -> None:
        super().__init__()
        self.numbers, self.tensors = numbers, tensors

    def _count(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Refuse a model that grows larger than its file, before it does."""
        if func in self.OF_SIZE:
            sides = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self.numbers, self.tensors = self.numbers - math.prod(sides), self.tensors - 1
        elif func is torch.eye:
            self.numbers -= args[0] ** 2
        elif func in self.OF_LENGTH:
            self.numbers -= int(max(number for number in args if isinstance(number, (int, float))))
        if self.numbers < 0 or self.tensors < 0:
            raise ValueError("it is larger than the file that should hold it")

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self._count(func, args)
        if func in self.RANDOM:
            return torch.empty(*args, **kwargs)
        if func in self.FILLS and isinstance(args[0], nn.Parameter):
            return args[0]
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def unfilled(kind: str, config: Any, shapes: Mapping[str, Sequence[int]] | None = None) -> nn.Module:
    """A model of a kind whose parameters hold anything at all, made in milliseconds.

    Args:
        kind: name in `KINDS`.
        config: of that kind.
        shapes: of the tensors that are to fill it: a model that grows much larger is given up at once.

    Raises:
        CheckpointError: there is no network with such a config, or not for these tensors.
    """
    module, _, name = KINDS[kind]
    numbers, tensors = MOST_NUMBERS, MOST_TENSORS
    if shapes is not None:
        numbers = 2 * sum(map(math.prod, shapes.values())) + SPARE_NUMBERS
        tensors = 4 * len(shapes) + SPARE_TENSORS
    try:
        with _Unfilled(numbers, tensors):
            model: nn.Module = getattr(importlib.import_module(module), name)(config)
    except (*IMPOSSIBLE, MemoryError) as error:
        raise CheckpointError(f"no {kind} can be built with this config ({error}): {config}") from error
    return model


def save_model(
    path: Path | str,
    model: nn.Module,
    *,
    dtype: torch.dtype | None = None,
    details: Mapping[str, Any] | None = None,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a model's weights and config to one file, atomically.

    Args:
        path: the file, by convention `NAME.safetensors`.
        model: one of `KINDS`, with its config as `model.config`.
        dtype: what matrices and convolutions are stored in (bf16 halves the file); vectors, scalars and
            integers keep their own type, for they are few and norms and scales lose most. None keeps all.
        details: JSON values that go along, for example how the model was trained.
        state: weights to write in place of the model's own (an average of them), with the same names.

    Raises:
        CheckpointError: the model is of no known kind, `state` does not have its names and shapes, or a
            number is too large for `dtype`.
    """
    kind = kind_of(model)
    own = merged(model)
    if state is not None:
        _check(own, {name: tuple(tensor.shape) for name, tensor in state.items()}, "state")
    tensors = {}
    for name, tensor in (own if state is None else state).items():
        stored = tensor.detach().to("cpu")
        if dtype is not None and stored.is_floating_point() and stored.ndim >= 2:
            stored = stored.to(dtype)
            check_numbers(stored, own[name], f"{Path(path).name}: {name} as {dtype}")
        tensors[name] = stored.clone(memory_format=torch.contiguous_format)
    about = {
        "format": FORMAT,
        "kind": kind,
        "config": to_dict(model.config),
        "details": dict(details or {}),
    }
    with atomic_path(Path(path)) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, {METADATA_KEY: json.dumps(about, sort_keys=True)})
        temporary.chmod(mode)  # safetensors writes for the owner's eyes only


def load_model(
    path: Path | str,
    *,
    kind: str | None = None,
    config: Any = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Build the model that a file describes, with its weights, in evaluation mode and without gradients.

    The weights are mapped from the file and not copied where neither type nor device changes.

    Args:
        path: what `save_model` wrote.
        kind: the kind it must be; None takes any.
        config: the config that it must have; None takes the file's.
        dtype: type of matrices and convolutions; None as stored. Vectors stay as stored, except that
            float32 makes all of them float32.
        device: where the weights go.

    Raises:
        CheckpointError: the file is missing or broken, of another kind, or a tensor is missing, extra, of
            another shape or type, or holds what is no finite number: the message names them.
    """
    path = Path(path)
    with open_safetensors(path) as file:
        own_kind, table = _header(file, path)
        if kind is not None and own_kind != kind:
            raise CheckpointError(f"{path}: holds a {own_kind}, expected a {kind}")
        own_config = config_from_dict(own_kind, table, f"{path.name}: config")
        if config is not None and config != own_config:
            raise CheckpointError(f"{path}: its config is {own_config}, expected {config}")
        names = file.keys()
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
        model = unfilled(own_kind, own_config, shapes)
        expected = model.state_dict()
        _check(expected, shapes, str(path))
        state = {}
        for name in names:
            tensor = file.get_tensor(name)
            check_numbers(tensor, expected[name], f"{path}: {name}")
            state[name] = _cast(tensor, dtype, device)
            if dtype == torch.float16:  # which holds no more than 65,504
                check_numbers(state[name], expected[name], f"{path}: {name} as {dtype}")
    model.load_state_dict(state, strict=True, assign=True)
    return model.to(device).eval().requires_grad_(False)  # buffers that are not saved move here


def read_config(path: Path | str) -> tuple[str, Any]:
    """The kind and config of the model that a file holds, its tensors unread. Raises CheckpointError."""
    path = Path(path)
    with open_safetensors(path) as file:
        kind, table = _header(file, path)
    return kind, config_from_dict(kind, table, f"{path.name}: config")


def _cast(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    if dtype is None or not tensor.is_floating_point():
        return tensor.to(device)
    if dtype == torch.float32 or tensor.ndim >= 2:
        return tensor.to(device, dtype)
    return tensor.to(device)


def check_numbers(tensor: Tensor, expected: Tensor, what: str) -> None:
    """Refuse a tensor of another type than is expected (any float will do), or that would draw black.

    Raises CheckpointError that says `what` the tensor is.
    """
    floats = expected.is_floating_point()
    if tensor.dtype not in FLOATS if floats else tensor.dtype != expected.dtype:
        allowed = ", ".join(map(str, FLOATS)) if floats else expected.dtype
        raise CheckpointError(f"{what}: its numbers are {tensor.dtype}, expected {allowed}")
    # the extremes are NaN where one number is; `isfinite` took more than nine times as long
    if floats and tensor.numel() and not all(math.isfinite(end) for end in tensor.aminmax()):
        raise CheckpointError(
            f"{what}: has numbers that are not finite (NaN or infinite): the weights are broken, or too "
            "large for this type (choose float32 or bfloat16)"
        )


def open_safetensors(path: Path) -> Any:
    """A safetensors file, its tensors unread.

    Raises CheckpointError: it is missing, broken, or has more or longer names than any network.
    """
    try:
        with path.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if header > LARGEST_HEADER:
            raise OSError(f"a header of {header} bytes, the largest is {LARGEST_HEADER}")
        file = safetensors.safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such weight file") from error
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from error
    names = file.keys()
    longest = max(map(len, names), default=0)
    if len(names) > MOST_NAMES or longest > LONGEST_NAME:
        raise CheckpointError(
            f"{path}: refused: {len(names)} tensors with names of up to {longest} characters, most are "
            f"{MOST_NAMES} and {LONGEST_NAME}"
        )
    return file


def _header(file: Any, path: Path) -> tuple[str, dict[str, Any]]:
    """Kind and config of an open weight file."""
    text = (file.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise CheckpointError(f"{path}: not one of our weight files (no {METADATA_KEY!r} in its metadata)")
    try:
        about = parse_json(text, f"{path}: its metadata")
    except InputError as error:
        raise CheckpointError(str(error)) from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise CheckpointError(f"{path}: format {shown(found)}, this version reads {FORMAT}")
    kind, config = about.get("kind"), about.get("config")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise CheckpointError(
            f"{path}: its metadata should name a kind and have a table of its config: got {shown(kind)} and "
            f"{shown(config)}"
        )
    return kind, config


def _check(expected: Mapping[str, Tensor], found: Mapping[str, tuple[int, ...]], where: str) -> None:
    refuse(
        where,
        {
            "missing": [name for name in expected if name not in found],
            "extra": [name for name in found if name not in expected],
            "mis-shaped": [
                f"{name} is {list(found[name])} and should be {list(tensor.shape)}"
                for name, tensor in expected.items()
                if name in found and tuple(tensor.shape) != found[name]
            ],
        },
    )


def refuse(where: str, problems: Mapping[str, Sequence[str]]) -> None:
    """Raise CheckpointError where there are tensors with a problem, which is said before their names."""
    texts = [f"{what} {_some(names)}" for what, names in problems.items() if names]
    if texts:
        raise CheckpointError(f"{where}: tensors do not fit the model: {'; '.join(texts)}")


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMED_IN_AN_ERROR
    listed = ", ".join(names[:NAMED_IN_AN_ERROR])
    return f"{listed} and {more} more" if more > 0 else listed
