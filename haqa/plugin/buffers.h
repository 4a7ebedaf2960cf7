#pragma once
#include "haqa/plugin/ggml.h"
#include "haqa/plugin/kernels.h"

namespace haqa {

/// Memory that all processors see, in ggml's layout: caches, activations, and what is no matrix of weights. Any back
/// end that works on the host may read and write it.
ggml_backend_buffer_type make_plain_buffers(ggml_backend_dev_t device);

/// Memory for matrices of weights, each packed for its kernel when it is set as a whole, unless there is none for it.
/// Read back they are as they were. `kernels` must outlive it.
ggml_backend_buffer_type make_weight_buffers(ggml_backend_dev_t device, const Kernels& kernels);

/// The kernel that a tensor's bytes are packed for; null where they are ggml's. Of a view too, which has none of its
/// own: its owner's are.
const KernelFunctions* packed_for(const ggml_tensor& tensor);

}  // namespace haqa
