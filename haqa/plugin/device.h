#pragma once
#include "haqa/plugin/ggml.h"

namespace haqa {

/// The back end as ggml's registry knows it, with its one device; null where it cannot serve here, which the log says.
ggml_backend_reg_t registry();

}  // namespace haqa
