"""Models of Hugging Face's transformers: ``hf:CLASS`` with new weights, ``hf:FOLDER`` with the weights in a folder.

Further keys of ``model`` are entries of the configuration of the class. What the data know is among them where nothing
else is said: the number of labels or the vocabulary, and the size and channels of pictures.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raysplit.models.adapters.weights import SUFFIX
from raysplit.models.sources.outputs import require_package, with_main_output
from raysplit.models.sources.own_keys import FolderWeights, Outline, Place, form_of, keys_of

logger = logging.getLogger(__name__)

PREFIX = "hf:"
CONFIG = "config.json"
_VOCABULARY = ("ForCausalLM", "LMHeadModel", "ForMaskedLM", "ForConditionalGeneration")
_LABELS = ("Classification",)


def require() -> None:
    """Raise ``ValueError`` unless transformers is installed."""
    require_package("transformers", "hf", "hf")


def build(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a model of transformers, which returns its logits alone.

    Args:
        name: name of a class of transformers, or a folder with ``config.json`` and ``*.safetensors``.
        input_shape: shape of one sample; empty where there is no single input of a fixed shape.
        num_classes: number of labels, or of different tokens.
        options: entries of the configuration of the class.
        sizes: further sizes of the data, such as ``vocab_size``.

    Raises:
        ValueError: for a class or folder that is not there, or entries that its configuration does not have.
    """
    if is_folder(name):
        kind, config = _of_folder(Path(name), input_shape, num_classes, options, sizes or {})
        how = {"config": config, "use_safetensors": True, "local_files_only": True, "dtype": _dtype(config)}
        with _without_bars():
            model = kind.from_pretrained(str(name), **how)
    else:
        kind = model_class(name)
        model = kind(_config(kind, {}, input_shape, num_classes, options, sizes or {}))
    return with_main_output(model.train())


