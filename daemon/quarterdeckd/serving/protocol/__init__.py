"""The messages of the Open Inference Protocol over gRPC, as classes of a descriptor pool of their own.

The generated Python of protobuf registers its names for the whole process; a program that holds a client of the
protocol too (its package is `inference` as well) could not import both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
COMPILED = Path(__file__).with_name("open_inference.binpb")


def _messages() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(COMPILED.read_bytes()).file:
        pool.Add(file)
    methods = pool.FindServiceByName(SERVICE).methods
    kinds = [kind for each in methods for kind in (each.input_type, each.output_type)]
    return {kind.name: message_factory.GetMessageClass(kind) for kind in kinds}


MESSAGES = _messages()
"""Request and response classes of the six calls, by name."""
ModelInferRequest: Any = MESSAGES["ModelInferRequest"]
ModelInferResponse: Any = MESSAGES["ModelInferResponse"]
