#pragma once
#include "haqa/plugin/ggml.h"

namespace haqa {

/// The back end as ggml's registry knows it: one device, or none where it cannot serve here, which the log then says.
ggml_backend_reg_t registry();

}  // namespace haqa
