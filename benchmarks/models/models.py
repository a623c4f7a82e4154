"""The models of the table: name, options, and what a sample is. Transformers are small, so that many fit in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from raysplit.data.inputs import Input
from raysplit.models.spec import ModelSpec


def without(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the options of a configuration that lacks one of them, or names it in a way of its own."""
    return {key: value for key, value in options.items() if key != name}


VOCABULARY, CLASSES = 50, 5
SMALL: Mapping[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_size": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
BOUNDS: Mapping[str, Any] = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
GROUPED: Mapping[str, Any] = {**SMALL, **BOUNDS, "num_key_value_heads": 1, "tie_word_embeddings": False}
UNTIED: Mapping[str, Any] = {**SMALL, **BOUNDS, "tie_word_embeddings": False}
PATCHES: Mapping[str, Any] = {**without(SMALL, "max_position_embeddings"), "patch_size": 8}
WITHOUT_INNER: Mapping[str, Any] = without(UNTIED, "intermediate_size")
TOKENS: Mapping[str, Mapping[str, Any]] = {
    "DistilBertForSequenceClassification": {"n_layers": 2, "n_heads": 2, "dim": 16, "hidden_dim": 32},
    "RobertaForSequenceClassification": {**SMALL, **BOUNDS},
    "AlbertForSequenceClassification": {**SMALL, "embedding_size": 16},
    "ElectraForSequenceClassification": {**SMALL, "embedding_size": 16},
    "DebertaV2ForSequenceClassification": {**SMALL, "pooler_hidden_size": 16},
    "ModernBertForSequenceClassification": {**SMALL, **BOUNDS, "cls_token_id": 0, "sep_token_id": 0},
    "BertForSequenceClassification": SMALL,
    "BertForMaskedLM": SMALL,
    "GPT2LMHeadModel": {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, **BOUNDS},
    "GPT2ForSequenceClassification": {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 64, **BOUNDS},
    "GPTNeoForCausalLM": {
        "num_layers": 2,
        "num_heads": 2,
        "hidden_size": 16,
        "attention_types": [[["global", "local"], 1]],
        "tie_word_embeddings": False,
        **BOUNDS,
    },
    "GPTNeoXForCausalLM": UNTIED,
    "OPTForCausalLM": {**WITHOUT_INNER, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "BloomForCausalLM": {"n_layer": 2, "n_head": 2, "hidden_size": 16, "tie_word_embeddings": False, **BOUNDS},
    "FalconForCausalLM": {**WITHOUT_INNER, "num_kv_heads": 2, "ffn_hidden_size": 32},
    "LlamaForCausalLM": GROUPED,
    "MistralForCausalLM": GROUPED,
    "Qwen2ForCausalLM": GROUPED,
    "Qwen3ForCausalLM": {**GROUPED, "head_dim": 8},
    "Gemma2ForCausalLM": {**GROUPED, "head_dim": 8},
    "Gemma3ForCausalLM": {**GROUPED, "head_dim": 8},
    "Phi3ForCausalLM": {**GROUPED, "num_key_value_heads": 2},
    "MixtralForCausalLM": {**GROUPED, "num_local_experts": 2},
    "MambaForCausalLM": {"num_hidden_layers": 2, "hidden_size": 16, "state_size": 4, "tie_word_embeddings": False},
    "T5ForTokenClassification": {"num_layers": 2, "num_heads": 2, "d_model": 16, "d_kv": 8, "d_ff": 32},
    "BartForSequenceClassification": {
        **{f"{end}_{what}": 2 for end in ("encoder", "decoder") for what in ("layers", "attention_heads")},
        "d_model": 16,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
    },
}
PICTURES: Mapping[str, Mapping[str, Any]] = {
    "ViTForImageClassification": PATCHES,
    "DeiTForImageClassification": PATCHES,
    "SwinForImageClassification": {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
    "Dinov2ForImageClassification": {
        **without(PATCHES, "intermediate_size"),
        "use_mask_token": False,
    },
    "ConvNextForImageClassification": {"hidden_sizes": [8, 16], "depths": [2, 2], "num_stages": 2},
    "SegformerForSemanticSegmentation": {
        "hidden_sizes": [8, 16, 16, 16],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
    },
    "CLIPForImageClassification": {"vision_config": {**PATCHES, "image_size": 64}},
}
SIGNALS: Mapping[str, tuple[str, tuple[int, ...], Mapping[str, Any]]] = {
    "WhisperForAudioClassification": (
        "input_features",
        (8, 128),
        {
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "d_model": 16,
            "encoder_ffn_dim": 32,
            "num_mel_bins": 8,
            "max_source_positions": 64,
        },
    ),
    "Wav2Vec2ForSequenceClassification": (
        "input_values",
        (4000,),
        {
            **without(SMALL, "max_position_embeddings"),
            "conv_dim": [16, 16],
            "conv_kernel": [10, 3],
            "conv_stride": [5, 2],
            "num_feat_extract_layers": 2,
        }
        | {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "layerdrop": 0},
    ),
    "PatchTSTForRegression": (
        "past_values",
        (32, 2),
        {
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "d_model": 16,
            "ffn_dim": 32,
            "num_input_channels": 2,
            "context_length": 32,
            "patch_length": 4,
        }
        | {"patch_stride": 4, "num_targets": 1},
    ),
}
TORCHVISION = (
    *(
        "alexnet",
        "vgg11_bn",
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "densenet121",
        "mobilenet_v2",
    ),
    *(
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "mnasnet1_0",
        "regnet_x_400mf",
        "regnet_y_400mf",
        "shufflenet_v2_x1_0",
    ),
    *("squeezenet1_1", "efficientnet_b0", "efficientnet_v2_s", "convnext_tiny", "vit_b_16", "maxvit_t", "swin_t"),
    *("swin_v2_t", "googlenet", "inception_v3", "fcn_resnet50", "deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"),
    *("lraspp_mobilenet_v3_large", "r3d_18", "fasterrcnn_resnet50_fpn"),
)
TIMM = (
    *("resnet18", "convnext_atto", "mixer_s32_224", "vit_tiny_patch16_224", "deit_tiny_patch16_224"),
    *("swin_tiny_patch4_window7_224", "efficientnet_b0", "mobilenetv4_conv_small", "regnetx_002", "densenet121"),
    *("poolformer_s12", "resmlp_12_224", "ghostnet_100", "eva02_tiny_patch14_224", "pvt_v2_b0", "fastvit_t8"),
    *("nfnet_f0", "repvit_m0_9", "cait_xxs24_224", "levit_128s", "xcit_nano_12_p16_224", "efficientformer_l1"),
    *("coat_tiny", "edgenext_xx_small"),
)
SIDES = {"inception_v3": 96, "maxvit_t": 224, "vit_b_16": 224}
"""Width of the pictures of some models; the others of torchvision take 64."""


def specs() -> dict[str, ModelSpec]:
    """Return the specifications of all models by name."""
    ids = Input(dtype=torch.int64, shape=(None,), ragged=True)
    mask = Input(dtype=torch.int64, shape=(None,), ragged=True, role="side")
    found = {}
    for name in TORCHVISION:
        side = SIDES.get(name, 64)
        shape = (3, 8, 32, 32) if name == "r3d_18" else (3, side, side)
        found[f"torchvision:{name}"] = ModelSpec(
            name=f"torchvision:{name}", input_shape=shape, num_classes=CLASSES, seed=0
        )
    for name in TIMM:
        found[f"timm:{name}"] = ModelSpec(name=f"timm:{name}", input_shape=(3, 224, 224), num_classes=CLASSES, seed=0)
    for name, options in TOKENS.items():
        inputs = (
            {"input_ids": ids} if name.startswith(("GPT2", "Mamba")) else {"input_ids": ids, "attention_mask": mask}
        )
        found[f"hf:{name}"] = ModelSpec(
            name=f"hf:{name}",
            inputs=inputs,
            num_classes=VOCABULARY,
            seed=0,
            options={**options, "vocab_size": VOCABULARY},
        )
    for name, options in PICTURES.items():
        found[f"hf:{name}"] = ModelSpec(
            name=f"hf:{name}", input_shape=(3, 64, 64), num_classes=CLASSES, seed=0, options=options
        )
    for name, (key, shape, options) in SIGNALS.items():
        inputs = {key: Input(dtype=torch.float32, shape=shape)}
        found[f"hf:{name}"] = ModelSpec(name=f"hf:{name}", inputs=inputs, num_classes=CLASSES, seed=0, options=options)
    return found
