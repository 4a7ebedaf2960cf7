#include "../rms_norm/rms_norm.h"

void haqa_kernel(const haqa_launch* launch) {
  const float* weights = static_cast<const float*>(launch->in[1].data);
  rms_norm(launch, [&](Floats v, int64_t i, auto size) { return v * load(weights + i, size); });
}
