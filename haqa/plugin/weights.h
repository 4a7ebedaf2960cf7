#pragma once
#include "haqa/plugin/kernels.h"

namespace haqa {

/// Bytes that a tensor takes in a buffer of packed weights, packed or not.
size_t room_for(const Kernels& kernels, const ggml_tensor& tensor);

/// Lays the weights out as `kernel` wants them, in parallel, from ggml's layout at `source` to `target`.
void pack(const ggml_tensor& tensor, const KernelFunctions& kernel, const void* source, void* target);
/// The reverse, of what lies in the tensor's own memory: bytes are those that were packed.
void unpack(const ggml_tensor& tensor, const KernelFunctions& kernel, void* target);

}  // namespace haqa
