"""The interior interface: what a package built on this one may import from inside it, by module.

`repurpose` is such a package; users need none of it, and find all that is theirs in `model_handler` itself. Whoever
moves or renames one of these names mends the table and the imports together: a test holds one against the other.
"""

from collections.abc import Mapping

__all__ = ["INTERIOR"]

INTERIOR: Mapping[str, tuple[str, ...]] = {
    "adapters.choosing": ("check_where",),
    "adapters.kinds": (
        "Sizes",
        "kind_named",
    ),
    "adapters.layouts": ("is_matrix_layer",),
    "adapters.prompting": ("check_prompts",),
    "data": (
        "Batch",
        "Batches",
        "Overview",
        "Share",
        "as_batches",
        "check_order",
        "data_name",
        "generators_of",
        "look_through",
        "named_classes",
        "opened",
        "random_part",
        "reading_options",
        "refuse_dropped_rows",
        "refuse_in_prefetching",
        "shuffling_sampler",
        "unmoved_generators",
        "watching_workers",
    ),
    "data.batch": (
        "count_rows",
        "in_order",
        "take_rows",
    ),
    "data.decoding": (
        "UnreadableImageError",
        "image_in_file",
        "is_bytes",
        "is_pil",
        "open_image",
    ),
    "data.images": (
        "UnreadableImageError",
        "transformed",
    ),
    "data.labels": (
        "ELSEWHERE",
        "LABEL_KEY",
        "is_missing",
        "near_keys",
        "refuse_no_labels",
    ),
    "data.listing": ("image_suffixes",),
    "data.tar.tar_shards": ("names_tars",),
    "data.text.text_transform": (
        "MASK",
        "reads_text",
    ),
    "default_layer": ("default_layer",),
    "errors": (
        "CorruptFileError",
        "FormatVersionError",
        "ModelError",
        "UnsafeFileError",
        "first_few",
        "nearest",
        "text_for_shell",
        "with_fix",
    ),
    "extraction.channel_layout": ("Layout",),
    "extraction.engine": ("NETWORK_LOCK",),
    "extraction.failures": ("explain_failure",),
    "extraction.pooling": (
        "Pooling",
        "check_pooling",
        "pool",
    ),
    "extraction.recording": ("record_calls",),
    "extraction.single_rows": ("computed_rows",),
    "feature_cache.caching": ("check_cache",),
    "feature_shards.extracting_to": ("ROWS_PER_SHARD",),
    "files.array_files": (
        "array_digest",
        "little_endian",
        "parse_arrays",
        "pieces_of",
        "read_arrays",
        "wastes_memory",
        "write_arrays",
    ),
    "files.canonical_json": (
        "JsonValue",
        "canonical",
        "parse_json",
        "parse_with_own_hash",
        "with_own_hash",
    ),
    "files.locks": (
        "SECONDS_WITHOUT_LOCKS",
        "locked",
    ),
    "files.regular_files": (
        "read_beginning",
        "read_file",
    ),
    "files.whole_files": (
        "Piece",
        "is_being_written",
        "make_folder",
        "remove_left_behind",
        "write_whole",
    ),
    "files.write_errors": ("writing",),
    "frozen_prefix.frontier": (
        "Frontier",
        "SplitsItself",
    ),
    "frozen_prefix.splitting": ("split",),
    "graph.naming": ("module_path",),
    "graph.trace_errors": (
        "function_to_blame",
        "line_to_blame",
    ),
    "graph.tracer": ("OwnThreadTracer",),
    "graph.tracing": ("while_traced",),
    "missing_values": ("is_missing",),
    "network.adapted_layer": ("is_column_linear",),
    "network.ambient_modes": (
        "on_cpu",
        "undisturbed",
    ),
    "network.copying": (
        "CopiedByValue",
        "CopyingValues",
        "deep_copy",
        "detach_tensors",
        "separate_storage",
    ),
    "network.device": (
        "check_device",
        "resolve_device",
    ),
    "network.eval_lock": ("hold",),
    "network.inputs": (
        "default_input_names",
        "example_tensors",
        "first_rows",
        "named_inputs",
        "own_inputs",
        "place",
        "with_numbers",
    ),
    "network.layer_types": ("is_of_type",),
    "network.module_hooks": ("watched",),
    "network.outputs": (
        "select_tensor",
        "tensors_in",
    ),
    "network.precision": (
        "check_precision",
        "computing_in",
    ),
    "network.replica": (
        "requires_grad_kept",
        "share_weights",
    ),
    "network.states": (
        "copied_state",
        "has_channels_last",
        "load_state",
        "state_of",
        "with_channels_last",
    ),
    "network.tensors": (
        "named_tensors",
        "tensor_bytes",
    ),
    "network.truncated_network": (
        "Stop",
        "stopped",
    ),
    "onnx_export.exportable_network": (
        "ExportableNetwork",
        "LayerFeatures",
    ),
    "onnx_export.file_inputs": (
        "FileInputs",
        "file_inputs",
    ),
    "onnx_export.writing": (
        "OPSET",
        "add_metadata",
        "check_extra",
        "onnx_model",
        "save_onnx",
    ),
    "processes": (
        "Team",
        "teamed",
    ),
    "progress": (
        "Progress",
        "track",
    ),
    "sharing": (
        "clone_sharing",
        "kept_handler",
    ),
    "sources": (
        "EMBEDDED",
        "SourceUnavailableError",
        "UnknownSourceError",
        "WITH_BICUBIC_RESIZE",
        "blank_input",
        "no_source",
    ),
    "sources.cached_weights": ("missing_weights",),
    "sources.embedded": ("own_resize",),
    "surgery.freezing": (
        "Freezing",
        "apply_freezing",
    ),
    "user_warnings": ("warn_user",),
}