def outline(
    name: str,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any],
    described: FolderWeights | None,
) -> Outline | None:
    """Build the model of a folder as `build` does, but without what its files hold; None where a key of the files is
    no tensor of the model, as where the library joins several."""
    folder = Path(name if described is None else described.path)
    kind, config = _of_folder(folder, input_shape, num_classes, options, sizes)
    files = keys_of(folder)
    forms = {key: form_of(file, key) for key, file in files.items()}
    how = {"config": config, "state_dict": forms, "dtype": _dtype(config), "output_loading_info": True}
    with _without_bars():
        model, info = kind.from_pretrained(None, **how)
    places = _places(model, forms, files, info["missing_keys"])
    if places is None:
        logger.info("every party reads all weights of %s: they have other names or shapes in the files", folder)
        return None
    emptied: dict[int, Any] = {}
    for path, child in model.named_modules(remove_duplicate=False):
        for held in (child._parameters, child._buffers):
            for key, own in held.items():
                if own is not None and f"{path}.{key}".lstrip(".") in places:
                    held[key] = emptied.setdefault(id(own), _on_meta(own))
    return Outline(with_main_output(model.train()), places, described)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the progress bars of transformers out of the output of a run, in which every party loads weights."""
    from transformers.utils import logging as of_transformers

    shown = of_transformers.is_progress_bar_enabled()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            of_transformers.enable_progress_bar()


def _on_meta(tensor: Any) -> Any:
    empty = torch.empty_like(tensor, device="meta", memory_format=torch.contiguous_format)
    return nn.Parameter(empty, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _places(
    model: Any, forms: Mapping[str, torch.Tensor], files: Mapping[str, str], missing: Collection[str]
) -> dict[str, Place] | None:
    """Say where each tensor of a model lies, tied ones by every name; None where it is not clear for one."""
    prefix = f"{model.base_model_prefix}."
    state = model.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, value in state.items():
        names.setdefault(id(value), []).append(name)
    places = {}
    for name, value in state.items():
        tied = names[id(value)]
        if any(each in missing for each in tied):
            continue
        likely = [key for each in tied for key in (each, each.removeprefix(prefix), f"{prefix}{each}") if key in files]
        if not likely or forms[likely[0]].shape != value.shape:
            return None
        places[name] = Place(files[likely[0]], likely[0], value.dtype)
    return places


def _dtype(config: Any) -> Any:
    """Return the type in which a folder is loaded: its own, or single precision where its own has half."""
    half = ("float16", "bfloat16", torch.float16, torch.bfloat16)
    return torch.float32 if getattr(config, "dtype", None) in half else "auto"


def is_folder(name: str) -> bool:
    """Whether the name is that of a folder; a name of a class has neither a slash nor a dot."""
    return not name.isidentifier() or Path(name).is_dir()


def resolved(name: str) -> str:
    """Return the name of a model, where it is that of a folder with the whole path: places have other working folders.

    Other names, also those of other sources, stay as they are.
    """
    source, _, folder = name.partition(":")
    return f"{PREFIX}{Path(folder).resolve()}" if f"{source}:" == PREFIX and is_folder(folder) else name


def found_weights(name: str) -> FolderWeights | None:
    """Describe the weights in the folder of a model; None for other models, and where a folder has none to read."""
    folder = resolved(name).removeprefix(PREFIX)
    if folder == resolved(name) or not is_folder(folder) or not any(Path(folder).glob(f"*{SUFFIX}")):
        return None
    return FolderWeights.of(folder)


def model_class(name: str) -> Any:
    """Return the class of transformers with this name. Raises ``ValueError`` with the nearest names for another."""
    require()
    import transformers

    kind = getattr(transformers, name, None) if name.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        near = difflib.get_close_matches(name, dir(transformers), 3, cutoff=0.4)
        raise ValueError(
            f"transformers has no model class {name!r}; the nearest names are {', '.join(near) or 'none'}; write "
            f"hf:CLASS, such as hf:GPT2LMHeadModel, or hf:FOLDER with {CONFIG}"
        )
    return kind


def _of_folder(
    folder: Path,
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> tuple[Any, Any]:
    if not (folder / CONFIG).is_file():
        raise ValueError(
            f"model.name is hf:{folder}, and there is no file {folder / CONFIG}; give the folder of a model"
        )
    if not any(folder.glob(f"*{SUFFIX}")):
        raise ValueError(
            f"the folder {folder} has no *.safetensors; pickled weights are not read, since they may run code; save "
            f"the model anew with save_pretrained"
        )
    found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    given = dict(options)
    architecture = given.pop("architecture", None) or (found.get("architectures") or [None])[0]
    if architecture is None:
        raise ValueError(f"{folder / CONFIG} names no class under architectures; give model.architecture")
    kind = model_class(str(architecture))
    return kind, _config(kind, found, input_shape, num_classes, given, sizes)


def _config(
    kind: Any,
    found: Mapping[str, Any],
    input_shape: tuple[int, ...],
    num_classes: int,
    options: Mapping[str, Any],
    sizes: Mapping[str, Any],
) -> Any:
    """Return the configuration of a class: what a folder says, what the data know, and the options."""
    of_class = kind.config_class
    usual = of_class().to_dict()
    entries = {*usual, "num_labels", *getattr(of_class, "attribute_map", {})}
    if unknown := [key for key in options if key not in entries]:
        near = difflib.get_close_matches(unknown[0], entries, 3, cutoff=0.4)
        raise ValueError(
            f"the configuration of {kind.__name__} has no entry {unknown[0]!r}; "
            f"the nearest are {', '.join(near) or 'none'}"
        )
    about: dict[str, Any] = {"use_cache": False} if "use_cache" in entries else {}
    name = kind.__name__
    if name.endswith(_LABELS) and num_classes:
        about["num_labels"] = num_classes
    tokens = sizes.get("vocab_size", num_classes if name.endswith(_VOCABULARY) else None)
    if not found and "vocab_size" in entries and tokens is not None:
        about["vocab_size"] = tokens
    if not found and len(input_shape) == 3:
        sizes = {"num_channels": input_shape[0], "image_size": input_shape[1]}
        about |= {key: value for key, value in sizes.items() if key in entries}
    merged = {**found, **about, **options}
    for key in ("num_labels",):
        if key in merged:  # a folder has names for its labels, whose number would be taken instead
            merged.pop("id2label", None)
            merged.pop("label2id", None)
    if tokens is not None and merged.get("vocab_size", tokens) < tokens:
        raise ValueError(
            f"model.vocab_size is {merged['vocab_size']} and the data have {tokens} different tokens; set it to at "
            f"least {tokens}"
        )
    merged = {key: value for key, value in merged.items() if key not in ("architectures", "model_type", "auto_map")}
    return of_class(**merged)
