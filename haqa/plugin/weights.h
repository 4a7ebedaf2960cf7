#pragma once
#include "haqa/plugin/kernels.h"

namespace haqa {

/// Bytes that a tensor takes in a buffer of packed weights, packed or not.
size_t room_for(const Kernels& kernels, const ggml_tensor& tensor);

/// The kernel that a tensor's bytes are packed for; null where they are ggml's.
const KernelFunctions* packed_for(const ggml_tensor& tensor);

/// Lays the weights out as `kernel` wants them, in parallel, from ggml's layout at `source` to the tensor's own memory.
void pack(ggml_tensor& tensor, const KernelFunctions& kernel, const void* source);
/// The reverse: bytes are those that were packed.
void unpack(const ggml_tensor& tensor, void* target);

}  // namespace haqa
