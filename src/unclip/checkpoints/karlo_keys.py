"""Karlo in Diffusers' names: the key tables of its networks, and what its folder is made of.

Facts are from huggingface/diffusers (`pipelines/deprecated/unclip`, `models/transformers`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unclip.checkpoints.diffusers_unet import unet_rules
from unclip.checkpoints.karlo import context_tokens_rule, null_embedding_rule
from unclip.checkpoints.table import Rule, Table, joined_rows
from unclip.diffusion.schedule import Prediction
from unclip.models.decoder import Decoder
from unclip.models.prior import DiffusionPrior
from unclip.models.upsampler import Upsampler

INDEX = "model_index.json"
FROM_TEXT, FROM_PICTURE = "UnCLIPPipeline", "UnCLIPImageVariationPipeline"
TEXT_ENCODER, IMAGE_ENCODER = "text_encoder", "image_encoder"
FIRST_STEPS, FINAL_STEP = "super_res_first", "super_res_last"
TEXT_PROJECTION, FEATURES = "text_proj", "feature_extractor"
PRIOR_SCHEDULER, DECODER_SCHEDULER = "prior_scheduler", "decoder_scheduler"
UPSAMPLER_SCHEDULER = "super_res_scheduler"

PRIOR_FIXED = {
    "added_emb_type": "prd",
    "additional_embeddings": DiffusionPrior.SPECIAL,
    "encoder_hid_proj_type": "linear",
    "time_embed_act_fn": "silu",
}
SCHEDULER_FIXED = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2"}
PREDICTIONS = {"epsilon": Prediction.EPSILON, "sample": Prediction.X0}
LEARNED = {"fixed_small_log": False, "learned_range": True}


def prior_table() -> Table:
    """PriorTransformer, with the statistics of CLIP's embeddings in it."""
    attention = ("to_q", "to_k", "to_v")
    blocks = "transformer_blocks.{i}"
    return Table(
        [
            Rule("whitening.mean", "clip_mean", *_one_row()),
            Rule("whitening.std", "clip_std", *_one_row()),
            Rule("sequence_in.1.{p}", "encoder_hidden_states_proj.{p}"),
            Rule("text_in.{p}", "embedding_proj.{p}"),
            Rule("time.linear_in.{p}", "time_embedding.linear_1.{p}"),
            Rule("time.linear_out.{p}", "time_embedding.linear_2.{p}"),
            Rule("image_in.{p}", "proj_in.{p}"),
            Rule("query", "prd_embedding", lambda theirs: theirs[0, 0], lambda ours: ours[None, None]),
            Rule("position", "positional_embedding", *_one_row()),
            Rule(
                "transformer.resblocks.{i}.attn.in_proj_{p}",
                tuple(f"{blocks}.attn1.{name}.{{p}}" for name in attention),
                *joined_rows(3),
            ),
            Rule("transformer.resblocks.{i}.attn.out_proj.{p}", f"{blocks}.attn1.to_out.0.{{p}}"),
            Rule("transformer.resblocks.{i}.ln_1.{p}", f"{blocks}.norm1.{{p}}"),
            Rule("transformer.resblocks.{i}.ln_2.{p}", f"{blocks}.norm3.{{p}}"),
            Rule("transformer.resblocks.{i}.mlp.c_fc.{p}", f"{blocks}.ff.net.0.proj.{{p}}"),
            Rule("transformer.resblocks.{i}.mlp.c_proj.{p}", f"{blocks}.ff.net.2.{{p}}"),
            Rule("norm_out.{p}", "norm_out.{p}"),
            Rule("out.{p}", "proj_to_clip_embeddings.{p}"),
        ],
        ignored=("causal_attention_mask",),
    )


def decoder_table(decoder: Decoder) -> Table:
    """UNet2DConditionModel as `decoder.` and UnCLIPTextProjModel as `text_proj.`."""
    return Table([*_projection_rules(decoder.config.tokens), *unet_rules(decoder.unet, "decoder.")])


def _projection_rules(tokens: int) -> Iterator[Rule]:
    yield null_embedding_rule("text_proj.learned_classifier_free_guidance_embeddings")
    yield Rule("image_to_time.{p}", "text_proj.clip_image_embeddings_project_to_time_embeddings.{p}")
    yield Rule("text_to_time.{p}", "text_proj.embedding_proj.{p}")
    for part in ("weight", "bias"):
        yield context_tokens_rule("text_proj.clip_extra_context_tokens_proj", tokens, part)
    yield Rule("text_to_context.0.{p}", "text_proj.encoder_hidden_states_proj.{p}")
    yield Rule("text_to_context.1.{p}", "text_proj.text_encoder_hidden_states_norm.{p}")


def upsampler_table(upsampler: Upsampler) -> Table:
    """UNet2DModel."""
    return Table(unet_rules(upsampler.unet))


def _one_row() -> tuple[Any, Any]:
    return lambda theirs: theirs.squeeze(0), lambda ours: ours.unsqueeze(0)
